"""Uses after the end: tokens that are still presented although their session is over.

No change stands behind such a use, so those who watch sessions are told while they watch, and never again. A
stolen or forgotten token may be presented thousands of times a second; of each session at most one event a
second is made, the first at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from ...model.session import Session, SessionStatus
from .event import Event, used_after_end
from .filter import line_of

# Sessions of which uses are added up at a time. More are counted and not told.
MAX_SESSIONS: Final = 4096
# Block ids that one event names.
MAX_BLOCK_IDS: Final = 16


class Sessions(Protocol):
    """Where sessions are read."""

    def get_session(self, session_id: bytes) -> Session | None:
        """Return a session."""
        ...


@dataclass(slots=True)
class _Sum:
    """Uses of one session since its last event."""

    block_ids: dict[bytes, None] = field(default_factory=dict)
    claimed: bool = True
    verifier: str = ""
    at_ms: int = 0
    count: int = 0

    def add(self, block_ids: Sequence[bytes], claimed: bool, verifier: str, at_ms: int, count: int) -> None:
        for block_id in block_ids:
            if len(self.block_ids) < MAX_BLOCK_IDS:
                self.block_ids[block_id] = None
        # One use whose signatures stood is more than a claim.
        self.claimed = self.claimed and claimed
        self.verifier, self.at_ms = verifier, at_ms
        self.count += count


@dataclass(frozen=True, slots=True)
class _Over:
    """A session that is over: what it descends from, and which of them all ended first."""

    session: Session
    line: Sequence[bytes]
    ended: Session


class UsesAfterEnd:
    """Adds up uses by session, and makes events of them."""

    def __init__(self, sessions: Sessions, tell: Callable[[Event], None]) -> None:
        """Have ``tell`` tell those who watch."""
        self._sessions = sessions
        self._tell = tell
        # Uses that were not told of, since too many sessions were used at once.
        self.dropped = 0
        # Uses of sessions that are over, since this process began.
        self.total = 0
        self._lock = threading.Lock()
        # Sessions that an event was made of in this second, with what came behind it.
        self._sums: dict[bytes, _Sum] = {}

    def on_used_after_end(
        self,
        session_id: bytes,
        block_ids: Sequence[bytes],
        claimed: bool,
        verifier: str,
        at_ms: int,
        count: int = 1,
    ) -> None:
        """Take note that tokens of a session that is over were presented; from any thread.

        Args:
            session_id: 16 bytes; the one that the token is of, or claims to be of. Nothing is told of one
                that the state does not know, or that lives.
            block_ids: 32 bytes each, the blocks of its chain; empty where that was not verified.
            claimed: whether the token only claims to be of the session: its signatures were not looked at.
            verifier: which one saw it.
            at_ms: when it was seen last, ms since 1970.
            count: how often.
        """
        if count < 1:
            return
        with self._lock:
            known = self._sums.get(session_id)
            if known is not None:
                self.total += count
                known.add(block_ids, claimed, verifier, at_ms, count)
                return
        # Looked up before it takes a place: who makes up ids must not keep out sessions that there were.
        over = self._over(session_id)
        if over is None:
            return
        uses = _Sum()
        uses.add(block_ids, claimed, verifier, at_ms, count)
        with self._lock:
            self.total += count
            known = self._sums.get(session_id)
            if known is not None:
                # Another thread came first.
                known.add(block_ids, claimed, verifier, at_ms, count)
                return
            if len(self._sums) >= MAX_SESSIONS:
                self.dropped += count
                return
            self._sums[session_id] = _Sum()
        self._make(over, uses)

    def flush(self) -> None:
        """Tell what came since the last events; the control process calls it once a second."""
        with self._lock:
            due = [(session_id, each) for session_id, each in self._sums.items() if each.count]
            # These go on to be added up, so that there is one event a second and not two.
            self._sums = {session_id: _Sum() for session_id, _ in due}
        for session_id, uses in due:
            over = self._over(session_id)
            if over is not None:
                self._make(over, uses)

    def _make(self, over: _Over, uses: _Sum) -> None:
        event = used_after_end(
            over.session,
            over.line,
            over=over.ended,
            block_ids=tuple(uses.block_ids),
            claimed=uses.claimed,
            verifier=uses.verifier,
            at_ms=uses.at_ms,
            count=uses.count,
        )
        self._tell(event)

    def _over(self, session_id: bytes) -> _Over | None:
        """Return a session with who of it and its ancestors ended; None if it is not there, or they live."""
        session = self._sessions.get_session(session_id)
        if session is None:
            return None
        line = line_of(session, self._sessions.get_session)
        for member in (session, *map(self._sessions.get_session, line)):
            if member is not None and member.status is SessionStatus.ENDED:
                return _Over(session, line, member)
        return None
