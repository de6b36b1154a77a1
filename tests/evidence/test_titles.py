"""Forgeries by those who sign packs and no log: what a person reads out of a title is true of the records."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sessauth.audit import layout
from sessauth.audit.layout import AuditKey
from sessauth.cli.render.pack import to_json, to_lines
from sessauth.evidence.reader.findings import EvidenceFault
from sessauth.evidence.reader.manifest import PackQuestion
from sessauth.evidence.reader.verify import EvidenceReport, verify_pack
from tests.support.audit_log import SESSION, START_MS, decision
from tests.support.changes import opening
from tests.support.evidence_packs import CHILD, END_MS, OTHER, PURPOSE, PackParts, make_pack
from tests.support.pack_mutations import recounted

from .conftest import MadePack
from .test_hosts_and_writers import pack_of
from .test_session_ends import BOUND_MS, END, OPENING, changes, papers_pack, stream_of

BAD, NONE = {EvidenceFault.BAD_MANIFEST}, set[EvidenceFault]()
# The question, the sessions that it names, and the findings.
TITLES = {
    "the session and its child": (("session", SESSION, ""), (SESSION, CHILD), NONE),
    "the child alone": (("session", CHILD, ""), (CHILD,), NONE),
    "a stranger as a descendant": (("session", SESSION, ""), (SESSION, CHILD, OTHER), BAD),
    "the child as the root of its parent": (("session", CHILD, ""), (CHILD, SESSION), BAD),
    "a purpose": (("purpose", b"", PURPOSE), (SESSION, CHILD), NONE),
    "another's session as of a purpose": (("purpose", b"", PURPOSE), (SESSION, CHILD, OTHER), BAD),
    "a purpose that none has": (("purpose", b"", "approved change 42"), (SESSION, CHILD), BAD),
}


def kinds(report: EvidenceReport) -> set[EvidenceFault]:
    """Return the kinds of findings."""
    return {each.kind for each in report.findings}


def asking(of: tuple[str, bytes, str], sessions: tuple[bytes, ...], **changed: Any) -> PackQuestion:
    """Return a question as its signer writes it."""
    kind, root, purpose = of
    named = frozenset(each.hex() for each in sessions)
    whole = PackQuestion(kind, root.hex(), named, purpose, START_MS, END_MS, "all")
    return replace(whole, **changed)


@pytest.mark.parametrize("title", TITLES)
def test_a_title_is_that_of_the_openings(log: Path, tmp_path: Path, collector: AuditKey, title: str) -> None:
    """Each session that a question names is of its purpose, or descends from one that it names."""
    of, sessions, found = TITLES[title]
    trusted = make_pack(log, tmp_path / "pack", asking(of, sessions), collector)

    assert kinds(verify_pack(tmp_path / "pack", trusted)) == found


def test_a_title_whose_openings_are_not_shown_is_the_signers_word(
    log: Path, tmp_path: Path, collector: AuditKey
) -> None:
    """Openings before the time of the question are closed, and the report says what follows from that."""
    later = {"since_ms": START_MS + 500, "show": "matching"}
    for of, words in (
        (TITLES["a purpose"][0], "are of the purpose or descend"),
        (("session", SESSION, ""), "descend"),
    ):
        trusted = make_pack(log, tmp_path / of[0], asking(of, (SESSION, CHILD), **later), collector)
        report = verify_pack(tmp_path / of[0], trusted)
        count = 2 if of[0] == "purpose" else 1
        assert report.proven
        assert f"  that {count} of 2 sessions {words} from one that is, as" in "\n".join(to_lines(report))


def test_a_stream_that_grew_within_the_time_is_of_it(whole: MadePack, collector: AuditKey) -> None:
    """A stream is not left out as one of another time where signed records name it longer each time."""
    parts = PackParts.of(whole.data)
    worker = next(name for name in parts.logs() if b'"allowed":true' in parts[name])[8:40]
    parts.members = [each for each in parts.members if worker not in each[0]]
    document = json.loads(recounted(parts)["manifest.json"])
    (host,) = document["hosts"]
    host["streams"] = [each for each in host["streams"] if each["stream"] != worker]
    host["left_out"] = [{"stream": worker, "process": "worker-0"}]
    found = whole.judged(parts.restated(**document).signed(collector).data()).findings

    assert [each.kind for each in found] == [EvidenceFault.MISSING_STREAM]
    assert "grew within it" in found[0].words and found[0].line


ANSWERS = {
    "a text as the revision": {"revision": "9"},
    "a fraction as the revision": {"revision": 9.0},
    "no revision": {"revision": None},
    "a number as the answer": {"allowed": 1},
    "no answer": {"allowed": None},
}


@pytest.mark.parametrize("case", ANSWERS)
def test_a_decision_of_other_types_is_foreign(tmp_path: Path, case: str) -> None:
    """Another writer's allowed call is not taken for one by no state, nor for a denied one."""
    stream = stream_of(tmp_path / "audit")
    stream.append(layout.body("decision", decision(1, **ANSWERS[case])))
    stream.close()

    assert kinds(pack_of(tmp_path / "pack", tmp_path / "audit")) == {EvidenceFault.FOREIGN}


