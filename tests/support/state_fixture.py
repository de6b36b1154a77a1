"""A real state folder with its writer, and a verifier that reads it: the door that attacks go through."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sessauth.clock import FixedClock
from sessauth.crypto.keys import KeyStatus
from sessauth.decisions.decision import Decision
from sessauth.model.change import Change, ChangeOutcome, add_key, open_session
from sessauth.reasons import Reason
from sessauth.scopes.scope import Scope
from sessauth.state.writer.state_writer import StateWriter
from sessauth.verifier.verifier import Verifier
from tests.oracle.model import OracleRequest
from tests.support.compare import judge_request
from tests.support.token_forger import Key, id16
from tests.vectors.world import AUDIENCE, EXPIRES, ISSUER, NOW, SESSION, ask

_MAP_BYTES = 64 << 20


class StateFixture:
    """One state folder at a time that stands still; the session and issuer of the vectors are in it."""

    def __init__(self, folder: Path, **verifier: Any) -> None:
        """Create the state in a folder and open a verifier on it with the options given."""
        self.clock = FixedClock(NOW)
        self.writer = StateWriter.open(folder, create=True, map_size=_MAP_BYTES, clock=self.clock)
        self.verifier = Verifier(self.writer.source(), audience=AUDIENCE, **verifier)
        self._ids = (f"change-{number}" for number in itertools.count(1))
        self.add_key(ISSUER)
        self.open()

    def change_id(self) -> str:
        """A request id that was not used before."""
        return next(self._ids)

    def do(self, change: Change) -> ChangeOutcome:
        """Have a change made durable; raises Rejected if it is against the rules."""
        return self.writer.submit(change).result(10).raise_if_rejected()

    def add_key(self, key: Key, status: KeyStatus = KeyStatus.ACTIVE, owner: str = "") -> None:
        """Add an issuer key."""
        self.do(add_key(self.change_id(), key.public, status=status, owner=owner))

    def open(self, name: str = "session", ceiling: Iterable[str] = ("*:**",), **given: Any) -> bytes:
        """Open the session of a name, as long as the vectors' tokens live; gives its id."""
        session_id = id16(name)
        given = {"subject": "agent", "expires_at_ms": EXPIRES, **given}
        records: list[Any] = [Scope.parse(text).to_record() for text in ceiling]
        self.do(open_session(self.change_id(), session_id, records, **given))
        return session_id

    def check(
        self, token: Any, request: OracleRequest | None = None, now_ms: int = NOW, **parts: Any
    ) -> Decision:
        """Judge a request, by default one that the vectors' plainest token permits."""
        decision: Decision = judge_request(self.verifier, token, request or ask(**parts), now_ms=now_ms)
        return decision

    def reason(self, token: Any, request: OracleRequest | None = None, **parts: Any) -> Reason:
        """The reason of a check, after holding that only ALLOWED is a yes."""
        decision = self.check(token, request, **parts)
        assert decision.allowed is bool(decision) is (decision.reason is Reason.ALLOWED)
        assert decision.fault is None
        return decision.reason

    def close(self) -> None:
        """Close the writer."""
        self.writer.close()


__all__ = ["AUDIENCE", "NOW", "SESSION", "StateFixture"]
