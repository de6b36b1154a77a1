"""The writer thread: runs groups of jobs, commits each with one fsync, and only then answers the callers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import lmdb

from ..._fast.record.counters import Histograms
from ...errors import OutcomeUnknown, StateError, StateFull, StateUnusable
from .. import layout
from ..host.brake import Brake
from ..lmdb.environment import LmdbSource
from ..lmdb.rows import TxnRows
from .continuity import Continuity
from .group import Group, Retention
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
    ) -> None:
        """Create the thread; :meth:`start` starts it."""
        self._source = source
        self._brake = brake
        self._queue = queue
        self._clock = clock
        self._retention = retention
        self._continuity = continuity
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
        if jobs and not self._commit(jobs):
            self._commit_individually(jobs)

    def _commit_individually(self, jobs: _Jobs) -> None:
        """Write jobs that only remove authority, each alone, in a full map; fail the others."""
        self._source.reap_readers()
        for job in jobs:
            if not job.only_removes_authority:
                job.fail(StateFull("the map of the state is full; purge ended sessions, or raise map_size"))
            elif not self._commit([job]):
                self._fail_unknown([job], "the map of the state is full")

    def _commit(self, jobs: _Jobs) -> bool:
        """Run a group and make it durable; return False if the map is full and nothing was written."""
        txn = None
        try:
            self._continuity.begin()
            txn = self._source.env.begin(write=True)
            group = self._run_jobs(txn, jobs)
            if not group.dirty:
                txn.abort()
            else:
                head, number = group.rows.current, int(txn.id())
                self._continuity.announce(head)
                began = time.monotonic_ns()
                txn.commit()
                self._continuity.committed(head, number)
                self._record_commit(len(jobs), time.monotonic_ns() - began)
            group.durable = True
        except lmdb.MapFullError:
            _abort(txn)
            return False
        except (lmdb.Error, OSError, StateError) as error:
            _abort(txn)
            self._fail_unknown(jobs, error)
            return True
        finally:
            self._continuity.end()
        for job in jobs:
            job.resolve()
        return True

    def _run_jobs(self, txn: lmdb.Transaction, jobs: _Jobs) -> Group:
        rows = TxnRows(txn, self._source.tables)
        self._continuity.require_head(rows.head())
        group = Group(rows, self._clock.read(), full=self.is_full(rows), retention=self._retention)
        for job in jobs:
            job.execute(group)
        group.finish()
        return group

    def is_full(self, rows: TxnRows) -> bool:
        """Return True if rows take more than 85 % of the map. Free pages inside the file count as room."""
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
