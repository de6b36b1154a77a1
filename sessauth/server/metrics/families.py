"""The metrics of a service: those of a verifier and those of a server, in the order of the page."""

from __future__ import annotations

from typing import Final

from ...metrics import families as judging
from ...metrics.families import Metric, counter, gauge, histogram

RPC_SECONDS: Final = histogram(
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
COMMIT_SECONDS: Final = histogram(
    "commit_seconds", "Time of a commit with its fsync; its count is of fsyncs."
)
COMMIT_CHANGES: Final = histogram("commit_group_jobs", "Number of jobs that shared a commit.")
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

# A server has metrics of its own for the readiness of its processes.
METRICS: Final = (
    *(metric for metric in judging.METRICS if metric is not judging.VIEW_CURRENT),
    *(value for value in list(globals().values()) if isinstance(value, Metric)),
)
