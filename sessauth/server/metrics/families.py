"""The metrics of a service: each name with its kind, its labels and what it says.

Names end in their unit: seconds, bytes, or nothing for what is counted. No label has a value that an agent,
a session or a token chooses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``name`` is as Prometheus stores it; of a histogram, without the ends of its series."""

    name: str
    kind: Kind
    says: str
    labels: tuple[str, ...] = ()


def _counter(name: str, says: str, *labels: str) -> Metric:
    return Metric(f"sessauth_{name}_total", "counter", says, labels)


def _gauge(name: str, says: str, *labels: str) -> Metric:
    return Metric(f"sessauth_{name}", "gauge", says, labels)


def _histogram(name: str, says: str, *labels: str) -> Metric:
    return Metric(f"sessauth_{name}", "histogram", says, labels)


DECISIONS: Final = _counter("decisions", "Decisions that were answered, allows included.", "stage", "reason")
CHECK_SECONDS: Final = _histogram(
    "check_seconds", "Time of a check in the kernel; calls of a batch share its time evenly."
)
RPC_SECONDS: Final = _histogram(
    "rpc_seconds", "Time of a call from its place in a lane to its answer; of a stream, until it ended.",
    "rpc", "code",
)  # fmt: skip
SIGNATURES: Final = _counter("signatures_verified", "Block signatures that were verified.")
BAD_SIGNATURES: Final = _counter("bad_signatures", "Tokens with a signature that is wrong.")
CACHE_HITS: Final = _counter("chain_cache_hits", "Tokens that were found in the cache of verified chains.")
CACHE_MISSES: Final = _counter("chain_cache_misses", "Tokens that were not.")
CACHE_EVICTED: Final = _counter("chain_cache_evicted", "Chains that left the cache for others.")
CACHE_BYTES: Final = _gauge("chain_cache_bytes", "What the verified chains weigh.")
CACHE_CHAINS: Final = _gauge("chain_cache_chains", "How many verified chains are kept.")
WATCHED_STREAMS: Final = _gauge("watched_streams", "Open streams on which calls may be watched.")
WATCHED_CALLS: Final = _gauge("watched_calls", "Allowed calls that are judged again when something changes.")
WITHDRAWALS: Final = _counter("withdrawals", "Allows that were taken back while their call went on.")
LANE_CALLS: Final = _gauge("lane_calls", "Calls that run or wait in a lane.", "lane")
LANE_CAPACITY: Final = _gauge("lane_capacity", "Calls that a lane can hold.", "lane")
LANE_REFUSALS: Final = _counter("lane_refusals", "Calls that were refused since their lane was full.", "lane")

PROCESS_UP: Final = _gauge("process_up", "Whether a process of the service serves.", "process")
PROCESS_REVISION: Final = _gauge("process_revision", "The revision that a process judges by.", "process")
WORKER_RESTARTS: Final = _counter("worker_restarts", "Workers that were started anew.")
READY: Final = _gauge("ready", "Whether the control process says SERVING.")
BUILD_INFO: Final = _gauge("build_info", "The version that runs; always 1.", "version")

REVISION: Final = _gauge("revision", "The revision of the state.")
REVISION_AGE: Final = _gauge("revision_unchanged_seconds", "How long the revision has stood still.")
SESSIONS: Final = _gauge("sessions", "Sessions by status; ended ones until they are purged.", "status")
PERMITS: Final = _gauge("open_permits", "Permits that were neither committed nor released.")
APPROVALS: Final = _gauge("waiting_approvals", "Approvals that wait for an answer.")
STATE_USED: Final = _gauge("state_used_bytes", "What the rows of the state take of its map.")
STATE_MAP: Final = _gauge("state_map_bytes", "What the state may grow to.")
WRITER_QUEUE: Final = _gauge("writer_queue_jobs", "Changes that wait for the writer.")
COMMIT_SECONDS: Final = _histogram(
    "commit_seconds", "Time of a commit with its fsync; its count is of fsyncs."
)
COMMIT_CHANGES: Final = _histogram("commit_group_jobs", "How many jobs shared a commit.")
COMMIT_FAILURES: Final = _counter("commit_failures", "Commits that failed, each of which sets the brake.")
BRAKE: Final = _gauge("brake", "Whether the brake denies every check.")
CLOCK_SUSPECT: Final = _gauge("clock_suspect", "Whether the wall clock is not believed.")

# Only while an audit is recorded.
AUDIT_HEALTHY: Final = _gauge("audit_healthy", "Whether every process records all that it should.")
AUDIT_WAITING: Final = _gauge("audit_waiting_bytes", "What waits to be recorded.")
AUDIT_RECORDED: Final = _counter("audit_recorded", "Decisions that were recorded.")
AUDIT_LOST: Final = _counter("audit_lost", "Decisions that found no room and were not recorded.")

# Only where somebody tells of them: what happened behind the end of sessions, and who looks on.
RECEIPTS: Final = _counter("receipts", "Receipts of ended sessions, by what they could say.", "state")
USED_AFTER_END: Final = _counter("used_after_end", "Calls that were tried in a session after its end.")
VERIFIERS: Final = _gauge("verifiers", "Verifiers that are enrolled, by whether they keep in touch.", "state")
EVENT_WATCHERS: Final = _gauge("event_watchers", "Open streams of events.")

METRICS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
