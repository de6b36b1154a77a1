"""Metrics of the control process alone: state, writer, brake, clock, receipts.

The table of all metrics of a service is here: those of a verifier and those of a server, in the order of the
page. Counts of all sessions are reused, so that counting takes a bounded share of a processor.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from ... import __version__
from ... import metrics as check_metrics
from ...errors import SessauthError
from ...metrics import Metric, counter, family, gauge
from ...metrics import histogram as histogram_family
from ...metrics import histogram_family as histogram
from ...state.lmdb.effective_status import StateStatistics
from ...state.replication.carrier import EngineRoom
from ...state.writer.committer import COMMIT_BOUNDS_NS, GROUP_BOUNDS
from ...state.writer.state_writer import StateWriter

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

RECEIPT_STATES: Final = ("closed", "partial", "unknown")
VERIFIER_STATES: Final = ("current", "late")


@dataclass(frozen=True, slots=True)
class ReceiptMetrics:
    """Numbers since the control process started, and present ones.

    ``receipts`` are those that were given, in the order of :data:`RECEIPT_STATES`; ``used_after_end`` the
    calls in sessions that had ended; ``verifiers`` those that are registered, in the order of
    :data:`VERIFIER_STATES`; ``event_watchers`` the open streams of events; ``identity_openings`` the openings
    by tokens of identity providers, by provider and outcome; ``security_events`` their statements, by
    provider, event and outcome; ``stream_ages_s`` the seconds since the last event of each stream;
    ``exchanges`` those for transaction tokens, by outcome.
    """

    receipts: tuple[int, int, int] = (0, 0, 0)
    used_after_end: int = 0
    verifiers: tuple[int, int] = (0, 0)
    event_watchers: int = 0
    identity_openings: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    security_events: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    stream_ages_s: Mapping[tuple[str, ...], float] = field(default_factory=dict)
    exchanges: Mapping[tuple[str, ...], int] = field(default_factory=dict)

    def families(self) -> Iterator[Family]:
        """Yield the metrics."""
        yield family(RECEIPTS, {(state,): n for state, n in zip(RECEIPT_STATES, self.receipts, strict=True)})
        yield family(USED_AFTER_END, self.used_after_end)
        yield family(
            VERIFIERS, {(state,): n for state, n in zip(VERIFIER_STATES, self.verifiers, strict=True)}
        )
        yield family(EVENT_WATCHERS, self.event_watchers)
        yield family(IDENTITY_OPENINGS, self.identity_openings)
        yield family(SECURITY_EVENTS, self.security_events)
        yield family(STREAM_AGE, self.stream_ages_s)
        yield family(EXCHANGES, self.exchanges)


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


@dataclass(eq=False)
class StateNumbers:
    """Reads the log of ``writer`` for a scrape, and the part of the server in its cluster.

    ``ready`` returns True if this process serves, ``restarts`` the number of restarted workers, and
    ``certificate_end`` the end of the certificate of TLS, in seconds since 1970, 0 without one.
    """

    writer: StateWriter
    ready: Callable[[], bool]
    restarts: Callable[[], int]
    certificate_end: Callable[[], float]
    cluster: ClusterNumbers
    census: SessionCensus
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _revision: int = field(default=-1, init=False)
    _changed_at: float = field(default_factory=time.monotonic, init=False)

    def poll(self) -> None:
        """Read the revision; called every second, so that a standstill is dated from its begin."""
        with self._lock:
            self._read_revision()

    def collect(self) -> Iterable[Family]:
        """Return the metrics; without those of the state while it can't be read."""
        with self._lock:
            families = [*self._process(), *self._of_writer(), *self._in_cluster()]
            try:
                return [*families, *self._state()]
            except SessauthError:
                # Health reports that too, and the log the cause.
                return families

    def _process(self) -> Iterator[Family]:
        yield family(BUILD_INFO, {(__version__,): 1.0})
        yield family(READY, float(self.ready()))
        yield family(WORKER_RESTARTS, float(self.restarts()))
        yield family(BRAKE, float(bool(self.writer.braked)))
        yield family(CLOCK_SUSPECT, float(bool(self.writer.clock_suspect)))
        yield family(CERTIFICATE_END, self.certificate_end())

    def _of_writer(self) -> Iterator[Family]:
        stats = self.writer.stats
        yield family(WRITER_QUEUE, float(self.writer.waiting))
        yield family(COMMIT_FAILURES, float(stats.failures))
        times, groups = stats.times, stats.groups
        yield histogram(COMMIT_SECONDS, COMMIT_BOUNDS_NS, [((), times.buckets(0), times.total(0))])
        yield histogram(COMMIT_CHANGES, GROUP_BOUNDS, [((), groups.buckets(0), groups.total(0))], unit=1)

    def _in_cluster(self) -> Iterator[Family]:
        yield family(LEADING, float(self.writer.leads))
        yield family(STALE, float(self.writer.stale))
        yield family(CARRIED_RECORD, float(self.cluster.record))
        yield family(CLUSTER_BRAKE, float(bool(self.writer.cluster_brake)))
        yield family(CLUSTER_ALARM, float(self.cluster.alarm is not None))
        yield family(REFUSING_SERVERS, float(len(self.cluster.refused_by)))
        yield family(CLOCK_DIFFERS, float(bool(self.cluster.clock_differs)))
        room = self.cluster.room
        yield family(ENGINE_BYTES, float(room.size))
        yield family(ENGINE_QUOTA, float(room.quota))
        yield family(ENGINE_FULL, float(room.full))

    def _state(self) -> Iterator[Family]:
        self._read_revision()
        yield family(check_metrics.REVISION, float(self._revision))
        yield family(REVISION_AGE, time.monotonic() - self._changed_at)
        used, size = self.writer.room()
        yield family(STATE_USED, float(used))
        yield family(STATE_MAP, float(size))
        statistics = self.census.statistics()
        yield family(
            SESSIONS,
            {
                ("active",): float(statistics.active),
                ("suspended",): float(statistics.suspended),
                ("ended",): float(statistics.ended),
            },
        )
        yield family(PERMITS, float(statistics.permits))
        yield family(APPROVALS, float(statistics.approvals))

    def _read_revision(self) -> None:
        revision = self.writer.head().revision
        if revision != self._revision:
            self._revision = revision
            self._changed_at = time.monotonic()


