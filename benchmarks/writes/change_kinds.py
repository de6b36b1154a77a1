"""The kinds of change that are timed, against the log in this process."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from benchmarks import state_setup
from benchmarks.state_setup import SEED
from benchmarks.tokens import AUDIENCE, HOUR_MS, eight_scopes
from sessauth.crypto.keys import IssuerKey, KeyStatus
from sessauth.model.change import add_key, end_session, revoke
from sessauth.state.writer.state_writer import StateWriter
from sessauth.tokens.token import Issuer

OPEN_MINT, END, REVOKE = "open-mint", "end", "revoke"
KINDS: Final = (OPEN_MINT, END, REVOKE)
# Longer than any disk takes; a change that takes longer stops the run.
WAIT_SECONDS: Final = 30.0
# Sessions whose blocks are revoked, in turn.
REVOKED_IN: Final = 64


class Log:
    """A log of its own, and what its callers do. What a caller does is done when it is durable."""

    def __init__(self, writer: StateWriter) -> None:
        """Make an issuer known to the state of ``writer``, and open the sessions to revoke in."""
        self.writer = writer
        self._source = random.Random(SEED)
        key = IssuerKey(self._source.randbytes(32))
        self._issuer = Issuer(key)
        self._scopes = eight_scopes()
        state_setup.write(writer, [add_key("bench-key", key.public_key, status=KeyStatus.ACTIVE)])
        self._revoked_in = self._opened(REVOKED_IN)

    def _opened(self, count: int) -> list[bytes]:
        sessions = [self._source.randbytes(16) for _ in range(count)]
        state_setup.write(self.writer, [state_setup.opening(session_id) for session_id in sessions])
        return sessions

    def prepare(self, kind: str, count: int) -> list[Any]:
        """Return what ``count`` callers are given; not timed."""
        if kind == OPEN_MINT:
            return [self._source.randbytes(16) for _ in range(count)]
        if kind == END:
            return self._opened(count)
        return [
            (self._revoked_in[number % REVOKED_IN], self._source.randbytes(32)) for number in range(count)
        ]

    def work(self, kind: str) -> Callable[[Sequence[Any]], None]:
        """Return what one caller does with what it was given, one after the other."""
        each: Mapping[str, Callable[[Any], None]] = {
            OPEN_MINT: self._open_and_mint,
            END: self._end,
            REVOKE: self._revoke,
        }
        do = each[kind]

        def work(items: Sequence[Any]) -> None:
            for item in items:
                do(item)

        return work

    def _open_and_mint(self, session_id: bytes) -> None:
        self._durable(state_setup.opening(session_id))
        token = self._issuer.mint(session_id, self._scopes, [AUDIENCE], ttl_ms=HOUR_MS, label="agent-7")
        if not token.data:
            raise RuntimeError("an empty token")

    def _end(self, session_id: bytes) -> None:
        self._durable(end_session(f"bench-end-{session_id.hex()}", session_id))

    def _revoke(self, item: tuple[bytes, bytes]) -> None:
        session_id, block_id = item
        self._durable(revoke(f"bench-revoke-{block_id.hex()[:32]}", session_id, [block_id]))

    def _durable(self, change: Any) -> None:
        self.writer.submit(change).result(timeout=WAIT_SECONDS).raise_if_rejected()
