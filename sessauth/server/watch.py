"""Watched calls: allowed calls of a stream, checked again when their answer may have changed.

Order of events: CheckStream's thread answers requests and sends withdrawals. Its allowed calls are in the
stream's watchlist. One thread of the process rechecks them for all streams. It checks nothing while the state
is unchanged and no allow is due, so that an idle stream costs next to nothing. It wakes a stream's own thread
only for a withdrawal, or for the stream's end.

They are checked by the verifier of the process alone, without proof, approvals or retry id: a call was
charged for when it was allowed, and its proof counted then. So a call that was allowed with a proof or at a
price ends here at stage proof or needs, as long as all stages before still allow it.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..clock import Clock, SystemClock
from ..decisions.decision import Decision
from ..limits import MAX_TIME_MS, MAX_TOKEN_BYTES
from ..reasons import Stage
from ..verifier.verifier import Verifier
from .periodic import PollingThread
from .rpc.call import CallContext
from .sections import LimitSettings
from .status import refused
from .transport.rpc import cancelled_error

if TYPE_CHECKING:
    from .._fast._check import Batch


class WatchedStream:
    """The requests and the withdrawals of a stream, for the one thread that answers it.

    gRPC hands requests to a waiting thread one by one, so a thread of its own reads them, at most one ahead;
    it ends with the call. Errors (:meth:`fail`) and withdrawals come from other threads, which never wait.
    """

    def __init__(
        self, requests: Iterator[bytes], call: CallContext, verifier: Verifier, max_calls: int, max_bytes: int
    ) -> None:
        """Watch up to ``max_calls`` calls, which take up to ``max_bytes``. Reads nothing yet."""
        self.watchlist = Watchlist(verifier, self._withdraw)
        self._requests = requests
        self._call = call
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._arrived: bytes | None = None
        self._withdrawn: list[Withdrawal] = []
        self._no_more = False
        self._error: BaseException | None = None
        self._closed = False
        # Watched calls, and those whose withdrawal was not sent yet. Of the answering thread.
        self._open = 0

    def start(self) -> None:
        """Start reading. Raises OVERLOADED if no thread can be started, CANCELLED if the call is over."""
        if not self._call.context.add_callback(lambda: self.fail(cancelled_error())):
            raise cancelled_error()
        reader = threading.Thread(target=self._read, name="sessauth-watched-stream", daemon=True)
        try:
            reader.start()
        except RuntimeError:
            raise refused("OVERLOADED", "no thread to read a watched stream; retry later") from None

    def close(self) -> None:
        """Read nothing more. The reading thread ends with the call."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Have the answering thread raise ``error``; the first one counts."""
        with self._changed:
            if self._error is None:
                self._error = error
            self._changed.notify_all()

    def require_caller(self) -> None:
        """Raise if the deadline passed, or if the credential of the stream is no longer accepted."""
        self._call.raise_if_expired()
        self._call.require_accepted(self._call)

    def has_room(self, request_bytes: int) -> bool:
        """Return True if another call may be watched, by the size of its request."""
        weight = self.watchlist.weight + weight_of(request_bytes)
        return self._open < self._max_calls and weight <= self._max_bytes

    def watch(self, watched: Watched) -> None:
        """Watch a call."""
        self._open += 1
        self.watchlist.add(watched)

    def unwatch(self, stream_id: int) -> list[Withdrawal]:
        """Stop watching a call; returns the withdrawals that were not sent yet."""
        if self.watchlist.remove(stream_id):
            self._open -= 1
        with self._changed:
            return self._take_withdrawn()

    def next(self) -> bytes | list[Withdrawal] | None:
        """Wait for the next request, or for withdrawals; None once there can be neither.

        Raises the error that ended the stream.
        """
        with self._changed:
            while True:
                if self._withdrawn:
                    return self._take_withdrawn()
                if self._error is not None:
                    raise self._error
                if self._arrived is not None:
                    data, self._arrived = self._arrived, None
                    self._changed.notify_all()
                    return data
                if self._no_more and not self._open:
                    return None
                self._changed.wait()

    def _take_withdrawn(self) -> list[Withdrawal]:
        withdrawn, self._withdrawn = self._withdrawn, []
        self._open -= len(withdrawn)
        return withdrawn

    def _withdraw(self, withdrawn: Sequence[Withdrawal]) -> None:
        with self._changed:
            self._withdrawn += withdrawn
            self._changed.notify_all()

    def _read(self) -> None:
        """Read requests until there are no more, or the stream is closed."""
        try:
            for data in self._requests:
                with self._changed:
                    while self._arrived is not None and not self._closed:
                        self._changed.wait()
                    if self._closed:
                        return
                    self._arrived = data
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - the answering thread raises it
            self.fail(error)
            return
        with self._changed:
            self._no_more = True
            self._changed.notify_all()


