"""Each kind of finding has a cause, its place, and its words in the page."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sessauth.audit import layout
from sessauth.audit.layout import AuditKey
from sessauth.errors import StateUnusable, UsageError
from sessauth.evidence import pack, question
from sessauth.evidence.pack import write_pack
from sessauth.evidence.reader import verify
from sessauth.evidence.reader.findings import EvidenceFault
from sessauth.evidence.reader.verify import verify_pack
from tests.support.audit_log import START_MS
from tests.support.evidence_packs import END_MS, PackParts, make_pack, session_question, sources
from tests.support.markdown import Document
from tests.support.pack_mutations import chained_anew, recounted
from tests.support.tree import ROOT

from .conftest import MadePack

PAGE = Document(ROOT / "docs" / "evidence.md")
Damage = Callable[[PackParts], PackParts]


def lines_of(edit: Callable[[list[bytes]], list[bytes]], what: bytes = b'"allowed":true') -> Damage:
    """Return a damage to the lines of the first file that has ``what``."""

    def damage(parts: PackParts) -> PackParts:
        name = next(name for name in parts.logs() if what in parts[name])
        parts[name] = b"".join(edit(parts[name].splitlines(keepends=True)))
        return recounted(parts)

    return damage


def at(what: bytes, put: Callable[[bytes], list[bytes]]) -> Callable[[list[bytes]], list[bytes]]:
    """Return an edit that puts other lines in place of the first one that has ``what``."""

    def edit(lines: list[bytes]) -> list[bytes]:
        number = next(number for number, line in enumerate(lines) if what in line)
        return [*lines[:number], *put(lines[number]), *lines[number + 1 :]]

    return edit


def without(*numbers: str) -> Damage:
    """Return a damage that drops the worker's files of these numbers; all of them without one."""

    def damage(parts: PackParts) -> PackParts:
        worker = next(name for name in parts.logs() if b'"allowed":true' in parts[name])[:40]
        dropped = [f"{worker}-{number}.jsonl" for number in numbers]
        parts.members = [
            (name, data)
            for name, data in parts.members
            if not (name in dropped if dropped else name.startswith(worker))
        ]
        return recounted(parts)

    return damage


def restated(**changed: object) -> Damage:
    """Return a damage to the manifest."""
    return lambda parts: parts.restated(**changed)


def replaced(name: str, data: bytes) -> Damage:
    """Return a damage to one member that the manifest names as it is."""

    def damage(parts: PackParts) -> PackParts:
        parts[name] = data
        return parts.restated()

    return damage


def miscounted(parts: PackParts) -> PackParts:
    """Count one call too many."""
    sessions = json.loads(parts["manifest.json"])["sessions"]
    sessions[0]["allowed"] += 1
    return parts.restated(sessions=sessions)


def unsigned(lines: list[bytes]) -> list[bytes]:
    """Return lines whose second checkpoint has another signature; what is behind it is chained anew."""
    numbers = [number for number, line in enumerate(lines) if b'"kind":"checkpoint"' in line]
    other = re.sub(rb'"signature":"....', b'"signature":"0000', lines[numbers[1]])
    return chained_anew([*lines[: numbers[1]], other, *lines[numbers[1] + 1 :]])


DECISION = b'"allowed":true'
CASES: dict[EvidenceFault, Damage] = {
    EvidenceFault.BAD_MANIFEST: restated(format=2),
    EvidenceFault.CHANGED: lines_of(at(DECISION, lambda line: [line.replace(b"mcp/", b"MCP/")])),
    EvidenceFault.REMOVED: lines_of(at(DECISION, lambda line: [])),
    EvidenceFault.FOREIGN: lines_of(at(DECISION, lambda line: [line, b"hello\n"])),
    EvidenceFault.HIDDEN: lines_of(at(DECISION, lambda line: [line[-67:-3] + b"\n"])),
    EvidenceFault.BAD_CHECKPOINT: lines_of(unsigned),
    EvidenceFault.MISSING_FILE: without("000001"),
    EvidenceFault.MISSING_STREAM: without(),
    EvidenceFault.TRUNCATED: without("000006"),
    EvidenceFault.MISCOUNTED: miscounted,
    EvidenceFault.BAD_RECEIPT: replaced("receipts/000000.txt", b"none\n"),
    EvidenceFault.BAD_REPORT: replaced("reports/000000.json", b"{}\n"),
    EvidenceFault.OTHER_MEMBER: replaced("keys.json", b"{}\n"),
}


