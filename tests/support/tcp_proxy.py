"""A TCP proxy on loopback that delays what passes, or swallows it in one direction."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Final

_CHUNK: Final = 1 << 16


class TcpProxy:
    """Passes connections on to a port.

    ``delay_s`` is that of each chunk in both directions. While ``swallow_requests`` or ``swallow_answers`` is
    set, what comes that way is lost, and the connection stays open.
    """

    def __init__(self, port: int) -> None:
        """Listen for connections to ``port``."""
        self.delay_s = 0.0
        self.swallow_requests = False
        self.swallow_answers = False
        self._port = port
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset all connections."""
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        """Accept nothing more, and reset all connections."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._port), 5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._ends += [near, far]
            threading.Thread(target=self._pass, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, requests: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if self.delay_s:
                    time.sleep(self.delay_s)
                if not (self.swallow_requests if requests else self.swallow_answers):
                    target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
