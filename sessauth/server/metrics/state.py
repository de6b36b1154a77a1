"""Metrics of the control process alone: state, writer, brake, clock, receipts."""

from __future__ import annotations

import importlib.metadata
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ...errors import SessauthError
from ...metrics import families as judging
from ...metrics.samples import family, histogram
from ...state.replication.carrier import EngineRoom
from ...state.writer.committer import COMMIT_BOUNDS_NS, GROUP_BOUNDS
from ...state.writer.state_writer import StateWriter
from . import families as f
from .census import SessionCensus

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

RECEIPT_STATES: Final = ("closed", "partial", "unknown")
VERIFIER_STATES: Final = ("current", "late")


@dataclass(frozen=True, slots=True)
class ReceiptMetrics:
    """Numbers since the control process started, and present ones.

    ``receipts`` are those that were given, in the order of :data:`RECEIPT_STATES`; ``used_after_end`` the
    calls in sessions that had ended; ``verifiers`` those that are registered, in the order of
    :data:`VERIFIER_STATES`; ``event_watchers`` the open streams of events.
    """

    receipts: tuple[int, int, int] = (0, 0, 0)
    used_after_end: int = 0
    verifiers: tuple[int, int] = (0, 0)
    event_watchers: int = 0

    def families(self) -> Iterator[Family]:
        """Yield the metrics."""
        yield family(
            f.RECEIPTS, {(state,): n for state, n in zip(RECEIPT_STATES, self.receipts, strict=True)}
        )
        yield family(f.USED_AFTER_END, self.used_after_end)
        yield family(
            f.VERIFIERS, {(state,): n for state, n in zip(VERIFIER_STATES, self.verifiers, strict=True)}
        )
        yield family(f.EVENT_WATCHERS, self.event_watchers)


class ClusterNumbers(Protocol):
    """A server's part in its cluster."""

    @property
    def alarm(self) -> SessauthError | None:
        """The reason why the host denies every call until an operator decides."""
        ...

    @property
    def record(self) -> int:
        """The number of the last record that is here."""
        ...

    @property
    def clock_differs(self) -> str:
        """The servers whose clocks differ from this one's."""
        ...

    @property
    def room(self) -> EngineRoom:
        """The space of the engine."""
        ...

    @property
    def refused_by(self) -> Sequence[str]:
        """The addresses of the servers that refuse this host as a follower."""
        ...


class StateNumbers:
    """Reads the writer's log for a scrape."""

    def __init__(
        self,
        log: StateWriter,
        ready: Callable[[], bool],
        restarts: Callable[[], int],
        certificate_end: Callable[[], float],
        cluster: ClusterNumbers | None = None,
        census: SessionCensus | None = None,
    ) -> None:
        """Read ``log``, and ``cluster`` if the server is one of several.

        ``ready`` returns True if this process serves, ``restarts`` the number of restarted workers, and
        ``certificate_end`` the end of the certificate of TLS, in seconds since 1970, 0 without one.
        """
        self._log = log
        self._ready = ready
        self._restarts = restarts
        self._certificate_end = certificate_end
        self._cluster = cluster
        self._lock = threading.Lock()
        self._census = census or SessionCensus(log)
        self._revision = -1
        self._changed_at = time.monotonic()

    def poll(self) -> None:
        """Read the revision; called every second, so that a standstill is dated from its begin."""
        with self._lock:
            self._read_revision()

    def collect(self) -> Iterable[Family]:
        """Return the metrics; without those of the state while it can't be read."""
        with self._lock:
            families = [*self._process(), *self._writer(), *self._in_cluster()]
            try:
                return [*families, *self._state()]
            except SessauthError:
                # Health reports that too, and the log the cause.
                return families

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

    def _in_cluster(self) -> Iterator[Family]:
        yield family(f.LEADING, float(self._log.leads))
        yield family(f.STALE, float(self._log.stale))
        yield family(f.CARRIED_RECORD, float(0 if self._cluster is None else self._cluster.record))
        yield family(f.CLUSTER_BRAKE, float(bool(self._log.cluster_brake)))
        alarm = None if self._cluster is None else self._cluster.alarm
        yield family(f.CLUSTER_ALARM, float(alarm is not None))
        yield family(f.REFUSING_SERVERS, float(0 if self._cluster is None else len(self._cluster.refused_by)))
        yield family(f.CLOCK_DIFFERS, float(bool(self._cluster is not None and self._cluster.clock_differs)))
        room = EngineRoom(0, 0, full=False) if self._cluster is None else self._cluster.room
        yield family(f.ENGINE_BYTES, float(room.size))
        yield family(f.ENGINE_QUOTA, float(room.quota))
        yield family(f.ENGINE_FULL, float(room.full))

    def _state(self) -> Iterator[Family]:
        self._read_revision()
        yield family(judging.REVISION, float(self._revision))
        yield family(f.REVISION_AGE, time.monotonic() - self._changed_at)
        used, size = self._log.room()
        yield family(f.STATE_USED, float(used))
        yield family(f.STATE_MAP, float(size))
        statistics = self._census.statistics()
        yield family(
            f.SESSIONS,
            {
                ("active",): float(statistics.active),
                ("suspended",): float(statistics.suspended),
                ("ended",): float(statistics.ended),
            },
        )
        yield family(f.PERMITS, float(statistics.permits))
        yield family(f.APPROVALS, float(statistics.approvals))

    def _read_revision(self) -> None:
        revision = self._log.head().revision
        if revision != self._revision:
            self._revision = revision
            self._changed_at = time.monotonic()


def _version() -> str:
    try:
        return importlib.metadata.version("sessauth")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
