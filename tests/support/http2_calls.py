"""Calls of gRPC as raw frames, and frames as a client gets them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from tests.support.http2_frames import DATA, END_HEADERS, END_STREAM, HEADERS, block, frame, integer

HEADER_BYTES: Final = 9

Field = tuple[bytes, bytes]


def frames(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield the type, flags, stream and payload of each complete frame."""
    while len(data) >= HEADER_BYTES:
        size = int.from_bytes(data[:3], "big")
        if len(data) < HEADER_BYTES + size:
            return
        yield data[3], data[4], int.from_bytes(data[5:9], "big") & 0x7FFFFFFF, data[9 : 9 + size]
        data = data[9 + size :]


def literal(name: bytes, value: bytes, kind: int = 0x00) -> bytes:
    """Return a field with a new name: 0x00 not indexed, 0x10 never, 0x40 added to the dynamic table."""
    return bytes([kind]) + integer(len(name), 7) + name + integer(len(value), 7) + value


def request_fields(
    path: bytes, authorization: bytes | None = None, timeout: bytes | None = b"10S"
) -> list[Field]:
    """Return the fields of a call of gRPC."""
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"test"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
    if timeout is not None:
        fields.append((b"grpc-timeout", timeout))
    if authorization is not None:
        fields.append((b"authorization", authorization))
    return fields


def call(stream: int, fields: Iterable[Field], body: bytes) -> list[bytes]:
    """Return the frames of a call that sends one piece of body, and no more."""
    return [
        frame(HEADERS, END_HEADERS, stream, block(fields)),
        frame(DATA, END_STREAM, stream, body),
    ]
