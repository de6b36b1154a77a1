"""A native loop in this process, on a Unix socket, and raw clients of it."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from sessauth._fast._http2 import Loop, NativeCall, TlsContext
from tests.support.http2_calls import frames
from tests.support.http2_frames import PREFACE, SETTINGS, frame

MAX_MESSAGE: Final = 1 << 16
MAX_HEADERS: Final = 1 << 14
PATIENCE_S: Final = 20.0


class RawClient:
    """One connection, without a thought of its own."""

    def __init__(self, path: str, greeting: bytes = PREFACE + frame(SETTINGS, 0, 0)) -> None:
        """Connect, and send a greeting."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.socket.setblocking(False)
        self.received = bytearray()
        self.ended = False
        self.send(greeting)

    def send(self, *pieces: bytes) -> bool:
        """Send as much as the socket takes; False if that is not all."""
        data = b"".join(pieces)
        try:
            return self.socket.send(data) == len(data) if data else True
        except OSError:
            return False

    def read(self) -> list[tuple[int, int, int, bytes]]:
        """Return all frames that have come until now."""
        try:
            while piece := self.socket.recv(1 << 16):
                self.received += piece
            self.ended = True
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True
        return list(frames(bytes(self.received)))

    def close(self) -> None:
        """End the connection."""
        self.socket.close()


class LoopFixture:
    """A loop that its test polls, the calls that it accepted, and the errors of callbacks."""

    def __init__(
        self,
        accept: Callable[[NativeCall], object] | None = None,
        *,
        tls: Callable[[], TlsContext] | None = None,
        **options: Any,
    ) -> None:
        """Listen."""
        self.calls: list[NativeCall] = []
        self.faults: list[Exception] = []
        self._clients: list[RawClient] = []
        self._folder = tempfile.TemporaryDirectory()
        self.path = str(Path(self._folder.name, "s"))
        given = {
            "max_message": MAX_MESSAGE,
            "max_headers": MAX_HEADERS,
            "slow_reader_seconds": 5.0,
            **options,
        }
        self.loop = Loop(accept or self.calls.append, self.faults.append, **given)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(128)
        self.loop.listen(self.listener, tls)

    def client(self, *sent: bytes) -> RawClient:
        """Return a client that has sent its greeting and ``sent``, and was read."""
        client = self.connect(*sent)
        self.turn()
        return client

    def connect(self, *sent: bytes) -> RawClient:
        """Return a client that has sent its greeting and ``sent``."""
        client = RawClient(self.path)
        self._clients.append(client)
        client.send(*sent)
        return client

    def turn(self, count: int = 4, wait_s: float = 0.002) -> None:
        """Let the loop do what is due, or comes due within ``wait_s`` of each turn."""
        for _ in range(count):
            self.loop.poll(wait_s)

    def until(self, done: Callable[[], object], *clients: RawClient) -> None:
        """Poll until ``done()``."""
        end = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < end
            self.loop.poll(0.005)
            for client in clients:
                client.read()

    def close(self) -> None:
        """End all connections and the listener."""
        self.loop.stop_listening()
        self.loop.close()
        self.turn()
        self.close_clients()

    def close_clients(self) -> None:
        """End the clients' connections, and remove the socket."""
        for client in self._clients:
            client.close()
        self._folder.cleanup()


def returns_within(seconds: float, function: Callable[[], object]) -> bool:
    """Return True if a function on a thread of its own returns in time."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def kinds(client: RawClient) -> Sequence[int]:
    """Return the types of the frames that a client got."""
    return [kind for kind, _, _, _ in client.read()]
