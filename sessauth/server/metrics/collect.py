"""One scrape: the pages of all processes added up, and what the control process alone knows."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..._fast.tally import CHECK_BOUNDS_NS
from ...reasons import Reason, Stage
from ..lanes import LANE_NAMES
from . import families as f
from .page import RPC_BOUNDS_NS, RPC_ROWS, Number, Page

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

# Every reason at the stage that gives it, so that a series is there before it is first needed.
AT_STAGE = {
    (reason // 10 if reason >= 10 else Stage.NONE, int(reason)): 0
    for reason in Reason
    if reason is not Reason.UNSPECIFIED
}
COUNTED = (
    (f.SIGNATURES, Number.SIGNATURES),
    (f.BAD_SIGNATURES, Number.BAD_SIGNATURES),
    (f.CACHE_HITS, Number.CACHE_HITS),
    (f.CACHE_MISSES, Number.CACHE_MISSES),
    (f.CACHE_EVICTED, Number.CACHE_EVICTED),
    (f.WITHDRAWALS, Number.WITHDRAWALS),
)
STANDING = (
    (f.CACHE_BYTES, Number.CACHE_BYTES),
    (f.CACHE_CHAINS, Number.CACHE_CHAINS),
    (f.WATCHED_STREAMS, Number.WATCHED_STREAMS),
    (f.WATCHED_CALLS, Number.WATCHED_CALLS),
)

Values = Mapping[tuple[str, ...], float]


def family(metric: f.Metric, values: Values | float) -> Family:
    """Return a metric with its values: one for each tuple of label values, or the only one."""
    from prometheus_client import core

    kinds: Mapping[str, Any] = {"counter": core.CounterMetricFamily, "gauge": core.GaugeMetricFamily}
    made: Any = kinds[metric.kind](metric.name, metric.says, labels=metric.labels)
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

    made = core.HistogramMetricFamily(metric.name, metric.says, labels=metric.labels)
    ends = [*(repr(round(float(bound * unit), 9)) for bound in bounds), "+Inf"]
    for labels, buckets, total in rows:
        made.add_metric(
            labels, list(zip(ends, itertools.accumulate(buckets), strict=True)), sum_value=total * unit
        )
    return made


class Collector:
    """What ``prometheus_client`` asks for the metrics of all processes."""

    def __init__(
        self,
        pages: Mapping[str, Page],
        up: Callable[[], Mapping[str, bool]],
        capacities: Mapping[str, int],
        own: Callable[[], Iterable[Family]],
    ) -> None:
        """Add up ``pages``, by process; ``up`` says which of them serve, and ``own`` gives the rest.

        ``capacities`` is what each lane of a process can hold.
        """
        self._capacities = capacities
        self._pages = pages
        self._up = up
        self._own = own

    def collect(self) -> Iterator[Family]:
        """Yield every metric with its values."""
        own = list(self._own())
        up = self._up()
        serving = [page for process, page in self._pages.items() if up[process]]
        yield family(f.PROCESS_UP, {(process,): float(up[process]) for process in self._pages})
        yield family(
            f.PROCESS_REVISION,
            {(process,): page.read(Number.REVISION) for process, page in self._pages.items() if up[process]},
        )
        yield from self._decided()
        yield from self._called()
        for metric, number in COUNTED:
            yield family(metric, self._sum(number, self._pages.values()))
        for metric, number in STANDING:
            yield family(metric, self._sum(number, serving))
        yield from self._lanes(serving)
        yield from self._audit(serving)
        yield from own

    def _decided(self) -> Iterator[Family]:
        decisions = Counter(AT_STAGE)
        for page in self._pages.values():
            decisions.update(page.tally.decisions())
        yield family(
            f.DECISIONS,
            {
                (Stage(stage).name.lower(), Reason(reason).name): number
                for (stage, reason), number in decisions.items()
            },
        )
        tallies = [page.tally for page in self._pages.values()]
        buckets = [sum(each) for each in zip(*(tally.buckets for tally in tallies), strict=True)]
        total = sum(tally.total_ns for tally in tallies)
        yield histogram(f.CHECK_SECONDS, CHECK_BOUNDS_NS, [((), buckets, total)])

    def _called(self) -> Iterator[Family]:
        """Yield the times of calls, of those methods and codes that came up."""
        rows = []
        for row, (method, code) in enumerate(RPC_ROWS):
            each = [page.rpcs.buckets(row) for page in self._pages.values()]
            buckets = [sum(counts) for counts in zip(*each, strict=True)]
            if any(buckets):
                total = sum(page.rpcs.total(row) for page in self._pages.values())
                rows.append(((method.rpartition(".")[2], code), buckets, total))
        yield histogram(f.RPC_SECONDS, RPC_BOUNDS_NS, rows)

    def _lanes(self, serving: Sequence[Page]) -> Iterator[Family]:
        indices = {(name,): index for index, name in enumerate(LANE_NAMES)}
        yield family(
            f.LANE_REFUSALS,
            {
                name: sum(page.lane(index)[0] for page in self._pages.values())
                for name, index in indices.items()
            },
        )
        yield family(
            f.LANE_CALLS,
            {name: sum(page.lane(index)[1] for page in serving) for name, index in indices.items()},
        )
        yield family(
            f.LANE_CAPACITY, {(name,): len(serving) * most for name, most in self._capacities.items()}
        )

    def _audit(self, serving: Sequence[Page]) -> Iterator[Family]:
        recording = [page for page in serving if page.read(Number.AUDIT_ON)]
        if not recording:
            return
        yield family(f.AUDIT_HEALTHY, all(page.read(Number.AUDIT_HEALTHY) for page in recording))
        yield family(f.AUDIT_WAITING, self._sum(Number.AUDIT_WAITING_BYTES, recording))
        yield family(f.AUDIT_RECORDED, self._sum(Number.AUDIT_RECORDED, self._pages.values()))
        yield family(f.AUDIT_LOST, self._sum(Number.AUDIT_LOST, self._pages.values()))

    @staticmethod
    def _sum(number: Number, pages: Iterable[Page]) -> float:
        return sum(page.read(number) for page in pages)
