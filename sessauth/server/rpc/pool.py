"""Bounded pools of threads, with places for calls that wait for one.

A process has several: no kind of call can take the threads of another. A call that finds its pool full, or
half of it taken by its own caller, is refused: overload costs the caller an answer, not the server a queue.
End, Revoke and Suspend have the reserved pool: taking authority away works while everything else is
overloaded. Operators' calls of these have a pool of their own.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeAlias, TypeVar

from ..log import fault
from ..sections import LimitSettings

# A spare thread starts when no call began for this long, and ends when it found no call for this long.
SPARE_SECONDS: Final = 0.05

# A later call that waits to be received takes the place of one of its principal's after this time.
PATIENCE_SECONDS: Final = 0.2

Call = TypeVar("Call")

# Returned by a call's function that ends later: it gives the place back itself.
HELD: Final = object()

# ``pool``: the pool that the thread works in.
_thread = threading.local()


@contextmanager
def blocking_section() -> Iterator[None]:
    """Let another thread do this one's work while the call waits for an event.

    Does nothing outside of pools, and in a pool without compensating threads.
    """
    pool: BoundedPool | None = getattr(_thread, "pool", None)
    if pool is None or not pool.compensating_threads:
        yield
        return
    pool.enter_blocking()
    try:
        yield
    finally:
        pool.leave_blocking()


# A call that waits for a thread: its share of the pool, whose place it has, and its function with arguments.
_Waiting: TypeAlias = "tuple[PoolShare[Any], Callable[..., object], tuple[Any, ...]]"


def _run(share: PoolShare[Any], function: Callable[..., object], args: tuple[Any, ...]) -> None:
    """Make a call, and give its place back unless it is held."""
    result = None
    try:
        result = function(*args)
    except BaseException as error:  # noqa: BLE001 - the thread goes on to the next call
        fault("call", error)
    if result is not HELD:
        share.release()


class BoundedPool:
    """A thread pool that counts its calls in flight.

    ``core_threads`` of its threads do the work. Threads that only compute contend for the interpreter lock,
    so more of them do less. The others are spare. :meth:`add_spare_thread` starts one when calls wait and
    none began for a while: all threads are then at calls that take long. It ends when the core goes on.

    A call that waits for the disk or for another process does so in a :func:`blocking_section`. Up to
    ``compensating_threads`` more threads then do the work of those that block.

    It is no ``ThreadPoolExecutor``: the future and the semaphore that one makes and signals for each call
    cost more than a check. Nobody waits for a call's result: it ends its call itself.
    """

    def __init__(
        self, name: str, threads: int, places: int, core_threads: int = 0, compensating_threads: int = 0
    ) -> None:
        """Run ``threads`` calls at once; up to ``places`` more may wait. ``core_threads`` 0: all threads."""
        self.name = name
        self.threads = threads
        self.core_threads = min(core_threads or threads, threads)
        self.compensating_threads = compensating_threads
        self.capacity = threads + places
        # Calls that run or wait.
        self.in_flight = 0
        # Calls in a blocking section, and threads that compensate for them.
        self._blocked = 0
        self._compensating = 0
        self._closed = False
        self.count_lock = threading.Lock()
        self._waiting: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._running: list[threading.Thread] = []
        self._started = 0
        # Calls begun by core threads, and by others. Compared, not added up: a lost one is a moved one.
        self._begun = [0, 0]
        self._begun_at_relief = (0, 0)
        self._begun_at_poll = (0, 0)
        self._stuck_since = 0.0

    @property
    def full(self) -> bool:
        """True if the next call must be refused."""
        return self.in_flight >= self.capacity

    def submit(self, share: PoolShare[Any], function: Callable[..., object], /, *args: Any) -> None:
        """Take a place in a principal's share, which is given back when the call has ended, however it ends.

        Raises RuntimeError once the pool was shut down, and if not one thread can be started.
        """
        with self.count_lock:
            if self._closed:
                raise RuntimeError(f"the {self.name} pool was shut down")
            if self.core_threads > len(self._running) <= self.in_flight:
                self._start(self._run_core)
            self.in_flight += 1
            share.in_flight += 1
        self.resume(share, function, *args)

    def resume(self, share: PoolShare[Any], function: Callable[..., object], /, *args: Any) -> None:
        """Go on with a call that has its place, in a thread of this pool."""
        self._waiting.put((share, function, args))
        if self._blocked > self._compensating:
            with self.count_lock:
                self._compensate()

    def enter_blocking(self) -> None:
        """Count this thread's call as blocked; see :func:`blocking_section`."""
        with self.count_lock:
            self._blocked += 1
            if self._waiting.qsize():
                self._compensate()

    def leave_blocking(self) -> None:
        """Count this thread's call as running again."""
        with self.count_lock:
            self._blocked -= 1

    def add_spare_thread(self) -> None:
        """Start a spare thread if calls wait and none began since the last call of this method."""
        with self.count_lock:
            begun = (self._begun[0], self._begun[1])
            stuck = begun == self._begun_at_relief and self.in_flight > len(self._running)
            self._begun_at_relief = begun
            if stuck and len(self._running) < self.threads and not self._closed:
                self._start(self._run_spare)

    def stuck_for(self) -> float:
        """Return for how many seconds calls have waited and none began, with a thread at work all the time.

        Poll it: the time begins with the first poll that finds the pool stuck. Blocked calls are not at
        work, so a pool whose threads wait on purpose is never stuck.
        """
        with self.count_lock:
            now = time.monotonic()
            begun = (self._begun[0], self._begun[1])
            at_work = len(self._running) - self._blocked > 0
            if begun != self._begun_at_poll or not self._waiting.qsize() or not at_work:
                self._begun_at_poll, self._stuck_since = begun, now
            return now - self._stuck_since

    def shutdown(self) -> None:
        """Accept no more calls, and drop those that wait. Waits for nothing."""
        with self.count_lock:
            self._closed = True
        with suppress(Empty):
            while True:
                if (waiting := self._waiting.get_nowait()) is not None:
                    waiting[0].release()
        for _ in range(self.threads + self.compensating_threads):
            self._waiting.put(None)

    def join(self, seconds: float) -> None:
        """Wait for the threads of a pool that was shut down, at most ``seconds``."""
        until = time.monotonic() + seconds
        for thread in self._running.copy():
            thread.join(max(0.0, until - time.monotonic()))

    def _start(self, work: Callable[[], None]) -> bool:
        """Start a thread; False if the system has none, and another one is there to do the work."""
        name = f"sessauth-{self.name}_{self._started}"
        # A daemon: a call that never ends does not keep the process from ending.
        thread = threading.Thread(target=work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._running:
                raise
            return False
        self._started += 1
        self._running.append(thread)
        return True

    def _compensate(self) -> None:
        """Start a compensating thread if fewer run than calls are blocked."""
        if self._compensating < min(self._blocked, self.compensating_threads) and not self._closed:
            self._compensating += 1
            if not self._start(self._run_compensating):
                self._compensating -= 1

    def _run_core(self) -> None:
        """Work until the pool is shut down."""
        _thread.pool = self
        take, begun = self._waiting.get, self._begun
        while True:
            task = take()
            if task is None:
                return
            begun[0] += 1
            _run(*task)

    def _run_spare(self) -> None:
        """Work until the core goes on, nothing waits any more, or the pool is shut down."""
        begun = self._begun
        core_begun = begun[0]
        try:
            self._run_while(lambda: begun[0] == core_begun)
        finally:
            with self.count_lock:
                self._running.remove(threading.current_thread())

    def _run_compensating(self) -> None:
        """Work while calls are blocked that no other thread compensates for, and calls wait."""
        try:
            self._run_while(lambda: self._compensating <= self._blocked)
        finally:
            with self.count_lock:
                self._compensating -= 1
                self._running.remove(threading.current_thread())

    def _run_while(self, needed: Callable[[], bool]) -> None:
        _thread.pool = self
        try:
            while needed():
                task = self._waiting.get(timeout=SPARE_SECONDS)
                if task is None:
                    return
                self._begun[1] += 1
                _run(*task)
        except Empty:
            return


class PoolShare(Generic[Call]):
    """One principal's part of a pool: at most half, so that no one principal can fill it.

    ``in_flight`` counts its calls that run or wait for a thread. Calls whose message has not come take no
    place in the pool: ``receiving`` holds those that are received, in the order in which they came;
    ``behind`` those that wait for that. Only the polling thread touches both.
    """

    __slots__ = ("behind", "in_flight", "limit", "patience", "pool", "receiving")

    def __init__(self, pool: BoundedPool, *, strangers: bool = False) -> None:
        """Begin with no call in ``pool``.

        All ``strangers`` have one share, which is the whole pool. Their newest call replaces their oldest at
        once.
        """
        self.pool = pool
        self.limit = pool.capacity if strangers else (pool.capacity + 1) // 2
        self.in_flight = 0
        self.patience = 0.0 if strangers else PATIENCE_SECONDS
        self.receiving: dict[Call, None] = {}
        self.behind: deque[Call] = deque()

    @property
    def full(self) -> bool:
        """True if the next call must be refused: the pool is full, or this share of it."""
        return self.in_flight >= self.limit or self.pool.in_flight >= self.pool.capacity

    @property
    def waiting(self) -> int:
        """The number of calls that wait for their message."""
        return len(self.receiving) + len(self.behind)

    def release(self) -> None:
        """Give a place back."""
        with self.pool.count_lock:
            self.pool.in_flight -= 1
            self.in_flight -= 1


CHANGE: Final = "change"
CHECK: Final = "check"
READ: Final = "read"
RESERVED: Final = "reserved"
# The same RPCs, called by operators.
OPERATOR: Final = "operator"
# Acknowledgements of ends: they are quick, and their proof must not wait for anything else.
EVIDENCE: Final = "evidence"
STREAM: Final = "stream"
# Watches of sessions: no number of consoles takes the place of a gateway's stream.
EVENT: Final = "event"
# Streams to followers of a cluster's log, and their barriers: each host needs one every half second.
FEED: Final = "feed"
BARRIER: Final = "barrier"
# RPCs that need no credential: the health of this process, and the keys for verifiers.
HEALTH: Final = "health"
OPEN: Final = "open"
# Reports of this server's own workers.
WORKER: Final = "worker"

POOL_NAMES: Final = (
    *(CHANGE, CHECK, READ, RESERVED, OPERATOR, EVIDENCE),
    *(STREAM, EVENT, FEED, BARRIER, HEALTH, OPEN, WORKER),
)

# A call computes, and leaves its thread or says that it waits. Changes compute in Python alone: a second
# thread would hand the interpreter from core to core, and open and mint would cost a third more.
CHANGE_CORE_THREADS: Final = 1
# Signatures are verified beside the interpreter.
CHECK_CORE_THREADS: Final = 2
EVIDENCE_THREADS: Final = 4
# They wait together for one answer of the engine.
BARRIER_THREADS: Final = 64
# For pools with few calls, answered from memory.
FEW_THREADS: Final = 2
FEW_PLACES: Final = 32
CLOSE_SECONDS: Final = 1.0


class PoolSet:
    """The pools of one process, by name, and the thread that adds spare threads to those held up.

    ``each_time()`` is called by that thread, some twenty times a second.
    """

    def __init__(self, by_name: Mapping[str, BoundedPool]) -> None:
        self.by_name = by_name
        self.each_time: Callable[[], object] = do_nothing
        self._closing = threading.Event()
        self._watch = threading.Thread(target=self._add_spare_threads, name="sessauth-relief", daemon=True)

    def __getitem__(self, name: str) -> BoundedPool:
        """Return the pool of that name."""
        return self.by_name[name]

    def __iter__(self) -> Iterator[BoundedPool]:
        """Iterate over the pools."""
        return iter(self.by_name.values())

    def watch(self) -> None:
        """Begin to add spare threads."""
        self._watch.start()

    def close(self) -> None:
        """Drop waiting calls, and give running calls :data:`CLOSE_SECONDS` to end."""
        self._closing.set()
        until = time.monotonic() + CLOSE_SECONDS
        for pool in self:
            pool.shutdown()
        for pool in self:
            pool.join(max(0.0, until - time.monotonic()))

    def _add_spare_threads(self) -> None:
        pools = [pool for pool in self if pool.core_threads < pool.threads]
        while not self._closing.wait(SPARE_SECONDS):
            self.each_time()
            for pool in pools:
                pool.add_spare_thread()


def do_nothing() -> None:
    """Do nothing."""


def open_pools(limits: LimitSettings) -> PoolSet:
    """Open the pools. Threads start when they are first needed."""
    places = limits.queue_places

    def change_pool(name: str, threads: int) -> BoundedPool:
        return BoundedPool(name, threads, places, CHANGE_CORE_THREADS, compensating_threads=threads)

    return PoolSet(
        {
            CHANGE: change_pool(CHANGE, limits.change_threads),
            # A check that costs something waits for its fsync as a change does; the others go on.
            CHECK: BoundedPool(
                CHECK,
                limits.check_threads,
                places,
                CHECK_CORE_THREADS,
                compensating_threads=limits.change_threads,
            ),
            READ: BoundedPool(READ, limits.read_threads, places),
            RESERVED: change_pool(RESERVED, limits.reserved_threads),
            OPERATOR: change_pool(OPERATOR, limits.reserved_threads),
            EVIDENCE: BoundedPool(EVIDENCE, EVIDENCE_THREADS, places),
            # A stream holds its thread, so one that would wait for a thread is refused instead.
            STREAM: BoundedPool(STREAM, limits.stream_threads, 0),
            EVENT: BoundedPool(EVENT, limits.event_threads, 0),
            FEED: BoundedPool(FEED, limits.feed_threads, 0),
            BARRIER: BoundedPool(BARRIER, BARRIER_THREADS, limits.feed_threads),
            HEALTH: BoundedPool(HEALTH, FEW_THREADS, FEW_PLACES),
            OPEN: BoundedPool(OPEN, FEW_THREADS, FEW_PLACES),
            # Each worker has two calls of these at a time.
            WORKER: BoundedPool(WORKER, FEW_THREADS, limits.queue_places),
        }
    )
