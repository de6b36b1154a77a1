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
from ..integrity.verify import Verification
from ..lmdb.environment import LmdbSource
from ..rules.apply import encode_or_refuse, only_removes_authority
from . import opening
from .committer import Committer, Stats
from .group import Group, Retention
from .group_log import GroupLog
from .guarded_clock import ClockReading, GuardedClock
from .jobs import Job, JobQueue
from .queries import StateQueries
from .sweep import Swept, due_keys, sweep

T = TypeVar("T")
_KEEP_ALIVE_BYTES = 256


class StateWriter(StateQueries):
    """Writes a state folder; use :meth:`open`. Every method may be called from any thread.

    A change is acknowledged (its future resolves) only after its commit. In a forked child everything raises
    StateError.
    """

    def __init__(
        self, opened: opening.Opened, clock: Clock, retention: Retention, carried: GroupLog | None
    ) -> None:
        """Create the writer of opened resources; :meth:`open` calls it."""
        self._lock, source, self._brake, self._continuity = opened
        super().__init__(source, GuardedClock(clock))
        self._retention = retention
        map_bytes = int(source.env.info()["map_size"])
        most = layout.GROUP_BYTES if carried is None else layout.CARRIED_GROUP_BYTES
        self._queue = JobQueue(min(most, map_bytes // 64))
        self._carried = carried
        self._committer = Committer(
            source, self._brake, self._queue, self._clock, retention, self._continuity, carried
        )
        self._verification = Verification(source)
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
        retention: Retention | None = None,
        carried: GroupLog | None = None,
    ) -> Self:
        """Open a state folder for writing; with ``create`` create it if it is missing.

        ``map_size`` in bytes bounds the data; a larger existing file keeps its size. Releases an engaged
        brake if the whole state verifies and a probe write succeeds. With ``restoring`` a state that is
        behind its anchor is opened too, and a new incarnation has to follow. ``carried`` is the log of the
        cluster that the folder belongs to. Raises StateUnusable, whose ``problem`` names the cause.
        """
        opened = opening.open_writing(
            Path(state_dir),
            create=create,
            restoring=restoring,
            map_size=map_size,
            carried=carried is not None,
        )
        writer = cls(opened, clock or SystemClock(), retention or Retention(), carried)
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
    def is_carried(self) -> bool:
        """True if the folder belongs to a cluster, whose log carries its writes."""
        return self._carried is not None

    @property
    def leads(self) -> bool:
        """True if this process may write: it leads its cluster, or the folder is a single host's."""
        return self._carried is None or self._carried.refusal() is None

    @property
    def stale(self) -> bool:
        """True if checks deny because the last proof that the folder is fresh is too old."""
        return self._brake.stale

    def require_leading(self) -> None:
        """Raise NotLeader if another server of the cluster writes."""
        refusal = None if self._carried is None else self._carried.refusal()
        if refusal is not None:
            raise refusal

    @property
    def waiting(self) -> int:
        """The number of jobs queued for the writer thread."""
        return self._queue.waiting

    @property
    def braked(self) -> str:
        """The reason for which every check denies; empty if the brake is released."""
        return self._brake.reason

    @property
    def failed(self) -> bool:
        """True if a commit failed and no write has been durable since: nothing is written."""
        return self._brake.failed

    @property
    def frozen(self) -> str:
        """The reason for which an operator froze this host or its cluster; empty if neither is."""
        return self._brake.frozen

    @property
    def braked_by_hand(self) -> ManualBrake:
        """A person's hold on the brake."""
        return self._brake.by_hand

    @property
    def cluster_brake(self) -> str:
        """The reason of the cluster's brake; empty if it is not set."""
        return self._brake.cluster_reason

    def brake_by_hand(self, reason: str) -> None:
        """Engage the brake that a person releases, for this reason. Needs no commit."""
        self._require_own_process()
        self._brake.engage(reason, by_hand=True)

    def release_by_hand(self) -> None:
        """Release the brake that a person engaged; other holds stay."""
        self._require_own_process()
        self._brake.release(by_hand=True)

    @property
    def alarm(self) -> str:
        """The text of the current alarm, also from an earlier process; empty if there is none."""
        return self._brake.alarm

    def raise_alarm(self, text: str) -> None:
        """Store the alarm of this host beside its state."""
        self._require_own_process()
        self._brake.raise_alarm(text)

    def clear_alarm(self) -> None:
        """Remove the alarm; every check denies until the next proof of freshness."""
        self._require_own_process()
        self._brake.clear_alarm()

    @property
    def clock_suspect(self) -> str:
        """The reason why the wall clock is suspect; empty if it is not."""
        return self._clock.read().suspect

    def now_ms(self) -> int:
        """Return the wall time in ms; raises StateError while it is suspect."""
        now = self._clock.read()
        if now.suspect:
            raise StateError(now.suspect)
        return now.at_ms

    def source(self) -> LmdbSource:
        """Return the source for a view in this process, of the same environment."""
        return self._source

    def submit(self, change: Change) -> Future[ChangeOutcome]:
        """Queue a change; the future gives its outcome once it is durable. A rejection is an outcome.

        The future raises StateFull (above the 85 % mark), OutcomeUnknown (the commit failed), or StateError
        (braked, or the wall clock is suspect). Raises StateError if the writer is closed or the queue is
        full.
        """
        self._require_own_process()
        encoded, wrong = encode_or_refuse(change)
        if not wrong and change.id.startswith(layout.SYSTEM_PREFIX):
            wrong = f"id: {layout.SYSTEM_PREFIX} begins the log's own ids; use another"
        if wrong:
            future: Future[ChangeOutcome] = Future()
            future.set_result(ChangeOutcome(change.id, rejection=Rejection.INVALID.value, detail=wrong))
            return future
        return self._queue.add(
            Job(
                lambda group: group.submit(change),
                len(encoded),
                only_removes_authority=only_removes_authority(change),
            )
        )

    def keep_alive(self, session_id: bytes) -> Future[int]:
        """Renew a session's lease; the future gives the durable deadline in ms since 1970.

        At least half of the lease is left after it, so renew about three times a lease. Writes nothing while
        more than half is left. The future raises Rejected (NOT_FOUND, ALREADY_ENDED, INVALID).
        """
        self._require_own_process()
        if self._brake.failed:
            raise StateError(f"the brake is engaged: {self._brake.reason}; clear it once the cause is gone")
        with self._source.rows() as rows:
            group = Group(rows, self._clock.read(), full=False, retention=self._retention)
            deadline = group.fresh_deadline(session_id)
        if deadline:
            future: Future[int] = Future()
            future.set_result(deadline)
            return future
        return self._queue.add(Job(lambda group: group.keep_alive(session_id), _KEEP_ALIVE_BYTES))

    def sweep(self, now_ms: int = -1) -> Swept:
        """End the sessions that are over by ``now_ms`` (-1: by the clock) and purge old rows.

        Call it every second. Returns once it is durable; raises as the futures of :meth:`submit` do. Checks
        deny sessions that are over by their times, whether they were swept or not. In a cluster the leader
        sweeps; elsewhere this only frees the reader slots of dead processes.
        """
        self._require_own_process()
        now = self._clock.read() if now_ms < 0 else ClockReading(now_ms)
        wall_ms = now.at_ms
        if abs(wall_ms - self._readers_checked_ms) >= layout.READER_CHECK_MS:
            self._readers_checked_ms = wall_ms
            self._source.reap_readers()
        if not self.leads:
            return Swept()
        with self._source.rows() as rows:
            if not due_keys(Group(rows, now, full=False, retention=self._retention), 1):
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

    def decide(
        self, work: Callable[[Group], T], size: int, *, only_removes_authority: bool = False
    ) -> Future[T]:
        """Queue ``work``, which decides by the group's rows and may submit changes to the group.

        It shares its commit with other jobs, sees the rows that the jobs before it left, and costs no commit
        if it writes nothing. The future gives its result once that is durable. The future raises the error of
        ``work`` (changes submitted before the error stay), or as the futures of :meth:`submit` do. ``size``
        is about the bytes that it writes. If it ``only_removes_authority`` or frees space, it runs even if
        the queue or the map is almost full. Raises StateError as :meth:`submit`.
        """
        self._require_own_process()
        return self._queue.add(Job(work, size, only_removes_authority=only_removes_authority))

    def run(self, work: Callable[[Group], T]) -> T:
        """Run ``work`` in a commit of its own, and return its result once that is durable."""
        self._require_own_process()
        return self._queue.add(Job(work, 0, alone=True)).result()

    def verify(self, seconds: float) -> bool:
        """Read on in the whole state for so long, one step at least; return True once all was read.

        If a row is wrong, every check of the host denies from now on. Raises StateUnusable CORRUPT.
        """
        self._require_own_process()
        try:
            return self._verification.work(seconds)
        except StateUnusable as error:
            self._brake.engage(f"{error.problem}: {error}")
            raise

    def check_files(self) -> None:
        """Check that the files are those that were opened, and have the bytes that were written last.

        If not, every check of the host denies from now on. Raises StateUnusable SWAPPED or ROLLED_BACK.
        """
        self._require_own_process()
        try:
            self._continuity.check_files()
        except StateUnusable as error:
            self._brake.engage(f"{error.problem}: {error}")
            raise

    @property
    def anchored(self) -> Anchored | None:
        """The anchored state; the state itself may be ahead of it."""
        return self._continuity.anchored

    def call_anew(self) -> None:
        """Have registered verifiers repeat to this process soon their reports to the one before."""
        self._require_own_process()
        self._brake.call_anew(int.from_bytes(os.urandom(8), "big"))

    def call_for(self, revision: int) -> None:
        """Have registered verifiers acknowledge a revision soon; costs no call until they do."""
        self._require_own_process()
        self._brake.call_for(revision)

    def fresh_until(self, steady_ms: int) -> None:
        """State that the folder holds all of the cluster's log that counts until this time, in steady ms."""
        self._require_own_process()
        self._brake.fresh_until(steady_ms)

    def deny_as_stale(self) -> None:
        """Make every check of the host deny STALE_STATE until :meth:`fresh_until` states another time."""
        self._require_own_process()
        self._brake.deny_now()

    def remove_freshness_bound(self) -> None:
        """State that the folder depends on no other host: it left its cluster."""
        self._require_own_process()
        self._brake.remove_bound()

    def clear_brake(self) -> None:
        """Release the brake that a failed commit engaged if a probe write is durable; else raises StateError.

        A person's hold on the brake stays.
        """
        self._require_own_process()
        if not self._brake.failed:
            return
        self._queue.add(
            Job(opening.probe, 0, only_removes_authority=True, alone=True, runs_while_braked=True)
        ).result()
        self._brake.release()

    def close(self) -> None:
        """Run the queued jobs, then close. The folder can be opened again afterwards."""
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