# Memory of a watched call beside its bytes. Its token's chain is held too, at up to three times its size.
CALL_BYTES: Final = 1024
CHAIN_FACTOR: Final = 3
# Recheck period of a due call that is still allowed (its lease was renewed, and a denial has no new time).
RECHECK_MS: Final = 100


def weight_of(request_bytes: int) -> int:
    """Return the memory of a watched call, in bytes, by the size of its request."""
    return request_bytes + CHAIN_FACTOR * min(request_bytes, MAX_TOKEN_BYTES) + CALL_BYTES


@dataclass(slots=True)
class Watched:
    """An allowed call.

    ``call`` is an item of ``Verifier.check_batch``. ``expires_at_ms`` is the earliest moment at which time
    alone can end the allow. ``paid`` is the stage, proof or needs, at which the call ends here although it is
    allowed; NONE for most.
    """

    id: int
    call: tuple[Any, ...]
    audience: str
    token: bytes
    weight: int
    expires_at_ms: int
    paid: Stage = Stage.NONE

    def is_allowed(self, decision: Decision) -> bool:
        """Return True if the allow still holds by this decision."""
        return decision.allowed or decision.stage == self.paid != Stage.NONE


class Withdrawal(NamedTuple):
    """A call that is no longer allowed, with its decision's batch and place in it."""

    watched: Watched
    batch: Batch
    place: int


class Watchlist:
    """The watched calls of one stream. Safe to use from several threads.

    ``on_withdrawn`` is called with withdrawals while the list is locked. So once :meth:`remove` returned
    there is no later withdrawal of that id.
    """

    def __init__(self, verifier: Verifier, on_withdrawn: Callable[[Sequence[Withdrawal]], None]) -> None:
        self._verifier = verifier
        self._on_withdrawn = on_withdrawn
        self._lock = threading.Lock()
        self._calls: dict[int, Watched] = {}
        self.weight = 0
        # The earliest moment at which time alone can end an allow.
        self.due_ms = MAX_TIME_MS

    def __len__(self) -> int:
        """Return the number of watched calls."""
        return len(self._calls)

    def add(self, watched: Watched) -> None:
        """Watch a call. It is checked at once: the state may have changed since it was allowed."""
        with self._lock:
            self._calls[watched.id] = watched
            self.weight += watched.weight
            # Its decision was recorded when it was answered.
            batch = self._verifier._check_batch([watched.call], audience=watched.audience, record=False)
            decision = batch[0]
            if decision.stage in (Stage.PROOF, Stage.NEEDS):
                watched.paid = decision.stage
            self._withdraw_denied(batch, [watched], 0, [])
            self.due_ms = min(self.due_ms, watched.expires_at_ms or MAX_TIME_MS)

    def remove(self, stream_id: int) -> bool:
        """Stop watching a call; True if it was watched."""
        with self._lock:
            return self._drop(stream_id)

    def recheck(self, now_ms: int) -> None:
        """Check all calls again, those of one audience by one state and one time."""
        with self._lock:
            by_audience: defaultdict[str, list[Watched]] = defaultdict(list)
            for watched in self._calls.values():
                by_audience[watched.audience].append(watched)
            due = [MAX_TIME_MS]
            for audience, calls in by_audience.items():
                batch = self._verifier._check_batch(
                    [watched.call for watched in calls], audience=audience, record=False
                )
                if batch.all_allowed and now_ms < self.due_ms:
                    due.append(self.due_ms)
                else:
                    self._withdraw_denied(batch, calls, now_ms, due)
            self.due_ms = min(due)

    def _withdraw_denied(self, batch: Batch, calls: Sequence[Watched], now_ms: int, due: list[int]) -> None:
        """Withdraw the calls no longer allowed; add the others' next recheck times to ``due``."""
        withdrawn = []
        for place, (watched, decision) in enumerate(zip(calls, batch, strict=True)):
            if not watched.is_allowed(decision):
                withdrawn.append(Withdrawal(watched, batch, place))
                self._verifier.record_batch_item(batch, place, watched=True)
                continue
            if decision.allowed:
                watched.expires_at_ms = decision.expires_at_ms
            if watched.expires_at_ms:
                ahead = watched.expires_at_ms > now_ms
                due.append(watched.expires_at_ms if ahead else now_ms + RECHECK_MS)
        for each in withdrawn:
            self._drop(each.watched.id)
        if withdrawn:
            self._on_withdrawn(withdrawn)

    def _drop(self, stream_id: int) -> bool:
        watched = self._calls.pop(stream_id, None)
        if watched is not None:
            self.weight -= watched.weight
        return watched is not None


