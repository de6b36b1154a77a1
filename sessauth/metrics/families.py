"""The metrics of every verifier: names, kinds, labels and descriptions.

Names end in their unit: seconds, bytes, or nothing for counts. No label has a value that an agent,
a session or a token chooses. Those of a whole service are in ``server/metrics/state.py``.
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
    description: str
    labels: tuple[str, ...] = ()


def counter(name: str, description: str, *labels: str) -> Metric:
    """Return a metric that only grows."""
    return Metric(f"sessauth_{name}_total", "counter", description, labels)


def gauge(name: str, description: str, *labels: str) -> Metric:
    """Return a metric of a present value."""
    return Metric(f"sessauth_{name}", "gauge", description, labels)


def histogram(name: str, description: str, *labels: str) -> Metric:
    """Return a metric of a distribution."""
    return Metric(f"sessauth_{name}", "histogram", description, labels)


DECISIONS: Final = counter("decisions", "Decisions that were answered, allows included.", "stage", "reason")
OBSERVED: Final = counter(
    "observed_allows", "Calls that a ceiling would have refused, allowed by observe mode alone."
)
CHECK_SECONDS: Final = histogram(
    "check_seconds", "Time of a check in the kernel; calls of a batch share its time evenly."
)
SIGNATURES: Final = counter("signatures_verified", "Block signatures that were verified.")
BAD_SIGNATURES: Final = counter("bad_signatures", "Tokens with a wrong signature.")
CACHE_HITS: Final = counter("chain_cache_hits", "Tokens that were found in the cache of verified chains.")
CACHE_MISSES: Final = counter(
    "chain_cache_misses", "Tokens that were not found in the cache of verified chains."
)
CACHE_EVICTED: Final = counter("chain_cache_evicted", "Chains that were evicted from the cache.")
CACHE_BYTES: Final = gauge("chain_cache_bytes", "Size of the verified chains in the cache.")
CACHE_CHAINS: Final = gauge("chain_cache_chains", "Number of verified chains in the cache.")
REVISION: Final = gauge("revision", "The revision of the state.")

# Only while an audit is recorded.
AUDIT_HEALTHY: Final = gauge(
    "audit_healthy", "Whether every process records all decisions that it should record."
)
AUDIT_WAITING: Final = gauge("audit_waiting_bytes", "Size of the data that waits to be recorded.")
AUDIT_RECORDED: Final = counter("audit_recorded", "Decisions that were recorded.")
AUDIT_LOST: Final = counter("audit_lost", "Decisions that found no room and were not recorded.")

# Only for a verifier in a process of its own.
VIEW_CURRENT: Final = gauge(
    "view_current", "Whether there is a state to judge by; else every call is denied."
)

METRICS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
