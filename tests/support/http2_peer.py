"""A client of HTTP/2 that sends what a test says, and collects the frames that come back."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hpack import Decoder

from tests.support import http2_frames as h2

INITIAL_WINDOW = 65_535


@dataclass
class Answer:
    """The frames of one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    # The error code of RST_STREAM, None without one.
    reset: int | None = None

    @property
    def over(self) -> bool:
        """True if nothing more comes on the stream."""
        return self.ended or self.reset is not None

    @property
    def status(self) -> str | None:
        """The number of gRPC's status, None without one."""
        return self.headers.get("grpc-status")

    @property
    def messages(self) -> list[bytes]:
        """The whole messages."""
        found, rest = [], self.body
        while len(rest) >= 5 and len(rest) >= 5 + int.from_bytes(rest[1:5], "big"):
            n = 5 + int.from_bytes(rest[1:5], "big")
            found.append(rest[5:n])
            rest = rest[n:]
        return found


@dataclass
class Peer:
    """One connection. Nothing is read or answered but by :meth:`read`."""

    target: Path | tuple[str, int]
    # Sent at once.
    opening: bytes = h2.PREFACE + h2.settings()
    # Whether PING and SETTINGS are answered.
    polite: bool = True
    receive_buffer: int = 0
    answers: dict[int, Answer] = field(default_factory=dict)
    # The error code of GOAWAY, None without one; those of a graceful end are no error.
    goaway: int | None = None
    goaway_text: bytes = b""
    pongs: int = 0
    # Bytes that may still be sent, by stream; 0 is the connection.
    windows: dict[int, int] = field(default_factory=lambda: {0: INITIAL_WINDOW})
    closed: bool = False
    next_stream: int = 1
    _buffer: bytearray = field(default_factory=bytearray)
    _decoder: Decoder = field(default_factory=Decoder)

    def __post_init__(self) -> None:
        """Connect."""
        unix = isinstance(self.target, Path)
        self.socket = socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM)
        if self.receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        try:
            self.socket.connect(str(self.target) if unix else self.target)
        except OSError:
            self.socket.close()
            raise
        self.send(self.opening)

    def __enter__(self) -> Peer:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def send(self, data: bytes, seconds: float = 10.0) -> bool:
        """Send bytes; False if the server has closed, or does not read for that long."""
        self.socket.settimeout(seconds)
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def read(self, until: Callable[[], bool], seconds: float = 10.0) -> bool:
        """Read frames until ``until()`` holds, the connection is closed, or the time is over."""
        end = time.monotonic() + seconds
        while not until():
            if self.closed or time.monotonic() >= end:
                return until()
            self.socket.settimeout(max(end - time.monotonic(), 0.001))
            try:
                received = self.socket.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError:
                received = b""
            self.closed = not received
            self._buffer += received
            self._split()
        return True

    def read_end(self, seconds: float = 10.0) -> bool:
        """Read until the server closes the connection; False if it does not."""
        return self.read(lambda: self.closed, seconds)

    def call(self, entries: Sequence[h2.Entry], body: bytes | None, *, rest: bytes = b"") -> Answer:
        """Send a call, whole, and what else the test wants; returns its answer when that is over."""
        stream = self.take_stream()
        if body is None:
            sent = h2.headers(stream, entries, h2.END_HEADERS | h2.END_STREAM)
        elif len(body) <= INITIAL_WINDOW:
            sent = h2.headers(stream, entries) + h2.data(stream, body)
        else:
            # More than a window takes waiting for updates, which come once the server knows the caller.
            self.send(h2.headers(stream, entries))
            self.send_bodies({stream: body}, 10.0)
            sent = h2.data(stream, b"")
        self.send(sent + rest)
        return self.answer(stream)

    def answer(self, stream: int, seconds: float = 10.0) -> Answer:
        """Return the answer of a stream, when it is over or nothing more comes."""
        self.read(lambda: stream in self.answers and self.answers[stream].over, seconds)
        return self.answers.get(stream, Answer())

    def take_stream(self) -> int:
        """Return the next id of a stream."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        return stream

    def send_bodies(self, bodies: dict[int, bytes], seconds: float) -> None:
        """Send DATA of streams as far as their windows are open, until all is sent or the time is over."""
        end = time.monotonic() + seconds
        left = dict(bodies)
        while left and time.monotonic() < end and not self.closed:
            sent = b""
            for stream, body in list(left.items()):
                n = min(self.windows.setdefault(stream, INITIAL_WINDOW), self.windows[0], len(body))
                if n > 0:
                    sent += h2.data(stream, body[:n], 0)
                    self.windows[stream] -= n
                    self.windows[0] -= n
                    left[stream] = body[n:]
                if not left[stream]:
                    del left[stream]
            self.send(sent)
            self.read(lambda: False, 0.002)

    def ping(self, seconds: float = 10.0) -> bool:
        """Send a PING and wait for its answer: all that was sent before has been read."""
        before = self.pongs
        return self.send(h2.frame(h2.PING, 0, 0, b"askwhere")) and self.read(
            lambda: self.pongs > before, seconds
        )

    def _split(self) -> None:
        buffer = self._buffer
        while len(buffer) >= 9 and len(buffer) >= 9 + int.from_bytes(buffer[:3], "big"):
            size = int.from_bytes(buffer[:3], "big")
            stream = int.from_bytes(buffer[5:9], "big") & 0x7FFFFFFF
            self._take(buffer[3], buffer[4], stream, bytes(buffer[9 : 9 + size]))
            del buffer[: 9 + size]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in (h2.SETTINGS, h2.PING):
            if flags & h2.ACK:
                self.pongs += kind == h2.PING
            elif self.polite:
                with suppress(OSError):
                    self.socket.sendall(h2.frame(kind, h2.ACK, 0, b"" if kind == h2.SETTINGS else payload))
        elif kind == h2.WINDOW:
            self.windows[stream] = self.windows.get(stream, INITIAL_WINDOW) + struct.unpack(">I", payload)[0]
        elif kind == h2.GOAWAY:
            self.goaway = struct.unpack(">I", payload[4:8])[0]
            self.goaway_text += payload[8:]
        elif kind in (h2.HEADERS, h2.DATA, h2.RESET):
            answer = self.answers.setdefault(stream, Answer())
            if kind == h2.RESET:
                answer.reset = struct.unpack(">I", payload)[0]
            elif kind == h2.DATA:
                answer.body += payload
            else:
                answer.headers.update(
                    {str(name): str(value) for name, value in self._decoder.decode(payload)}
                )
            answer.ended |= kind != h2.RESET and bool(flags & h2.END_STREAM)
