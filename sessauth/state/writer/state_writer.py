"""The log in LMDB: the one writer of a state folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Self, TypeVar

from ...clock import Clock, SystemClock
from ...errors import StateError, StateFull, StateUnusable
from ...model.change import Change, ChangeOutcome, Rejection
from .. import layout
from ..host.brake import ManualBrake
from ..integrity.anchor import Anchored
from ..lmdb.environment import LmdbSource
from ..rules.apply import is_protective, refused_unread
from . import opening
from .committer import Committer, Stats
from .group import Group, Retention
from .guarded_clock import ClockReading, GuardedClock
from .jobs import Job, JobQueue
from .queries import StateReads
from .sweep import Swept, due, sweep

T = TypeVar("T")
_KEEP_ALIVE_BYTES = 256


class StateWriter(StateReads):
    """Writes a state folder; use :meth:`open`. Every method may be called from any thread.

    A change is acknowledged (its future resolves) only after the commit that holds it. In a forked child
    everything raises StateError.
    """

    def __init__(self, opened: opening.Opened, clock: Clock, keep: Retention) -> None:
        """Take the opened parts; called by :meth:`open`."""
        self._lock, source, self._brake, self._continuity = opened
        super().__init__(source)
        self._clock = GuardedClock(clock)
        self._keep = keep
        map_bytes = int(source.env.info()["map_size"])
        self._queue = JobQueue(min(4 << 20, map_bytes // 64))
        self._committer = Committer(source, self._brake, self._queue, self._clock, keep, self._continuity)
        self._readers_checked_ms = clock.now_ms()
        self._closed = False

    @classmethod
    def open(
        cls,
        state_dir: str | os.PathLike[str],
        *,
        create: bool = False,
        restoring: bool = False,
        map_size: int = layout.MAP_SIZE,
        clock: Clock | None = None,
        keep: Retention | None = None,
    ) -> Self:
        """Open a state folder for writing, and with ``create`` make it if there is none.

        ``map_size`` in bytes bounds the data; a larger existing file keeps its size. An engaged brake is
        released if the whole state reads well and a probe write succeeds. With ``restoring`` a state that
        is behind its anchor is opened too, and a new incarnation has to be begun in it. Raises
        StateUnusable, which names what is wrong.
        """
        opened = opening.open_writing(Path(state_dir), create=create, restoring=restoring, map_size=map_size)
        writer = cls(opened, clock or SystemClock(), keep or Retention())
        writer._committer.start()
        return writer

    @property
    def stats(self) -> Stats:
        """Counts of commits and changes."""
        return self._committer.stats

    @property
    def on_fsync(self) -> Callable[[int], None] | None:
        """Called on the writer thread after each commit with the number of jobs that it held."""
        return self._committer.on_fsync

    @on_fsync.setter
    def on_fsync(self, callback: Callable[[int], None] | None) -> None:
        self._committer.on_fsync = callback

    @property
    def waiting(self) -> int:
        """How many changes wait for the writer thread."""
        return self._queue.waiting

    @property
    def braked(self) -> str:
        """Why every check denies; empty if the brake is released."""
        return self._brake.reason

    @property
    def braked_by_hand(self) -> ManualBrake:
        """Return what a person did to the brake."""
        return self._brake.by_hand

    @property
    def clock_suspect(self) -> str:
        """Why the wall clock is not believed; empty if it is."""
        return self._clock.read().suspect

    def now_ms(self) -> int:
        """Return the wall time in ms; raises StateError while it is not believed."""
        now = self._clock.read()
        if now.suspect:
            raise StateError(now.suspect)
        return now.at_ms

    def source(self) -> LmdbSource:
        """Return what a view in this process reads from: the same environment."""
        return self._source

    def submit(self, change: Change) -> Future[ChangeOutcome]:
        """Queue a change; the future gives its outcome once it is durable. A rejection is an outcome.

        The future raises StateFull (above the 85 % mark), OutcomeUnknown (the commit failed), or
        StateError (braked, or the wall clock is not believed). Raises StateError if the writer is closed or
        the queue is full.
        """
        self._require_own_process()
        encoded, wrong = refused_unread(change)
        if not wrong and change.id.startswith(layout.SYSTEM_PREFIX):
            wrong = f"id: {layout.SYSTEM_PREFIX} begins the log's own ids; use another"
        if wrong:
            future: Future[ChangeOutcome] = Future()
            future.set_result(ChangeOutcome(change.id, rejection=Rejection.INVALID.value, detail=wrong))
            return future
        return self._queue.add(
            Job(lambda group: group.submit(change), len(encoded), protective=is_protective(change))
        )

    def keep_alive(self, session_id: bytes) -> Future[int]:
        """Renew a session's lease; the future gives the durable deadline in ms since 1970.

        At least half of the lease is left after it, so renew about three times a lease. Nothing is written
        while more than half is left. The future raises Rejected (NOT_FOUND, ALREADY_ENDED, INVALID).
        """
        self._require_own_process()
        if self._brake.failed:
            raise StateError(f"the brake is engaged: {self._brake.reason}; clear it once the cause is gone")
        with self._rows() as rows:
            reading = Group(rows, self._clock.read(), full=False, keep=self._keep)
            deadline = reading.fresh_deadline(session_id)
        if deadline:
            future: Future[int] = Future()
            future.set_result(deadline)
            return future
        return self._queue.add(Job(lambda group: group.keep_alive(session_id), _KEEP_ALIVE_BYTES))

    def sweep(self, now_ms: int = -1) -> Swept:
        """End the sessions that are over by ``now_ms`` (-1: by the clock) and purge old rows.

        Call it every second. Returns once it is durable; raises as the futures of :meth:`submit` do.
        What it did not get to is denied by its time all the same.
        """
        self._require_own_process()
        now = self._clock.read() if now_ms < 0 else ClockReading(now_ms)
        wall_ms = now.at_ms
        if abs(wall_ms - self._readers_checked_ms) >= layout.READER_CHECK_MS:
            self._readers_checked_ms = wall_ms
            self._source.reap_readers()
        with self._rows() as rows:
            if not due(Group(rows, now, full=False, keep=self._keep), 1):
                return Swept()

        def step(limit: int) -> Swept:
            def work(group: Group) -> Swept:
                group.wall_ms = max(group.wall_ms, wall_ms)
                return sweep(group, limit)

            return self._queue.add(Job(work, 0, alone=True)).result()

        try:
            return step(layout.SWEEP_STEP)
        except StateFull:
            return step(layout.SWEEP_STEP_FULL)

    def decide(self, work: Callable[[Group], T], size: int, *, protective: bool = False) -> Future[T]:
        """Queue ``work``, which judges by the group's rows and may submit changes to it.

        It shares its commit with what else waits, sees what the jobs before it left, and costs no commit if
        it writes nothing. The future gives what it returned, once that is durable; it raises what ``work``
        raised (what was submitted before stays), or as the futures of :meth:`submit` do. ``size``: the bytes
        that it will write, at most about. ``protective``: it only takes authority away or frees room. Raises
        StateError as :meth:`submit`.
        """
        self._require_own_process()
        return self._queue.add(Job(work, size, protective=protective))

    def run(self, work: Callable[[Group], T]) -> T:
        """Run ``work`` in a commit of its own, and return what it returned once that is durable."""
        self._require_own_process()
        return self._queue.add(Job(work, 0, alone=True)).result()

    def hold(self) -> None:
        """Look whether the files are those that were opened, and hold what was written last.

        If not, every check of the host denies from now on. Raises StateUnusable: SWAPPED or ROLLED_BACK.
        """
        self._require_own_process()
        try:
            self._continuity.hold()
        except StateUnusable as error:
            self._brake.engage(f"{error.problem}: {error}")
            raise

    @property
    def anchored(self) -> Anchored | None:
        """Return what the anchor says of the state, which may be ahead of it."""
        return self._continuity.anchored

    def call_anew(self) -> None:
        """Have enrolled verifiers tell this process soon what they told the one before."""
        self._require_own_process()
        self._brake.call_anew(int.from_bytes(os.urandom(8), "big"))

    def call_for(self, revision: int) -> None:
        """Have enrolled verifiers acknowledge a revision soon; it costs them and us no call until they do."""
        self._require_own_process()
        self._brake.call_for(revision)

    def clear_brake(self) -> None:
        """Release the brake that a failed commit engaged if a probe write is durable.

        Raises StateError if it is not. A person's hold on the brake stays.
        """
        self._require_own_process()
        if not self._brake.failed:
            return
        self._queue.add(Job(opening.probe, 0, protective=True, alone=True, braked=True)).result()
        self._brake.release()

    def close(self) -> None:
        """Finish what waits, then close. The folder can be opened again afterwards."""
        if self._closed:
            return
        self._closed = True
        if self._source.forked:
            self._lock.release()
            return
        self._queue.close()
        self._committer.join()
        self._continuity.close()
        self._source.close()
        self._brake.close()
        self._lock.release()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _require_own_process(self) -> None:
        if self._source.forked:
            raise StateError("the writer was opened before a fork; open it again in the child process")
