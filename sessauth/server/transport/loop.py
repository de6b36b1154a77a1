"""A gRPC server and its polling thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import grpc

from ..keys.certificates import Certificates
from ..log import fault
from .core import Core, Event, GrpcCall
from .receiving import Receiving
from .rpc import Rpc

# How long events may still come after the core has reported its shutdown.
LAST_EVENTS_SECONDS: Final = 0.05
# The pause after a fault of the polling itself.
RETRY_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class NativeNumbers:
    """Numbers of a native server: open connections, refused ones, and calls answered on its loop."""

    connections: int = 0
    refused_connections: int = 0
    direct_calls: int = 0


class GrpcServer:
    """A server whose calls take a thread when their message has come.

    One thread polls. Nothing that it calls may wait.
    """

    def __init__(
        self, accept: Callable[[Rpc], None], receiving: Receiving, options: Sequence[tuple[str, int]]
    ) -> None:
        """Prepare to call ``accept`` for each new call. Raises ConfigError if grpcio does not fit."""
        self._core = Core(options)
        self._accept = accept
        self._receiving = receiving
        self._lock = threading.Lock()
        self._started = self._stopping = self._shut_down = False
        self._ended = threading.Event()
        # The time of the last poll, on the monotonic clock.
        self.polled_at = 0.0

    def add_port(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen on an address; returns the port, 0 if it can't be had. May raise RuntimeError."""
        return self._core.add_port(address, credentials)

    @staticmethod
    def tls(certificates: Certificates) -> grpc.ServerCredentials:
        """Return what :meth:`add_port` needs for TLS. Raises ConfigError."""
        return certificates.server_credentials()

    def start(self) -> None:
        """Begin to accept calls."""
        self._core.start()
        self._core.request(self._on_call)
        self._started = True
        self.polled_at = time.monotonic()
        threading.Thread(target=self._serve, name="sessauth-polling", daemon=True).start()

    def stop(self, grace_seconds: float) -> threading.Event:
        """Accept no more calls, cancel the rest after the grace; returns an event that is set at the end."""
        with self._lock:
            first, self._stopping = not self._stopping, True
            if not self._started:
                self._ended.set()
            elif first:
                self._core.shut_down(self._on_shut_down)
        if not self._ended.is_set():
            threading.Thread(
                target=self._cancel_after, args=(grace_seconds,), name="sessauth-stop", daemon=True
            ).start()
        return self._ended

    def _cancel_after(self, seconds: float) -> None:
        if not self._ended.wait(seconds):
            with self._lock:
                if not self._shut_down:
                    self._core.cancel_all()

    def _serve(self) -> None:
        poll, receiving = self._core.poll, self._receiving
        while True:
            try:
                now = time.monotonic()
                receiving.expire(now)
                event = poll(LAST_EVENTS_SECONDS if self._shut_down else receiving.pause)
            except Exception as error:  # noqa: BLE001 - tried again; if it stays, polled_at shows it
                fault("polling", error)
                if self._shut_down:
                    break
                time.sleep(RETRY_SECONDS)
                continue
            self.polled_at = now
            if event is not None:
                self._handle(event)
                # Before the next poll: it may be the last reference to a call.
                del event
            elif self._shut_down:
                break
        self._ended.set()

    @staticmethod
    def _handle(event: Event) -> None:
        try:
            event.tag(event)
        except Exception as error:  # noqa: BLE001 - the thread goes on to the next event
            fault("polling", error)

    def _on_call(self, event: Event) -> None:
        with self._lock:
            if not self._stopping:
                self._core.request(self._on_call)
        if not event.success:
            return
        rpc: Rpc | None = None
        try:
            rpc = Rpc(GrpcCall(event))
            self._accept(rpc)
        except Exception as error:  # noqa: BLE001 - becomes the status of the call
            fault("accept", error)
            if rpc is None:
                event.call.cancel()
            else:
                rpc.refuse(error)

    def _on_shut_down(self, event: Event) -> None:
        with self._lock:
            self._shut_down = True
            self._core.destroy()
