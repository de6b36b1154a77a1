"""Metrics of a verifier in a process of its own, for Prometheus (``pip install 'sessauth[metrics]'``).

The metrics of every verifier: names, kinds, labels and descriptions.

Names end in their unit: seconds, bytes, or nothing for counts. No label has a value that an agent,
a session or a token chooses. Those of a whole service are in ``server/metrics/state.py``.

Metrics with their values, as ``prometheus_client`` takes them.

A collector of one verifier's metrics.

from prometheus_client import REGISTRY
from sessauth.metrics import VerifierCollector

REGISTRY.register(VerifierCollector(verifier))
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

from ._fast._check import CHECK_BOUNDS_NS, CheckCounters
from .reasons import Reason, Stage

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

    from ._fast._check import ChainCache, View
    from .audit.recording.process import ProcessRecorder

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


# Every reason at its stage, so that a series exists before its first decision.
AT_STAGE: Final = {
    (reason // 10 if reason >= 10 else Stage.NONE, int(reason)): 0
    for reason in Reason
    if reason is not Reason.UNSPECIFIED
}

Values: TypeAlias = Mapping[tuple[str, ...], float]


def family(metric: Metric, values: Values | float) -> Family:
    """Return a metric with its values: one for each tuple of label values, or the only one."""
    from prometheus_client import core

    kinds: Mapping[str, Any] = {"counter": core.CounterMetricFamily, "gauge": core.GaugeMetricFamily}
    result: Any = kinds[metric.kind](metric.name, metric.description, labels=metric.labels)
    for labels, value in (values if isinstance(values, Mapping) else {(): values}).items():
        result.add_metric(labels, value)
    return result  # type: ignore[no-any-return]


def histogram_family(
    metric: Metric,
    bounds: Sequence[int],
    rows: Iterable[tuple[tuple[str, ...], Sequence[int], int]],
    unit: float = 1e-9,
) -> Family:
    """Return a histogram with a row for each tuple of label values: its buckets, not added up, and its sum.

    ``unit`` is the size, in the metric's own unit, of one unit of ``bounds`` and of the sum.
    """
    from prometheus_client import core

    result = core.HistogramMetricFamily(metric.name, metric.description, labels=metric.labels)
    ends = [*(repr(round(float(bound * unit), 9)) for bound in bounds), "+Inf"]
    for labels, buckets, total in rows:
        result.add_metric(
            labels, list(zip(ends, itertools.accumulate(buckets), strict=True)), sum_value=total * unit
        )
    return result


def decision_families(counters: Sequence[CheckCounters]) -> Iterator[Family]:
    """Yield the sums of counters: decisions and times of checks."""
    decisions = Counter(AT_STAGE)
    for counter in counters:
        decisions.update(counter.decisions())
    yield family(
        DECISIONS,
        {
            (Stage(stage).name.lower(), Reason(reason).name): number
            for (stage, reason), number in decisions.items()
        },
    )
    yield family(OBSERVED, sum(counter.observed for counter in counters))
    buckets = [sum(column) for column in zip(*(counter.buckets for counter in counters), strict=True)]
    total = sum(counter.total_ns for counter in counters)
    yield histogram_family(CHECK_SECONDS, CHECK_BOUNDS_NS, [((), buckets, total)])


class CountedVerifier(Protocol):
    """The attributes of a verifier that its metrics come from."""

    counters: CheckCounters | None

    @property
    def signatures(self) -> int: ...  # noqa: D102
    @property
    def bad_signatures(self) -> int: ...  # noqa: D102
    @property
    def cache(self) -> ChainCache: ...  # noqa: D102
    @property
    def view(self) -> View: ...  # noqa: D102
    @property
    def recorder(self) -> ProcessRecorder | None: ...  # noqa: D102


class VerifierCollector:
    """Collector of one verifier's metrics for ``prometheus_client``; one in each registry.

    It counts decisions from its making on, by the verifier's ``counters``, which it sets if there is none:
    some 35 ns a check. A scrape takes no lock that a check waits for.
    """

    def __init__(self, verifier: CountedVerifier) -> None:
        """Start to count."""
        if verifier.counters is None:
            verifier.counters = CheckCounters()
        self._verifier = verifier
        self._counters: CheckCounters = verifier.counters

    def collect(self) -> Iterator[Family]:
        """Yield every metric with its values. Raises ImportError without ``prometheus_client``."""
        verifier, cache = self._verifier, self._verifier.cache
        yield from decision_families([self._counters])
        yield family(SIGNATURES, verifier.signatures)
        yield family(BAD_SIGNATURES, verifier.bad_signatures)
        yield family(CACHE_HITS, cache.hits)
        yield family(CACHE_MISSES, cache.misses)
        yield family(CACHE_EVICTED, cache.evicted)
        yield family(CACHE_BYTES, cache.used)
        yield family(CACHE_CHAINS, len(cache))
        yield from self._view()
        audit = verifier.recorder.audit_numbers() if verifier.recorder is not None else None
        if audit is not None:
            yield family(AUDIT_HEALTHY, audit.healthy)
            yield family(AUDIT_WAITING, audit.waiting_bytes)
            yield family(AUDIT_RECORDED, audit.recorded)
            yield family(AUDIT_LOST, audit.lost)

    def _view(self) -> Iterator[Family]:
        """Yield the metrics of the state's view; a revision that can't be read is left out."""
        view = self._verifier.view
        try:
            revision = view.revision
        except Exception:  # noqa: BLE001 - with such a state checks deny, and give the reason
            yield family(VIEW_CURRENT, False)
            return
        yield family(VIEW_CURRENT, view.current)
        yield family(REVISION, revision)
