"""The part of HTTP/2 that sends gRPC calls at stated moments over a Unix socket, and reads answers.

A client library takes longer over a call than the server that is measured, and would share its cores. What is
sent here is made before the clock runs: a call is its header block and its message, in two frames.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.service.load_spec import CALL_SECONDS, LoadError

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
FIRST_WINDOW: Final = 65_535
LARGEST_WINDOW: Final = (1 << 31) - 1
FRAME_HEAD: Final = 9
# Entries 1 to 61 of the header table are the standard's; ours follow, the newest first.
FIRST_OWN_ENTRY: Final = 62


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def whole_number(value: int, bits: int, first: int) -> bytes:
    """Return a number as HPACK writes it: in the low ``bits`` of a byte that holds ``first``, and on."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes((first | value,))
    out = bytearray((first | limit,))
    value -= limit
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def header_blocks(headers: Sequence[tuple[str, str]]) -> tuple[bytes, bytes]:
    """Return the header block of the first call of a connection, and that of every later one.

    The first puts its headers into the connection's table, where the later ones refer to them.
    """
    first = bytearray()
    for name, value in headers:
        first.append(0x40)
        for text in (name.encode(), value.encode()):
            first += whole_number(len(text), 7, 0) + text
    newest = FIRST_OWN_ENTRY + len(headers) - 1
    later = b"".join(whole_number(newest - position, 7, 0x80) for position in range(len(headers)))
    return bytes(first), later


@dataclass
class Answer:
    """Answer to a call: its message's frame, and whether the stream ended as one does."""

    body: bytearray = field(default_factory=bytearray)
    reset: bool = False


class Connection:
    """One connection. Calls are numbered by who sends them; a number comes back with its answer.

    A message must fit the first window of a stream, 65,535 bytes.
    """

    def __init__(self, path: str, headers: Sequence[tuple[str, str]]) -> None:
        """Connect to a Unix socket, and exchange settings. Raises LoadError or OSError."""
        self._first, self._later = header_blocks(headers)
        self._next_stream = 1
        self._numbers: dict[int, int] = {}
        self._answers: dict[int, Answer] = {}
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._window = FIRST_WINDOW
        self._most = 100
        self._read = bytearray()
        self._unsent = bytearray()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(CALL_SECONDS)
        self.socket.connect(path)
        window = INITIAL_WINDOW_SIZE.to_bytes(2, "big") + LARGEST_WINDOW.to_bytes(4, "big")
        more = (LARGEST_WINDOW - FIRST_WINDOW).to_bytes(4, "big")
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, window) + frame(WINDOW_UPDATE, 0, 0, more))
        self._greeted = False
        while not self._greeted:
            self.receive()
        self.socket.setblocking(False)

    def close(self) -> None:
        """Disconnect."""
        self.socket.close()

    @property
    def blocked(self) -> bool:
        """True if bytes wait for room in the socket."""
        return bool(self._unsent)

    def send(self, number: int, body: bytes) -> None:
        """Send a call, or keep it until the server takes another."""
        self._waiting.append((number, body))
        self._send_waiting()

    def flush(self) -> None:
        """Give the socket what it takes now."""
        if self._unsent:
            try:
                del self._unsent[: self.socket.send(self._unsent)]
            except BlockingIOError:
                return

    def receive(self) -> list[tuple[int, Answer]]:
        """Read what is there; returns the calls that are answered. Raises LoadError if the server ends it."""
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return []
        if not data:
            raise LoadError("the server closed the connection")
        self._read += data
        done: list[tuple[int, Answer]] = []
        at, size = 0, len(self._read)
        while size - at >= FRAME_HEAD:
            length = int.from_bytes(self._read[at : at + 3], "big")
            end = at + FRAME_HEAD + length
            if end > size:
                break
            kind, flags = self._read[at + 3], self._read[at + 4]
            stream = int.from_bytes(self._read[at + 5 : at + 9], "big") & LARGEST_WINDOW
            self._frame(kind, flags, stream, bytes(self._read[at + FRAME_HEAD : end]), done)
            at = end
        del self._read[:at]
        if self._waiting:
            self._send_waiting()
        return done

    def _frame(
        self, kind: int, flags: int, stream: int, payload: bytes, done: list[tuple[int, Answer]]
    ) -> None:
        if kind in (DATA, HEADERS, RST_STREAM) and stream in self._answers:
            answer = self._answers[stream]
            if kind == DATA:
                answer.body += payload
            answer.reset = answer.reset or kind == RST_STREAM
            if kind == RST_STREAM or flags & END_STREAM:
                done.append((self._numbers.pop(stream), self._answers.pop(stream)))
        elif kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == PING and not flags & ACK:
            self._unsent += frame(PING, ACK, 0, payload)
            self.flush()
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind == GOAWAY:
            raise LoadError("the server is about to close the connection")

    def _settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            if int.from_bytes(payload[at : at + 2], "big") == MAX_CONCURRENT_STREAMS:
                self._most = int.from_bytes(payload[at + 2 : at + 6], "big")
        self._greeted = True
        self._unsent += frame(SETTINGS, ACK, 0, b"")
        self.flush()

    def _send_waiting(self) -> None:
        while self._waiting and len(self._answers) < self._most and len(self._waiting[0][1]) <= self._window:
            number, body = self._waiting.popleft()
            stream = self._next_stream
            self._next_stream += 2
            self._numbers[stream] = number
            self._answers[stream] = Answer()
            self._window -= len(body)
            block = self._first if stream == 1 else self._later
            self._unsent += frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, body)
        self.flush()
