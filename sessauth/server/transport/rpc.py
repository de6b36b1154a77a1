"""One call on the wire: its metadata, its messages, and its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, TypeAlias

from ...model.host import SERVER_PREFIX, CallerStatement
from ..keys.credentials import Principal
from ..log import fault
from ..rpc.pool import PoolShare
from ..sections import RESERVED
from ..status import refused, to_status

if TYPE_CHECKING:
    from ..._fast._http2 import NativeCall

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

# gRPC's codes: of a success, and of a method that is not served.
OK: Final = 0
UNIMPLEMENTED: Final = 12
# More than the cap of a stream's deadline.
LONGEST_WAIT_SECONDS: Final = 86_400.0
# Begins the address of a client on this machine, and of a listener for those.
UNIX: Final = "unix:"
# Prefix of the share of a pool that the callers of a follower's host have together.
HOST_SHARE: Final = f"{RESERVED}host/"


@dataclass(frozen=True, slots=True)
class StatedCaller:
    """A caller whom another host of the cluster states, before the call's message has come.

    ``encoded`` is the statement as it came, to be forwarded once more. ``redeem(request)`` uses it up for the
    call's message. It raises UNAUTHENTICATED if the statement is not for it.
    """

    principal: Principal
    statement: CallerStatement
    encoded: bytes = field(repr=False)
    redeem: Callable[[bytes], None] = field(repr=False)

    @property
    def by_follower(self) -> bool:
        """True if a follower's host states it, which may reach the leader through another server."""
        return not self.statement.host.startswith(SERVER_PREFIX)

    @property
    def share(self) -> str:
        """The name of the caller's share of a pool: all callers of a follower's host have one together."""
        return HOST_SHARE + self.statement.host if self.by_follower else self.principal.name


class Rpc:
    """A call of a client.

    Until its message has come it belongs to the polling thread, then to the thread that answers it. It drops
    the transport's call as soon as that has ended, even while it is referenced itself: an exception that
    references a frame would hold the call.
    """

    __slots__ = (
        *("__weakref__", "_arrived", "_call", "_callbacks", "_closing", "_deadline", "_written"),
        "_headers_pending",
        *("accepted_at", "cancelled", "authenticated_by", "metadata", "method", "ended", "plan"),
        *("receiving_since", "refused", "stated"),
    )

    plan: Plan

    def __init__(self, call: NativeCall) -> None:
        self._call: NativeCall | None = call
        self._deadline = call.deadline
        self.method = call.method
        self.metadata = call.metadata
        self.accepted_at = self.receiving_since = time.monotonic()
        # ``ended``: nothing more can be sent or received. ``cancelled``: not by this server's status.
        self.ended = self.cancelled = False
        # The table that its caller was found in; None for a caller that need not be authenticated.
        self.authenticated_by: object = None
        # Set if another host of the cluster states the caller.
        self.stated: StatedCaller | None = None
        # Refused before it had a thread.
        self.refused = False
        self._headers_pending = True
        # Its status is on the way: a call has one.
        self._closing = False
        self._callbacks: list[Callable[[], object]] = []
        self._arrived: SimpleQueue[bytes | None] | None = None
        self._written: SimpleQueue[None] | None = None
        call.notice_end(self._on_end)

    def is_active(self) -> bool:
        """Return True while the client waits for an answer."""
        return not self.ended

    def time_remaining(self) -> float:
        """Return the seconds until the client's deadline, at least 0."""
        return max(self._deadline - time.time(), 0.0)

    def peer(self) -> str:
        """Return the address of the client; empty once the call has ended."""
        call = self._call
        return "" if call is None else call.peer()

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """Return the TLS facts of the client; empty once the call has ended."""
        call = self._call
        return {} if call is None else call.certificate_facts()

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
                call.receive(self._on_first)
            except Exception as error:  # noqa: BLE001 - the calls after it go on
                self._give_up(error)

    def answer(self, message: bytes) -> None:
        """Send the answer of a unary call, which ends it."""
        call = self._call
        if call is not None and not self._closing:
            self._closing = True
            try:
                call.answer(message)
            except Exception as error:  # noqa: BLE001 - nobody is left to raise it to
                self._give_up(error)

    def refuse(self, error: BaseException) -> None:
        """End the call with the status of ``error``, without one if that can't be sent. Raises nothing."""
        try:
            code, status = to_status(error)
            encoded = status.SerializeToString()
        except Exception as problem:  # noqa: BLE001 - the call ends in any case
            self._give_up(problem)
        else:
            self._end(code.value[0], status.message, encoded)

    def unimplemented(self) -> None:
        """End a call of a method that is not served."""
        self._end(UNIMPLEMENTED, "Method not found!", None)

    def finish(self) -> None:
        """End a stream that was answered."""
        self._end(OK, "", None)

    def messages(self, first: bytes | None) -> Iterator[bytes]:
        """Yield the messages of a stream, of which ``first`` was received; None: there are none.

        Raises CANCELLED if the call ends before the client has ended its messages, at its deadline at the
        latest.
        """
        arrived = self._arrived = SimpleQueue()
        data = first
        while data is not None:
            yield data
            call = self._call
            if call is None:
                break
            call.receive(self._on_next)
            try:
                data = arrived.get(timeout=min(self.time_remaining(), LONGEST_WAIT_SECONDS))
            except Empty:
                call.cancel()
                raise cancelled_error() from None
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
        call.send(message, self._on_written, first=first)
        # The messages of an ended call count as written too.
        try:
            self._written.get(timeout=within_seconds)
        except Empty:
            call.cancel()
            raise refused(
                "SLOW_READER", f"the client read nothing for {within_seconds:.0f} s (limits.slow_reader_ms)"
            ) from None
        if self.ended:
            raise cancelled_error()

    def _end(self, code: int, details: str, status: bytes | None) -> None:
        call = self._call
        if call is not None and not self._closing:
            self._closing = True
            try:
                call.end(code, details, status, first=self._headers_pending)
            except Exception as error:  # noqa: BLE001 - nobody is left to raise it to
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """End a call that can't be received or answered."""
        fault("call", error)
        self.cancel()

    def _on_first(self, message: bytes | None) -> None:
        if not self.refused:
            self.plan.deliver(self, message)

    def _on_next(self, message: bytes | None) -> None:
        if self._arrived is not None:
            self._arrived.put(message)

    def _on_written(self) -> None:
        if self._written is not None:
            self._written.put(None)

    def _on_end(self, cancelled: bool) -> None:
        self.cancelled = cancelled
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


# Returns HELD if the call ends later, and gives its place back then.
Run: TypeAlias = Callable[[Rpc, bytes | None], object]
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
