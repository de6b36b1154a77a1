"""No allowed call behind the end of its session is proven away: by its state, its time, its incarnation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sessauth.audit import layout
from sessauth.audit.layout import AuditKey, public_keys
from sessauth.audit.write.stream import AuditStream
from sessauth.cli.render.pack import to_json, to_lines
from sessauth.clock import FixedClock
from sessauth.evidence import question
from sessauth.evidence.pack import PackSources, SessionPapers, write_pack
from sessauth.evidence.reader.crypto import TrustedKeys, by_id
from sessauth.evidence.reader.findings import EvidenceFault
from sessauth.evidence.reader.verify import EvidenceReport, verify_pack
from sessauth.model.change import Change, end_session, new_incarnation
from sessauth.model.receipt import HostStatus, VerifierState
from tests.support.audit_log import SESSION, START_MS, change, decision, open_stream
from tests.support.changes import opening
from tests.support.evidence_packs import CHILD, END_MS
from tests.support.receipts import CLOSED, SERVICE

from .test_hosts_and_writers import pack_of

OPENING = opening("1", SESSION, "*:**")
END = end_session("2", SESSION, "done")
BOUND_MS = 3_000 + 2_000


def stream_of(
    folder: Path, at_ms: int = 0, incarnation: bytes = b"i", process: str = "control"
) -> AuditStream:
    """Begin a stream so many ms after the start."""
    clock = FixedClock(START_MS + at_ms)
    return open_stream(folder, clock, process=process, incarnation=incarnation * 16)


def changes(stream: AuditStream, *made: tuple[int, Change, int], **fields: object) -> None:
    """Append records of changes: the time of each in ms behind the start, the change, its revision."""
    for at_ms, each, revision in made:
        stream.append(layout.body("change", {**change(at_ms, each, revision), **fields}))


def calls(stream: AuditStream, *allowed: tuple[int, int], session: bytes = SESSION) -> None:
    """Append records of allowed calls: the time of each, and the revision of its state."""
    for at_ms, revision in allowed:
        stream.append(layout.body("decision", decision(at_ms, revision=revision, session=session.hex())))


def survivors(report: EvidenceReport) -> list[str]:
    """Return the words of the findings, which are all of calls behind an end."""
    assert {each.kind for each in report.findings} <= {EvidenceFault.SURVIVED}
    return [each.words for each in report.findings]


def test_a_late_call_by_an_earlier_state_survived(tmp_path: Path) -> None:
    """A host that did not hear of the end may allow for its bound, and for the difference of clocks."""
    folder = tmp_path / "audit"
    control, worker = stream_of(folder), stream_of(folder, process="worker-0")
    child = opening("3", CHILD, "*:**", parent_id=SESSION)
    changes(control, (0, OPENING, 2), (1, child, 3))
    # Recorded late, and made long before.
    changes(control, (9_000, END, 4), changed_ms=START_MS + 100)
    calls(worker, (100 + BOUND_MS, 3))
    for stream in (control, worker):
        stream.close()
    assert survivors(pack_of(tmp_path / "in time", folder)) == []
    late = stream_of(folder, process="worker-1")
    calls(late, (101 + BOUND_MS, 3), session=CHILD)
    late.close()
    report = pack_of(tmp_path / "late", folder)
    trusted = TrustedKeys(public_keys(folder / layout.PUBLIC_FILE))

    (words,) = survivors(report)
    assert words.startswith(f"a call of session {CHILD.hex()} was allowed {BOUND_MS + 1} ms behind its end,")
    assert verify_pack(tmp_path / "late", trusted, bound_ms=BOUND_MS).proven


def test_no_session_outlives_its_incarnation(tmp_path: Path) -> None:
    """A restored state has ended all sessions. The end that was shown before counts there too."""
    folder = tmp_path / "audit"
    before, after = stream_of(folder), stream_of(folder, 9_000, b"j")
    changes(before, (0, OPENING, 2))
    calls(before, (10, 2))
    changes(after, (9_000, new_incarnation("2", b"j" * 16, 0), 3))
    calls(after, (9_001, 3))
    for stream in (before, after):
        stream.close()
    (words,) = survivors(pack_of(tmp_path / "restored", folder))
    assert words.endswith(f"was allowed in incarnation {(b'j' * 16).hex()}, which ended it")

    ended = stream_of(folder, 20)
    changes(ended, (20, END, 3))
    ended.close()
    (words,) = survivors(pack_of(tmp_path / "ended", folder))
    assert "was allowed 8981 ms behind its end" in words


@pytest.mark.parametrize("runs_on", ["verifier", "control"])
def test_a_process_that_runs_on_names_its_first_incarnation(tmp_path: Path, runs_on: str) -> None:
    """One that began before a restore may record calls, or changes, of the state behind it."""
    folder = tmp_path / "audit"
    old = stream_of(folder, process=runs_on)
    changes(old, (5_000, new_incarnation("0", b"j" * 16, 0), 2))
    new = stream_of(folder, 6_000, b"j", process="worker-0")
    by_old = runs_on == "control"
    changes(old if by_old else new, (6_000, OPENING, 3))
    calls(new if by_old else old, (6_001, 3))
    for stream in (old, new):
        stream.close()

    assert survivors(pack_of(tmp_path / "pack", folder)) == []


def papers_pack(
    to: Path,
    folder: Path,
    *,
    ended_ms: int,
    hosts: tuple[str, ...] = (),
    incarnation: bytes = b"i" * 16,
    until_ms: int = END_MS,
    **stated: Any,
) -> EvidenceReport:
    """Write a pack with a receipt of an end by revision 6, and verify it."""
    receipt = replace(
        CLOSED, session_id=SESSION, revision=6, ended_at_ms=START_MS + ended_ms, made_at_ms=END_MS
    )
    receipt = replace(receipt, verifiers=(replace(CLOSED.verifiers[0], revision=6),), incarnation=incarnation)
    receipt = replace(receipt, **stated)
    if hosts:
        there = tuple(HostStatus(name, VerifierState.ACKNOWLEDGED, 5, END_MS) for name in hosts)
        receipt = replace(receipt, version=2, record=5, hosts=there)
    papers = {SESSION.hex(): SessionPapers(receipt.signed_by(SERVICE).text)}
    keys = list(public_keys(folder / layout.PUBLIC_FILE).values())
    jwks = {"keys": [SERVICE.public_jwk()]}
    sources = PackSources(
        [(folder, keys)], jwks, lambda session: papers.get(session, SessionPapers()), "test"
    )
    wanted = question.of_session([folder], SESSION.hex(), START_MS - 1, until_ms, "signed")
    write_pack(to, wanted, sources, AuditKey.load(folder / layout.KEY_FILE), END_MS)
    return verify_pack(to, TrustedKeys(by_id(keys), by_id([SERVICE.public_key])))


def test_a_log_that_was_cut_before_the_end_is_found(tmp_path: Path) -> None:
    """It has the opening, and the receipt the end; calls between them, or behind it, may be cut off."""
    folder = tmp_path / "audit"
    control = stream_of(folder)
    changes(control, (0, OPENING, 2))
    calls(control, (10, 2))
    control.close()
    (found,) = papers_pack(tmp_path / "cut", folder, ended_ms=20).findings
    assert found.kind is EvidenceFault.BAD_RECEIPT and "it was cut, or lost that" in found.words
    (found,) = papers_pack(tmp_path / "other", folder, ended_ms=20, incarnation=b"k" * 16).findings
    assert found.kind is EvidenceFault.BAD_RECEIPT and "of which the log has nothing" in found.words

    ended = stream_of(folder, 20)
    changes(ended, (20, END, 6))
    ended.close()
    assert papers_pack(tmp_path / "whole", folder, ended_ms=20).findings == []
    (found,) = papers_pack(tmp_path / "moved", folder, ended_ms=21).findings
    assert (
        found.kind is EvidenceFault.BAD_RECEIPT
        and f"the log has it at 6 and {START_MS + 20} ms" in found.words
    )


def test_what_the_extent_of_the_log_leaves_open_is_said(tmp_path: Path) -> None:
    """A log that stops before the end, that runs on, or that begins behind the opening."""
    folder = tmp_path / "audit"
    control = open_stream(folder, FixedClock(START_MS), host="edge-1", checkpoint_ms=5)
    calls(control, (10, 2))
    report = papers_pack(tmp_path / "pack", folder, ended_ms=90_000, hosts=("edge-1",))
    lines = "\n".join(to_lines(report))

    assert report.proven
    assert "behind the last signature of 1 streams that did not end, the newest at 2026-09-21T" in lines
    assert "what 1 of 1 sessions did before the log here, which lacks their opening" in lines
    assert "calls on hosts whose log here stops before a session ended: edge-1" in lines
    early = papers_pack(tmp_path / "early", folder, ended_ms=90_000, until_ms=START_MS + 60_000)
    assert "  what was done from 2026-09-21T14:14:20Z on: the question ends there" in to_lines(early)


def test_a_receipt_that_is_not_closed_or_not_verified_is_said(tmp_path: Path) -> None:
    """The word of one whose key came with the pack is not shown; the word of one that waits is repeated."""
    folder = tmp_path / "audit"
    control = stream_of(folder)
    changes(control, (0, OPENING, 2), (20, END, 6))
    control.close()
    closed = papers_pack(tmp_path / "pack", folder, ended_ms=20)
    (session,) = closed.sessions
    assert session.receipt is not None
    waits = replace(closed, sessions=[replace(session, receipt=replace(session.receipt, state="PARTIAL"))])
    unverified = replace(closed, issuer_trusted=False)
    receipts = [to_json(report)["sessions"][0]["receipt"] for report in (closed, unverified)]

    assert "their receipts are PARTIAL or UNKNOWN" in "\n".join(to_lines(waits))
    rows = [
        next(line for line in to_lines(report) if line.startswith(SESSION.hex()))
        for report in (closed, unverified)
    ]
    assert [row.split()[-1] for row in rows] == ["CLOSED", "UNVERIFIED"]
    assert [receipt["verified"] for receipt in receipts] == [True, False]
