"""No connection, stream or call of the native server keeps anything: neither memory nor a reference."""

from __future__ import annotations

import gc
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress

import pytest

from sessauth._fast._http2 import NativeCall
from sessauth.v1 import authorization_service_pb2 as pb
from tests.fuzz.http2_sessions import CHECK, GOOD
from tests.fuzz.http2_world import Quiet, tokens
from tests.support.http2_calls import request_fields
from tests.support.http2_frames import (
    END_HEADERS,
    HEADERS,
    block,
    frame,
    message,
    reset,
    window_update,
)
from tests.support.http2_loop import LoopFixture, RawClient
from tests.support.leaks import growth
from tests.support.tls_pair import PLAIN, client_settings

FEW = 300
# Of each call, connection or handshake: less than one allocation's smallest size.
FEW_BYTES_EACH = 12
FIELDS = block(request_fields(CHECK, GOOD))
OTHER_FIELDS = block(request_fields(b"/a.B/C", GOOD))
ITEM = pb.CheckItem(token=tokens()[0], action=b"read", resource=b"files/a")
BODY = message(pb.CheckRequest(item=ITEM).SerializeToString())


class Served:
    """A loop with direct answers, whose other calls are answered or ended in turn."""

    def __init__(self, *, tls: bool = False) -> None:
        """Listen."""
        self.world = Quiet()
        self._count = 0
        self.fixture = LoopFixture(
            self._accept,
            tls=(lambda: PLAIN) if tls else None,
            direct=self.world,
            direct_paths=[CHECK],
            certificate_facts=lambda _: {},
        )

    def _accept(self, given: NativeCall) -> None:
        given.notice_end(lambda _: None)
        given.receive(lambda _: None)
        self._count += 1
        (
            lambda: given.answer(b"x" * 100),
            lambda: given.end(5, "not é found", b"details"),
            lambda: given.send(b"x" * 100, lambda: given.end(0, "")),
            given.cancel,
            lambda: None,
        )[self._count % 5]()

    def _turn(self, count: int = 4) -> None:
        # What clients sent is there at once: no time has to pass. A poll of 0 s would not even look.
        self.fixture.turn(count, wait_s=1e-6)

    def client(self) -> RawClient:
        """Connect, with a window for everything."""
        client = RawClient(self.fixture.path)
        client.send(window_update(0, (1 << 30)))
        self._turn(2)
        return client

    def calls(self, client: RawClient, first: int, count: int, make: Callable[[int], bytes]) -> int:
        """Send calls, some at a time. Return the next stream."""
        for _ in range(0, count, 50):
            client.send(*(make(first + 2 * i) for i in range(50)))
            first += 100
            self._turn(4)
            client.read()
            client.received.clear()
        return first

    def direct(self, count: int) -> None:
        """Answer calls on the loop."""
        before = self.fixture.loop.answered
        client = self.client()
        self.calls(client, 1, count, lambda stream: b"".join(_frames(stream, FIELDS)))
        assert self.fixture.loop.answered - before == count
        client.close()
        self._turn()

    def accepted(self, count: int) -> None:
        """Accept calls that end in each way, a fifth of them by the client."""
        before = self._count
        client = self.client()
        for first in range(1, 2 * count, 2):
            client.send(*_frames(first, OTHER_FIELDS))
            self._turn(2)
            if self._count % 5 == 4:
                client.send(reset(first))
                self._turn(1)
            client.read()
            client.received.clear()
        assert self._count - before == count
        client.close()
        self._turn()

    def broken(self, count: int) -> None:
        """Open connections that end in the middle of calls."""
        for i in range(count):
            client = self.client()
            client.send(frame(HEADERS, END_HEADERS, 1, OTHER_FIELDS), (b"\xff" * 30, BODY[:9], b"")[i % 3])
            client.close()
            self._turn(2)

    def handshakes(self, count: int) -> None:
        """Open connections in TLS, half of which end in the handshake."""
        settings = client_settings()
        for i in range(count):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = settings.wrap_bio(incoming, outgoing)
            client = RawClient(self.fixture.path, b"")
            for _ in range(1 + i % 2 * 3):
                with suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                client.send(outgoing.read())
                self._turn(2)
                client.read()
                incoming.write(bytes(client.received))
                client.received.clear()
            if i % 2:
                tls.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + b"".join(_frames(1, FIELDS)))
                client.send(outgoing.read())
                self._turn(2)
            client.close()
            self._turn(2)


def _frames(stream: int, fields: bytes) -> tuple[bytes, bytes]:
    return frame(HEADERS, END_HEADERS, stream, fields), frame(0, 1, stream, BODY)


@pytest.mark.parametrize(
    ("way", "count"), [("direct", 20_000), ("accepted", 10_000), ("broken", 1_000), ("handshakes", 200)]
)
def test_nothing_is_kept(way: str, count: int) -> None:
    """References, blocks of Python and bytes of the heap are the same behind thousands of each kind."""
    served = Served(tls=way == "handshakes")
    run = getattr(served, way)
    run(max(count // 5, 100))
    gc.collect()
    counted = {name: sys.getrefcount(each) for name, each in served.world.held().items()}
    few_bytes = FEW_BYTES_EACH * count + (1 << 16)
    grown = growth(lambda: run(count), FEW, few_bytes)
    found = {name: sys.getrefcount(each) for name, each in served.world.held().items()}

    assert {name: n - counted[name] for name, n in found.items() if abs(n - counted[name]) > 2} == {}
    assert grown.blocks < FEW
    assert grown.heap_bytes < few_bytes
    served.fixture.close()
    assert served.fixture.loop.connections == 0
    assert not served.fixture.faults
