"""Calls about events of sessions."""

from __future__ import annotations

from collections.abc import Sequence

from .._transport import check_timeout
from .._watch.events import PATIENCE_MS, EventCursor, EventKind, watch_request
from .calls import AsyncCalls
from .session_watch import AsyncSessionWatch


class AsyncEventCalls(AsyncCalls):
    """Calls of EventService."""

    def watch_sessions(
        self,
        session_ids: Sequence[bytes] = (),
        *,
        kinds: Sequence[EventKind | str] = (),
        subject: str = "",
        purpose: str = "",
        owner: str = "",
        include_children: bool = False,
        after_revision: int | None = None,
        incarnation: bytes = b"",
        heartbeats: bool = False,
        patience_ms: int = PATIENCE_MS,
        for_ms: int = 0,
    ) -> AsyncSessionWatch:
        """Return a watch that iterates over the events of sessions, in order and each exactly once.

        It is for an ``async with`` block. A stream that breaks is opened again, from where it broke. Filters
        that are not set do not limit.

        Args:
            session_ids: events of these sessions, and of those that they descend from.
            kinds: events of these kinds, or their names; SYNCED and RESTORED come in any case.
            subject: events of sessions with this subject.
            purpose: events of sessions with this purpose.
            owner: events of this principal's sessions.
            include_children: also events of all that descend from ``session_ids``.
            after_revision: events after this revision, as far as the log still has it; 0: from its
                beginning. None: from now on.
            incarnation: the incarnation that another watch had with that revision; it shows a state that was
                restored since.
            heartbeats: return SYNCED events too, one every few seconds.
            patience_ms: time for which a broken stream is tried again before Unavailable is raised. The first
                one is tried for the client's ``timeout_ms``.
            for_ms: length of the watch, at most an hour; 0: until it is closed.
        """
        check_timeout(patience_ms)
        if for_ms:
            check_timeout(for_ms)
        request = watch_request(
            session_ids, kinds, subject, purpose, owner, include_children, after_revision, incarnation
        )
        cursor = EventCursor(request, self._timeout_ms, patience_ms, heartbeats)
        return AsyncSessionWatch(self._transport, cursor, for_ms)
