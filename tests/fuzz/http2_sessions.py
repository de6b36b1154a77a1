"""Bytes of clients of HTTP/2: valid sessions, changed ones, and frames of a grammar."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sessauth.v1 import authorization_service_pb2 as pb
from tests.fuzz.check_any_bytes import changed
from tests.support.http2_calls import HEADER_BYTES, Field, literal, request_fields
from tests.support.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    PUSH,
    RESET,
    SETTINGS,
    WINDOW,
    frame,
    integer,
    message,
)

CHECK: Final = b"/sessauth.v1.AuthorizationService/Check"
BATCH: Final = b"/sessauth.v1.AuthorizationService/CheckBatch"
# The credentials of a caller, of one for another audience, and of nobody.
GOOD, OTHER, UNKNOWN = b"Bearer good", b"Bearer other", b"Bearer unknown"
PADDED, WITH_PRIORITY = 0x8, 0x20
_NUMBERS: Final = (0, 1, 2, 3, 0x3FFF, 0x4000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_STREAMS: Final = (0, 1, 1, 2, 3, 3, 5, 7, 9, 101, 0x7FFFFFFF, 0x80000001, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Material:
    """The tokens that sessions present, and the most that a session may show of credentials."""

    tokens: list[bytes]
    credentials: tuple[bytes, ...]


def body(rng: random.Random, material: Material, path: bytes) -> bytes:
    """Return the message of a check or a batch, now and then one that is changed."""
    items = [
        pb.CheckItem(
            token=rng.choice(material.tokens[:-1] * 3 + material.tokens[-1:]),
            action=rng.choice((b"read",) * 6 + (b"write", b"")),
            resource=rng.choice((b"files/a.txt", b"files/a/b", b"files/a/b", b"logs/x", b"other")),
            arguments=rng.choice((b"", b"", b"{}", b'{"n": 1}', b"{")),
            source=rng.choice(("", "10.0.0.1")),
        )
        for _ in range(1 if path == CHECK else rng.choice((0, 1, 2, 9)))
    ]
    audience = rng.choice(("", "gateway", "gateway", "gateway", "other"))
    if path == CHECK:
        data = pb.CheckRequest(item=items[0], audience=audience).SerializeToString()
    else:
        data = pb.CheckBatchRequest(items=items, audience=audience).SerializeToString()
    return changed(rng, data) if rng.random() < 0.15 else data


class Encoder:
    """HPACK as real encoders use it: new fields go to the dynamic table, known ones are an index."""

    def __init__(self, rng: random.Random) -> None:
        """Begin with an empty table."""
        self._rng = rng
        self._known: list[Field] = []

    def block(self, fields: list[Field]) -> bytes:
        """Return a block."""
        out = b""
        if self._rng.random() < 0.05:
            out += integer(self._rng.choice((4096,) * 8 + (0, 64, 4097, 1 << 20)), 5, 0x20)
        for field in fields:
            if field in self._known and self._rng.random() < 0.8:
                out += integer(62 + self._known.index(field), 7, 0x80)
            elif self._rng.random() < 0.6:
                out += literal(*field, 0x40)
                self._known.insert(0, field)
            else:
                out += literal(*field, self._rng.choice((0x00, 0x10)))
        return out


def fields(rng: random.Random, material: Material, path: bytes) -> list[Field]:
    """Return the fields of a request, some of them with a fault."""
    found = request_fields(
        path,
        rng.choice((*material.credentials, None)) if rng.random() < 0.3 else material.credentials[0],
        b"10S" if rng.random() < 0.9 else rng.choice((b"1n", b"99999999H", b"x", b"", None)),
    )
    fault = rng.randrange(60)
    if fault == 0:
        name, value = (
            rng.choice((b"x-bin", b"x", b":path", b"x\0")),
            rng.choice((b"!!,YQ==,=", b"\xff", b"/")),
        )
        found.append((name, value))
    elif fault == 1:
        found.append((b"authorization", rng.choice(material.credentials)))
    elif fault == 2:
        found += [(b"x-%d" % i, bytes(100)) for i in range(rng.choice((1, 30)))]
    elif fault == 3:
        del found[rng.randrange(len(found))]
    elif fault == 4:
        found[rng.randrange(len(found))] = rng.choice(
            (
                (b":method", b"GET"),
                (b":status", b"200"),
                (b"Upper", b"x"),
                (b"connection", b"close"),
                (b"", b""),
            )
        )
    elif fault == 5:
        rng.shuffle(found)
    return found


def call_frames(rng: random.Random, encoder: Encoder, material: Material, stream: int) -> list[bytes]:
    """Return the frames of one call, valid or nearly so."""
    path = rng.choice((CHECK, CHECK, CHECK, BATCH, b"/other.Service/Method"))
    block = encoder.block(fields(rng, material, path))
    data = message(body(rng, material, path), rng.random() < 0.03)
    if rng.random() < 0.1:
        data += message(body(rng, material, path)) * rng.choice((1, 5))
    if rng.random() < 0.05:
        data = data[: rng.randrange(len(data))]
    if rng.random() < 0.03:
        data = b"\0" + struct.pack(">I", rng.choice(_NUMBERS)) + data
    ends_early = rng.random() < 0.03
    out = []
    cuts = sorted(rng.randrange(len(block)) for _ in range(rng.choice((0,) * 24 + (1, 1, 3, 9))))
    parts = [block[a:b] for a, b in zip([0, *cuts], [*cuts, len(block)], strict=True)]
    for place, part in enumerate(parts):
        flags = END_HEADERS if place == len(parts) - 1 else 0
        if place:
            out.append(frame(CONTINUATION, flags, stream, part))
            continue
        flags |= END_STREAM if ends_early else 0
        if rng.random() < 0.1:
            part, flags = struct.pack(">IB", rng.choice(_STREAMS), 16) + part, flags | WITH_PRIORITY
        if rng.random() < 0.1:
            pad = rng.choice((0, 1, 255))
            part, flags = bytes([pad]) + part + bytes(pad), flags | PADDED
        out.append(frame(HEADERS, flags, stream, part))
    if ends_early:
        return out
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 0, 1, 4))))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    ends_by_data = rng.random() < 0.9
    for place, piece in enumerate(pieces):
        flags = END_STREAM if place == len(pieces) - 1 and ends_by_data else 0
        out.append(frame(DATA, flags, stream, piece))
    if not ends_by_data and rng.random() < 0.6:
        trailers = encoder.block([(b"x-trailer", b"1"), (b"authorization", rng.choice(material.credentials))])
        out.append(frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers))
    if rng.random() < 0.1:
        out.append(frame(RESET, 0, stream, struct.pack(">I", rng.choice((0, 8)))))
    return out


def random_frame(rng: random.Random) -> bytes:
    """Return a frame of the grammar, with fields that are right, wrong or at their extremes."""
    stream = rng.choice(_STREAMS)
    number = struct.pack(">I", rng.choice(_NUMBERS))
    settings = b"".join(_setting(rng) for _ in range(rng.choice((0, 1, 3, 40))))
    eight = rng.choice((bytes(8), bytes(8), bytes(7)))
    priority = struct.pack(">IB", rng.choice(_STREAMS), 3)[: rng.choice((5, 5, 4))]
    choices: tuple[Callable[[], bytes], ...] = (
        lambda: frame(SETTINGS, 0, rng.choice((0, 0, 1)), settings),
        lambda: frame(SETTINGS, ACK, 0, rng.choice((b"", b"", b"x"))),
        lambda: frame(WINDOW, 0, stream, number),
        lambda: frame(PING, rng.choice((0, ACK)), rng.choice((0, 0, 3)), eight),
        lambda: frame(GOAWAY, 0, rng.choice((0, 0, 1)), number * rng.choice((1, 2, 3))),
        lambda: frame(RESET, 0, stream, number[: rng.choice((4, 4, 3))]),
        lambda: frame(PRIORITY, 0, stream, priority),
        lambda: frame(CONTINUATION, rng.choice((0, END_HEADERS)), stream, rng.randbytes(rng.choice((0, 20)))),
        lambda: frame(HEADERS, rng.getrandbits(8), stream, rng.randbytes(rng.choice((0, 1, 40)))),
        lambda: frame(DATA, rng.getrandbits(8), stream, rng.randbytes(rng.choice((0, 1, 6, 300)))),
        lambda: frame(PUSH, END_HEADERS, stream, number),
        lambda: frame(rng.randrange(10, 256), rng.getrandbits(8), stream, rng.randbytes(9)),
    )  # fmt: skip
    return rng.choice(choices)()


def _setting(rng: random.Random) -> bytes:
    return struct.pack(">HI", rng.choice((1, 2, 3, 4, 5, 6, 8, 9, 99)), rng.choice(_NUMBERS))


def changed_frames(rng: random.Random, frames: list[bytes]) -> list[bytes]:
    """Return frames of which some are dropped, doubled, exchanged, cut, or have another header."""
    out = list(frames)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(out)) if out else 0
        edit = rng.randrange(9)
        if edit == 0 or not out:
            out.insert(at, random_frame(rng))
        elif edit == 1:
            del out[at]
        elif edit == 2:
            out.insert(rng.randrange(len(out) + 1), out[at])
        elif edit == 3:
            other = rng.randrange(len(out))
            out[at], out[other] = out[other], out[at]
        elif edit == 4:
            out[at] = out[at][: rng.randrange(len(out[at]) + 1)]
        else:
            out[at] = _with_other_header(rng, out[at], edit)
    return out


def _with_other_header(rng: random.Random, data: bytes, edit: int) -> bytes:
    if len(data) < HEADER_BYTES:
        return data
    edited = bytearray(data)
    if edit == 5:
        edited[3] = rng.randrange(12)
    elif edit == 6:
        edited[4] ^= 1 << rng.randrange(8)
    elif edit == 7:
        edited[5:9] = struct.pack(">I", rng.choice(_STREAMS))
    else:
        edited[:3] = struct.pack(
            ">I", max(0, len(data) - HEADER_BYTES + rng.choice((-1, 1, -5, 5, 1 << 14)))
        )[1:]
    return bytes(edited)


def session(rng: random.Random, material: Material) -> tuple[list[bytes], str]:
    """Return the pieces that a client sends, each at once, and the sort of their changes."""
    encoder = Encoder(rng)
    parts = [PREFACE + frame(SETTINGS, 0, 0)]
    streams = range(1, 1 + 2 * rng.choice((1, 2, 4, 12)), 2)
    calls = [call_frames(rng, encoder, material, stream) for stream in streams]
    if rng.random() < 0.3:
        # Blocks of headers in their order, which the dynamic table needs, then what follows them in any.
        for one in calls:
            parts.append(one.pop(0))
            while one and one[0][3] == CONTINUATION:
                parts.append(one.pop(0))
        while rest := [each for each in calls if each and each[0][3] != HEADERS]:
            parts.append(rng.choice(rest).pop(0))
    else:
        parts += [each for one in calls for each in one]
    sort = rng.choice(("valid", "valid", "frames", "frames", "grammar", "bytes"))
    if sort == "frames":
        parts = changed_frames(rng, parts)
    elif sort == "grammar":
        parts[1:] = [random_frame(rng) for _ in range(rng.choice((1, 3, 20)))] + parts[1:] * (
            rng.random() < 0.5
        )
    data = b"".join(parts)
    if sort == "bytes":
        data = changed(rng, data)
    return split(rng, parts, data), sort


def split(rng: random.Random, parts: list[bytes], data: bytes) -> list[bytes]:
    """Return data as one piece, as its frames, cut at a few places, or byte by byte."""
    way = rng.randrange(8)
    if way < 3:
        return [data]
    if way < 5 and b"".join(parts) == data:
        return [part for part in parts if part]
    if way == 5 and len(data) < 700:
        return [data[i : i + 1] for i in range(len(data))]
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((1, 1, 3, 8))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a != b]
