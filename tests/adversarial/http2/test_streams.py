"""Frames where none may be: on streams that are not open, ended, or of nobody; and headers of all kinds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import http2_frames as h2
from tests.support.attacked_server import AttackedServer

Make = Callable[[bytes, bytes], bytes]
OK, UNIMPLEMENTED = "0", "12"


def _open(stream: int, block: bytes, flags: int = h2.END_HEADERS) -> bytes:
    return h2.frame(h2.HEADERS, flags, stream, block)


def _call(stream: int, block: bytes, request: bytes) -> bytes:
    return _open(stream, block) + h2.data(stream, request)


TRAILERS = h2.block([("x", "y")])
ENDS = h2.END_HEADERS | h2.END_STREAM
# By the header block of a check that is allowed, and its message: what is sent, and the error of the GOAWAY.
CONNECTION_ERRORS: dict[str, tuple[Make, int]] = {
    "DATA of an idle stream": (lambda _, body: h2.data(1, body), h2.PROTOCOL_ERROR),
    "DATA of no stream": (lambda _, body: h2.data(0, body), h2.PROTOCOL_ERROR),
    "an even stream": (lambda block, body: _call(2, block, body), h2.PROTOCOL_ERROR),
    "headers of no stream": (lambda block, _: _open(0, block), h2.PROTOCOL_ERROR),
    "DATA behind the end": (
        lambda block, body: _call(1, block, body) + h2.data(1, body),
        h2.STREAM_CLOSED,
    ),
    "headers behind the end": (
        lambda block, body: _call(1, block, body) + _open(1, block, ENDS),
        h2.STREAM_CLOSED,
    ),
    "PUSH_PROMISE": (
        lambda block, _: h2.frame(h2.PUSH, h2.END_HEADERS, 1, bytes(4) + block),
        h2.PROTOCOL_ERROR,
    ),
    "RST_STREAM of an idle stream": (lambda *_: h2.reset(1), h2.PROTOCOL_ERROR),
    "RST_STREAM of no stream": (lambda *_: h2.reset(0), h2.PROTOCOL_ERROR),
    "WINDOW_UPDATE of an idle stream": (lambda *_: h2.window_update(1, 1), h2.PROTOCOL_ERROR),
    "WINDOW_UPDATE of nothing": (lambda *_: h2.window_update(0, 0), h2.PROTOCOL_ERROR),
    "a window above the limit": (
        lambda *_: h2.window_update(0, (1 << 31) - 1),
        h2.FLOW_CONTROL_ERROR,
    ),
    "a frame that is too long": (
        lambda block, _: _open(1, block) + h2.frame(h2.DATA, 1, 1, bytes(h2.FRAME_BYTES + 1)),
        h2.FRAME_SIZE_ERROR,
    ),
    "a PING of seven bytes": (lambda *_: h2.frame(h2.PING, 0, 0, bytes(7)), h2.FRAME_SIZE_ERROR),
    "padding longer than its frame": (
        lambda block, body: _open(1, block) + h2.frame(h2.DATA, h2.PADDED | 1, 1, b"\xff" + body[:10]),
        h2.PROTOCOL_ERROR,
    ),
    "a stream that depends on itself": (
        lambda block, _: h2.frame(h2.HEADERS, h2.END_HEADERS | 0x20, 1, b"\0\0\0\1\0" + block),
        h2.PROTOCOL_ERROR,
    ),
    "another frame among headers": (
        lambda block, body: h2.frame(h2.HEADERS, 0, 1, block) + h2.data(1, body),
        h2.PROTOCOL_ERROR,
    ),
    "another stream among headers": (
        lambda block, body: h2.frame(h2.HEADERS, 0, 1, block) + _call(3, block, body),
        h2.PROTOCOL_ERROR,
    ),
    "CONTINUATION of nothing": (
        lambda block, _: h2.frame(h2.CONTINUATION, h2.END_HEADERS, 1, block),
        h2.PROTOCOL_ERROR,
    ),
    "an index of no table": (lambda *_: _open(1, b"\xff\xff\x03"), h2.COMPRESSION_ERROR),
    "an index of zero": (lambda *_: _open(1, b"\x80"), h2.COMPRESSION_ERROR),
    "a table above the limit": (
        lambda block, _: _open(1, h2.integer(1 << 20, 5, 0x20) + block),
        h2.COMPRESSION_ERROR,
    ),
    "a table's size behind a header": (
        lambda block, _: _open(1, block + h2.integer(0, 5, 0x20)),
        h2.COMPRESSION_ERROR,
    ),
    "an integer without an end": (lambda *_: _open(1, b"\x7f" + b"\xff" * 20), h2.COMPRESSION_ERROR),
    "a text that is longer than its block": (lambda *_: _open(1, b"\0\x7f\x80\x01x"), h2.COMPRESSION_ERROR),
    "Huffman's code with its end in it": (
        lambda *_: _open(1, b"\0\x84\xff\xff\xff\xff\x01x"),
        h2.COMPRESSION_ERROR,
    ),
    "a value above 64 KiB": (
        lambda block, _: h2.headers(1, [("x", "y" * 70_000)]),
        h2.COMPRESSION_ERROR,
    ),
}
# What is sent on the stream 1, and the error of its RST_STREAM.
STREAM_ERRORS: dict[str, tuple[Make, int]] = {
    "trailers first": (lambda *_: _open(1, TRAILERS, ENDS), h2.PROTOCOL_ERROR),
    "trailers that are no end": (
        lambda block, body: _open(1, block) + h2.data(1, body, 0) + _open(1, TRAILERS) + h2.data(1, b""),
        h2.PROTOCOL_ERROR,
    ),
    "a path in trailers": (
        lambda block, body: (
            _open(1, block) + h2.data(1, body, 0) + _open(1, h2.block([(":path", h2.CHECK)]), ENDS)
        ),
        h2.PROTOCOL_ERROR,
    ),
    "headers twice": (
        lambda block, body: _open(1, block) + _open(1, block) + h2.data(1, body),
        h2.PROTOCOL_ERROR,
    ),
    "a window of a stream above the limit": (
        lambda block, _: _open(1, block) + h2.window_update(1, (1 << 31) - 1),
        h2.FLOW_CONTROL_ERROR,
    ),
}


@pytest.mark.parametrize(("make", "error"), CONNECTION_ERRORS.values(), ids=CONNECTION_ERRORS)
def test_errors_that_end_the_connection(make: Make, error: int, attacked: AttackedServer) -> None:
    """GOAWAY with the error of RFC 9113 or RFC 7541, and no answer."""
    with attacked.peer() as peer:
        peer.send(make(h2.block(attacked.entries()), attacked.request))
        assert peer.read_end()
        assert peer.goaway == error
        assert all(answer.status is None for answer in peer.answers.values())


@pytest.mark.parametrize(("make", "error"), STREAM_ERRORS.values(), ids=STREAM_ERRORS)
def test_errors_that_end_the_stream(make: Make, error: int, attacked: AttackedServer) -> None:
    """RST_STREAM, and the connection serves on."""
    with attacked.peer() as peer:
        peer.send(make(h2.block(attacked.entries()), attacked.request))
        answer = peer.answer(1)
        assert (answer.reset, answer.headers) == (error, {})
        peer.next_stream = 3
        assert attacked.allows(peer)


def test_a_stream_is_used_once(attacked: AttackedServer) -> None:
    """Neither its id nor a smaller one begins another call."""
    block = h2.block(attacked.entries())
    with attacked.peer() as peer:
        peer.send(_call(5, block, attacked.request))
        assert peer.answer(5).status == OK
        peer.send(_call(3, block, attacked.request))
        assert not peer.read(lambda: 3 in peer.answers, 0.1)
        peer.answers.clear()
        peer.send(_call(5, block, attacked.request))
        assert peer.read_end()
        assert (peer.goaway, peer.answers) == (h2.STREAM_CLOSED, {})


def test_credentials_in_trailers_are_none(attacked: AttackedServer) -> None:
    """A call's caller is known by its headers."""
    *entries, credential = attacked.entries()
    assert credential[0] == "authorization"
    with attacked.peer() as peer:
        peer.send(
            h2.headers(1, entries) + h2.data(1, attacked.request, 0) + h2.headers(1, [credential], ENDS)
        )
        assert peer.answer(1).status == "16"


