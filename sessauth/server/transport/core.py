"""gRPC's core as grpcio binds it. Nothing else imports ``grpc._cython``.

grpcio's own server receives a call's message in the thread that runs the call, so a message that does not
come holds the thread. The core can do otherwise, but its names are internal: :func:`require_binding` reports
at start if one is missing, and ``self_test.py`` if one behaves differently.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

import grpc

from ...errors import ConfigError
from ..keys.certificates import certificate_facts, first_der
from ..log import fault

# The internal names have no types.
Binding: TypeAlias = Any
Event: TypeAlias = Any
CoreCall: TypeAlias = Any
Tag: TypeAlias = Callable[[Event], object]
Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

NAMES: Final = (
    *("CompletionQueue", "CompletionType", "Server", "auth_context"),
    *("ReceiveCloseOnServerOperation", "ReceiveMessageOperation", "SendInitialMetadataOperation"),
    *("SendMessageOperation", "SendStatusFromServerOperation"),
)
TESTED: Final = "grpcio>=1.76,<1.86"
# Deadlines count by the wall clock, which grpcio reads again every 200 ms until one is reached: with a later
# one, a clock that is set back would hold the wait up for as long as it was set back.
WAIT_SECONDS: Final = 0.1
NO_FLAGS: Final = 0
OK: Final = 0
DETAILS: Final = "grpc-status-details-bin"

_binding: Binding = importlib.import_module("grpc._cython.cygrpc")
_Close: Binding = getattr(_binding, "ReceiveCloseOnServerOperation", None)
_Receive: Binding = getattr(_binding, "ReceiveMessageOperation", None)
_SendHeaders: Binding = getattr(_binding, "SendInitialMetadataOperation", None)
_SendMessage: Binding = getattr(_binding, "SendMessageOperation", None)
_SendStatus: Binding = getattr(_binding, "SendStatusFromServerOperation", None)


def require_binding() -> None:
    """Raise ConfigError if this grpcio lacks a name that is used here."""
    missing = [name for name in NAMES if not hasattr(_binding, name)]
    if missing:
        raise unfit(f"it has no {missing[0]}")


def unfit(problem: str) -> ConfigError:
    """Return the error for a grpcio that the server can't use."""
    return ConfigError(f"grpcio {grpc.__version__} can't be served with: {problem}; install '{TESTED}'")


