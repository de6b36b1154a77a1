"""A recorded decision of the kernel comes out of its replay again; a flipped one in the log is found."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from sessauth._fast._check import Chain
from sessauth._fast.codec.errors import FormError
from sessauth.audit.read.query import LoggedDecision
from sessauth.audit.replay import ReplayReport, Standing, read_arguments, replay
from sessauth.audit.replay.report import ReplayedCall
from sessauth.crypto.keys import KeyStatus
from sessauth.model.change import (
    Change,
    add_key,
    end_session,
    narrow_session,
    open_session,
    purge_session,
    resume_session,
    revoke,
    set_key_status,
    suspend_session,
    update_facts,
)
from sessauth.model.session import EndCause, Fact
from tests.oracle.model import OracleSession
from tests.property.generator import Batch, batch
from tests.property.random_chains import ISSUERS, NOW
from tests.property.random_values import FACT_NAMES, scalar
from tests.support.audit_play import Play
from tests.support.resigned_log import reseal
from tests.support.token_forger import id16, key, value_record

_BLOCK: dict[str, Any] = {"level": "BLOCK", "index": 0, "scope": -1, "clause": -1, "argument": ""}
# A denial for another reason than those that only somebody else's word is there for.
_DENIALS: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
    ("SESSION_ENDED", "SESSION", None),
    ("SESSION_SUSPENDED", "SESSION", None),
    ("UNKNOWN_SESSION", "SESSION", None),
    ("EXPIRED", "TIME", _BLOCK),
    ("NOT_YET_VALID", "TIME", _BLOCK),
    ("WRONG_AUDIENCE", "AUDIENCE", _BLOCK),
    ("REVOKED", "REVOCATION", _BLOCK),
    ("OUT_OF_SCOPE", "SCOPE", _BLOCK),
    ("CONDITION_FAILED", "SCOPE", {**_BLOCK, "scope": 0, "clause": 0, "argument": "a"}),
    ("UNKNOWN_KIND", "SCOPE", _BLOCK),
)
_UNNAMED = ("SESSION",)


def flipped(rng: Random, record: dict[str, Any]) -> dict[str, Any]:
    """Return a decision record with the other verdict, and a reason for it."""
    if rng.random() < 0.1:
        return {**record, "allowed": not record["allowed"]}
    if not record["allowed"]:
        who = {"session": record.get("claimed", ""), "epoch": 1, "blocks": ["00" * 32]}
        allowed = {"allowed": True, "reason": "ALLOWED", "stage": "NONE", "at": None, "matched": [0, 0]}
        return {**who, **{name: value for name, value in record.items() if name != "claimed"}, **allowed}
    reason, stage, at = rng.choice(_DENIALS)
    changed = {**record, "allowed": False, "reason": reason, "stage": stage, "at": at, "matched": None}
    if stage in _UNNAMED:
        changed["claimed"] = changed["session"]
        for name in ("session", "epoch", "blocks"):
            del changed[name]
    return changed


PLAYS = 40
SESSION = id16("session")
OPENED = NOW - 1_000_000
EVERYTHING: list[Any] = [{"actions": ["*"], "resource": [{"kind": 5}]}]


class Story:
    """One random play: sessions that are opened, changed and ended between checks."""

    def __init__(self, rng: Random, play: Play) -> None:
        self._rng, self._play = rng, play
        self._number = 0
        made = batch(rng)
        for name in ISSUERS:
            play.do(add_key(self._id(), key(name).public, status=KeyStatus.ACTIVE), OPENED)
        parents = [session for session in made.view.sessions.values() if session.id != SESSION]
        for session in reversed([made.view.sessions[SESSION], *parents]):
            self._open(session, made)
        for case in made.cases:
            if rng.random() < 0.25:
                play.do(self._change(made), NOW - rng.randint(0, 2_000))
            play.check(case.token, case.request, case.now_ms)

    def _id(self) -> str:
        self._number += 1
        return f"change-{self._number}"

    def _open(self, session: OracleSession, made: Batch) -> None:
        rng = self._rng
        layers = made.ceilings[session.id]
        given: dict[str, Any] = {
            "subject": "agent",
            "owner": session.owner,
            "parent_id": session.parent_id,
            "expires_at_ms": session.expires_at_ms,
            "issuer_key_ids": session.issuer_key_ids,
            "facts": _facts(session.facts),
            "observe": session.observe,
        }
        if session.lease_deadline_ms is not None:
            given["lease_ms"] = max(100, session.lease_deadline_ms - OPENED - rng.choice((0, 0, 100_000)))
        # A ceiling may be none that a session can be opened with.
        for ceiling in [*(layer for layer in layers[:1] if layer), EVERYTHING]:
            if self._play.do(open_session(self._id(), session.id, ceiling, **given), OPENED).applied:
                break
        if session.lease_deadline_ms is not None and rng.random() < 0.5:
            self._play.renew(session.id, session.lease_deadline_ms + rng.choice((0, 3_600_000)))

    def _change(self, made: Batch) -> Change:
        rng = self._rng
        session_id = rng.choice(list(made.view.sessions))
        roll = rng.randrange(14)
        if roll < 3:
            layers = [layer for layer in made.ceilings[session_id] if layer]
            return narrow_session(self._id(), session_id, rng.choice(layers) if layers else EVERYTHING)
        if roll < 6:
            facts = _facts({name: (scalar(rng), name != "hidden") for name in rng.sample(FACT_NAMES, 2)})
            return update_facts(self._id(), session_id, set_facts=facts)
        if roll < 8:
            return suspend_session(self._id(), session_id)
        if roll < 10:
            return resume_session(self._id(), session_id)
        if roll == 10:
            return revoke(self._id(), session_id, [rng.choice(_block_ids(rng.choice(made.drafts).token))])
        if roll == 11:
            issuer = key(rng.choice(ISSUERS))
            status = rng.choice((KeyStatus.RETIRED, KeyStatus.DISTRUSTED))
            return set_key_status(self._id(), issuer.id, status)
        if rng.random() < 0.5:
            return purge_session(self._id(), session_id)
        return end_session(self._id(), session_id, cause=rng.choice((EndCause.ASKED, EndCause.EXPIRED)))


def _block_ids(token: bytes) -> tuple[bytes, ...]:
    try:
        return Chain.parse(token).block_ids
    except FormError:
        return (bytes(32),)


def _facts(facts: Any) -> list[Fact]:
    return [
        Fact.from_record({"name": name, "value": value_record(value), "visible": visible})
        for name, (value, visible) in sorted(facts.items())
    ]


class Told(dict[str, ReplayedCall]):
    """Replayed calls by the id of their decision."""

    def __call__(self, recorded: LoggedDecision, judged: ReplayedCall) -> None:
        """Take one."""
        self[recorded.id] = judged


def _lines(arguments: list[bytes]) -> bytes:
    return b"".join(each + b"\n" for each in arguments if b"\n" not in each and b"\r" not in each)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with many plays, each of an incarnation of its own; half of what they asked is kept aside."""
    made = tmp_path_factory.mktemp("replay") / "audit"
    arguments: list[bytes] = []
    for number in range(PLAYS):
        rng = Random(f"replay {number}")
        play = Play(made, number.to_bytes(16, "big"))
        Story(rng, play)
        play.shuffle(rng.shuffle)
        play.close()
        arguments += play.arguments
    (made.parent / "arguments").write_bytes(_lines(arguments[::2]))
    return made


