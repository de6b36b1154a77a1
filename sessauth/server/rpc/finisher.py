"""Calls that wait for their change without a thread.

A handler of a changing RPC returns a generator, which yields the future of its change, and goes on when the
change is durable. One thread, the finisher, goes on with all calls whose changes became durable together. A
handler whose rest may wait for something else yields :data:`ON_A_THREAD` first.

A call keeps its place in the pool from its begin to its answer. Where it must stay on its thread, with traces
and in a cluster, :func:`in_one_go` waits there.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from types import GeneratorType
from typing import Any, Final, TypeAlias, TypeVar

from ..log import fault
from ..status import refused
from .call import CallContext
from .pool import blocking_section

T = TypeVar("T")
R = TypeVar("R")

# Yielded by a handler that goes on in a thread of its pool.
ON_A_THREAD: Final = None

# A handler in steps: it yields the future of a change and gets its result, or yields ON_A_THREAD.
Steps: TypeAlias = Generator["Future[Any] | None", Any, R]


def wait_for_commit(future: Future[T], call: CallContext) -> T:
    """Return the future's result.

    If the call's deadline comes first, raises DEADLINE_EXCEEDED where nothing was begun, and then nothing
    will be: work without a waiting caller is dropped. Otherwise OUTCOME_UNKNOWN.
    """
    try:
        if future.done():
            return future.result()
        with blocking_section():
            return future.result(timeout=call.remaining)
    except concurrent.futures.TimeoutError:
        if future.cancel():
            raise refused("DEADLINE_EXCEEDED", "not begun within the deadline; nothing was written") from None
        if future.done():
            raise
        raise refused(
            "OUTCOME_UNKNOWN", "not confirmed within the deadline; retry with the same request_id"
        ) from None


def next_step(steps: Steps[R], future: Future[Any] | None, call: CallContext) -> Future[Any] | None:
    """Go on with the result of ``future``, or its error; returns the handler's next future or ON_A_THREAD.

    Raises StopIteration with the answer at the end, and any error of the handler.
    """
    if future is None:
        return next(steps)
    try:
        result = wait_for_commit(future, call)
    except BaseException as error:  # noqa: BLE001 - it is the handler's to raise
        return steps.throw(error)
    return steps.send(result)


def in_one_go(answer: Callable[[Any, CallContext], Any]) -> Callable[[Any, CallContext], Any]:
    """Return a handler that waits for its changes on its caller's thread."""

    def answered(data: Any, call: CallContext) -> Any:
        result = answer(data, call)
        if type(result) is not GeneratorType:
            return result
        future: Future[Any] | None = None
        while True:
            try:
                future = next_step(result, future, call)
            except StopIteration as end:
                return end.value

    return answered


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call whose change is not durable yet."""

    future: Future[Any]
    call: CallContext
    go_on: Callable[[Future[Any]], object]
    over: bool = False


class Finisher:
    """The thread that goes on with calls: once their changes are durable, or at their deadlines."""

    def __init__(self) -> None:
        """Begin without a thread; it starts with the first call."""
        self._waiting: dict[_Waiting, None] = {}
        self._ready: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def when_done(
        self, future: Future[Any], call: CallContext, go_on: Callable[[Future[Any]], object]
    ) -> None:
        """Call ``go_on(future)`` on the finisher's thread: once it is done, or at the call's deadline."""
        if self._thread is None:
            self._start()
        waiting = _Waiting(future, call, go_on)
        self._waiting[waiting] = None
        future.add_done_callback(lambda _: self._ready.put(waiting))

    def expire(self) -> None:
        """Go on with the calls whose deadlines have passed. Call it some times a second."""
        if self._waiting:
            now = time.monotonic()
            for waiting in list(self._waiting):
                if now >= waiting.call.deadline:
                    self._ready.put(waiting)

    def close(self) -> None:
        """End the thread, after the calls that can go on now."""
        self._ready.put(None)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="sessauth-finisher", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        take = self._ready.get
        while (waiting := take()) is not None:
            # It is ready twice if its change becomes durable at its deadline.
            if waiting.over:
                continue
            waiting.over = True
            del self._waiting[waiting]
            try:
                waiting.go_on(waiting.future)
            except Exception as error:  # noqa: BLE001 - the calls after it go on
                fault("finisher", error)
