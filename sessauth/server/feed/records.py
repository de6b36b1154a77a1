"""Records for any number of followers: one thread reads the engine, and streams take from its buffer.

A stream that is further behind reads the engine itself, and few do so at once.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from ...state.replication.carrier import CarrierError, CompactedRecords, LogSource
from ...v1 import feed_service_pb2 as pb
from ..log import event
from ..status import refused

# A follower that was away for a moment finds the records it missed here.
MAX_RECORDS: Final = 1_024
MAX_BYTES: Final = 16 << 20
PAGE_RECORDS: Final = 64
# Bound of one response; one record may be larger.
RESPONSE_BYTES: Final = 256 << 10
WAIT_MS: Final = 500
PAUSE_SECONDS: Final = 0.1
# Streams that read the engine at once.
READERS: Final = 4


class RecordFeed:
    """The last records of a source, each encoded as a response of one record."""

    def __init__(self, source: LogSource) -> None:
        """Read nothing yet: the first stream starts the thread."""
        self._source = source
        self._changed = threading.Condition()
        self._readers = threading.BoundedSemaphore(READERS)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        # By number, without a gap, from ``_begin`` + 1 to ``_end``; -1: not known yet.
        self._records: dict[int, bytes] = {}
        self._bytes = 0
        self._begin = self._end = -1
        # True from a failure of the engine until it can be read again, which is logged once.
        self._unreadable = False

    def next(self, after: int, timeout_seconds: float) -> tuple[bytes, int]:
        """Return an encoded response after ``after``, and the number it reaches; empty after the time-out.

        Raises SHUTTING_DOWN once closed, OVERLOADED if no thread can be started, CompactedRecords if the next
        record is gone, and CarrierError.
        """
        self._start()
        with self._changed:
            self._changed.wait_for(lambda: self._is_due(after), timeout_seconds)
            if self._closing.is_set():
                raise refused("SHUTTING_DOWN", "this server is about to end; follow another")
            if self._end <= after:
                return b"", after
            if self._begin <= after:
                return _response(self._records, after, self._end)
        with self._readers:
            page = _page(self._source.read(after, PAGE_RECORDS), after)
        if not page:
            # A member of the engine that is behind.
            self._closing.wait(PAUSE_SECONDS)
        return _response(page, after, after + len(page))

    def close(self) -> None:
        """End the thread and every stream."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _is_due(self, after: int) -> bool:
        return self._closing.is_set() or self._end > after

    def _start(self) -> None:
        with self._changed:
            if self._thread is not None or self._closing.is_set():
                return
            thread = threading.Thread(target=self._run, name="sessauth-feed", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                raise refused("OVERLOADED", "no thread to read the log with; retry later") from None
            self._thread = thread

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._step()
            except CompactedRecords as compacted:
                self._begin_at(compacted.first - 1)
            except CarrierError as error:
                if not self._unreadable:
                    event(logging.WARNING, "feed_unreadable", error=str(error))
                self._unreadable = True
                self._closing.wait(PAUSE_SECONDS)
            except Exception as error:  # noqa: BLE001 - the thread must go on
                event(logging.ERROR, "feed_failed", error=f"{type(error).__name__}: {error}")
                self._closing.wait(1.0)

    def _step(self) -> None:
        """Read new records, or wait for them."""
        if self._begin < 0:
            self._begin_at(self._source.barrier().head.number)
        records = self._source.read(self._end, PAGE_RECORDS)
        self._unreadable = False
        page = _page(records, self._end)
        if page:
            self._store(page)
        elif records:
            self._closing.wait(PAUSE_SECONDS)
        else:
            self._source.wait(self._end, WAIT_MS)

    def _begin_at(self, number: int) -> None:
        with self._changed:
            self._records.clear()
            self._bytes = 0
            self._begin = self._end = number
            self._changed.notify_all()

    def _store(self, page: dict[int, bytes]) -> None:
        with self._changed:
            self._records.update(page)
            self._end += len(page)
            self._bytes += sum(map(len, page.values()))
            while len(self._records) > MAX_RECORDS or self._bytes > MAX_BYTES:
                self._begin += 1
                self._bytes -= len(self._records.pop(self._begin))
            self._changed.notify_all()


def _page(records: list[tuple[int, bytes]], after: int) -> dict[int, bytes]:
    """Return the records that follow ``after`` without a gap, encoded."""
    page: dict[int, bytes] = {}
    for number, record in records:
        if number != after + len(page) + 1:
            break
        numbered = pb.NumberedRecord(number=number, record=record)
        page[number] = pb.FollowResponse(records=[numbered]).SerializeToString()
    return page


def _response(records: dict[int, bytes], after: int, end: int) -> tuple[bytes, int]:
    """Join encoded responses into one, and return it with the number that it reaches."""
    parts: list[bytes] = []
    size = 0
    while after < end and (not parts or size + len(records[after + 1]) <= RESPONSE_BYTES):
        after += 1
        parts.append(records[after])
        size += len(parts[-1])
    return b"".join(parts), after
