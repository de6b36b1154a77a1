"""The writer thread: takes groups of jobs, commits each with one fsync, and only then answers."""

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
# 100 µs to 10 s: a fast disk's fsync, and one that stands still.
COMMIT_BOUNDS_NS: Final = (
    *(factor * 10**exponent for exponent in range(5, 10) for factor in (1, 2, 5)),
    10**10,
)
GROUP_BOUNDS: Final = tuple(1 << exponent for exponent in range(9))


@dataclass(slots=True)
class Stats:
    """Counts since the writer was opened. ``commits`` are the fsyncs that callers waited for.

    ``times`` is how long each took, in ns, and ``groups`` how many jobs shared it: one row each.
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
        keep: Retention,
        continuity: Continuity,
    ) -> None:
        """Take what it works with; :meth:`start` starts the thread."""
        self._source = source
        self._brake = brake
        self._queue = queue
        self._clock = clock
        self._keep = keep
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
        while jobs := self._queue.take():
            try:
                self._serve(jobs)
            except Exception as error:  # noqa: BLE001 - no caller may be left waiting
                # A bug, since what can go wrong is handled below. Nobody may be left waiting, and nobody
                # may be told yes; what is durable is unknown, so checks stop too.
                _log.exception("the writer failed")
                self._unknown([job for job in jobs if not job.future.done()], error)

    def _serve(self, jobs: _Jobs) -> None:
        if self._brake.failed:
            blocked = [job for job in jobs if not job.braked]
            for job in blocked:
                job.fail(
                    StateError(f"the brake is engaged: {self._brake.reason}; clear it once the cause is gone")
                )
            jobs = [job for job in jobs if job.braked]
        if jobs and not self._commit(jobs):
            self._one_by_one(jobs)

    def _one_by_one(self, jobs: _Jobs) -> None:
        """The map is full: write what takes authority away, each alone; refuse the rest."""
        self._source.reap_readers()
        for job in jobs:
            if not job.protective:
                job.fail(StateFull("the map of the state is full; purge ended sessions, or raise map_size"))
            elif not self._commit([job]):
                self._unknown([job], "the map of the state is full")

    def _commit(self, jobs: _Jobs) -> bool:
        """Run a group and make it durable. False: the map is full, nothing was written."""
        txn = None
        try:
            self._continuity.begin()
            txn = self._source.env.begin(write=True)
            group = self._judge(txn, jobs)
            if not group.dirty:
                txn.abort()
            else:
                head, number = group.rows.current, int(txn.id())
                self._continuity.announce(head)
                began = time.monotonic_ns()
                txn.commit()
                self._continuity.committed(head, number)
                self._count(len(jobs), time.monotonic_ns() - began)
            group.durable = True
        except lmdb.MapFullError:
            _abort(txn)
            return False
        except (lmdb.Error, OSError, StateError) as error:
            _abort(txn)
            self._unknown(jobs, error)
            return True
        finally:
            self._continuity.end()
        for job in jobs:
            job.resolve()
        return True

    def _judge(self, txn: lmdb.Transaction, jobs: _Jobs) -> Group:
        rows = TxnRows(txn, self._source.tables)
        self._continuity.judged(rows.head())
        group = Group(rows, self._clock.read(), full=self.is_full(rows), keep=self._keep)
        for job in jobs:
            job.judge(group)
        group.finish()
        return group

    def is_full(self, rows: TxnRows) -> bool:
        """Whether rows take more than 85 % of the map. Free pages inside the file count as room."""
        mark = layout.FULL_SHARE * self._map_bytes
        high = (int(self._source.env.info()["last_pgno"]) + 1) * self._page_bytes
        return high > mark and rows.used_bytes(self._page_bytes) > mark

    def _count(self, jobs: int, ns: int) -> None:
        self.stats.times.observe(0, ns)
        self.stats.groups.observe(0, jobs)
        self.stats.commits += 1
        self.stats.jobs += jobs
        self.stats.largest_group = max(self.stats.largest_group, jobs)
        if self.on_fsync is not None:
            self.on_fsync(jobs)

    def _unknown(self, jobs: _Jobs, cause: object) -> None:
        """A change could not be persisted: every check of the host denies before the caller hears of it."""
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
