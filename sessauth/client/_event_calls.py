"""How both clients are asked to watch sessions."""

from __future__ import annotations

from collections.abc import Sequence

from ._transport import AsyncTransport, SyncTransport, check_timeout
from ._watch.events import EventCursor, EventKind, watch_request
from ._watch.sessions import SessionWatch
from ._watch.sessions_async import AsyncSessionWatch

PATIENCE_MS = 60_000


def _times(patience_ms: int, for_ms: int) -> None:
    check_timeout(patience_ms)
    if for_ms:
        check_timeout(for_ms)


class EventCalls:
    """The blocking call; a client mixes it in."""

    _timeout_ms: int
    _transport: SyncTransport

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
    ) -> SessionWatch:
        """Return a watch that iterates over what happens to sessions, in order and each exactly once.

        A stream that breaks is opened again, from where it broke. Filters that are not set do not limit.

        Args:
            session_ids: of these sessions, and of those that they descend from.
            kinds: of these kinds, or their names; SYNCED and RESTORED come whatever is asked for.
            subject: of sessions with this subject, and so on.
            purpose: of sessions with this purpose.
            owner: of this principal's sessions.
            include_children: also of all that descend from ``session_ids``.
            after_revision: behind this revision, as far as the log still has it; 0: from its beginning. None:
                from now on.
            incarnation: what another watch knew with that revision; a state that was restored since is then
                found out.
            heartbeats: hand out SYNCED events too, one every few seconds.
            patience_ms: how long a broken stream is tried again before Unavailable is raised. The first one
                is tried for the client's ``timeout_ms``.
            for_ms: how long to watch, at most an hour; 0: until it is closed.
        """
        _times(patience_ms, for_ms)
        request = watch_request(
            session_ids, kinds, subject, purpose, owner, include_children, after_revision, incarnation
        )
        following = EventCursor(request, self._timeout_ms, patience_ms, heartbeats)
        return SessionWatch(self._transport, following, for_ms)


class AsyncEventCalls:
    """The call for asyncio; a client mixes it in."""

    _timeout_ms: int
    _transport: AsyncTransport

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
        """Return a watch, for ``async for``; see the blocking client's method for what it takes."""
        _times(patience_ms, for_ms)
        request = watch_request(
            session_ids, kinds, subject, purpose, owner, include_children, after_revision, incarnation
        )
        following = EventCursor(request, self._timeout_ms, patience_ms, heartbeats)
        return AsyncSessionWatch(self._transport, following, for_ms)
