"""Events of sessions, and the position that a watch of them resumes from after a break."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, cast

from ..._fast.codec.record import Record
from ...errors import SessauthError, Unavailable, UsageError
from ...model.session import EndCause
from ...v1 import event_service_pb2 as pb
from .._messages import field_values, newer_server
from .._requests.fields import check_count, check_id
from .._transport import ChannelHandle

PATH: Final = "/sessauth.v1.EventService/WatchSessions"
CODEC: Final[dict[str, Any]] = {
    "request_serializer": pb.WatchSessionsRequest.SerializeToString,
    "response_deserializer": pb.WatchSessionsResponse.FromString,
}
# Servers send a heartbeat every five seconds. A stream that is silent for so long is lost.
QUIET_SECONDS: Final = 20.0
# Servers end a stream after an hour; the next one resumes from there.
STREAM_SECONDS: Final = 3_600.0
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
PATIENCE_MS: Final = 60_000


class EventKind(IntEnum):
    """Kinds of changes of a session."""

    OPENED = 1
    NARROWED = 2
    FACTS_CHANGED = 3
    SUSPENDED = 4
    RESUMED = 5
    ENDED = 6
    LAPSED = 7
    REVOKED = 8
    PURGED = 9
    RESTORED = 10
    USED_AFTER_END = 11
    SYNCED = 12


@dataclass(frozen=True, slots=True)
class SessionEvent(Record):
    """One event. Times are ms since 1970.

    ENDED, LAPSED (it ended by itself) and RESTORED (the whole state was put back) hold for all sessions that
    descend from this one; these have no events of their own. ``inherited_by`` names the watched
    sessions among them. ``subject`` and ``purpose`` are empty if the session was purged since.

    USED_AFTER_END: tokens were presented although the session is over, ``count`` times since the last
    event; ``claimed``: nothing of them was verified. It is sent once, to the present watchers.

    ``observe``: the session that was OPENED is in observe mode, so its ceiling refuses nothing.
    ``enforce``: the one that was NARROWED is not any more.

    SYNCED: every event up to ``revision`` was sent; ``missed`` events that are sent only once were lost.
    """

    kind: EventKind
    revision: int
    at_ms: int
    session_id: bytes = b""
    parent_id: bytes = b""
    epoch: int = 0
    seq: int = 0
    actor: str = ""
    reason: str = ""
    cause: EndCause = EndCause.UNSPECIFIED
    subject: str = ""
    purpose: str = ""
    owner: str = ""
    inherited_by: tuple[bytes, ...] = ()
    block_ids: tuple[bytes, ...] = ()
    claimed: bool = False
    verifier: str = ""
    count: int = 0
    incarnation: bytes = field(default=b"", repr=False)
    missed: int = 0
    observe: bool = False
    enforce: bool = False


def event_from_message(message: pb.SessionEvent) -> SessionEvent:
    """Return the event of a message. Raises ServerError for a kind that this version does not know."""
    try:
        return SessionEvent(**SessionEvent.read_fields(field_values(message)))
    except ValueError as error:
        raise newer_server(error) from None


def watch_request(
    session_ids: Sequence[bytes],
    kinds: Sequence[EventKind | str],
    subject: str,
    purpose: str,
    owner: str,
    include_children: bool,
    after_revision: int | None,
    incarnation: bytes,
) -> pb.WatchSessionsRequest:
    """Describe a watch. Raises UsageError, which names the argument."""
    if isinstance(session_ids, bytes) or isinstance(kinds, str):
        raise UsageError("session_ids, kinds: give a list, not one value")
    if after_revision is None and incarnation:
        raise UsageError("incarnation: belongs to an after_revision; state both")
    return pb.WatchSessionsRequest(
        session_ids=[check_id("session_ids", session_id, 16) for session_id in session_ids],
        kinds=cast("Any", [int(_kind(kind)) for kind in kinds]),
        subject=subject,
        purpose=purpose,
        owner=owner,
        include_children=include_children,
        from_now=after_revision is None,
        after_revision=check_count("after_revision", after_revision or 0),
        incarnation=check_id("incarnation", incarnation, 16) if incarnation else b"",
    )


def _kind(kind: EventKind | str) -> EventKind:
    if isinstance(kind, EventKind):
        return kind
    try:
        return EventKind[kind.upper()]
    except KeyError:
        raise UsageError(f"kinds: {kind!r} is not one of {', '.join(EventKind.__members__)}") from None


class EventCursor:
    """The position of a watch, its events that were not returned yet, and its pauses between streams."""

    def __init__(
        self, request: pb.WatchSessionsRequest, first_ms: int, patience_ms: int, heartbeats: bool
    ) -> None:
        """Begin with ``request``; the first response is awaited for ``first_ms``."""
        self._request = request
        self._waiting: deque[SessionEvent] = deque()
        self._heartbeats = heartbeats
        self._patience_s = patience_ms / 1000
        self._until_s = time.monotonic() + first_ms / 1000
        self._pause_s = FIRST_PAUSE_SECONDS
        self.revision = request.after_revision
        self.incarnation = request.incarnation
        self.missed = 0
        # True once a server has named the position that it reports from.
        self.established = False

    @property
    def request(self) -> pb.WatchSessionsRequest:
        """The request of the next stream. Events that wait here are not requested again."""
        return self._request

    def accept(self, response: pb.WatchSessionsResponse) -> None:
        """Store the events of a response."""
        self.established = True
        self._pause_s = FIRST_PAUSE_SECONDS
        self._until_s = time.monotonic() + self._patience_s
        for message in response.events:
            event = event_from_message(message)
            if not self._waiting and event.kind is EventKind.SYNCED:
                # Nothing is before it, so it holds already.
                self._move(event)
            self._waiting.append(event)
            if event.kind is EventKind.USED_AFTER_END:
                continue
            # Events of the log ascend: all later ones are after this revision.
            self._request.from_now = False
            self._request.after_revision = event.revision
            if event.kind is EventKind.SYNCED:
                self._request.incarnation = event.incarnation

    def next(self) -> SessionEvent | None:
        """Return the next event, None if there is none yet."""
        while self._waiting:
            event = self._waiting.popleft()
            self._move(event)
            if self._heartbeats or event.kind is not EventKind.SYNCED:
                return event
        return None

    def _move(self, event: SessionEvent) -> None:
        if event.kind is not EventKind.USED_AFTER_END:
            self.revision = event.revision
        if event.kind is EventKind.SYNCED:
            self.incarnation, self.missed = event.incarnation, event.missed

    def pause(self, error: SessauthError) -> float:
        """Return the delay before the next stream, in seconds; raises ``error`` if there is to be none."""
        if not isinstance(error, Unavailable):
            raise error
        pause_s = self._pause_s * random.uniform(0.5, 1.0)
        if time.monotonic() + pause_s >= self._until_s:
            raise error
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_SECONDS)
        return pause_s


class WatchPosition:
    """The position of a session watch in the log, and the end of its time."""

    def __init__(self, cursor: EventCursor, for_ms: int) -> None:
        """Begin at ``cursor``; end after ``for_ms``, 0: never."""
        self._cursor = cursor
        self._ends_s = time.monotonic() + for_ms / 1000 if for_ms else 0.0
        self._stream: Any = None

    @property
    def revision(self) -> int:
        """The revision up to which every event was returned; another watch may start after it."""
        return self._cursor.revision

    @property
    def incarnation(self) -> bytes:
        """The incarnation that belongs to ``revision``; 16 bytes, empty before the first response."""
        return self._cursor.incarnation

    @property
    def missed(self) -> int:
        """The number of uses after an end that this watch was too slow for; nothing else can be missed."""
        return self._cursor.missed

    def _open(self, handle: ChannelHandle, metadata: tuple[tuple[str, str], ...]) -> None:
        """Open the stream, from the cursor on."""
        method = handle.channel.unary_stream(PATH, **CODEC)
        timeout_s = self._limited(STREAM_SECONDS)
        self._stream = method(self._cursor.request, timeout=timeout_s, metadata=metadata)

    def _time_is_over(self) -> bool:
        return bool(self._ends_s and time.monotonic() >= self._ends_s)

    def _limited(self, seconds: float) -> float:
        """Return ``seconds``, or the rest of the watch's time if that is shorter."""
        return min(seconds, max(0.001, self._ends_s - time.monotonic())) if self._ends_s else seconds
