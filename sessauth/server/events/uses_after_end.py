"""Uses of tokens whose session is over: counted, and published to subscribers.

Such a use has no change, so it is published once and never again. A stolen or forgotten token may
be presented thousands of times a second; each session gets at most one event a second, the first at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ...model.lineage import SessionLookup, ancestor_ids, lineage
from ...model.session import Session, SessionStatus
from ...usage.observations import UseAfterEnd
from .event import Event, used_after_end

# Sessions with uses to add up at a time. More are counted and not published.
MAX_SESSIONS: Final = 4096
# Block ids in one event.
MAX_BLOCK_IDS: Final = 16


@dataclass(slots=True)
class _Sum:
    """Uses of one session since its last event."""

    block_ids: dict[bytes, None] = field(default_factory=dict)
    claimed: bool = True
    verifier: str = ""
    at_ms: int = 0
    count: int = 0

    def add(self, verifier: str, use: UseAfterEnd) -> None:
        for block_id in use.block_ids:
            if len(self.block_ids) < MAX_BLOCK_IDS:
                self.block_ids[block_id] = None
        # One use with valid signatures is more than a claim.
        self.claimed = self.claimed and use.claimed
        self.verifier, self.at_ms = verifier, use.last_ms
        self.count += use.count


@dataclass(frozen=True, slots=True)
class _EndedSession:
    """A session that is over, the ids of its ancestors, and the member of its lineage that ended first."""

    session: Session
    ancestor_ids: Sequence[bytes]
    ended: Session


class UsesAfterEnd:
    """Adds up uses by session, and publishes events of them."""

    def __init__(self, sessions: SessionLookup, publish: Callable[[Event], None]) -> None:
        """Publish events with ``publish``."""
        self._sessions = sessions
        self._publish = publish
        # Uses that were not published, since too many sessions were used at once.
        self.dropped = 0
        # Uses at this host of sessions that are over, since this process began.
        self.total = 0
        self._lock = threading.Lock()
        # Sessions with an event in this second, and their uses since.
        self._sums: dict[bytes, _Sum] = {}

    def on_used_after_end(
        self, session_id: bytes, verifier: str, use: UseAfterEnd, *, counted: bool = True
    ) -> None:
        """Record that ``verifier`` observed uses of an ended session's tokens; from any thread.

        Ignored if the state does not know the session (16 bytes), or if it lives. Uses at another host of a
        cluster are not ``counted``: that one does.
        """
        if use.count < 1:
            return
        total = use.count if counted else 0
        with self._lock:
            current = self._sums.get(session_id)
            if current is not None:
                self.total += total
                current.add(verifier, use)
                return
        # Looked up before it occupies an entry: made-up ids must not crowd out sessions that existed.
        ended = self._find_ended(session_id)
        if ended is None:
            return
        with self._lock:
            self.total += total
            current = self._sums.get(session_id)
            if current is not None:
                # Another thread came first.
                current.add(verifier, use)
                return
            if len(self._sums) >= MAX_SESSIONS:
                self.dropped += use.count
                return
            self._sums[session_id] = _Sum()
        uses = _Sum()
        uses.add(verifier, use)
        self._publish_uses(ended, uses)

    def flush(self) -> None:
        """Publish the uses since the last events; the control process calls it once a second."""
        with self._lock:
            due = [(session_id, uses) for session_id, uses in self._sums.items() if uses.count]
            # These stay in the table, so that there is one event a second and not two.
            self._sums = {session_id: _Sum() for session_id, _ in due}
        for session_id, uses in due:
            ended = self._find_ended(session_id)
            if ended is not None:
                self._publish_uses(ended, uses)

    def _publish_uses(self, ended: _EndedSession, uses: _Sum) -> None:
        event = used_after_end(
            ended.session,
            ended.ancestor_ids,
            ended=ended.ended,
            block_ids=tuple(uses.block_ids),
            claimed=uses.claimed,
            verifier=uses.verifier,
            at_ms=uses.at_ms,
            count=uses.count,
        )
        self._publish(event)

    def _find_ended(self, session_id: bytes) -> _EndedSession | None:
        """Return a session that is over; None if it is unknown, or if it and its ancestors live."""
        get_session = self._sessions.get_session
        session = get_session(session_id)
        if session is None:
            return None
        for member in lineage(session, get_session):
            if member.status is SessionStatus.ENDED:
                return _EndedSession(session, ancestor_ids(session, get_session), member)
        return None
