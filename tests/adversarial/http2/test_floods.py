"""Floods of frames: those that make the server work for nothing end the connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support import http2_frames as h2
from tests.support.attacked_server import AttackedServer

COUNT = 50_000
PART = 500
MEMORY_BYTES = 32 << 20
UNAUTHENTICATED = "16"
Make = Callable[[AttackedServer], Iterator[bytes]]


def _same(part: bytes, first: bytes = b"") -> Make:
    def make(_: AttackedServer) -> Iterator[bytes]:
        yield first
        for _each in range(COUNT // PART):
            yield part * PART

    return make


def _streams(of_stream: Callable[[int, bytes, bytes], bytes]) -> Make:
    """Frames of each of many streams, by its id, the header block of a check, and its message."""

    def make(server: AttackedServer) -> Iterator[bytes]:
        block, request = h2.block(server.entries()), server.request
        for first in range(0, COUNT, PART):
            yield b"".join(of_stream(2 * n + 1, block, request) for n in range(first, first + PART))

    return make


def _begin(stream: int, block: bytes, flags: int = h2.END_HEADERS) -> bytes:
    return h2.frame(h2.HEADERS, flags, stream, block)


def _empty_data(server: AttackedServer) -> Iterator[bytes]:
    """A stream that the server accepts, and nothing on it."""
    yield h2.headers(1, h2.call_entries(h2.STREAM, server.credential))
    yield from _same(h2.frame(h2.DATA, 0, 1))(server)


ENDING: dict[str, Make] = {
    "SETTINGS": _same(h2.settings()),
    "SETTINGS with the most entries": _same(h2.settings(*[(h2.INITIAL_WINDOW_SIZE, 65_535)] * 32)),
    "PING": _same(h2.frame(h2.PING, 0, 0, bytes(8))),
    "acknowledgements of PING": _same(h2.frame(h2.PING, h2.ACK, 0, bytes(8))),
    "PRIORITY": _same(h2.frame(h2.PRIORITY, 0, 1, bytes([0, 0, 0, 3, 9]))),
    "PRIORITY of ever new streams": _streams(
        lambda stream, *_: h2.frame(h2.PRIORITY, 0, stream + 2, b"\0\0\0\0\1")
    ),
    "WINDOW_UPDATE": _same(h2.window_update(0, 1)),
    "empty DATA": _empty_data,
    "GOAWAY": _same(h2.frame(h2.GOAWAY, 0, 0, bytes(8))),
    "CONTINUATION": _same(
        h2.frame(h2.CONTINUATION, 0, 1, h2.block([("x", "y" * 200)])),
        h2.frame(h2.HEADERS, 0, 1, h2.block([("x", "y")])),
    ),
    "empty CONTINUATION": _same(h2.frame(h2.CONTINUATION, 0, 1), h2.frame(h2.HEADERS, 0, 1, b"")),
    "rapid resets": _streams(lambda stream, block, _: _begin(stream, block) + h2.reset(stream)),
    "rapid resets of whole calls": _streams(
        lambda stream, block, body: _begin(stream, block) + h2.data(stream, body) + h2.reset(stream)
    ),
    "resets that the server is made to send": _streams(
        lambda stream, block, _: _begin(stream, block) + h2.window_update(stream, (1 << 31) - 1)
    ),
    "calls without a method": _streams(
        lambda stream, *_: _begin(stream, h2.block([("x", "y")]), h2.END_HEADERS | h2.END_STREAM)
    ),
    "more streams than are accepted": _streams(lambda stream, block, _: _begin(stream, block)),
}
HARMLESS: dict[str, Make] = {
    "frames of an unknown type": _same(h2.frame(99, 0, 0, b"x")),
}


@pytest.mark.parametrize("make", ENDING.values(), ids=ENDING)
@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
def test_a_flood_ends_its_own_connection(make: Make, reads: bool, attacked: AttackedServer) -> None:
    """Memory does not grow with it, be the answers read or not."""
    before = attacked.memory_bytes()
    with attacked.peer(polite=False) as peer:
        assert peer.ping()
        for part in make(attacked):
            if not peer.send(part, 5.0):
                break
            if reads:
                peer.read(lambda: False, 0.001)
        assert peer.read_end()
        assert all(answer.status != "0" for answer in peer.answers.values())
    assert attacked.memory_bytes() - before < MEMORY_BYTES


@pytest.mark.parametrize("make", HARMLESS.values(), ids=HARMLESS)
def test_what_costs_nothing_is_ignored(make: Make, attacked: AttackedServer) -> None:
    """The connection serves on."""
    before = attacked.memory_bytes()
    with attacked.peer() as peer:
        assert peer.ping()
        for part in make(attacked):
            assert peer.send(part)
        peer.next_stream = 3
        assert attacked.allows(peer)
    assert attacked.memory_bytes() - before < MEMORY_BYTES


def test_calls_of_nobody_are_refused_one_by_one(attacked: AttackedServer) -> None:
    """Two thousand calls without a credential on one connection: no flood, and no allow."""
    with attacked.peer() as peer:
        for _ in range(20):
            streams = [peer.take_stream() for _ in range(100)]
            block = h2.call_entries(h2.CHECK, "")
            peer.send(b"".join(h2.headers(each, block) + h2.data(each, attacked.request) for each in streams))
            assert {peer.answer(each).status for each in streams} == {UNAUTHENTICATED}
        assert attacked.allows(peer)


@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_pings_more_often_than_permitted_are_refused_by_name(pause: float, attacked: AttackedServer) -> None:
    """GOAWAY has ENHANCE_YOUR_CALM and the text that clients of gRPC know."""
    with attacked.peer() as peer:
        for _ in range(4):
            assert peer.send(h2.frame(h2.PING, 0, 0, bytes(8)))
            peer.read(lambda: False, pause)
        assert peer.read_end()
        assert (peer.goaway, peer.goaway_text) == (h2.ENHANCE_YOUR_CALM, b"too_many_pings")


def test_pings_between_answers_are_permitted(attacked: AttackedServer) -> None:
    """A client that measures the bandwidth pings with each answer."""
    with attacked.peer() as peer:
        for _ in range(50):
            assert attacked.allows(peer)
            assert peer.ping()
