"""A peer that speaks HTTP/2 by hand, and sends of each call's message only what it likes to."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import http2_frames as h2
from tests.support.http2_frames import message

__all__ = ["Connection", "HalfSent", "headers", "message"]

# The server takes 256 at once on a connection.
STREAMS = 150


def headers(path: str, credential: str, seconds: int) -> bytes:
    """The header block of a gRPC call."""
    return h2.block(h2.call_entries(path, credential, f"{seconds}S"))


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
        self._socket.sendall(h2.PREFACE + h2.settings((h2.INITIAL_WINDOW_SIZE, self.window)))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def call(self, block: bytes, body: bytes = b"", *, last: bool = False) -> int:
        """Send the headers of a call and ``body``: of its message only a part, unless it is the ``last``."""
        with self._lock:
            stream, self._next = self._next, self._next + 2
            self._live.add(stream)
            self.open += 1
        sent = h2.frame(h2.HEADERS, h2.END_HEADERS, stream, block)
        for start in range(0, len(body), 16_384):
            part = body[start : start + 16_384]
            end = h2.END_STREAM if last and start + 16_384 >= len(body) else 0
            sent += h2.frame(h2.DATA, end, stream, part)
        self._send(sent)
        return stream

    def reset(self, stream: int) -> None:
        """Cancel a call."""
        self._send(h2.reset(stream))
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
        if kind in (h2.SETTINGS, h2.PING) and not flags & h2.ACK:
            self._send(h2.frame(kind, h2.ACK, 0, b"" if kind == h2.SETTINGS else payload))
        elif kind == h2.DATA:
            self.data_bytes += len(payload)
        elif kind == h2.RESET or (kind == h2.HEADERS and flags & h2.END_STREAM):
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
