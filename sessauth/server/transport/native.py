"""The server of calls: an event loop over libnghttp2, and its thread.

Checks of known callers and verified tokens are answered on the loop itself (``rpc/direct.py``). Every other
call becomes an :class:`~sessauth.server.transport.rpc.Rpc`.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ..._fast._codec import DirectCaller
from ..._fast._http2 import Loop, NativeCall, TlsContext
from ...errors import ConfigError
from ..keys.certificates import Certificates
from ..log import fault
from .receiving import Receiving
from .rpc import Rpc

BACKLOG: Final = 1024
# For answers to calls that were cancelled at the end.
LAST_EVENTS_SECONDS: Final = 0.05
# The pause after a fault of the loop itself.
RETRY_SECONDS: Final = 0.05
UNIX_PREFIX: Final = "unix:"
ANY_IPV6: Final = "::"
# A name has an address of a family that this host lacks.
NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


@dataclass(frozen=True, slots=True)
class NativeNumbers:
    """Numbers of a server: open connections, refused ones, and calls answered on its loop."""

    connections: int
    refused_connections: int
    direct_calls: int


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


class CallOrder(Protocol):
    """Tells the loop whose calls go first."""

    def lane_of(self, authorization: bytes | None, facts: Mapping[str, Sequence[bytes]] | None) -> int:
        """Return 0 for a stranger, 1 for a known caller, 2 for an operator."""
        ...

    def counts_refusal(self, path: bytes) -> bool:
        """Count the refusal of a stranger's call; False if more is to be done for it."""
        ...


class NativeServer:
    """A server whose calls take a thread when their message has come.

    One thread polls. Nothing that it calls may wait.
    """

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
        lanes: CallOrder | None = None,
        refusal: tuple[int, str, bytes] | None = None,
        reuse_port: bool = False,
    ) -> None:
        """Prepare to call ``accept`` for each new call that is not answered directly.

        ``lanes`` tells whose calls go first; by default none do. A stranger's call ends with ``refusal``
        where the lanes count it. With ``reuse_port`` other processes may listen on the same ports. Raises
        OSError if libnghttp2 can't be loaded.
        """
        self._accept = accept
        self._receiving = receiving
        self._reuse_port = reuse_port
        self._loop = Loop(
            self._on_call,
            self._on_fault,
            direct=direct,
            direct_paths=() if direct is None else direct.paths,
            certificate_facts=certificate_facts,
            lane_of=None if lanes is None else lanes.lane_of,
            counts_refusal=None if lanes is None else lanes.counts_refusal,
            refusal=refusal,
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

        A host's name is listened on at each of its addresses. ``tls()`` returns the context for a new
        connection.
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
        host, _, stated = address.rpartition(":")
        port = 0
        found = socket.getaddrinfo(
            host.strip("[]") or None, int(stated), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for place, (family, _, _, _, name) in enumerate(found):
            try:
                listener = socket.create_server(
                    # A port that the system chose is that of the others too.
                    (name[0], port or name[1]),
                    family=family,
                    backlog=BACKLOG,
                    reuse_port=self._reuse_port,
                    dualstack_ipv6=name[0] == ANY_IPV6 and len(found) == 1,
                )
            except OSError as error:
                if error.errno in NOT_HERE and (port or place + 1 < len(found)):
                    continue
                raise
            self._loop.listen(listener, tls)
            port = int(listener.getsockname()[1])
        return port

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
