"""One lane: a bounded pool of threads and of places for those who wait for one."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar

from .pool_task import PoolTask

# How long all threads of a lane may be held up before a spare one helps, and how long a spare one stays
# that finds nothing to do.
RELIEF_SECONDS: Final = 0.05

# How long a call keeps one of its principal's receptions from a later call that waits for one.
PATIENCE_SECONDS: Final = 0.2

Call = TypeVar("Call")

# Of each thread: the lane that it works in.
_here = threading.local()


@contextmanager
def aside() -> Iterator[None]:
    """Let another thread take this one's place in its lane while the call waits for something to happen.

    Where a lane has no stand-ins, and outside of lanes, the call just waits.
    """
    lane: BoundedPool | None = getattr(_here, "lane", None)
    if lane is None or not lane.stand_ins:
        yield
        return
    lane.step_aside()
    try:
        yield
    finally:
        lane.step_back()


class BoundedPool:
    """A thread pool that knows how many calls it holds.

    Of its threads ``steady`` do the work. The others are spare: one is started by :meth:`relieve` when
    calls wait and none began for a while, since all threads are at calls that take long, and it ends when
    the steady ones go on. Threads that only compute contend for the interpreter lock, so that more of them
    do less.

    A call that waits for the disk, or for another process, steps :func:`aside`: up to ``stand_ins`` more
    threads then do the work of those that wait.

    It is no ``ThreadPoolExecutor``: the future and the semaphore that one makes and signals for each call
    cost more than a check.
    """

    def __init__(self, name: str, threads: int, places: int, steady: int = 0, stand_ins: int = 0) -> None:
        """Run ``threads`` calls at once, up to ``places`` more may wait; no ``steady`` is all of them."""
        self.name = name
        self.threads = threads
        self.steady = min(steady or threads, threads)
        self.stand_ins = stand_ins
        self.capacity = threads + places
        # Calls that run or wait.
        self.held = 0
        # Calls that stepped aside, and threads that stand in for them.
        self._aside = 0
        self._standing_in = 0
        self._closed = False
        self.count_lock = threading.Lock()
        # Of those who are no principal: this process itself.
        self._whole: PoolShare[Any] = PoolShare(self)
        self._waiting: SimpleQueue[PoolTask | None] = SimpleQueue()
        self._running: list[threading.Thread] = []
        self._started = 0
        # Calls that steady and spare threads began. Compared, not added up: a lost one is a moved one.
        self._begun = [0, 0]
        self._begun_before = (0, 0)
        self._begun_asked = (0, 0)
        self._stuck_from = 0.0

    @property
    def full(self) -> bool:
        """Whether the next call must be refused."""
        return self.held >= self.capacity

    def submit(self, function: Callable[..., Any], /, *args: Any) -> PoolTask:
        """Take a place, which is given back when the call has ended, however it ends.

        Raises RuntimeError once the lane was shut down, and where not one thread can be started.
        """
        return self.submit_for(self._whole, function, *args)

    def submit_for(self, share: PoolShare[Any], function: Callable[..., Any], /, *args: Any) -> PoolTask:
        """Take a place in a principal's part of the lane; as :meth:`submit` else."""
        place = PoolTask(share.release, function, args)
        with self.count_lock:
            if self._closed:
                raise RuntimeError(f"the {self.name} lane was shut down")
            if self.steady > len(self._running) <= self.held:
                self._start(self._run)
            self.held += 1
            share.held += 1
        self._waiting.put(place)
        if self._aside > self._standing_in:
            with self.count_lock:
                self._stand_in()
        return place

    def step_aside(self) -> None:
        """Say that this thread's call waits; see :func:`aside`."""
        with self.count_lock:
            self._aside += 1
            if self._waiting.qsize():
                self._stand_in()

    def step_back(self) -> None:
        """Say that it goes on."""
        with self.count_lock:
            self._aside -= 1

    def relieve(self) -> None:
        """Start a spare thread if calls wait and none began since this was called last."""
        with self.count_lock:
            begun = (self._begun[0], self._begun[1])
            stuck = begun == self._begun_before and self.held > len(self._running)
            self._begun_before = begun
            if stuck and len(self._running) < self.threads and not self._closed:
                self._start(self._help)

    def stuck_for(self) -> float:
        """Return for how many seconds calls have waited and none began, with a thread at work all the time.

        To be asked again and again: a time begins when it is asked first. Calls that stepped aside are not
        at work. A lane whose threads wait on purpose has no such time.
        """
        with self.count_lock:
            now = time.monotonic()
            begun = (self._begun[0], self._begun[1])
            at_work = len(self._running) - self._aside > 0
            if begun != self._begun_asked or not self._waiting.qsize() or not at_work:
                self._begun_asked, self._stuck_from = begun, now
            return now - self._stuck_from

    def shutdown(self, wait: bool = True, *, cancel_waiting: bool = False) -> None:
        """Take no more calls; those that wait still run, unless ``cancel_waiting`` drops them."""
        with self.count_lock:
            self._closed = True
        while cancel_waiting:
            try:
                place = self._waiting.get_nowait()
            except Empty:
                break
            if place is not None:
                place.cancel()
        for _ in range(self.threads + self.stand_ins):
            self._waiting.put(None)
        if wait:
            self.join(None)

    def join(self, seconds: float | None) -> None:
        """Wait for the threads of a lane that was shut down, at most ``seconds``; None has no end."""
        until = None if seconds is None else time.monotonic() + seconds
        for thread in self._running.copy():
            thread.join(None if until is None else max(0.0, until - time.monotonic()))

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

    def _stand_in(self) -> None:
        """Start a thread for calls that stepped aside, if more of them did than threads stand in."""
        if self._standing_in < min(self._aside, self.stand_ins) and not self._closed:
            self._standing_in += 1
            if not self._start(self._take_turns):
                self._standing_in -= 1

    def _run(self) -> None:
        """Work until the lane is shut down."""
        _here.lane = self
        take, begun = self._waiting.get, self._begun
        while True:
            place = take()
            if place is None:
                return
            begun[0] += 1
            place.run()

    def _help(self) -> None:
        """Work until the steady threads go on, nothing waits any more, or the lane is shut down."""
        _here.lane = self
        begun = self._begun
        steady = begun[0]
        place: PoolTask | None = None
        try:
            while begun[0] == steady:
                place = self._waiting.get(timeout=RELIEF_SECONDS)
                if place is None:
                    return
                begun[1] += 1
                place.run()
        except Empty:
            return
        finally:
            with self.count_lock:
                self._running.remove(threading.current_thread())

    def _take_turns(self) -> None:
        """Work while more calls are aside than threads stand in, something waits, and the lane is open."""
        _here.lane = self
        try:
            while self._standing_in <= self._aside:
                place = self._waiting.get(timeout=RELIEF_SECONDS)
                if place is None:
                    return
                self._begun[1] += 1
                place.run()
        except Empty:
            return
        finally:
            with self.count_lock:
                self._standing_in -= 1
                self._running.remove(threading.current_thread())


