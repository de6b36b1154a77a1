"""A stream of records that a thread keeps open, to one server after the other."""

from __future__ import annotations

import logging
import re
import threading
import time
from typing import Any, Final

import grpc

from ...errors import Rejected, SessauthError
from ...state.replication.carrier import CarrierError, CompactedRecords
from ...v1 import feed_service_pb2 as pb
from .servers import FeedServer, FeedServers

_log = logging.getLogger(__name__)
# Records that wait here while the folder is written; one record may be larger.
MAX_BYTES: Final = 8 << 20
# Servers end a stream after an hour; the next one resumes from there.
STREAM_SECONDS: Final = 3_600.0
# After a stream that failed; the longer one once each server failed twice in a row.
PAUSE_SECONDS: Final = 0.1
LONG_PAUSE_SECONDS: Final = 0.5
# A stream that was open for so long has not failed at its opening.
SETTLED_SECONDS: Final = 1.0
_LOWEST: Final = re.compile(r"records below (\d+) ")


class RecordStream:
    """Records after the position that was read last. Any thread may call."""

    def __init__(self, servers: FeedServers) -> None:
        """Open nothing yet: the first read does."""
        self._servers = servers
        self._changed = threading.Condition()
        self._closed = False
        # After ``_begin``, by ascending number without a gap, up to ``_end``. -1: nothing was read yet.
        self._records: dict[int, bytes] = {}
        self._bytes = 0
        self._begin = self._end = -1
        # The failure that the next read raises.
        self._failure: Exception | None = None
        # Counts the positions from which reads started over.
        self._seeks = 0
        self._server: FeedServer | None = None
        self._call: Any = None
        # Streams that failed in a row, each soon after its opening.
        self._failed_openings = 0
        # A number that a server has, and until when the stream must have brought it.
        self._due = (0, 0.0)
        self._thread = threading.Thread(target=self._run, name="sessauth-feed", daemon=True)

    def read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return up to ``limit`` records after ``after`` that came already.

        Raises CompactedRecords, and CarrierError once for each failure of a stream.
        """
        with self._changed:
            if self._closed:
                raise CarrierError("the feed is closed")
            self._seek(after)
            if self._records:
                last = min(after + limit, self._end)
                return [(number, self._records[number]) for number in range(after + 1, last + 1)]
            failure, self._failure = self._failure, None
            if failure is not None:
                # The stream waits while a failure does.
                self._changed.notify_all()
                raise failure
            return []

    def wait(self, after: int, timeout_ms: int) -> None:
        """Return once there is a record after ``after`` to read, a failure, or after the time-out."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._end > after or self._failure is not None, timeout_ms / 1000
            )

    def expect(self, number: int, within_seconds: float) -> None:
        """Leave a server whose stream has not brought the record an earlier call expected by its time."""
        with self._changed:
            due, by = self._due
            now = time.monotonic()
            if self._end < due and now > by:
                self._abandon(f"record {due} did not come in time")
            elif self._end < due:
                return
            self._due = (number, now + within_seconds)

    def leave(self, server: FeedServer) -> None:
        """End the stream of a server that was left."""
        with self._changed:
            if self._server is server and self._call is not None:
                self._call.cancel()

    def close(self) -> None:
        """End the stream and its thread."""
        with self._changed:
            self._closed = True
            if self._call is not None:
                self._call.cancel()
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def _seek(self, after: int) -> None:
        """Drop records up to ``after``; start over if the stored ones don't continue it."""
        if self._begin < 0:
            self._begin = self._end = after
            self._thread.start()
        elif self._begin <= after <= self._end:
            while self._begin < after:
                self._begin += 1
                self._bytes -= len(self._records.pop(self._begin))
            self._changed.notify_all()
        else:
            self._records.clear()
            self._bytes, self._failure = 0, None
            self._seeks += 1
            self._begin = self._end = after
            if self._call is not None:
                self._call.cancel()
            self._changed.notify_all()

    def _abandon(self, why: str) -> None:
        """Leave the server of the stream. Called with the lock held."""
        if self._server is not None and self._call is not None:
            _log.warning("%s: %s; following the next server", self._server.target, why)
            self._servers.leave(self._server)
            self._call.cancel()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._failure is None)
                if self._closed:
                    return
                server, begin, seeks = self._servers.current, self._end, self._seeks
                request = pb.FollowRequest(after=begin)
                call = server.stream("Follow", request, pb.FollowResponse, STREAM_SECONDS)
                self._server, self._call = server, call
            began = time.monotonic()
            error = self._receive(call, begin, server)
            lasted = time.monotonic() - began
            with self._changed:
                self._call = None
                if self._seeks != seeks:
                    continue
                self._failure = error
                self._changed.notify_all()
                if error is not None or lasted < PAUSE_SECONDS:
                    self._changed.wait_for(lambda: self._closed, self._pause(lasted))

    def _pause(self, lasted_seconds: float) -> float:
        """Return the pause after a stream that failed after so long."""
        self._failed_openings = 0 if lasted_seconds > SETTLED_SECONDS else self._failed_openings + 1
        return PAUSE_SECONDS if self._failed_openings <= 2 * len(self._servers) else LONG_PAUSE_SECONDS

    def _receive(self, call: Any, end: int, server: FeedServer) -> Exception | None:
        """Store the records of a stream; return its failure, None if it ended otherwise."""
        try:
            for response in call:
                for numbered in response.records:
                    if numbered.number != end + 1:
                        self._servers.leave(server)
                        call.cancel()
                        return CarrierError(f"{server.target} sent record {numbered.number} after {end}")
                    if not self._store(call, numbered.number, numbered.record):
                        call.cancel()
                        return None
                    end += 1
        except grpc.RpcError as failed:
            return self._failed(call, server, failed)
        return None

    def _store(self, call: Any, number: int, record: bytes) -> bool:
        """Store the next record, once there is space; False if it is no longer the next."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._call is not call or self._end != number - 1
                or not self._records or self._bytes + len(record) <= MAX_BYTES
            )  # fmt: skip
            if self._closed or self._end != number - 1:
                return False
            self._records[number] = record
            self._bytes += len(record)
            self._end = number
            self._changed.notify_all()
        return True

    def _failed(self, call: Any, server: FeedServer, failed: grpc.RpcError) -> Exception | None:
        code = call.code()
        if code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
            # Its hour is over, or this side ended it.
            return None
        error: SessauthError = server.error(failed, STREAM_SECONDS)
        if isinstance(error, Rejected) and error.word == "COMPACTED":
            lowest = _LOWEST.search(str(error))
            return CompactedRecords(int(lowest[1]) if lowest else 0)
        self._servers.leave(server)
        return CarrierError(f"{server.target}: {error}")
