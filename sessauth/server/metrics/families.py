"""The metrics of a service: those of a verifier and those of a server, in the order of the page."""

from __future__ import annotations

from typing import Final

from ...metrics import families as judging
from ...metrics.families import Metric, counter, gauge, histogram

RPC_SECONDS: Final = histogram(
    "rpc_seconds", "Time of a call from its place in a pool to its answer; of a stream, until it ended.",
    "rpc", "code",
)  # fmt: skip
WATCHED_STREAMS: Final = gauge("watched_streams", "Open streams on which calls may be watched.")
WATCHED_CALLS: Final = gauge("watched_calls", "Allowed calls that are judged again when something changes.")
WITHDRAWALS: Final = counter("withdrawals", "Allows that were taken back while their call went on.")
POOL_CALLS: Final = gauge("pool_calls", "Calls that run or wait in a pool.", "pool")
POOL_CAPACITY: Final = gauge("pool_capacity", "Calls that a pool can hold.", "pool")
POOL_REFUSALS: Final = counter(
    "pool_refusals",
    "Calls that were refused since their pool, or their caller's half of it, was full.",
    "pool",
)

PROCESS_UP: Final = gauge("process_up", "Whether a process of the service serves.", "process")
PROCESS_REVISION: Final = gauge("process_revision", "The revision that a process judges by.", "process")
WORKER_RESTARTS: Final = counter("worker_restarts", "Workers that were started anew.")
READY: Final = gauge("ready", "Whether the control process says SERVING.")
BUILD_INFO: Final = gauge("build_info", "The version that runs; always 1.", "version")

REVISION_AGE: Final = gauge("revision_unchanged_seconds", "How long the revision has stood still.")
SESSIONS: Final = gauge("sessions", "Sessions by status; ended ones until they are purged.", "status")
PERMITS: Final = gauge("open_permits", "Permits that were neither committed nor released.")
APPROVALS: Final = gauge("waiting_approvals", "Approvals that wait for an answer.")
STATE_USED: Final = gauge("state_used_bytes", "What the rows of the state take of its map.")
STATE_MAP: Final = gauge("state_map_bytes", "What the state may grow to.")
WRITER_QUEUE: Final = gauge("writer_queue_jobs", "Changes that wait for the writer.")
COMMIT_SECONDS: Final = histogram(
    "commit_seconds", "Time of a commit with its fsync; its count is of fsyncs."
)
COMMIT_CHANGES: Final = histogram("commit_group_jobs", "How many jobs shared a commit.")
COMMIT_FAILURES: Final = counter("commit_failures", "Commits that failed, each of which sets the brake.")
BRAKE: Final = gauge("brake", "Whether the brake denies every check.")
CLOCK_SUSPECT: Final = gauge("clock_suspect", "Whether the wall clock is not believed.")
CERTIFICATE_END: Final = gauge(
    "tls_certificate_end_seconds",
    "When the certificate of TLS ends, in seconds since 1970; 0 without one.",
)

# Ends of sessions, and their watchers.
RECEIPTS: Final = counter("receipts", "Receipts of ended sessions, by what they could say.", "state")
USED_AFTER_END: Final = counter("used_after_end", "Calls that were tried in a session after its end.")
VERIFIERS: Final = gauge(
    "verifiers", "Verifiers that are registered, by whether they keep in touch.", "state"
)
EVENT_WATCHERS: Final = gauge("event_watchers", "Open streams of events.")

# A server has metrics of its own for the readiness of its processes.
METRICS: Final = (
    *(metric for metric in judging.METRICS if metric is not judging.VIEW_CURRENT),
    *(value for value in list(globals().values()) if isinstance(value, Metric)),
)