def test_a_call_in_parts_is_one(attacked: AttackedServer) -> None:
    """Headers of several frames, padding, empty frames, single bytes, trailers."""
    block, body = h2.block(attacked.entries()), attacked.request
    with attacked.peer() as peer:
        peer.send(
            h2.frame(h2.HEADERS, 0, 1, block[:10])
            + h2.frame(h2.CONTINUATION, 0, 1, block[10:20])
            + h2.frame(h2.CONTINUATION, 0, 1)
            + h2.frame(h2.CONTINUATION, h2.END_HEADERS, 1, block[20:])
            + h2.frame(h2.DATA, 0, 1)
            + b"".join(h2.frame(h2.DATA, 0, 1, body[i : i + 1]) for i in range(100))
        )
        assert not peer.read(lambda: 1 in peer.answers, 0.05)
        peer.send(h2.frame(h2.DATA, h2.PADDED, 1, b"\xff" + body[100:] + bytes(255)))
        peer.send(h2.frame(h2.HEADERS, ENDS, 1, TRAILERS))
        assert attacked.decision(peer.answer(1)).allowed


def test_a_message_without_an_end_of_the_stream_is_answered(attacked: AttackedServer) -> None:
    """The answer of gRPC's server; RST_STREAM shows that the client need send no more."""
    with attacked.peer() as peer:
        peer.send(h2.headers(1, attacked.entries()) + h2.data(1, attacked.request, 0))
        answer = peer.answer(1)
        assert attacked.decision(answer).allowed
        assert peer.read(lambda: answer.reset == h2.NO_ERROR)


def test_streams_beyond_the_limit_are_refused_and_the_others_served(attacked: AttackedServer) -> None:
    """256 at once; the client may try those again that were refused."""
    block = h2.block(attacked.entries())
    with attacked.peer() as peer:
        assert peer.ping()
        streams = [peer.take_stream() for _ in range(256)]
        peer.send(b"".join(_open(each, block) for each in streams))
        assert peer.ping()
        peer.send(b"".join(h2.data(each, attacked.request) for each in streams))
        assert all(attacked.decision(peer.answer(each)).allowed for each in streams)
    with attacked.peer(polite=False) as peer:
        streams = [peer.take_stream() for _ in range(300)]
        peer.send(b"".join(_open(each, block) for each in streams))
        assert peer.read(lambda: sum(each.reset == h2.REFUSED_STREAM for each in peer.answers.values()) == 44)