@pytest.mark.parametrize("kind", CASES, ids=str)
def test_each_damage_has_its_finding(whole: MadePack, collector: AuditKey, kind: EvidenceFault) -> None:
    """The signer of a pack that shows all lines did it: the finding names the member and has words."""
    damaged = CASES[kind](PackParts.of(whole.data)).signed(collector)
    found = [each for each in whole.judged(damaged.data()).findings if each.kind is kind]

    assert found
    assert found[0].words and (found[0].member or kind is EvidenceFault.OTHER_MEMBER)


def test_a_record_that_no_signature_covers_is_found(pack: MadePack) -> None:
    """A closed line between a record of the question and the next signature breaks the link."""
    key = AuditKey.load(pack.folder / layout.KEY_FILE)

    def close_next(lines: list[bytes]) -> list[bytes]:
        number = next(number for number, line in enumerate(lines) if DECISION in line)
        return [*lines[: number + 1], lines[number + 1][-67:-3] + b"\n", *lines[number + 2 :]]

    damaged = lines_of(close_next)(PackParts.of(pack.data)).signed(key)

    assert {each.kind for each in pack.judged(damaged.data()).findings} == {EvidenceFault.UNLINKED}


@pytest.mark.parametrize("name", ["seq", "body", "session", "outcome", "at_ms", "revision", "change"])
def test_a_field_of_another_type_is_a_finding(whole: MadePack, collector: AuditKey, name: str) -> None:
    """A stranger's pack does not end its verification by an error."""
    for value in ([], {}, "\u00e9", 1 << 200, None):
        parts = PackParts.of(whole.data)
        log = next(each for each in parts.logs() if b'"change":"open_session"' in parts[each])
        lines = parts[log].splitlines(keepends=True)
        number = next(number for number, line in enumerate(lines) if b'"change":"open_session"' in line)
        record = {**json.loads(lines[number]), name: value}
        text = json.dumps(record, separators=(",", ":"), ensure_ascii=False)
        parts[log] = b"".join([*lines[:number], text.encode() + b"\n", *lines[number + 1 :]])
        report = whole.judged(parts.restated().signed(collector).data())
        assert EvidenceFault.CHANGED in {each.kind for each in report.findings}


def test_a_file_is_not_cut_behind_the_time_of_the_question(log: Path, tmp_path: Path) -> None:
    """Records of one moment stand in no order: those of the question may be behind a later one."""
    trusted = make_pack(log, tmp_path / "pack", session_question(log, until_ms=START_MS + 3000))
    assert verify_pack(tmp_path / "pack", trusted).proven
    parts = PackParts.of((tmp_path / "pack").read_bytes())
    worker = next(name for name in parts.logs() if b'"allowed":true' in parts[name])[:40]
    name = max(name for name in parts.logs() if name.startswith(worker))
    lines = parts[name].splitlines(keepends=True)
    assert json.loads(lines[1])["at_ms"] >= START_MS + 3000
    parts[name] = b"".join(lines[:2])
    cut = tmp_path / "cut"
    cut.write_bytes(recounted(parts).signed(AuditKey.load(log / layout.KEY_FILE)).data())

    assert {each.kind for each in verify_pack(cut, trusted).findings} == {EvidenceFault.TRUNCATED}


def test_damaged_bytes_and_a_wrong_signature(pack: MadePack) -> None:
    """A cut archive can't be read further; a wrong signature does not end the reading."""
    parts = PackParts.of(pack.data)
    parts["manifest.sig"] = b"00" * 64 + b"\n"
    cut, unsigned_pack = (pack.judged(data).findings for data in (pack.data[:-1], parts.data()))

    assert [each.kind for each in cut] == [EvidenceFault.DAMAGED]
    assert [each.kind for each in unsigned_pack] == [EvidenceFault.BAD_SIGNATURE]


