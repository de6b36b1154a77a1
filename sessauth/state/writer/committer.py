"""The writer thread: runs groups of jobs, commits each with one fsync, and only then answers the callers.

Order of events: a caller puts a job into a bounded queue; the thread takes all that wait as one group, and
runs each over the rows that the ones before it left (``group.py``); in a cluster the group is appended to the
carried log; LMDB commits; the anchor states the commit; the callers get their answers. A failed commit
engages the brake, until a write is durable again.

**Continuity.** Each commit goes to the file of the commit before. The writer has its data file mapped. If
another file came under its name, or other bytes into it, the writer would continue an older state, in which
ended sessions are active. So before each commit it checks the file names (at most every 20 ms) and LMDB's two
meta pages, and after each commit the pages again.

It checks the anchor along with the names. The writer has the anchor's content in memory, so it rewrites an
anchor that was removed, truncated or replaced, and logs that. Otherwise an older data file could be put in
place after the anchor was removed.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar

import lmdb

from ..._fast._check import Histograms
from ...errors import (
    NotLeader,
    OutcomeUnknown,
    RecordRefused,
    SessauthError,
    StateError,
    StateFull,
    StateUnusable,
)
from ...model.change import Head
from .. import layout
from ..host.brake import Brake
from ..integrity.anchor import Anchor, Anchored
from ..lmdb import cluster_rows
from ..lmdb.environment import LmdbSource, last_commit
from ..lmdb.rows import TxnRows
from .group import EngineRefused, Group, GroupLog, GroupTooLarge, GuardedClock, Retention

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Job(Generic[T]):
    """One piece of work inside a group, and the future of its result.

    ``size`` is about the bytes that it writes. If it ``only_removes_authority`` (or frees space), it is
    written even above the 85 % mark. An ``alone`` one has a commit of its own.
    """

    work: Callable[[Group], T]
    size: int
    only_removes_authority: bool = False
    alone: bool = False
    runs_while_braked: bool = False
    future: Future[T] = field(default_factory=Future)
    answer: T | None = None
    error: BaseException | None = None

    def execute(self, group: Group) -> None:
        """Run the work and store its result or error until the group is durable."""
        self.answer, self.error = None, None
        try:
            self.answer = self.work(group)
        except (lmdb.Error, StateUnusable, RecordRefused):
            raise
        except SessauthError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - one bad change must not stop the others
            # A change is applied before anything of it is written, so the rest of the group is unaffected.
            _log.exception("a job of the writer failed")
            self.error = StateError(
                f"nothing was written: {type(error).__name__} while the change was evaluated"
            )

    def resolve(self) -> None:
        """Set the future by the stored result or error."""
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.answer)  # type: ignore[arg-type]

    def fail(self, error: BaseException) -> None:
        """Set the future's exception."""
        self.future.set_exception(error)


class JobQueue:
    """A first-in, first-out queue with many producers and one consumer.

    Producers take no lock: they would wait for each other, and for the group that is formed.
    """

    def __init__(self, group_bytes: int) -> None:
        """Bound a group to ``group_bytes`` of changes (and to GROUP_CHANGES of them)."""
        self._group_bytes = group_bytes
        self._arrived: SimpleQueue[Job[Any] | None] = SimpleQueue()
        # The consumer's own.
        self._jobs: deque[Job[Any]] = deque()
        self._closed = False
        self._last_arrived = False

    def add(self, job: Job[T]) -> Future[T]:
        """Queue a job; raises StateError if the queue is closed or full."""
        most = layout.MAX_QUEUE if job.only_removes_authority else layout.QUEUE_FOR_ALL
        if not self._closed and self.waiting >= most:
            raise StateError(f"{most} changes wait for the disk already; try again later")
        if not self._closed:
            self._arrived.put(job)
        # Closed meanwhile: it may have come after the last group.
        if self._closed and job.future.cancel():
            raise StateError("the writer is closed")
        return job.future

    def next_group(self) -> list[Job[Any]]:
        """Wait for work and return the next group's; empty once closed and drained."""
        while True:
            if not self._jobs and not self._last_arrived:
                self._take(self._arrived.get())
            with suppress(Empty):
                while not self._last_arrived:
                    self._take(self._arrived.get_nowait())
            group = self._form_group()
            if group or (self._last_arrived and not self._jobs):
                return group

    def _take(self, job: Job[Any] | None) -> None:
        if job is None:
            self._last_arrived = True
        else:
            self._jobs.append(job)

    def _form_group(self) -> list[Job[Any]]:
        group: list[Job[Any]] = []
        size = 0
        while self._jobs and len(group) < layout.GROUP_CHANGES:
            head = self._jobs[0]
            if group and (head.alone or group[0].alone or size + head.size > self._group_bytes):
                break
            self._jobs.popleft()
            # Drops a job that its caller cancelled.
            if head.future.set_running_or_notify_cancel():
                group.append(head)
                size += head.size
        return group

    @property
    def waiting(self) -> int:
        """The number of queued jobs."""
        return self._arrived.qsize() + len(self._jobs)

    def close(self) -> None:
        """Refuse further jobs; queued ones still run."""
        self._closed = True
        self._arrived.put(None)


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
        cluster_brake = cluster_rows.page_reason(group.rows) if group.moves_brake else None
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


# The check of the names is a system call for each; the pages are mapped.
NAMES_NS: Final = 20_000_000
_NAMES: Final = (layout.DATA_FILE, layout.LOCK_FILE)
_NONE: Final = (0, 0)
Identities = tuple[tuple[int, int], ...]