class PoolShare(Generic[Call]):
    """One principal's part of a lane: at most half, so that no one principal can fill it.

    ``held`` counts its calls that run or wait for a thread. Its calls whose message has not come hold
    nothing of the lane: ``receiving`` those that are received, ``behind`` those that wait for that. Both
    are the polling thread's.
    """

    __slots__ = ("behind", "held", "lane", "most", "patience", "receiving")

    def __init__(self, lane: BoundedPool, *, strangers: bool = False) -> None:
        """Hold nothing of ``lane`` yet.

        ``strangers`` are many in one part, which is the whole: their newest call has no patience with their
        oldest.
        """
        self.lane = lane
        self.most = lane.capacity if strangers else (lane.capacity + 1) // 2
        self.held = 0
        self.patience = 0.0 if strangers else PATIENCE_SECONDS
        # In the order in which they came.
        self.receiving: dict[Call, None] = {}
        self.behind: deque[Call] = deque()

    @property
    def full(self) -> bool:
        """Return whether the next call must be refused: the lane is full, or this part of it."""
        return self.held >= self.most or self.lane.held >= self.lane.capacity

    @property
    def waiting(self) -> int:
        """Return how many calls wait for their message."""
        return len(self.receiving) + len(self.behind)

    def release(self) -> None:
        """Give a place back."""
        with self.lane.count_lock:
            self.lane.held -= 1
            self.held -= 1
