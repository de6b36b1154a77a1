"""What ``prometheus_client`` is given, made of numbers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .._fast.record.counters import CHECK_BOUNDS_NS, CheckCounters
from ..reasons import Reason, Stage
from . import families as f

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

# Every reason at the stage that gives it, so that a series is there before it is first needed.
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
    made: Any = kinds[metric.kind](metric.name, metric.description, labels=metric.labels)
    for labels, value in (values if isinstance(values, Mapping) else {(): values}).items():
        made.add_metric(labels, value)
    return made  # type: ignore[no-any-return]


def histogram(
    metric: f.Metric,
    bounds: Sequence[int],
    rows: Iterable[tuple[tuple[str, ...], Sequence[int], int]],
    unit: float = 1e-9,
) -> Family:
    """Return a histogram with a row for each tuple of label values: its buckets, not added up, and its sum.

    ``unit`` is what one of ``bounds`` and of the sum is in the metric's own unit.
    """
    from prometheus_client import core

    made = core.HistogramMetricFamily(metric.name, metric.description, labels=metric.labels)
    ends = [*(repr(round(float(bound * unit), 9)) for bound in bounds), "+Inf"]
    for labels, buckets, total in rows:
        made.add_metric(
            labels, list(zip(ends, itertools.accumulate(buckets), strict=True)), sum_value=total * unit
        )
    return made


def decided(tallies: Sequence[CheckCounters]) -> Iterator[Family]:
    """Yield what tallies counted, added up: the decisions, and the times of checks."""
    decisions = Counter(AT_STAGE)
    for tally in tallies:
        decisions.update(tally.decisions())
    yield family(
        f.DECISIONS,
        {
            (Stage(stage).name.lower(), Reason(reason).name): number
            for (stage, reason), number in decisions.items()
        },
    )
    buckets = [sum(each) for each in zip(*(tally.buckets for tally in tallies), strict=True)]
    total = sum(tally.total_ns for tally in tallies)
    yield histogram(f.CHECK_SECONDS, CHECK_BOUNDS_NS, [((), buckets, total)])