@pytest.mark.parametrize("field", ["format", "counts"])
def test_numbers_of_the_manifest_have_one_form(whole: MadePack, collector: AuditKey, field: str) -> None:
    """True is no format, and 9.0 calls are none."""
    parts = PackParts.of(whole.data)
    document = json.loads(parts["manifest.json"])
    document["sessions"][0]["allowed"] *= 1.0
    changed = {"format": True} if field == "format" else {"sessions": document["sessions"]}
    found = kinds(whole.judged(parts.restated(**changed).signed(collector).data()))

    assert found == {EvidenceFault.BAD_MANIFEST if field == "format" else EvidenceFault.MISCOUNTED}


@pytest.mark.parametrize(("late_ms", "found"), [(BOUND_MS, NONE), (BOUND_MS + 1, {EvidenceFault.SURVIVED})])
def test_a_receipt_that_names_a_later_call_proves_no_end(
    tmp_path: Path, late_ms: int, found: set[EvidenceFault]
) -> None:
    """Its own statement that calls went on counts; a call that no record shows is a reservation."""
    folder = tmp_path / "audit"
    control = stream_of(folder)
    changes(control, (0, OPENING, 2), (20, END, 6))
    control.close()
    report = papers_pack(tmp_path / "pack", folder, ended_ms=20, last_allow_ms=START_MS + 20 + late_ms)

    assert kinds(report) == found
    assert "what 1 of 1 sessions did last: their receipts name an allowed call" in "\n".join(to_lines(report))


def test_a_receipt_is_of_the_cluster_of_the_log(tmp_path: Path) -> None:
    """The service's key and the incarnation alone don't make it one."""
    folder = tmp_path / "audit"
    control = stream_of(folder)
    changes(control, (0, OPENING, 2), (20, END, 6))
    control.close()
    (found,) = papers_pack(tmp_path / "pack", folder, ended_ms=20, cluster_id=b"d" * 16).findings

    assert found.kind is EvidenceFault.BAD_RECEIPT and "of the cluster" in found.words


def test_sessions_without_an_opening_are_counted_for_a_time(tmp_path: Path) -> None:
    """A question for a time names no session, and says all the same what it can't know."""
    stream = stream_of(tmp_path / "audit")
    claimed = decision(2, allowed=False, claimed=OTHER.hex())
    del claimed["session"]
    stream.append(b"".join(layout.body("decision", each) for each in (decision(1), claimed)))
    stream.close()

    lines = to_lines(pack_of(tmp_path / "pack", tmp_path / "audit"))
    assert "  what 1 of 2 sessions did before the log here, which lacks their opening" in lines
    assert any(line.startswith("  README.txt, controls.json") for line in lines)


def test_observe_mode_is_said(tmp_path: Path) -> None:
    """The log shows that a session's ceiling refused nothing, without a receipt too."""
    folder = tmp_path / "audit"
    stream = stream_of(folder)
    changes(stream, (0, opening("1", SESSION, "read:files/**", observe=True), 2))
    at = {"level": "CEILING", "index": 0, "scope": 0, "clause": 0, "argument": ""}
    for number, place in enumerate((None, at)):
        stream.append(layout.body("decision", decision(number + 1, at=place)))
    stream.close()
    report = pack_of(tmp_path / "pack", folder)
    lines = "\n".join(to_lines(report))
    (session,) = to_json(report)["sessions"]

    assert report.proven and (session["observe"], session["observed"], session["allowed"]) == (True, 1, 2)
    assert "OBSERVE MODE: 1 of 1 session(s)" in lines and "1 of 2 allowed calls by that alone" in lines
    assert "that the ceilings of 1 of 1 sessions held: they were in observe mode" in lines
