"""The native server: an event loop over libnghttp2, and its thread.

Checks of known callers and verified tokens are answered on the loop itself (``rpc/direct.py``). Every other
call becomes an :class:`~sessauth.server.transport.rpc.Rpc`, as those of gRPC's core do.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from ..._fast._codec import DirectCaller
from ..._fast._http2 import Loop, NativeCall, TlsContext
from ...errors import ConfigError
from ..keys.certificates import Certificates
from ..log import fault
from .loop import NativeNumbers
from .receiving import Receiving
from .rpc import Rpc

BACKLOG: Final = 1024
# For answers to calls that were cancelled at the end.
LAST_EVENTS_SECONDS: Final = 0.05
# The pause after a fault of the loop itself.
RETRY_SECONDS: Final = 0.05
UNIX_PREFIX: Final = "unix:"


class Direct(Protocol):
    """Finds the callers whose checks are answered on the loop."""

    @property
    def paths(self) -> Sequence[bytes]:
        """The full names of the RPCs that may be."""
        ...

    def admit(
        self, path: bytes, authorization: bytes | None, facts: Mapping[str, Sequence[bytes]] | None
    ) -> DirectCaller | None:
        """Return the caller of an RPC, None if the call is to be accepted as any other."""
        ...

    def generation(self) -> int:
        """Return a number that changes when a caller that was admitted may be one no longer."""
        ...


class NativeServer:
    """A server on one thread, with the methods of :class:`~sessauth.server.transport.loop.GrpcServer`."""

    def __init__(
        self,
        accept: Callable[[Rpc], None],
        receiving: Receiving,
        *,
        max_message: int,
        max_metadata: int,
        slow_reader_seconds: float,
        certificate_facts: Callable[[bytes], Mapping[str, Sequence[bytes]]],
        direct: Direct | None = None,
    ) -> None:
        """Prepare to call ``accept`` for each new call that is not answered directly.

        Raises OSError if libnghttp2 can't be loaded.
        """
        self._accept = accept
        self._receiving = receiving
        self._loop = Loop(
            self._on_call,
            self._on_fault,
            direct=direct,
            direct_paths=() if direct is None else direct.paths,
            certificate_facts=certificate_facts,
            max_message=max_message,
            max_headers=max_metadata,
            slow_reader_seconds=slow_reader_seconds,
        )
        receiving.hurry = self._loop.wake
        self._ended = threading.Event()
        self._started = False
        # When every call is cancelled, on the monotonic clock; None: it does not stop yet.
        self._stop_at: float | None = None
        # The time of the last poll, on the monotonic clock.
        self.polled_at = 0.0

    def numbers(self) -> NativeNumbers:
        """Return the numbers of connections, and of calls answered on the loop."""
        loop = self._loop
        return NativeNumbers(loop.connections, loop.refused_connections, loop.answered)

    @staticmethod
    def tls(certificates: Certificates) -> Callable[[], TlsContext]:
        """Return what :meth:`add_port` needs for TLS. Raises ConfigError."""
        certificates.native_context()
        if problem := certificates.native_problem():
            raise ConfigError(f"tcp.certificate, tcp.private_key: TLS can't be served natively: {problem}")
        return certificates.native_context

    def add_port(self, address: str, tls: Callable[[], TlsContext] | None = None) -> int:
        """Listen on ``unix:PATH`` or ``HOST:PORT``; returns the port, 1 for a path. Raises OSError.

        Workers share a TCP port. ``tls()`` returns the context for a new connection.
        """
        if address.startswith(UNIX_PREFIX):
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                listener.bind(address[len(UNIX_PREFIX) :])
                listener.listen(BACKLOG)
            except OSError:
                listener.close()
                raise
            self._loop.listen(listener, tls)
            return 1
        host, _, port = address.rpartition(":")
        family, _, _, _, name = socket.getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(name[:2], family=family, backlog=BACKLOG, reuse_port=True)
        self._loop.listen(listener, tls)
        return int(listener.getsockname()[1])

    def start(self) -> None:
        """Begin to accept calls."""
        self._started = True
        self.polled_at = time.monotonic()
        threading.Thread(target=self._serve, name="sessauth-loop", daemon=True).start()

    def stop(self, grace_seconds: float) -> threading.Event:
        """Accept no more calls, cancel the rest after the grace; returns an event that is set at the end."""
        if not self._started:
            self._loop.stop_listening()
            self._ended.set()
        elif self._stop_at is None:
            self._stop_at = time.monotonic() + grace_seconds
            self._loop.wake()
        return self._ended

    def _serve(self) -> None:
        loop, receiving = self._loop, self._receiving
        while True:
            try:
                now = time.monotonic()
                receiving.expire(now)
                if self._stop_at is not None:
                    if not loop.stopping:
                        loop.stop()
                    if now >= self._stop_at or not loop.connections:
                        break
                loop.poll(min(receiving.pause, RETRY_SECONDS) if loop.stopping else receiving.pause)
            except Exception as error:  # noqa: BLE001 - tried again; if it stays, polled_at shows it
                fault("loop", error)
                time.sleep(RETRY_SECONDS)
                continue
            self.polled_at = now
        loop.close()
        # The calls that were cancelled hear of it.
        loop.poll(LAST_EVENTS_SECONDS)
        self._ended.set()

    def _on_call(self, call: NativeCall) -> None:
        rpc = Rpc(call)
        try:
            self._accept(rpc)
        except Exception as error:  # noqa: BLE001 - becomes the status of the call
            fault("accept", error)
            rpc.refuse(error)

    @staticmethod
    def _on_fault(error: Exception) -> None:
        fault("loop", error)
