"""What only the control process knows: the state, the writer, the brake, the clock."""

from __future__ import annotations

import importlib.metadata
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from ...errors import SessauthError
from ...metrics import families as judging
from ...metrics.samples import family, histogram
from ...state.writer.committer import COMMIT_BOUNDS_NS, GROUP_BOUNDS
from ...state.writer.state_writer import StateWriter
from ...state.writer.statistics import StateStatistics
from . import families as f

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

# Counting all sessions may take this share of one processor: a census that took long is kept for long.
CENSUS_SHARE: Final = 0.02


class StateNumbers:
    """Reads the writer's log for a scrape."""

    def __init__(
        self,
        log: StateWriter,
        ready: Callable[[], bool],
        restarts: Callable[[], int],
        certificate_end: Callable[[], float],
    ) -> None:
        """Read ``log``.

        ``ready``: whether this process serves; ``restarts``: how many workers died; ``certificate_end``: when
        the certificate of TLS ends, in seconds since 1970, 0 without one.
        """
        self._log = log
        self._ready = ready
        self._restarts = restarts
        self._certificate_end = certificate_end
        self._lock = threading.Lock()
        self._census = StateStatistics()
        self._census_until = float("-inf")
        self._revision = -1
        self._moved = time.monotonic()

    def look(self) -> None:
        """Take note of the revision, every second, so that a standstill is known from its begin."""
        with self._lock:
            self._look()

    def collect(self) -> Iterable[Family]:
        """Return the metrics, or those that can still be read when the state can't."""
        with self._lock:
            found = [*self._process(), *self._writer()]
            try:
                return [*found, *self._state()]
            except SessauthError:
                # Health says so too, and the log why.
                return found

    def _process(self) -> Iterator[Family]:
        yield family(f.BUILD_INFO, {(_version(),): 1.0})
        yield family(f.READY, float(self._ready()))
        yield family(f.WORKER_RESTARTS, float(self._restarts()))
        yield family(f.BRAKE, float(bool(self._log.braked)))
        yield family(f.CLOCK_SUSPECT, float(bool(self._log.clock_suspect)))
        yield family(f.CERTIFICATE_END, self._certificate_end())

    def _writer(self) -> Iterator[Family]:
        stats = self._log.stats
        yield family(f.WRITER_QUEUE, float(self._log.waiting))
        yield family(f.COMMIT_FAILURES, float(stats.failures))
        times, groups = stats.times, stats.groups
        yield histogram(f.COMMIT_SECONDS, COMMIT_BOUNDS_NS, [((), times.buckets(0), times.total(0))])
        yield histogram(f.COMMIT_CHANGES, GROUP_BOUNDS, [((), groups.buckets(0), groups.total(0))], unit=1)

    def _state(self) -> Iterator[Family]:
        self._look()
        yield family(judging.REVISION, float(self._revision))
        yield family(f.REVISION_AGE, time.monotonic() - self._moved)
        used, size = self._log.room()
        yield family(f.STATE_USED, float(used))
        yield family(f.STATE_MAP, float(size))
        self._count()
        census = self._census
        yield family(
            f.SESSIONS,
            {
                ("active",): float(census.active),
                ("suspended",): float(census.suspended),
                ("ended",): float(census.ended),
            },
        )
        yield family(f.PERMITS, float(census.permits))
        yield family(f.APPROVALS, float(census.approvals))

    def _look(self) -> None:
        revision = self._log.head().revision
        if revision != self._revision:
            self._revision = revision
            self._moved = time.monotonic()

    def _count(self) -> None:
        began = time.monotonic()
        if began >= self._census_until:
            self._census = self._log.census()
            now = time.monotonic()
            self._census_until = now + (now - began) * (1 / CENSUS_SHARE - 1)


def _version() -> str:
    try:
        return importlib.metadata.version("sessauth")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