POLL_SECONDS: Final = 0.02
# A poll uses at most a fifth of one processor: after a long one there is a longer pause.
PAUSE_FACTOR: Final = 4
# Period of rechecks of every stream, changed or not: an allow also ends by causes that move no revision (a
# clock that was set, files that were swapped, a credential that was removed).
ALL_SECONDS: Final = 1.0


class Watching(PollingThread[WatchedStream]):
    """The watched streams of one process."""

    def __init__(
        self, verifier: Verifier, limits: LimitSettings | None = None, clock: Clock | None = None
    ) -> None:
        """Check by ``verifier``, which must not charge for calls; nothing runs yet."""
        super().__init__(
            "sessauth-watching",
            overloaded="no thread to watch with; retry later",
            draining="this server is about to end; ask another again about calls in progress",
            first_pause=POLL_SECONDS,
        )
        limits = limits or LimitSettings()
        self._verifier = verifier
        self._max_calls = limits.watched_calls
        self._max_bytes = limits.watched_bytes
        self._clock = clock or SystemClock()
        # The number of withdrawn allows.
        self.withdrawals = 0
        self._last_state: object = None
        self._all_again_at = 0.0

    @contextmanager
    def open(self, requests: Iterator[bytes], call: CallContext) -> Iterator[WatchedStream]:
        """Read a stream and recheck its watched calls, for a ``with`` block.

        Raises SHUTTING_DOWN while draining, OVERLOADED if no thread can be started.
        """
        stream = WatchedStream(requests, call, self._verifier, self._max_calls, self._max_bytes)
        try:
            with self._lock:
                self._add(stream)
            stream.start()
            yield stream
        finally:
            stream.close()
            with self._lock:
                self._members.discard(stream)

    def count_withdrawal(self) -> None:
        """Count a withdrawn allow."""
        with self._lock:
            self.withdrawals += 1

    def open_now(self) -> tuple[int, int]:
        """Return the number of watched streams, and of the calls on them."""
        with self._lock:
            streams = list(self._members)
        return len(streams), sum(len(stream.watchlist) for stream in streams)

    def _poll(self, members: list[WatchedStream]) -> float:
        """Recheck the streams that need it."""
        began = time.monotonic()
        # Read before anything is checked: a change in between is found by the next poll.
        state = self._state()
        every = began >= self._all_again_at
        if every:
            self._all_again_at = began + ALL_SECONDS
        changed = state != self._last_state
        self._last_state = state
        now_ms = self._clock.now_ms()
        for stream in members:
            try:
                if every:
                    stream.require_caller()
                if every or changed or now_ms >= stream.watchlist.due_ms:
                    stream.watchlist.recheck(now_ms)
            except Exception as error:  # noqa: BLE001 - the stream ends by it, the others go on
                stream.fail(error)
        return max(POLL_SECONDS, PAUSE_FACTOR * (time.monotonic() - began))

    def _state(self) -> object:
        """Return a value that changes with the state, the brake and the host's freshness.

        It also changes each time that they can't be read.
        """
        view = self._verifier.view
        try:
            return view.revision, view.current
        except Exception:  # noqa: BLE001 - the calls are checked, and denied by that error
            return object()