def _replayed(folder: Path, kept: Path | None = None) -> tuple[ReplayReport, Told]:
    told = Told()
    arguments = None if kept is None else read_arguments(kept, folder)
    return replay(folder, arguments=arguments, on_decision=told), told


def test_what_was_decided_comes_out_again(folder: Path) -> None:
    """Nothing is found, much is decided, and arguments that were kept decide more."""
    report, _ = _replayed(folder)
    with_arguments, _ = _replayed(folder, folder.parent / "arguments")

    assert report.findings == []
    assert with_arguments.findings == []
    assert report.unreadable == 0
    assert report.standings[Standing.CONFIRMED] > report.decisions // 4
    assert with_arguments.standings[Standing.CONFIRMED] > report.standings[Standing.CONFIRMED]
    assert report.standings[Standing.UNDECIDABLE] == 0


@pytest.mark.parametrize("missing", ["the first", "the last", "some"])
def test_what_is_missing_is_no_contradiction(folder: Path, tmp_path: Path, missing: str) -> None:
    """A log that begins later, was cut off or has gaps says less, and nothing that is wrong."""
    rng = Random(missing)
    there = {"the first": range(4, 1_000), "the last": range(1, 8), "some": rng.sample(range(1, 30), 25)}

    def edit(record: dict[str, Any]) -> dict[str, Any] | None:
        return None if record["kind"] == "change" and record["seq"] not in there[missing] else record

    reseal(folder, tmp_path / "audit", edit)
    whole, _ = _replayed(folder)
    report, _ = _replayed(tmp_path / "audit")

    assert report.findings == []
    assert report.standings[Standing.UNDECIDABLE] > 0
    assert 0 < report.standings[Standing.CONFIRMED] < whole.standings[Standing.CONFIRMED]


def test_every_flip_of_what_was_decided_is_found(folder: Path, tmp_path: Path) -> None:
    """A confirmed verdict can't be turned around, whatever is said of why; nothing else is found."""
    kept = folder.parent / "arguments"
    _, told = _replayed(folder, kept)
    rng = Random("flips")
    confirmed = [name for name, judged in told.items() if judged.standing is Standing.CONFIRMED]
    chosen = set(rng.sample(confirmed, len(confirmed) // 3))
    words: set[str] = set()

    def edit(record: dict[str, Any]) -> dict[str, Any]:
        if record.get("id") not in chosen:
            return record
        changed = flipped(rng, record)
        words.add(changed["reason"])
        return changed

    reseal(folder, tmp_path / "audit", edit)
    report, _ = _replayed(tmp_path / "audit", kept)

    assert {finding.id for finding in report.findings} == chosen
    assert {finding.kind for finding in report.findings} <= {Standing.FLIPPED, Standing.DIFFERENT_REASON}
    assert len(words) > 5
