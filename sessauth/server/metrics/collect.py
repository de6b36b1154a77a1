"""One scrape: the sums over the pages of all processes, and the numbers of the control process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ...metrics import families as judging
from ...metrics.samples import decision_families, family, histogram
from ..rpc.pools import POOL_NAMES
from . import families as f
from .shared_page import RPC_BOUNDS_NS, RPC_ROWS, MetricSlot, Page

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

COUNTED = (
    (judging.SIGNATURES, MetricSlot.SIGNATURES),
    (judging.BAD_SIGNATURES, MetricSlot.BAD_SIGNATURES),
    (judging.CACHE_HITS, MetricSlot.CACHE_HITS),
    (judging.CACHE_MISSES, MetricSlot.CACHE_MISSES),
    (judging.CACHE_EVICTED, MetricSlot.CACHE_EVICTED),
    (f.DIRECT_CALLS, MetricSlot.DIRECT_CALLS),
    (f.REFUSED_CONNECTIONS, MetricSlot.REFUSED_CONNECTIONS),
    (f.WITHDRAWALS, MetricSlot.WITHDRAWALS),
)
STANDING = (
    (judging.CACHE_BYTES, MetricSlot.CACHE_BYTES),
    (judging.CACHE_CHAINS, MetricSlot.CACHE_CHAINS),
    (f.CONNECTIONS, MetricSlot.CONNECTIONS),
    (f.WATCHED_STREAMS, MetricSlot.WATCHED_STREAMS),
    (f.WATCHED_CALLS, MetricSlot.WATCHED_CALLS),
)


class Collector:
    """The collector of ``prometheus_client`` for the metrics of all processes."""

    def __init__(
        self,
        pages: Mapping[str, Page],
        up: Callable[[], Mapping[str, bool]],
        capacities: Mapping[str, int],
        own: Callable[[], Iterable[Family]],
    ) -> None:
        """Add up ``pages``, by process. ``up`` returns which serve, ``own`` the control process's metrics.

        ``capacities`` holds how many calls each pool of a process can hold.
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
            {
                (process,): page.read(MetricSlot.REVISION)
                for process, page in self._pages.items()
                if up[process]
            },
        )
        yield from decision_families([page.counters for page in self._pages.values()])
        yield from self._calls()
        for metric, number in COUNTED:
            yield family(metric, self._sum(number, self._pages.values()))
        for metric, number in STANDING:
            yield family(metric, self._sum(number, serving))
        yield from self._pools(serving)
        yield from self._audit(serving)
        yield from own

    def _calls(self) -> Iterator[Family]:
        """Yield the times of calls, for methods and codes that occurred."""
        rows = []
        for row, (method, code) in enumerate(RPC_ROWS):
            rows_of_pages = [page.rpcs.buckets(row) for page in self._pages.values()]
            buckets = [sum(counts) for counts in zip(*rows_of_pages, strict=True)]
            if any(buckets):
                total = sum(page.rpcs.total(row) for page in self._pages.values())
                rows.append(((method.rpartition(".")[2], code), buckets, total))
        yield histogram(f.RPC_SECONDS, RPC_BOUNDS_NS, rows)

    def _pools(self, serving: Sequence[Page]) -> Iterator[Family]:
        indices = {(name,): index for index, name in enumerate(POOL_NAMES)}
        yield family(
            f.POOL_REFUSALS,
            {
                name: sum(page.pool(index)[0] for page in self._pages.values())
                for name, index in indices.items()
            },
        )
        yield family(
            f.POOL_CALLS,
            {name: sum(page.pool(index)[1] for page in serving) for name, index in indices.items()},
        )
        yield family(
            f.POOL_CAPACITY, {(name,): len(serving) * most for name, most in self._capacities.items()}
        )

    def _audit(self, serving: Sequence[Page]) -> Iterator[Family]:
        recording = [page for page in serving if page.read(MetricSlot.AUDIT_ON)]
        if not recording:
            return
        yield family(judging.AUDIT_HEALTHY, all(page.read(MetricSlot.AUDIT_HEALTHY) for page in recording))
        yield family(judging.AUDIT_WAITING, self._sum(MetricSlot.AUDIT_WAITING_BYTES, recording))
        yield family(judging.AUDIT_RECORDED, self._sum(MetricSlot.AUDIT_RECORDED, self._pages.values()))
        yield family(judging.AUDIT_LOST, self._sum(MetricSlot.AUDIT_LOST, self._pages.values()))

    @staticmethod
    def _sum(number: MetricSlot, pages: Iterable[Page]) -> float:
        return sum(page.read(number) for page in pages)