class Continuity:
    """Checks the data file around each commit, and writes the anchor. One thread commits; any may check."""

    def __init__(
        self, state_dir: Path, source: LmdbSource, anchor: Anchor, before: Identities, *, behind: bool
    ) -> None:
        """Start from the current file. ``behind``: the state is older than its anchor.

        ``before`` are the files' identities before the source opened them, zeros for a file that it created.
        Raises StateUnusable if one was replaced since.
        """
        self._files = tuple(state_dir / name for name in _NAMES)
        self._source = source
        self._anchor = anchor
        self._behind = behind
        now = identities(state_dir)
        self._identities = tuple(old if old != _NONE else new for old, new in zip(before, now, strict=True))
        self._ids = self._meta_ids()
        self._require_files()
        self._head = source.head()
        self._committing = threading.Lock()
        self._checked_ns = 0
        self._anchor_failed = ""

    @property
    def anchored(self) -> Anchored | None:
        """The anchored state."""
        return self._anchor.anchored

    def begin(self) -> None:
        """Check before a group runs; :meth:`end` has to follow. Raises as :meth:`check_files` does."""
        self._committing.acquire()
        now_ns = time.monotonic_ns()
        if now_ns - self._checked_ns > NAMES_NS:
            self._require_files()
            self._restore_anchor()
            self._checked_ns = now_ns
        self._require_pages()

    def end(self) -> None:
        """Let other threads check again."""
        self._committing.release()

    def check_files(self) -> None:
        """Raise StateUnusable SWAPPED if a file was replaced, ROLLED_BACK if by an older one or overwritten.

        Does nothing while a group is written, since the writer itself checks then.
        """
        if not self._committing.acquire(blocking=False):
            return
        try:
            self._require_files()
            self._require_pages()
            self._restore_anchor()
        finally:
            self._committing.release()

    def announce(self, head: Head) -> None:
        """Announce the incarnation in the anchor if the next commit begins another one. Raises OSError."""
        if (head.cluster_id, head.incarnation) != (self._head.cluster_id, self._head.incarnation):
            self._anchor.announce(head.cluster_id, head.incarnation)

    def committed(self, head: Head, commit: int) -> None:
        """Check again, then anchor the committed state. Raises StateUnusable ROLLED_BACK."""
        if self._ids is not None:
            expected = list(self._ids)
            expected[commit & 1] = commit
            self._ids = expected[0], expected[1]
            if self._meta_ids() != self._ids:
                self._refuse_overwritten()
        if self._behind and head.incarnation == self._head.incarnation:
            return
        self._behind, self._head = False, head
        try:
            self._anchor.write(Anchored.of(head, commit))
        except OSError as error:
            # The commit is durable and is acknowledged: a state may be ahead of its anchor. The next check
            # retries.
            self._log_failure(error)

    def require_head(self, head: Head) -> None:
        """Raise StateUnusable ROLLED_BACK unless a group reads the head that the last commit left."""
        if head != self._head:
            self._refuse_overwritten()

    def close(self) -> None:
        """Check the anchor once more, make it durable and close it. Later checks do nothing."""
        self._committing.acquire()
        self._restore_anchor()
        try:
            self._anchor.flush()
        except OSError as error:
            self._log_failure(error)
        self._anchor.close()

    def _restore_anchor(self) -> None:
        """Rewrite the anchor if it was changed. Errors are logged only: the state is safe without it."""
        try:
            difference = self._anchor.difference()
            if not difference:
                return
            self._anchor.renew()
        except OSError as error:
            self._log_failure(error)
            return
        self._anchor_failed = ""
        words = "the anchor was %s while the server ran, and was rewritten; find out by whom"
        _log.warning(words, difference, extra={"event": "anchor_renewed", "fields": {"found": difference}})

    def _log_failure(self, error: OSError) -> None:
        """Log that the anchor could not be written, once for each cause."""
        if self._anchor_failed != str(error):
            self._anchor_failed = str(error)
            extra = {"event": "anchor_not_written", "fields": {"error": str(error)}}
            _log.error("the anchor could not be written: %s", error, extra=extra)

    def _require_files(self) -> None:
        for file, identity in zip(self._files, self._identities, strict=True):
            if _identity(file) != identity:
                problem = "ROLLED_BACK" if self._is_older(file) else "SWAPPED"
                message = f"{file}: was replaced while the server ran; find out by whom, then start it again"
                raise StateUnusable(message, problem)

    def _require_pages(self) -> None:
        if self._meta_ids() != self._ids:
            self._refuse_overwritten()

    def _is_older(self, file: Path) -> bool:
        """Return True if the file that is now under the data file's name holds fewer commits."""
        if self._ids is None or file.name != layout.DATA_FILE:
            return False
        commit = last_commit(file)
        return commit is not None and commit < max(self._ids)

    def _refuse_overwritten(self) -> None:
        message = (
            f"{self._files[0]}: was overwritten while the server ran; find out by whom, then restore the "
            "state from a backup"
        )
        raise StateUnusable(message, "ROLLED_BACK")

    def _meta_ids(self) -> tuple[int, int] | None:
        return None if self._source.commit_id is None else self._source.commit_id.numbers


def identities(state_dir: Path) -> Identities:
    """Return the identities of the data and the lock file now, for :class:`Continuity`."""
    return tuple(_identity(state_dir / name) for name in _NAMES)


def _identity(file: Path) -> tuple[int, int]:
    """Return device and inode of a file; zeros if there is none."""
    try:
        status = os.stat(file)
    except OSError:
        return _NONE
    return status.st_dev, status.st_ino
