"""Packs of several hosts, of logs that grow meanwhile, and of processes that died."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sessauth.audit import layout
from sessauth.audit.layout import AuditKey, public_keys
from sessauth.cli.render.pack import to_lines
from sessauth.clock import FixedClock
from sessauth.evidence import question
from sessauth.evidence.pack import PackSources, SessionPapers, write_pack
from sessauth.evidence.reader.crypto import TrustedKeys, by_id
from sessauth.evidence.reader.findings import EvidenceFault
from sessauth.evidence.reader.verify import EvidenceReport, verify_pack
from sessauth.model.change import end_session
from sessauth.model.receipt import HostStatus, VerifierState
from tests.support.audit_log import SESSION, START_MS, change, decision, decisions, open_stream
from tests.support.changes import opening
from tests.support.evidence_packs import END_MS, make_pack
from tests.support.receipts import CLOSED, SERVICE


def pack_of(to: Path, *folders: Path, sign_with: Path | None = None, since_ms: int = 0) -> EvidenceReport:
    """Write a pack of everything in some folders, and verify it by the keys of all of them."""
    keys = [list(public_keys(folder / layout.PUBLIC_FILE).values()) for folder in folders]
    sources = PackSources(
        list(zip(folders, keys, strict=True)), {"keys": []}, lambda session: SessionPapers(), "test"
    )
    key = AuditKey.load((sign_with or folders[0]) / layout.KEY_FILE)
    write_pack(to, question.of_time(since_ms, END_MS, "all"), sources, key, END_MS)
    return verify_pack(to, TrustedKeys(by_id(key for of_host in keys for key in of_host)))


def test_logs_of_several_hosts_are_one_pack(tmp_path: Path) -> None:
    """Each has its own keys; a change that all hosts recorded counts once."""
    folders = [tmp_path / name / "audit" for name in ("one", "two")]
    for number, folder in enumerate(folders):
        stream = open_stream(folder, FixedClock(START_MS))
        stream.append(layout.body("change", change(0, opening("1", SESSION, "*:**"), 2)))
        stream.append(decisions(number * 10, 3))
        stream.close()
    report = pack_of(tmp_path / "pack", *folders)
    (reading,) = report.sessions
    two = TrustedKeys(public_keys(folders[0] / layout.PUBLIC_FILE))

    assert report.proven and reading.facts.counts() == {"allowed": 6, "denied": 0, "claimed": 0, "changes": 1}
    kinds = {finding.kind for finding in verify_pack(tmp_path / "pack", two).findings}
    assert kinds == {EvidenceFault.UNTRUSTED_KEY, EvidenceFault.BAD_CHECKPOINT}


def test_a_host_without_a_log_is_named(tmp_path: Path) -> None:
    """A receipt names the hosts of its session; what one did whose log is not here is not proven."""
    folder = tmp_path / "audit"
    stream = open_stream(folder, FixedClock(START_MS), host="server/one")
    stream.append(layout.body("decision", decision(1, revision=3)))
    stream.close()
    hosts = tuple(
        HostStatus(name, VerifierState.ACKNOWLEDGED, 5, START_MS) for name in ("gateway-1", "server/one")
    )
    receipt = replace(CLOSED, session_id=SESSION, version=2, record=5, hosts=hosts).signed_by(SERVICE)
    papers = SessionPapers(receipt.text)
    keys = list(public_keys(folder / layout.PUBLIC_FILE).values())
    sources = PackSources([(folder, keys)], {"keys": [SERVICE.public_jwk()]}, lambda session: papers, "test")
    key = AuditKey.load(folder / layout.KEY_FILE)
    write_pack(tmp_path / "pack", question.of_time(0, END_MS, "all"), sources, key, END_MS)
    report = verify_pack(tmp_path / "pack", TrustedKeys(by_id(keys), by_id([SERVICE.public_key])))

    assert (report.findings, report.missing_hosts) == ([], ("gateway-1",))
    assert "  calls on hosts without a log here: gateway-1" in to_lines(report)


def test_a_log_that_grows_meanwhile_is_cut_where_it_is_whole(tmp_path: Path) -> None:
    """Processes write and rotate while the pack is made: it is proven each time, and has ever more."""
    folder, clock = tmp_path / "audit", FixedClock(START_MS)
    options = {"checkpoint_ms": 5, "fsync_ms": 60_000, "rotate_bytes": 20_000}
    control = open_stream(folder, clock, index=True, **options)
    worker = open_stream(folder, clock, process="worker-0", **options)
    stop = threading.Event()

    def write() -> None:
        number = 0
        # A pause, so that packs do not grow as fast as they are read.
        while not stop.wait(0.002):
            worker.append(decisions(number, 5))
            control.append(layout.body("decision", decision(number, revision=1)))
            number += 5
            clock.advance(5)
            for stream in (worker, control):
                stream.tick(clock.now_ms())

    writer = threading.Thread(target=write)
    writer.start()
    try:
        reports = [pack_of(tmp_path / str(number), folder) for number in range(8)]
    finally:
        stop.set()
        writer.join()

    assert [report.findings for report in reports] == [[]] * 8
    lines = [sum(each.shown for each in report.streams) for report in reports]
    assert lines == sorted(lines) and lines[0] < lines[-1]


@pytest.mark.parametrize("left", [b"", b'{"n":', b'{"n":6,"kind":"begin"'])
def test_a_process_that_died_leaves_a_proven_log(tmp_path: Path, left: bytes) -> None:
    """Half a line at the end, or a file that was not begun, is no fault; unsigned lines are counted."""
    folder, clock = tmp_path / "audit", FixedClock(START_MS)
    stream = open_stream(folder, clock, checkpoint_ms=5)
    stream.append(decisions(0, 2))
    clock.advance(5)
    stream.tick(clock.now_ms())
    stream.append(decisions(2, 2))
    with stream.path.open("ab") as file:
        file.write(left)
    (folder / layout.file_name(stream.stream_id, 1)).write_bytes(left)
    report = pack_of(tmp_path / "pack", folder)
    (reading,) = report.streams

    assert report.findings == []
    assert (reading.shown, reading.unsigned, reading.ended) == (7, 2, False)


def test_a_folder_without_its_key_needs_another(tmp_path: Path) -> None:
    """The pack is signed by the key that is named; the log by its own."""
    folder, other = tmp_path / "audit", tmp_path / "other"
    for each in (folder, other):
        stream = open_stream(each, FixedClock(START_MS))
        stream.append(decisions(0, 2))
        stream.close()
    report = pack_of(tmp_path / "pack", folder, sign_with=other)

    assert {finding.kind for finding in report.findings} == {EvidenceFault.UNTRUSTED_KEY}
    assert pack_of(tmp_path / "own", folder).proven


def test_a_call_behind_the_end_is_found_in_each_incarnation(tmp_path: Path) -> None:
    """A restored backup counts revisions anew: an end and a call of before it hide no later ones."""
    folder = tmp_path / "audit"
    for number, (incarnation, ended, allowed) in enumerate(((b"i", 8, 7), (b"j", 4, 5))):
        stream = open_stream(folder, FixedClock(START_MS + number), incarnation=incarnation * 16)
        stream.append(layout.body("change", change(number, end_session(str(number), SESSION), ended)))
        stream.append(layout.body("decision", decision(number, revision=allowed)))
        stream.close()

    (found,) = pack_of(tmp_path / "pack", folder).findings
    assert found.kind is EvidenceFault.SURVIVED and "revision 5; it ended at 4" in found.words


def test_a_receipt_has_the_end_that_the_log_lacks(tmp_path: Path) -> None:
    """The log begins behind the end of a session, and has a call by a state behind it."""
    folder = tmp_path / "audit"
    stream = open_stream(folder, FixedClock(START_MS))
    stream.append(decisions(0, 2))
    stream.close()
    trusted = make_pack(folder, tmp_path / "pack", question.of_time(0, END_MS, "all"))

    kinds = [finding.kind for finding in verify_pack(tmp_path / "pack", trusted).findings]
    assert kinds == [EvidenceFault.SURVIVED]


def test_a_file_that_was_never_begun_hides_none_before_it(tmp_path: Path) -> None:
    """A process that is killed as it begins a file leaves an empty one, of no known time."""
    folder = tmp_path / "audit"
    stream = open_stream(folder, FixedClock(START_MS), rotate_bytes=4096)
    for number in range(20):
        stream.append(decisions(number, 1))
    newest = max(layout.files(folder)[stream.stream_id])
    assert newest > 0
    (folder / layout.file_name(stream.stream_id, newest + 1)).touch()
    (reading,) = pack_of(tmp_path / "pack", folder, since_ms=START_MS).sessions

    assert reading.facts.counts()["allowed"] == 20
