"""The writer thread: runs groups of jobs, commits each with one fsync, and only then answers the callers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import lmdb

from ..._fast._check import Histograms
from ...errors import NotLeader, OutcomeUnknown, RecordRefused, StateError, StateFull, StateUnusable
from .. import layout
from ..host.brake import Brake
from ..lmdb import brake_row
from ..lmdb.environment import LmdbSource
from ..lmdb.rows import TxnRows
from .continuity import Continuity
from .group import Group, Retention
from .group_log import EngineRefused, GroupLog, GroupTooLarge
from .guarded_clock import GuardedClock
from .jobs import Job, JobQueue

_log = logging.getLogger(__name__)
_Jobs = Sequence[Job[Any]]
# 100 µs to 10 s: the fsync of a fast disk, and of a stalled one.
COMMIT_BOUNDS_NS: Final = (
    *(factor * 10**exponent for exponent in range(5, 10) for factor in (1, 2, 5)),
    10**10,
)
GROUP_BOUNDS: Final = tuple(1 << exponent for exponent in range(9))
# The engine's answers, and records of other servers: the folder is as it was, and can be read.
_NOT_OF_THIS_HOST: Final = (EngineRefused, GroupTooLarge, NotLeader, OutcomeUnknown, RecordRefused)


@dataclass(slots=True)
class Stats:
    """Counts since the writer was opened. ``commits`` are the fsyncs that callers waited for.

    ``times`` counts commits by duration in ns, ``groups`` by number of jobs: one row each.
    """

    commits: int = 0
    jobs: int = 0
    largest_group: int = 0
    failures: int = 0
    times: Histograms = field(default_factory=lambda: Histograms(1, COMMIT_BOUNDS_NS))
    groups: Histograms = field(default_factory=lambda: Histograms(1, GROUP_BOUNDS))


class _Written(Enum):
    """The fate of a group: its jobs were answered, or each must be tried alone."""

    ANSWERED = 1
    MAP_FULL = 2
    TOO_LARGE = 3


class Committer:
    """Owns the write transactions; runs on one thread."""

    def __init__(
        self,
        source: LmdbSource,
        brake: Brake,
        queue: JobQueue,
        clock: GuardedClock,
        retention: Retention,
        continuity: Continuity,
        carried: GroupLog | None,
    ) -> None:
        """Create the thread; :meth:`start` starts it. ``carried`` is the log of a cluster."""
        self._source = source
        self._brake = brake
        self._queue = queue
        self._clock = clock
        self._retention = retention
        self._continuity = continuity
        self._carried = carried
        self._page_bytes = int(source.env.stat()["psize"])
        self._map_bytes = int(source.env.info()["map_size"])
        self._thread = threading.Thread(target=self._work, name="sessauth-writer", daemon=True)
        self.stats = Stats()
        self.on_fsync: Callable[[int], None] | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the closed queue is drained."""
        self._thread.join()

    def _work(self) -> None:
        while jobs := self._queue.next_group():
            try:
                self._commit_batch(jobs)
            except Exception as error:  # noqa: BLE001 - no caller may be left waiting
                # A bug, since expected errors are handled below. No caller may be left waiting, and none
                # may get a success. It is unknown whether the changes are durable, so checks deny too.
                _log.exception("the writer failed")
                self._fail_unknown([job for job in jobs if not job.future.done()], error)

    def _commit_batch(self, jobs: _Jobs) -> None:
        if self._brake.failed:
            blocked = [job for job in jobs if not job.runs_while_braked]
            for job in blocked:
                job.fail(
                    StateError(f"the brake is engaged: {self._brake.reason}; clear it once the cause is gone")
                )
            jobs = [job for job in jobs if job.runs_while_braked]
        if jobs:
            self._commit_or_split(jobs)

    def _commit_or_split(self, jobs: _Jobs) -> None:
        """Run a group; if it is too much for one, run its jobs one by one."""
        written = self._commit(jobs)
        if written is _Written.MAP_FULL:
            self._commit_what_removes(jobs)
        elif written is _Written.TOO_LARGE:
            for job in jobs:
                self._commit_or_split([job])

    def _commit_what_removes(self, jobs: _Jobs) -> None:
        """Write jobs that only remove authority, each alone, in a full map; fail the others."""
        self._source.reap_readers()
        for job in jobs:
            if not job.only_removes_authority:
                job.fail(StateFull("the map of the state is full; raise server.map_size_bytes and restart"))
            elif self._commit([job]) is _Written.MAP_FULL:
                self._fail_unknown([job], "the map of the state is full")

    def _commit(self, jobs: _Jobs) -> _Written:
        """Run a group, and make it durable."""
        txn = group = None
        try:
            self._continuity.begin()
            txn = self._source.env.begin(write=True)
            group = self._run_jobs(txn, jobs)
            if group.dirty:
                self._make_durable(txn, group, len(jobs))
            else:
                txn.abort()
            group.durable = True
        except (lmdb.Error, OSError, StateError) as error:
            _abort(txn)
            return self._not_written(jobs, error, appended=group is not None and group.appended)
        finally:
            self._continuity.end()
        for job in jobs:
            job.resolve()
        return _Written.ANSWERED

    def _make_durable(self, txn: lmdb.Transaction, group: Group, jobs: int) -> None:
        if self._carried is not None:
            self._carried.append(group)
            group.appended = group.is_carried
        head, number = group.rows.current, int(txn.id())
        self._continuity.announce(head)
        cluster_brake = brake_row.page_reason(group.rows) if group.moves_brake else None
        if cluster_brake is not None:
            # A reader of the row finds the page engaged. Without the commit it is engaged by the failure.
            self._brake.set_for_cluster(cluster_brake)
        began = time.monotonic_ns()
        txn.commit()
        if group.moves_brake and cluster_brake is None:
            self._brake.set_for_cluster(None)
        self._continuity.committed(head, number)
        self._record_commit(jobs, time.monotonic_ns() - began)

    def _not_written(self, jobs: _Jobs, error: Exception, *, appended: bool) -> _Written:
        """Answer the jobs of an aborted group. Only a fault of this host engages its brake."""
        if appended and self._carried is not None:
            self._carried.commit_failed(str(error))
        elif isinstance(error, lmdb.MapFullError):
            return _Written.MAP_FULL
        elif isinstance(error, GroupTooLarge) and len(jobs) > 1:
            return _Written.TOO_LARGE
        elif isinstance(error, _NOT_OF_THIS_HOST):
            for job in jobs:
                job.fail(error)
            return _Written.ANSWERED
        self._fail_unknown(jobs, error)
        return _Written.ANSWERED

    def _run_jobs(self, txn: lmdb.Transaction, jobs: _Jobs) -> Group:
        rows = TxnRows(txn, self._source.tables)
        self._continuity.require_head(rows.head())
        group = Group(
            rows,
            self._clock.read(),
            full=self.is_full(rows),
            retention=self._retention,
            refusal=None if self._carried is None else self._carried.refusal(),
            frozen=self._brake.frozen,
        )
        for job in jobs:
            job.execute(group)
        group.finish()
        return group

    def is_full(self, rows: TxnRows) -> bool:
        """Return True if rows take more than 85 % of the map. Free pages inside the file count as space."""
        mark = layout.FULL_SHARE * self._map_bytes
        high = (int(self._source.env.info()["last_pgno"]) + 1) * self._page_bytes
        return high > mark and rows.used_bytes(self._page_bytes) > mark

    def _record_commit(self, jobs: int, ns: int) -> None:
        self.stats.times.observe(0, ns)
        self.stats.groups.observe(0, jobs)
        self.stats.commits += 1
        self.stats.jobs += jobs
        self.stats.largest_group = max(self.stats.largest_group, jobs)
        if self.on_fsync is not None:
            self.on_fsync(jobs)

    def _fail_unknown(self, jobs: _Jobs, cause: object) -> None:
        """Engage the brake, so that every check of the host denies, then fail jobs with OutcomeUnknown."""
        self.stats.failures += 1
        problem = f"{cause.problem}: " if isinstance(cause, StateUnusable) else ""
        self._brake.engage(f"{problem}a change could not be written: {cause}")
        _log.error("a change could not be written: %s; the brake is engaged", cause)
        for job in jobs:
            job.fail(
                OutcomeUnknown(
                    f"the change may or may not be durable ({cause}); retry with the same request id"
                )
            )


def _abort(txn: lmdb.Transaction | None) -> None:
    if txn is not None:
        try:
            txn.abort()
        except lmdb.Error:
            return
