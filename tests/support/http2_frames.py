"""Frames of HTTP/2 and header blocks of HPACK, made by hand (RFC 9113, RFC 7541)."""

from __future__ import annotations

import struct
from collections.abc import Iterable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
ACK, END_STREAM, END_HEADERS, PADDED = 1, 1, 4, 8
TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = range(4)
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = range(5, 10)
ENHANCE_YOUR_CALM = 11
CHECK = "/sessauth.v1.AuthorizationService/Check"
CHECK_BATCH = "/sessauth.v1.AuthorizationService/CheckBatch"
LIST_ALLOWED = "/sessauth.v1.AuthorizationService/ListAllowed"
STREAM = "/sessauth.v1.AuthorizationService/CheckStream"
# The largest payload of a frame that a server must accept.
FRAME_BYTES = 16_384

Entry = tuple[str | bytes, str | bytes]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    """Return a SETTINGS frame of pairs of a number and its value."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window_update(stream: int, n: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW, 0, stream, struct.pack(">I", n))


def reset(stream: int, error: int = CANCEL) -> bytes:
    """Return an RST_STREAM frame."""
    return frame(RESET, 0, stream, struct.pack(">I", error))


def text(value: str | bytes) -> bytes:
    """Return a string of HPACK, not compressed."""
    data = value.encode() if isinstance(value, str) else value
    return integer(len(data), 7) + data


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """Return an integer of HPACK with a prefix of some bits, behind the bits of ``first``."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    head, value = bytearray([first | most]), value - most
    while value >= 128:
        head.append(value % 128 + 128)
        value //= 128
    return bytes([*head, value])


def block(entries: Iterable[Entry]) -> bytes:
    """Return a header block of literals that no table keeps."""
    return b"".join(b"\0" + text(name) + text(value) for name, value in entries)


def call_entries(
    path: str, credential: str, timeout: str = "5S", /, *, without: Iterable[str] = (), **changed: str
) -> list[Entry]:
    """Return the headers of a gRPC call; ``changed`` names are without their colon, with ``_`` for ``-``."""
    entries: dict[str, str] = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        "grpc-timeout": timeout,
        "authorization": f"Bearer {credential}",
    }
    for name, value in changed.items():
        name = name.replace("_", "-")
        entries[f":{name}" if f":{name}" in entries else name] = value
    if not credential:
        del entries["authorization"]
    return [(name, value) for name, value in entries.items() if name not in without]


def message(data: bytes, flag: int = 0) -> bytes:
    """Return a message of gRPC."""
    return bytes([flag]) + struct.pack(">I", len(data)) + data


def headers(stream: int, entries: Iterable[Entry], flags: int = END_HEADERS) -> bytes:
    """Return HEADERS, with CONTINUATION as needed."""
    encoded = block(entries)
    first, rest = encoded[:FRAME_BYTES], encoded[FRAME_BYTES:]
    if not rest:
        return frame(HEADERS, flags, stream, first)
    made = frame(HEADERS, flags & ~END_HEADERS, stream, first)
    while rest:
        part, rest = rest[:FRAME_BYTES], rest[FRAME_BYTES:]
        made += frame(CONTINUATION, 0 if rest else END_HEADERS, stream, part)
    return made


def data(stream: int, body: bytes, flags: int = END_STREAM) -> bytes:
    """Return DATA frames; the last has the flags."""
    made = b""
    while len(body) > FRAME_BYTES:
        made += frame(DATA, 0, stream, body[:FRAME_BYTES])
        body = body[FRAME_BYTES:]
    return made + frame(DATA, flags, stream, body)
