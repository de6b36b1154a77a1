"""One call on the wire: its metadata, its messages, and its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final, TypeAlias

from ..keys.credentials import Principal
from ..log import fault
from ..rpc.pool import PoolShare
from ..status import refused, to_status
from . import core

DETAILS: Final = "grpc-status-details-bin"


def _ignore(event: core.Event) -> None:
    """Do nothing: an answer that was sent needs no more."""


class Rpc:
    """A call of gRPC's core.

    Until its message has come it belongs to the polling thread, then to the thread that answers it. It drops
    the core's call as soon as that has ended, even while it is referenced itself: gRPC counts a call among
    its connection's streams until then, and an exception that references a frame would hold the call.
    """

    __slots__ = (
        *(
            "__weakref__",
            "_arrived",
            "_call",
            "_callbacks",
            "_closing",
            "_deadline",
            "_written",
            "_headers_pending",
        ),
        *("accepted_at", "cancelled", "authenticated_by", "metadata", "method", "ended", "plan"),
        *("receiving_since", "refused"),
    )

    plan: Plan

    def __init__(self, event: core.Event) -> None:
        """Take over the call of an event."""
        self._call: core.CoreCall | None = event.call
        self._deadline: float = event.call_details.deadline
        self.method: str = event.call_details.method.decode("utf-8", "replace")
        self.metadata: core.Metadata = event.invocation_metadata or ()
        self.accepted_at = self.receiving_since = time.monotonic()
        # ``ended``: nothing more can be sent or received. ``cancelled``: not by this server's status.
        self.ended = self.cancelled = False
        # The table that its caller was found in; None for a caller that need not be authenticated.
        self.authenticated_by: object = None
        # Refused before it had a thread.
        self.refused = False
        self._headers_pending = True
        # Its status is on the way: a call has one.
        self._closing = False
        self._callbacks: list[Callable[[], object]] = []
        self._arrived: SimpleQueue[bytes | None] | None = None
        self._written: SimpleQueue[None] | None = None
        core.notice_end(event.call, self._on_end)

    def is_active(self) -> bool:
        """Return True while the client waits for an answer."""
        return not self.ended

    def time_remaining(self) -> float:
        """Return the seconds until the client's deadline, at least 0."""
        return core.seconds_until(self._deadline)

    def invocation_metadata(self) -> core.Metadata:
        """Return the metadata that the client sent."""
        return self.metadata

    def peer(self) -> str:
        """Return the address of the client; empty once the call has ended."""
        call = self._call
        return "" if call is None else call.peer().decode("utf-8", "replace")

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """Return the TLS facts of the client; empty once the call has ended."""
        call = self._call
        return {} if call is None else core.certificate_facts(call)

    def add_callback(self, callback: Callable[[], object]) -> bool:
        """Call ``callback`` when the call has ended; False if it has."""
        if self.ended:
            return False
        self._callbacks.append(callback)
        if self.ended:
            self._run_callbacks()
        return True

    def cancel(self) -> None:
        """End the call without a status."""
        call = self._call
        if call is not None:
            call.cancel()

    def receive(self) -> None:
        """Begin to receive the first message; ``plan.deliver`` gets the call and the message."""
        call = self._call
        if call is not None:
            try:
                core.receive(call, self._on_first)
            except Exception as error:  # noqa: BLE001 - the calls behind it go on
                self._give_up(error)

    def answer(self, message: bytes) -> None:
        """Send the answer of a unary call, which ends it."""
        call = self._call
        if call is not None and not self._closing:
            self._closing = True
            try:
                core.answer(call, message, _ignore)
            except Exception as error:  # noqa: BLE001 - nobody is left to raise it to
                self._give_up(error)

    def refuse(self, error: BaseException) -> None:
        """End the call with the status of ``error``, without one if that can't be sent. Raises nothing."""
        try:
            code, status = to_status(error)
            trailing = ((DETAILS, status.SerializeToString()),)
        except Exception as problem:  # noqa: BLE001 - the call ends in any case
            self._give_up(problem)
        else:
            self._end(code.value[0], status.message, trailing)

    def unimplemented(self) -> None:
        """End a call of a method that is not served."""
        self._end(12, "Method not found!", None)

    def finish(self) -> None:
        """End a stream that was answered."""
        self._end(core.OK, "", None)

    def messages(self, first: bytes | None) -> Iterator[bytes]:
        """Yield the messages of a stream, of which ``first`` was received; None: there are none.

        Raises CANCELLED if the call ends before the client has ended its messages.
        """
        arrived = self._arrived = SimpleQueue()
        data = first
        while data is not None:
            yield data
            call = self._call
            if call is None:
                break
            core.receive(call, self._on_next)
            data = arrived.get()
        if self.cancelled:
            raise cancelled_error()

    def send(self, message: bytes, within_seconds: float) -> None:
        """Send a message of a stream, when the client has read enough of those before it.

        Raises CANCELLED if the call has ended. Raises SLOW_READER, and ends the call, if the client has not
        read enough within ``within_seconds``.
        """
        call = self._call
        if call is None:
            raise cancelled_error()
        if self._written is None:
            self._written = SimpleQueue()
        first, self._headers_pending = self._headers_pending, False
        core.send(call, message, self._on_written, first=first)
        # The core reports the messages of an ended call as written too.
        try:
            self._written.get(timeout=within_seconds)
        except Empty:
            call.cancel()
            raise refused(
                "SLOW_READER", f"the client read nothing for {within_seconds:.0f} s (limits.slow_reader_ms)"
            ) from None
        if self.ended:
            raise cancelled_error()

    def _end(self, code: int, details: str, trailing: core.Metadata | None) -> None:
        call = self._call
        if call is not None and not self._closing:
            self._closing = True
            try:
                core.end(call, code, details, trailing, _ignore, first=self._headers_pending)
            except Exception as error:  # noqa: BLE001 - nobody is left to raise it to
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """End a call that can't be received or answered."""
        fault("call", error)
        self.cancel()

    def _on_first(self, event: core.Event) -> None:
        if not self.refused:
            self.plan.deliver(self, core.message_of(event))

    def _on_next(self, event: core.Event) -> None:
        if self._arrived is not None:
            self._arrived.put(core.message_of(event))

    def _on_written(self, event: core.Event) -> None:
        if self._written is not None:
            self._written.put(None)

    def _on_end(self, event: core.Event) -> None:
        self.cancelled = core.was_cancelled(event)
        self.ended = True
        self._call = None
        self._run_callbacks()

    def _run_callbacks(self) -> None:
        # Two threads may be here: each callback is popped by one of them.
        while self._callbacks:
            try:
                callback = self._callbacks.pop()
            except IndexError:
                return
            callback()


Run: TypeAlias = Callable[[Rpc, bytes | None], None]
Deliver: TypeAlias = Callable[[Rpc, bytes | None], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan for the calls of one method by one principal.

    ``run`` is called in a thread of the pool with the call and its first message, None for a stream without
    any; it ends the call and raises nothing. ``refuse`` ends one that gets no thread. ``deliver`` gets the
    first message on the polling thread.
    """

    share: PoolShare[Rpc]
    streams: bool
    run: Run
    refuse: Callable[[Rpc, Exception], None]
    deliver: Deliver
    # None: the caller need not be authenticated.
    principal: Principal | None = None


def cancelled_error() -> Exception:
    """Return the error for a call that has ended before its answer."""
    return refused("CANCELLED", "the call is over")
