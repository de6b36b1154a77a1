"""A trial says of recorded calls what a session with that ceiling decides, or what it depends on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from sessauth._fast._check import Checker, View
from sessauth.audit.replay import Trial, read_arguments, replay
from sessauth.model.session import Session
from sessauth.state import layout
from tests.oracle.model import OracleRequest
from tests.property.generator import batch
from tests.property.test_replay_agrees import SESSION, Story
from tests.support.audit_play import AUDIENCE, Play
from tests.support.changes import MemoryRows
from tests.support.compare import judge_request

PLAYS = 30


class Held:
    """The rows of a play, in which one session is held by another ceiling; a source of a view."""

    sessions, leases, revoked = layout.SESSIONS, layout.LEASES, layout.REVOKED
    keys, meta = layout.KEYS, layout.META

    def __init__(self, rows: MemoryRows, trial: Trial) -> None:
        self.brake = bytearray(64)
        self._rows, self._trial, self._reads = rows, trial, 0

    def begin(self) -> Held:
        """Start a read; each may see other rows than the last."""
        self._reads += 1
        return self

    def id(self) -> int:
        """Return a new number."""
        return self._reads

    def get(self, key: bytes, default: None, db: str) -> bytes | None:
        """Return a row."""
        if db == layout.META:
            return self._rows.current.encode()
        row = self._rows.get(db, key)
        if row is None or db != layout.SESSIONS or key != self._trial.session_id:
            return row
        return replace(Session.decode(row), ceilings=(self._trial.ceiling,), observe=False).encode()

    def abort(self) -> None:
        """End it."""


class Judged(Play):
    """A play that also has each allowed call of the session judged as if it were held by the ceiling."""

    def __init__(self, folder: Path, trial: Trial) -> None:
        super().__init__(folder)
        self._held = Checker(View(Held(self.rows, trial)), audience=AUDIENCE)
        self._session_id = trial.session_id
        self.expected: Counter[bool] = Counter()

    def check(self, token: bytes, request: OracleRequest, now_ms: int = 0, **options: Any) -> Any:
        """Judge and record a call."""
        decision = super().check(token, request, now_ms, **options)
        if decision.allowed and decision.session_id == self._session_id and not request.token_only:
            held = judge_request(self._held, token, request, now_ms=now_ms, **options)
            self.expected[held.allowed] += 1
        return decision


def test_a_trial_agrees_with_a_session_that_has_the_ceiling(tmp_path: Path) -> None:
    """Never the contrary, with arguments and without; with them most calls are decided."""
    seen: Counter[str] = Counter()
    for number in range(PLAYS):
        rng = Random(f"trial {number}")
        layers = [layer for layers in batch(rng).ceilings.values() for layer in layers if layer]
        if not layers:
            continue
        trial = Trial(tuple(rng.choice(layers)), SESSION)
        folder = tmp_path / str(number) / "audit"
        play = Judged(folder, trial)
        Story(rng, play)
        play.close()
        kept = tmp_path / f"{number}.kept"
        kept.write_bytes(b"".join(each + b"\n" for each in play.arguments if not set(each) & set(b"\r\n")))
        for arguments in (None, read_arguments(kept, folder)):
            report = replay(folder, session_id=SESSION, trial=trial, arguments=arguments)
            found = report.trial
            assert report.findings == []
            assert found is not None
            case = (number, found.to_dict(), play.expected)
            assert found.admitted <= play.expected[True], case
            assert found.refused <= play.expected[False], case
            decided = found.admitted + found.refused
            assert decided + found.undecided.total() + found.unknown == play.expected.total(), case
            word = "without" if arguments is None else "with"
            seen[f"decided {word}"] += decided
            seen[f"calls {word}"] += play.expected.total()
            seen[f"refused {word}"] += found.refused
    assert seen["decided with"] > seen["decided without"] > 0, seen
    assert seen["decided with"] > 0.8 * seen["calls with"], seen
    assert seen["refused without"] > 0, seen
    assert seen["refused with"] < seen["decided with"], seen
