"""A WatchSessions stream over a real socket, read event by event."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

import grpc

from sessauth.server.process.control import Control
from sessauth.v1 import event_service_pb2 as pb
from tests.support.service import Caller, RpcError, read_error

METHOD = "/sessauth.v1.EventService/WatchSessions"
# An event takes milliseconds; on a busy machine more. Nothing asserts that it takes less.
EVENT_SECONDS = 20.0

OPENED = pb.SESSION_EVENT_KIND_OPENED
NARROWED = pb.SESSION_EVENT_KIND_NARROWED
FACTS_CHANGED = pb.SESSION_EVENT_KIND_FACTS_CHANGED
SUSPENDED = pb.SESSION_EVENT_KIND_SUSPENDED
RESUMED = pb.SESSION_EVENT_KIND_RESUMED
ENDED = pb.SESSION_EVENT_KIND_ENDED
LAPSED = pb.SESSION_EVENT_KIND_LAPSED
REVOKED = pb.SESSION_EVENT_KIND_REVOKED
PURGED = pb.SESSION_EVENT_KIND_PURGED
RESTORED = pb.SESSION_EVENT_KIND_RESTORED
USED_AFTER_END = pb.SESSION_EVENT_KIND_USED_AFTER_END
SYNCED = pb.SESSION_EVENT_KIND_SYNCED


class Watch:
    """An open watch and its events, in order."""

    def __init__(self, caller: Caller, timeout: float = 120.0, **request: Any) -> None:
        """Open it."""
        self._events: SimpleQueue[pb.SessionEvent | RpcError | None] = SimpleQueue()
        stub = caller.channel.unary_stream(
            METHOD,
            request_serializer=pb.WatchSessionsRequest.SerializeToString,
            response_deserializer=pb.WatchSessionsResponse.FromString,
        )
        self.call: Any = stub(pb.WatchSessionsRequest(**request), timeout=timeout, metadata=caller.metadata)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            for response in self.call:
                for event in response.events:
                    self._events.put(event)
        except grpc.RpcError as error:
            self._events.put(read_error(error))
        else:
            self._events.put(None)

    def next(self) -> pb.SessionEvent:
        """Return the next event, SYNCED too; raises RpcError if the watch was refused or broke."""
        event = self._events.get(timeout=EVENT_SECONDS)
        if isinstance(event, RpcError):
            raise event
        assert event is not None, "the stream ended"
        return event

    def synced(self) -> pb.SessionEvent:
        """Return the next event, which must be SYNCED."""
        event = self.next()
        assert event.kind == SYNCED, event
        return event

    def event(self) -> pb.SessionEvent:
        """Return the next event that is not SYNCED."""
        while True:
            event = self.next()
            if event.kind != SYNCED:
                return event

    def until(self, revision: int) -> list[pb.SessionEvent]:
        """Return the events, without SYNCED, up to the first that is at ``revision`` or behind."""
        found = []
        while True:
            event = self.next()
            if event.kind != SYNCED:
                found.append(event)
            if event.revision >= revision:
                return found

    def refused(self) -> RpcError:
        """Return what ends the watch."""
        try:
            while True:
                self.next()
        except RpcError as error:
            return error

    def idle(self, seconds: float) -> bool:
        """True if nothing comes within ``seconds``."""
        try:
            event = self._events.get(timeout=seconds)
        except Empty:
            return True
        raise AssertionError(f"unexpected: {event}")

    def close(self) -> None:
        """Cancel it."""
        self.call.cancel()
        self._reader.join(EVENT_SECONDS)


@contextmanager
def watching(caller: Caller, **request: Any) -> Iterator[Watch]:
    """A watch that stands, with everything from now on unless ``after_revision`` says from where."""
    request.setdefault("from_now", "after_revision" not in request)
    opened = Watch(caller, **request)
    try:
        opened.synced()
        yield opened
    finally:
        opened.close()


def head_of(control: Control | None) -> int:
    """Return the revision of a server's state."""
    assert control is not None
    return control.writer.head().revision