# Counting all sessions may take this share of one processor: slow statistics are cached for longer.
COUNTING_SHARE: Final = 0.02


class SessionCensus:
    """Counts the sessions of a log. Every method may be called from any thread."""

    def __init__(self, writer: StateWriter) -> None:
        self._writer = writer
        self._lock = threading.Lock()
        self._statistics = StateStatistics()
        self._cached_until = float("-inf")

    def statistics(self) -> StateStatistics:
        """Return the counts of now, or of a while ago. Raises StateError if the state can't be read."""
        with self._lock:
            began = time.monotonic()
            if began >= self._cached_until:
                self._statistics = self._writer.census()
                now = time.monotonic()
                self._cached_until = now + (now - began) * (1 / COUNTING_SHARE - 1)
            return self._statistics


RPC_SECONDS: Final = histogram_family(
    "rpc_seconds", "Time of a call from its place in a pool to its answer; of a stream, until it ended.",
    "rpc", "code",
)  # fmt: skip
DIRECT_CALLS: Final = counter(
    "direct_calls", "Checks that the server answered on its loop, without a thread."
)
CONNECTIONS: Final = gauge("connections", "Open connections of the service's processes.")
REFUSED_CONNECTIONS: Final = counter(
    "refused_connections", "Connections that were closed at once: no file descriptor was left for them."
)
WATCHED_STREAMS: Final = gauge("watched_streams", "Open streams on which calls may be watched.")
WATCHED_CALLS: Final = gauge("watched_calls", "Allowed calls that are judged again when something changes.")
WITHDRAWALS: Final = counter("withdrawals", "Allows that were withdrawn while their call ran.")
POOL_CALLS: Final = gauge("pool_calls", "Calls that run or wait in a pool.", "pool")
POOL_CAPACITY: Final = gauge("pool_capacity", "Calls that a pool can hold.", "pool")
POOL_REFUSALS: Final = counter(
    "pool_refusals",
    "Calls that were refused because their pool, or their caller's half of it, was full.",
    "pool",
)

PROCESS_UP: Final = gauge("process_up", "Whether a process of the service serves.", "process")
PROCESS_REVISION: Final = gauge("process_revision", "The revision that a process judges by.", "process")
WORKER_RESTARTS: Final = counter("worker_restarts", "Workers that were started again.")
READY: Final = gauge("ready", "Whether the control process reports SERVING.")
BUILD_INFO: Final = gauge("build_info", "The version that runs; always 1.", "version")

