"""Metrics with their values, as ``prometheus_client`` takes them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .._fast._check import CHECK_BOUNDS_NS, CheckCounters
from ..reasons import Reason, Stage
from . import families as f

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

# Every reason at its stage, so that a series exists before its first decision.
AT_STAGE: Final = {
    (reason // 10 if reason >= 10 else Stage.NONE, int(reason)): 0
    for reason in Reason
    if reason is not Reason.UNSPECIFIED
}

Values: TypeAlias = Mapping[tuple[str, ...], float]


def family(metric: f.Metric, values: Values | float) -> Family:
    """Return a metric with its values: one for each tuple of label values, or the only one."""
    from prometheus_client import core

    kinds: Mapping[str, Any] = {"counter": core.CounterMetricFamily, "gauge": core.GaugeMetricFamily}
    result: Any = kinds[metric.kind](metric.name, metric.description, labels=metric.labels)
    for labels, value in (values if isinstance(values, Mapping) else {(): values}).items():
        result.add_metric(labels, value)
    return result  # type: ignore[no-any-return]


def histogram(
    metric: f.Metric,
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
        f.DECISIONS,
        {
            (Stage(stage).name.lower(), Reason(reason).name): number
            for (stage, reason), number in decisions.items()
        },
    )
    yield family(f.OBSERVED, sum(counter.observed for counter in counters))
    buckets = [sum(column) for column in zip(*(counter.buckets for counter in counters), strict=True)]
    total = sum(counter.total_ns for counter in counters)
    yield histogram(f.CHECK_SECONDS, CHECK_BOUNDS_NS, [((), buckets, total)])