def test_the_page_explains_each_finding() -> None:
    """docs/evidence.md has each kind, and no other."""
    rows = re.findall(r"^\| ((?:`[A-Z_]+` ?)+)\|", PAGE.sections(2)["Findings"], re.M)

    assert {word for row in rows for word in re.findall(r"[A-Z_]+", row)} == {
        kind.value for kind in EvidenceFault
    }


def test_a_full_disk_leaves_no_pack(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unfinished file is removed, and the error names the option."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pack.os, "fsync", full)
    key = AuditKey.load(log / layout.KEY_FILE)
    with pytest.raises(UsageError, match="No space left"):
        write_pack(tmp_path / "pack", session_question(log), sources(log), key, END_MS)

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_named(log: Path, tmp_path: Path) -> None:
    """Nothing is written."""
    key = AuditKey.load(log / layout.KEY_FILE)
    gone = sources(log)
    gone = type(gone)([(tmp_path / "gone", gone.folders[0][1])], gone.issuer_jwks, gone.papers, "test")
    with pytest.raises(StateUnusable, match="gone"):
        write_pack(tmp_path / "pack", question.of_time(0, END_MS, "all"), gone, key, END_MS)

    assert list(tmp_path.iterdir()) == []


def test_a_paper_is_one_sessions_and_a_session_has_records(whole: MadePack, collector: AuditKey) -> None:
    """No two sessions have one receipt, and none is shown of which the log has nothing."""
    parts = PackParts.of(whole.data)
    sessions = json.loads(parts["manifest.json"])["sessions"]
    (papers,) = (each for each in sessions if each["receipt"])
    other = {**papers, "session": "00" * 16, "allowed": 0, "denied": 0, "claimed": 0, "changes": 0}
    found = whole.judged(parts.restated(sessions=[*sessions, other]).signed(collector).data()).findings

    assert [(each.kind, each.member) for each in found] == [
        (EvidenceFault.OTHER_MEMBER, papers["receipt"]),
        (EvidenceFault.OTHER_MEMBER, papers["report"]),
        (EvidenceFault.MISCOUNTED, "manifest.json"),
    ]


def test_a_pack_without_a_log_proves_nothing(whole: MadePack, collector: AuditKey) -> None:
    """A key that signs packs, and no log, can't prove a session by a receipt alone."""
    parts = PackParts.of(whole.data)
    parts.members = [each for each in parts.members if not each[0].startswith("log/")]
    document = json.loads(parts["manifest.json"])
    streams = [{"stream": each["stream"], "process": ""} for each in document["hosts"][0]["streams"]]
    for each in document["sessions"]:
        each |= {"allowed": 0, "denied": 0, "claimed": 0, "changes": 0}
    emptied = parts.restated(**{**document, "hosts": [{"streams": [], "left_out": streams}]})

    found = {each.kind for each in whole.judged(emptied.signed(collector).data()).findings}
    assert found == {EvidenceFault.MISSING_STREAM, EvidenceFault.BAD_RECEIPT}


@pytest.mark.parametrize(
    "changed",
    [
        {"made_at_ms": END_MS - 1},
        {"hosts": [{}] * 1_001},
        {"sessions": [{}] * 10_001},
        {"made_by": "," * 4_000_001},
        {"made_at_ms": 10**4_000},
    ],
    ids=["later than its making", "hosts", "sessions", "values", "a time"],
)
def test_a_manifest_is_bounded(whole: MadePack, collector: AuditKey, changed: dict[str, object]) -> None:
    """Neither memory nor time is spent on one that no writer makes."""
    parts = PackParts.of(whole.data)
    (found,) = whole.judged(parts.restated(**changed).signed(collector).data()).findings

    assert found.kind is EvidenceFault.BAD_MANIFEST and len(found.words) < 5_000


def test_findings_are_bounded(whole: MadePack, collector: AuditKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack of nothing but faults is not read to its end."""
    monkeypatch.setattr(verify, "MAX_FINDINGS", 3)
    damaged = lines_of(lambda lines: [b"x\n"] * 50)(PackParts.of(whole.data)).signed(collector)

    assert "more than 3 findings" in whole.judged(damaged.data()).findings[-1].words