REVISION_AGE: Final = gauge("revision_unchanged_seconds", "Time since the revision last changed.")
SESSIONS: Final = gauge(
    "sessions", "Sessions by effective status; ended ones until they are purged.", "status"
)
PERMITS: Final = gauge("open_permits", "Permits that were neither committed nor released.")
APPROVALS: Final = gauge("waiting_approvals", "Approvals that wait for an answer.")
STATE_USED: Final = gauge("state_used_bytes", "Space that the rows of the state take of its map.")
STATE_MAP: Final = gauge("state_map_bytes", "Largest size of the state.")
WRITER_QUEUE: Final = gauge("writer_queue_jobs", "Changes that wait for the writer.")
COMMIT_SECONDS: Final = histogram_family(
    "commit_seconds", "Time of a commit with its fsync; its count is of fsyncs."
)
COMMIT_CHANGES: Final = histogram_family("commit_group_jobs", "Number of jobs that shared a commit.")
COMMIT_FAILURES: Final = counter("commit_failures", "Commits that failed; each sets the brake.")
BRAKE: Final = gauge("brake", "Whether the brake denies every check.")
CLOCK_SUSPECT: Final = gauge("clock_suspect", "Whether the wall clock is suspect.")
CERTIFICATE_END: Final = gauge(
    "tls_certificate_end_seconds",
    "End of the TLS certificate's validity, in seconds since 1970; 0 without one.",
)

# One of several servers, or a single host.
LEADING: Final = gauge("leading", "Whether this server may write: it leads its cluster, or is a single host.")
STALE: Final = gauge("stale", "Whether the host's copy of the state is too old to allow by.")
CARRIED_RECORD: Final = gauge(
    "carried_record", "Number of the last record of the cluster's log that is here; 0 on a single host."
)
CLUSTER_BRAKE: Final = gauge("cluster_brake", "Whether the brake of the whole cluster denies every check.")
CLUSTER_ALARM: Final = gauge(
    "cluster_alarm", "Whether this host refused its cluster's log, until an operator decides."
)
REFUSING_SERVERS: Final = gauge(
    "refusing_servers", "Servers of follow.servers that refuse this host as a follower."
)
CLOCK_DIFFERS: Final = gauge(
    "clock_differs", "Whether the wall clock is more than 2 s off that of another server of the cluster."
)
ENGINE_BYTES: Final = gauge(
    "engine_bytes", "Size of the storage of the cluster's engine; 0 on a host that has no access to it."
)
ENGINE_QUOTA: Final = gauge(
    "engine_quota_bytes", "Size at which the engine takes no more writes; 0 if it does not tell."
)
ENGINE_FULL: Final = gauge("engine_full", "Whether the engine has no room and takes no write.")

# Ends of sessions, and their watchers.
RECEIPTS: Final = counter("receipts", "Receipts of ended sessions, by their state.", "state")
USED_AFTER_END: Final = counter("used_after_end", "Calls with a token of a session after its end.")
VERIFIERS: Final = gauge("verifiers", "Registered verifiers, by their state.", "state")
EVENT_WATCHERS: Final = gauge("event_watchers", "Open streams of events.")
IDENTITY_OPENINGS: Final = counter(
    "identity_openings",
    "Openings by tokens of identity providers: OPENED, or the word of the refusal.",
    "provider",
    "outcome",
)
SECURITY_EVENTS: Final = counter(
    "security_events",
    "Statements of identity providers: APPLIED, UNMATCHED, RECEIVED, or the word of the refusal.",
    "provider",
    "event",
    "outcome",
)
STREAM_AGE: Final = gauge(
    "event_stream_age_seconds",
    "Seconds since the last security event of a provider with silence_ms, on the server that writes.",
    "provider",
)
EXCHANGES: Final = counter(
    "transaction_tokens", "Exchanges for transaction tokens: signed, or denied.", "outcome"
)

# A server has metrics of its own for the readiness of its processes.
METRICS: Final = (
    *(metric for metric in check_metrics.METRICS if metric is not check_metrics.VIEW_CURRENT),
    *(value for value in list(globals().values()) if isinstance(value, Metric)),
)