class Core:
    """A server of gRPC's core and the one queue of its events. A tag is called with its event."""

    def __init__(self, options: Sequence[tuple[str, int]]) -> None:
        """Open neither a port nor a thread yet. Raises ConfigError."""
        require_binding()
        self._queue = _binding.CompletionQueue()
        self._server = _binding.Server(tuple(options), False)
        self._server.register_completion_queue(self._queue)
        self._timeout = _binding.CompletionType.queue_timeout

    def add_port(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen on an address; returns the port, 0 if it can't be had. May raise RuntimeError."""
        if credentials is None:
            return int(self._server.add_http2_port(address.encode()))
        inner: Any = credentials
        return int(self._server.add_http2_port(address.encode(), inner._credentials))

    def start(self) -> None:
        """Accept connections."""
        self._server.start()

    def request(self, tag: Tag) -> None:
        """Ask for the next call."""
        self._server.request_call(self._queue, self._queue, tag)

    def poll(self, seconds: float) -> Event | None:
        """Return the next event; None if there is none within ``seconds``."""
        end = time.monotonic() + seconds
        while True:
            left = max(end - time.monotonic(), 0.0)
            event = self._queue.poll(time.time() + min(left, WAIT_SECONDS))
            if event.completion_type != self._timeout:
                return event
            if left <= WAIT_SECONDS:
                return None

    def shut_down(self, tag: Tag) -> None:
        """Accept nothing more; the event comes when every call has ended."""
        self._server.shutdown(self._queue, tag)

    def cancel_all(self) -> None:
        """Cancel every call."""
        self._server.cancel_all_calls()

    def destroy(self) -> None:
        """Free a server that was shut down."""
        self._server.destroy()


def wall_clock() -> float:
    """Return the time in seconds since 1970, which gRPC's deadlines count in."""
    return time.time()


class GrpcCall:
    """A call of gRPC's core. See :class:`~sessauth.server.transport.rpc.WireCall` for the methods."""

    __slots__ = ("_call", "_on_end", "_on_message", "_on_written", "deadline", "metadata", "method")

    def __init__(self, event: Event) -> None:
        """Take over the call of an event."""
        self._call: CoreCall = event.call
        self.deadline: float = event.call_details.deadline
        self.method: str = event.call_details.method.decode("utf-8", "replace")
        self.metadata: Metadata = event.invocation_metadata or ()

    def notice_end(self, on_end: Callable[[bool], None]) -> None:
        """Call ``on_end(cancelled)`` when the call has ended."""
        self._on_end = on_end
        self._start((_Close(NO_FLAGS),), self._ended)

    def receive(self, on_message: Callable[[bytes | None], None]) -> None:
        """Call ``on_message`` with the next message."""
        self._on_message = on_message
        self._start((_Receive(NO_FLAGS),), self._received)

    def answer(self, message: bytes) -> None:
        """Send the message of a unary call and the status OK."""
        self._start(
            (
                _SendHeaders(None, NO_FLAGS),
                _SendMessage(message, NO_FLAGS),
                _SendStatus(None, OK, b"", NO_FLAGS),
            ),
            _ignore,
        )

    def send(self, message: bytes, on_written: Callable[[], None], *, first: bool) -> None:
        """Send a message of a stream."""
        self._on_written = on_written
        operation = _SendMessage(message, NO_FLAGS)
        self._start((_SendHeaders(None, NO_FLAGS), operation) if first else (operation,), self._written)

    def end(self, code: int, details: str, status: bytes | None, *, first: bool) -> None:
        """Send the status of the call."""
        trailing = None if status is None else ((DETAILS, status),)
        operation = _SendStatus(trailing, code, details.encode(), NO_FLAGS)
        self._start((_SendHeaders(None, NO_FLAGS), operation) if first else (operation,), _ignore)

    def cancel(self) -> None:
        """End the call without a status."""
        self._call.cancel()

    def peer(self) -> str:
        """Return the address of the client."""
        return bytes(self._call.peer()).decode("utf-8", "replace")

    def certificate_facts(self) -> Mapping[str, Sequence[bytes]]:
        """Return the facts of the client's certificate; empty without one, and for one that can't be read.

        gRPC ends the URIs of its auth context at a zero byte, so they are read from the certificate.
        """
        facts: Mapping[bytes, Sequence[bytes]] = _binding.auth_context(self._call) or {}
        pems = facts.get(b"x509_pem_cert", ())
        return _facts_of(pems[0]) if pems else {}

    def _start(self, operations: Sequence[Any], tag: Tag) -> None:
        """Begin operations. Raises RuntimeError, and cancels the call, if the core refuses them."""
        refusal = self._call.start_server_batch(operations, tag)
        if refusal != OK:
            # These give no event: a thread that waits for one is woken by the end of the call.
            self._call.cancel()
            raise RuntimeError(f"gRPC's core refused operations of a call: error {refusal}")

    def _ended(self, event: Event) -> None:
        self._on_end(bool(event.batch_operations[0].cancelled()))

    def _received(self, event: Event) -> None:
        self._on_message(event.batch_operations[0].message())

    def _written(self, event: Event) -> None:
        self._on_written()


@lru_cache(maxsize=1024)
def _facts_of(pem: bytes) -> Mapping[str, Sequence[bytes]]:
    try:
        return certificate_facts(first_der(pem))
    except ValueError as error:
        fault("certificate", error)
        return {}


def _ignore(event: Event) -> None:
    """Do nothing: an answer that was sent needs no more."""
