"""One call on the wire: what it says of itself, its messages, and its end."""

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


def _sent(event: core.Event) -> None:
    """Do nothing: what became of an answer is nobody's concern any more."""


class Rpc:
    """A call as gRPC's core hands it over.

    Until its message is there it is the polling thread's, then the thread's that answers it. It lets go of
    the core's call as soon as that is over, whoever still holds it itself: gRPC counts a call among its
    connection's streams until then, and an exception that keeps a frame would keep the call.
    """

    __slots__ = (
        *("__weakref__", "_arrived", "_call", "_callbacks", "_closing", "_deadline", "_sent", "_silent"),
        *("came_at", "cancelled", "judged_by", "metadata", "method", "over", "plan"),
        *("received_from", "refused"),
    )

    plan: Plan

    def __init__(self, event: core.Event) -> None:
        """Take over the call of an event."""
        self._call: core.CoreCall | None = event.call
        self._deadline: float = event.call_details.deadline
        self.method: str = event.call_details.method.decode("utf-8", "replace")
        self.metadata: core.Metadata = event.invocation_metadata or ()
        self.came_at = self.received_from = time.monotonic()
        # Whether nothing more can be sent or received; whether the client, or a time, ended it before us.
        self.over = self.cancelled = False
        # What its caller was judged by, None for one that need not be known.
        self.judged_by: object = None
        # Whether it was refused before it had a thread.
        self.refused = False
        self._silent = True
        # Whether its status is on the way: there is one.
        self._closing = False
        self._callbacks: list[Callable[[], object]] = []
        self._arrived: SimpleQueue[bytes | None] | None = None
        self._sent: SimpleQueue[None] | None = None
        core.notice_end(event.call, self._ended)

    def is_active(self) -> bool:
        """Return whether somebody still waits for an answer."""
        return not self.over

    def time_remaining(self) -> float:
        """Return the seconds until the client's deadline, at least 0."""
        return core.seconds_until(self._deadline)

    def invocation_metadata(self) -> core.Metadata:
        """Return what the client sent ahead of its message."""
        return self.metadata

    def peer(self) -> str:
        """Return where the call comes from; empty once it is over."""
        call = self._call
        return "" if call is None else call.peer().decode("utf-8", "replace")

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """Return what the connection's security says of the client; nothing once the call is over."""
        call = self._call
        return {} if call is None else core.certificate_facts(call)

    def add_callback(self, callback: Callable[[], object]) -> bool:
        """Have ``callback`` called when the call is over; False if it is."""
        if self.over:
            return False
        self._callbacks.append(callback)
        if self.over:
            self._tell()
        return True

    def cancel(self) -> None:
        """End the call without a status."""
        call = self._call
        if call is not None:
            call.cancel()

    def receive(self) -> None:
        """Begin to receive the first message: ``plan.arrived`` is called with the call and the message."""
        call = self._call
        if call is not None:
            try:
                core.receive(call, self._first)
            except Exception as error:  # noqa: BLE001 - the calls behind it go on
                self._give_up(error)

    def answer(self, message: bytes) -> None:
        """Send the answer of a unary call, which ends it."""
        call = self._call
        if call is not None and not self._closing:
            self._closing = True
            try:
                core.answer(call, message, _sent)
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

        Raises CANCELLED when the call is over before the client has ended its messages.
        """
        arrived = self._arrived = SimpleQueue()
        data = first
        while data is not None:
            yield data
            call = self._call
            if call is None:
                break
            core.receive(call, self._next)
            data = arrived.get()
        if self.cancelled:
            raise over()

    def send(self, message: bytes, within_seconds: float) -> None:
        """Send a message of a stream, when the client has read enough of those before it.

        Raises CANCELLED when the call is over, SLOW_READER, and ends the call, if it has not read enough
        within ``within_seconds``.
        """
        call = self._call
        if call is None:
            raise over()
        if self._sent is None:
            self._sent = SimpleQueue()
        first, self._silent = self._silent, False
        core.send(call, message, self._taken, first=first)
        # A call that is over is told of as taken.
        try:
            self._sent.get(timeout=within_seconds)
        except Empty:
            call.cancel()
            raise refused(
                "SLOW_READER", f"the client read nothing for {within_seconds:.0f} s (limits.slow_reader_ms)"
            ) from None
        if self.over:
            raise over()

    def _end(self, code: int, details: str, trailing: core.Metadata | None) -> None:
        call = self._call
        if call is not None and not self._closing:
            self._closing = True
            try:
                core.end(call, code, details, trailing, _sent, first=self._silent)
            except Exception as error:  # noqa: BLE001 - nobody is left to raise it to
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """End a call that can't be received or answered."""
        fault("call", error)
        self.cancel()

    def _first(self, event: core.Event) -> None:
        if not self.refused:
            self.plan.arrived(self, core.message_of(event))

    def _next(self, event: core.Event) -> None:
        if self._arrived is not None:
            self._arrived.put(core.message_of(event))

    def _taken(self, event: core.Event) -> None:
        if self._sent is not None:
            self._sent.put(None)

    def _ended(self, event: core.Event) -> None:
        self.cancelled = core.was_cancelled(event)
        self.over = True
        self._call = None
        self._tell()

    def _tell(self) -> None:
        # What is popped here is not popped there.
        while self._callbacks:
            try:
                callback = self._callbacks.pop()
            except IndexError:
                return
            callback()


Run: TypeAlias = Callable[[Rpc, bytes | None], None]
Arrived: TypeAlias = Callable[[Rpc, bytes | None], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan for the calls of one method by one principal.

    ``run`` is called in a thread of the pool with the call and its first message, None for a stream without
    any; it ends the call and raises nothing. ``refuse`` ends one that gets no thread. ``arrived`` takes the
    first message on the polling thread.
    """

    share: PoolShare[Rpc]
    streams: bool
    run: Run
    refuse: Callable[[Rpc, Exception], None]
    arrived: Arrived
    # None: nobody in particular.
    principal: Principal | None = None


def over() -> Exception:
    """Return the error for a call whose client is gone."""
    return refused("CANCELLED", "the call is over")
