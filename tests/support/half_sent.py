"""A peer that speaks HTTP/2 by hand, and sends of each call's message only what it likes to."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
ACK, END_STREAM, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4
# The server takes 256 at once on a connection.
STREAMS = 150


def _text(text: str) -> bytes:
    """A string of HPACK, not compressed."""
    data, size = text.encode(), len(text)
    if size < 127:
        return bytes([size]) + data
    head, size = bytearray([127]), size - 127
    while size >= 128:
        head.append(size % 128 + 128)
        size //= 128
    return bytes([*head, size]) + data


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def message(data: bytes) -> bytes:
    """A message of gRPC, not compressed."""
    return b"\0" + struct.pack(">I", len(data)) + data


def headers(path: str, credential: str, seconds: int) -> bytes:
    """The header block of a gRPC call."""
    entries = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        "grpc-timeout": f"{seconds}S",
    }
    if credential:
        entries["authorization"] = f"Bearer {credential}"
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in entries.items())


@dataclass
class Connection:
    """One connection; ``open`` counts its calls that have not ended, ``ended`` those that have."""

    target: Path | tuple[str, int]
    # Flow-control window of each answer in bytes; nothing that is sent is ever acknowledged.
    window: int = 65_535
    open: int = 0
    ended: int = 0
    data_bytes: int = 0
    alive: bool = True
    _next: int = 1
    _live: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Connect, and begin to read."""
        unix = isinstance(self.target, Path)
        self._socket = socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.connect(str(self.target) if unix else self.target)
        except OSError:
            self._socket.close()
            raise
        window = struct.pack(">HI", INITIAL_WINDOW_SIZE, self.window)
        self._socket.sendall(PREFACE + _frame(SETTINGS, 0, 0, window))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def call(self, block: bytes, body: bytes = b"", *, last: bool = False) -> int:
        """Send the headers of a call and ``body``: of its message only a part, unless it is the ``last``."""
        with self._lock:
            stream, self._next = self._next, self._next + 2
            self._live.add(stream)
            self.open += 1
        sent = _frame(HEADERS, END_HEADERS, stream, block)
        for start in range(0, len(body), 16_384):
            part = body[start : start + 16_384]
            end = END_STREAM if last and start + 16_384 >= len(body) else 0
            sent += _frame(DATA, end, stream, part)
        self._send(sent)
        return stream

    def reset(self, stream: int) -> None:
        """Cancel a call."""
        self._send(_frame(RESET, 0, stream, struct.pack(">I", 8)))
        self._over(stream)

    def close(self) -> None:
        """Close the connection."""
        self.alive = False
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError:
            self.alive = False

    def _over(self, stream: int) -> None:
        with self._lock:
            if stream in self._live:
                self._live.discard(stream)
                self.open -= 1
                self.ended += 1

    def _read(self) -> None:
        buffered = bytearray()
        while True:
            try:
                data = self._socket.recv(65_536)
            except OSError:
                data = b""
            if not data:
                self.alive = False
                return
            buffered += data
            while len(buffered) >= 9 and len(buffered) >= 9 + int.from_bytes(buffered[:3], "big"):
                size = int.from_bytes(buffered[:3], "big")
                kind, flags = buffered[3], buffered[4]
                stream = int.from_bytes(buffered[5:9], "big") & 0x7FFFFFFF
                payload = bytes(buffered[9 : 9 + size])
                del buffered[: 9 + size]
                self._take(kind, flags, stream, payload)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in (SETTINGS, PING) and not flags & ACK:
            self._send(_frame(kind, ACK, 0, b"" if kind == SETTINGS else payload))
        elif kind == DATA:
            self.data_bytes += len(payload)
        elif kind == RESET or (kind == HEADERS and flags & END_STREAM):
            self._over(stream)


class HalfSent:
    """Holds a number of calls open whose message never comes: what is ended is called anew."""

    def __init__(self, target: Path | tuple[str, int], blocks: list[bytes], count: int, body: bytes) -> None:
        """Begin, with calls of those header blocks in turns, and of each message only ``body``."""
        self._target = target
        self._blocks = blocks
        self._count = count
        self._body = body
        self._stop = threading.Event()
        self._connections: list[Connection] = []
        self.made = 0
        self._fill()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> int:
        """Number of calls that the server ended."""
        return sum(each.ended for each in self._connections)

    def close(self) -> None:
        """Close all connections."""
        self._stop.set()
        self._thread.join(10)
        for each in self._connections:
            each.close()

    def _keep(self) -> None:
        # A server that is gone is not attacked.
        with suppress(OSError):
            while not self._stop.wait(0.5):
                self._fill()

    def _fill(self) -> None:
        alive = [each for each in self._connections if each.alive]
        missing = self._count - sum(each.open for each in alive)
        while missing > 0:
            roomy = next((each for each in alive if each.open < STREAMS), None)
            if roomy is None:
                roomy = Connection(self._target)
                self._connections.append(roomy)
                alive.append(roomy)
            roomy.call(self._blocks[self.made % len(self._blocks)], self._body)
            self.made += 1
            missing -= 1
