"""The part of a session watch that needs neither threads nor tasks."""

from __future__ import annotations

import time
from typing import Any

from .._transport import ChannelHandle
from . import events
from .events import EventCursor


class WatchPosition:
    """The position of a session watch in the log, and the end of its time."""

    def __init__(self, cursor: EventCursor, for_ms: int) -> None:
        """Begin at ``cursor``; end after ``for_ms``, 0: never."""
        self._cursor = cursor
        self._ends_s = time.monotonic() + for_ms / 1000 if for_ms else 0.0
        self._stream: Any = None

    @property
    def revision(self) -> int:
        """The revision up to which every event was returned; another watch may start behind it."""
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
        method = handle.channel.unary_stream(events.PATH, **events.CODEC)
        timeout_s = self._limited(events.STREAM_SECONDS)
        self._stream = method(self._cursor.request, timeout=timeout_s, metadata=metadata)

    def _time_is_over(self) -> bool:
        return bool(self._ends_s and time.monotonic() >= self._ends_s)

    def _limited(self, seconds: float) -> float:
        """Return ``seconds``, or the rest of the watch's time if that is shorter."""
        return min(seconds, max(0.001, self._ends_s - time.monotonic())) if self._ends_s else seconds
