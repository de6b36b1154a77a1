"""Metrics of the control process and its workers, if ``metrics.address`` is set.

Each process copies its numbers to a shared page. A scrape reads the sums over the pages of all processes, and
the numbers of the control process. Decisions of the last minute are counted by the same pages.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ... import metrics as check_metrics
from ..._fast._check import CheckCounters
from ...audit.recording.process import AuditNumbers
from ...errors import ConfigError
from ...metrics import decision_families, family, histogram_family
from ...reasons import Reason
from ...verifier.verifier import Verifier
from ..config import Config
from ..log import LOGGER
from ..rpc.grpc_server import Serving
from ..rpc.pool import POOL_NAMES
from ..watch import Watching
from . import state as f
from .shared_page import RPC_BOUNDS_NS, RPC_ROWS, MetricSlot, Page
from .state import ReceiptMetrics, StateNumbers

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.registry import CollectorRegistry

INSTALL = "pip install 'sessauth[metrics]'"
CONTROL = "control"


def worker_name(index: int) -> str:
    """Return the name of the worker of a place."""
    return f"worker-{index}"


class Metrics:
    """A page for each process, and the address that serves all of them."""

    def __init__(self, config: Config) -> None:
        """Make the pages and listen. Raises ConfigError if that fails."""
        try:
            import prometheus_client
        except ImportError:
            raise ConfigError(f"metrics.address: needs prometheus_client; {INSTALL}") from None
        # Not loaded without metrics.
        from .http import Listener

        self._registry: CollectorRegistry = prometheus_client.CollectorRegistry(auto_describe=False)
        self.page = Page.make(shared=False)
        shared = sys.platform == "linux"
        self.workers = [Page.make(shared=shared) for _ in range(config.server.workers)]
        self._listener = Listener(config.metrics.address, self.render)
        self._numbers: StateNumbers | None = None
        self.receipts: Callable[[], ReceiptMetrics] = ReceiptMetrics
        self._minute = MinuteCounts(lambda: [page.counters for page in (self.page, *self.workers)])
        self.recent = self._minute.recent

    @property
    def port(self) -> int:
        """The TCP port."""
        return self._listener.port

    @property
    def handles(self) -> tuple[int, ...]:
        """The descriptor of each worker's page."""
        return tuple(page.handle for page in self.workers)

    def compose(
        self,
        publisher: Publisher,
        numbers: StateNumbers,
        receipts: Callable[[], ReceiptMetrics],
        up: Callable[[], Mapping[str, bool]],
    ) -> None:
        """Serve the pages, the control process's by ``publisher``, with ``numbers`` and ``receipts``."""
        self.receipts = receipts
        pages = {CONTROL: self.page}
        pages.update((worker_name(index), page) for index, page in enumerate(self.workers))

        def own() -> list[object]:
            publisher.publish()
            return [*numbers.collect(), *self.receipts().families()]

        self._numbers = numbers
        self._registry.register(Collector(pages, up, publisher.capacities(), own))  # type: ignore[arg-type]

    def start(self) -> None:
        """Begin to answer."""
        self._listener.start()

    def poll(self) -> None:
        """Run the tasks of every second."""
        self._minute.poll()
        if self._numbers is not None:
            self._numbers.poll()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the page in a format that a scraper accepts, and its content type."""
        from prometheus_client.exposition import choose_encoder

        encode, kind = choose_encoder(accept)
        try:
            return encode(self._registry), kind
        except Exception as error:
            LOGGER.log(logging.ERROR, "fault", exc_info=error, extra={"fields": {"in": "metrics"}})
            raise

    def close(self) -> None:
        """Answer no more."""
        self._listener.close()
        for page in self.workers:
            page.close()


COUNTED = (
    (check_metrics.SIGNATURES, MetricSlot.SIGNATURES),
    (check_metrics.BAD_SIGNATURES, MetricSlot.BAD_SIGNATURES),
    (check_metrics.CACHE_HITS, MetricSlot.CACHE_HITS),
    (check_metrics.CACHE_MISSES, MetricSlot.CACHE_MISSES),
    (check_metrics.CACHE_EVICTED, MetricSlot.CACHE_EVICTED),
    (f.DIRECT_CALLS, MetricSlot.DIRECT_CALLS),
    (f.REFUSED_CONNECTIONS, MetricSlot.REFUSED_CONNECTIONS),
    (f.WITHDRAWALS, MetricSlot.WITHDRAWALS),
)
STANDING = (
    (check_metrics.CACHE_BYTES, MetricSlot.CACHE_BYTES),
    (check_metrics.CACHE_CHAINS, MetricSlot.CACHE_CHAINS),
    (f.CONNECTIONS, MetricSlot.CONNECTIONS),
    (f.WATCHED_STREAMS, MetricSlot.WATCHED_STREAMS),
    (f.WATCHED_CALLS, MetricSlot.WATCHED_CALLS),
)


@dataclass(eq=False)
class Collector:
    """The collector of ``prometheus_client`` for the metrics of all processes: it adds up their ``pages``.

    ``up`` returns which serve, ``own`` the control process's metrics. ``capacities`` holds how many calls
    each pool of a process can hold.
    """

    pages: Mapping[str, Page]
    up: Callable[[], Mapping[str, bool]]
    capacities: Mapping[str, int]
    own: Callable[[], Iterable[Family]]

    def collect(self) -> Iterator[Family]:
        """Yield every metric with its values."""
        own = list(self.own())
        up = self.up()
        serving = [page for process, page in self.pages.items() if up[process]]
        yield family(f.PROCESS_UP, {(process,): float(up[process]) for process in self.pages})
        yield family(
            f.PROCESS_REVISION,
            {
                (process,): page.read(MetricSlot.REVISION)
                for process, page in self.pages.items()
                if up[process]
            },
        )
        yield from decision_families([page.counters for page in self.pages.values()])
        yield from self._calls()
        for metric, number in COUNTED:
            yield family(metric, self._sum(number, self.pages.values()))
        for metric, number in STANDING:
            yield family(metric, self._sum(number, serving))
        yield from self._pools(serving)
        yield from self._audit(serving)
        yield from own

    def _calls(self) -> Iterator[Family]:
        """Yield the times of calls, for methods and codes that occurred."""
        rows = []
        for row, (method, code) in enumerate(RPC_ROWS):
            rows_of_pages = [page.rpcs.buckets(row) for page in self.pages.values()]
            buckets = [sum(counts) for counts in zip(*rows_of_pages, strict=True)]
            if any(buckets):
                total = sum(page.rpcs.total(row) for page in self.pages.values())
                rows.append(((method.rpartition(".")[2], code), buckets, total))
        yield histogram_family(f.RPC_SECONDS, RPC_BOUNDS_NS, rows)

    def _pools(self, serving: Sequence[Page]) -> Iterator[Family]:
        indices = {(name,): index for index, name in enumerate(POOL_NAMES)}
        yield family(
            f.POOL_REFUSALS,
            {
                name: sum(page.pool(index)[0] for page in self.pages.values())
                for name, index in indices.items()
            },
        )
        yield family(
            f.POOL_CALLS,
            {name: sum(page.pool(index)[1] for page in serving) for name, index in indices.items()},
        )
        yield family(
            f.POOL_CAPACITY, {(name,): len(serving) * most for name, most in self.capacities.items()}
        )

    def _audit(self, serving: Sequence[Page]) -> Iterator[Family]:
        recording = [page for page in serving if page.read(MetricSlot.AUDIT_ON)]
        if not recording:
            return
        yield family(
            check_metrics.AUDIT_HEALTHY, all(page.read(MetricSlot.AUDIT_HEALTHY) for page in recording)
        )
        yield family(check_metrics.AUDIT_WAITING, self._sum(MetricSlot.AUDIT_WAITING_BYTES, recording))
        yield family(check_metrics.AUDIT_RECORDED, self._sum(MetricSlot.AUDIT_RECORDED, self.pages.values()))
        yield family(check_metrics.AUDIT_LOST, self._sum(MetricSlot.AUDIT_LOST, self.pages.values()))

    @staticmethod
    def _sum(number: MetricSlot, pages: Iterable[Page]) -> float:
        return sum(page.read(number) for page in pages)


@dataclass(eq=False)
class Publisher:
    """Copies process metrics to the shared page; decisions and calls are counted there directly.

    ``audit`` returns None while nothing is recorded.
    """

    page: Page
    verifier: Verifier
    serving: Serving
    watching: Watching
    audit: Callable[[], AuditNumbers | None]
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def publish(self) -> None:
        """Write the current numbers to the page."""
        with self._lock:
            write, verifier, cache = self.page.write, self.verifier, self.verifier.cache
            write(MetricSlot.CACHE_HITS, cache.hits)
            write(MetricSlot.CACHE_MISSES, cache.misses)
            write(MetricSlot.CACHE_EVICTED, cache.evicted)
            write(MetricSlot.CACHE_BYTES, cache.used)
            write(MetricSlot.CACHE_CHAINS, len(cache))
            write(MetricSlot.SIGNATURES, verifier.signatures)
            write(MetricSlot.BAD_SIGNATURES, verifier.bad_signatures)
            self._publish_revision()
            streams, calls = self.watching.open_now()
            write(MetricSlot.WATCHED_STREAMS, streams)
            write(MetricSlot.WATCHED_CALLS, calls)
            write(MetricSlot.WITHDRAWALS, self.watching.withdrawals)
            loop = self.serving.loop
            write(MetricSlot.CONNECTIONS, loop.connections)
            write(MetricSlot.REFUSED_CONNECTIONS, loop.refused_connections)
            write(MetricSlot.DIRECT_CALLS, loop.answered)
            overloaded = self.serving.accounting.overloaded
            for index, name in enumerate(POOL_NAMES):
                self.page.write_pool(index, overloaded[name], self.serving.pools[name].in_flight)
            self._publish_audit(self.audit())

    def capacities(self) -> dict[str, int]:
        """Return how many calls each pool of a process can hold."""
        return {name: self.serving.pools[name].capacity for name in POOL_NAMES}

    def _publish_revision(self) -> None:
        try:
            revision = self.verifier.view.revision
        except Exception:  # noqa: BLE001 - the last revision stays on the page; checks report the fault
            return
        self.page.write(MetricSlot.REVISION, revision)

    def _publish_audit(self, audit: AuditNumbers | None) -> None:
        write = self.page.write
        write(MetricSlot.AUDIT_ON, audit is not None)
        if audit is not None:
            write(MetricSlot.AUDIT_LOST, audit.lost)
            write(MetricSlot.AUDIT_RECORDED, audit.recorded)
            write(MetricSlot.AUDIT_WAITING_BYTES, audit.waiting_bytes)
            write(MetricSlot.AUDIT_HEALTHY, audit.healthy)


MINUTE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class RecentDecisions:
    """Checks, and the denials among them, within ``ms``; 0: nothing is counted."""

    ms: int = 0
    checks: int = 0
    denials: int = 0


class MinuteCounts:
    """Samples counters once a second. Every method may be called from any thread."""

    def __init__(
        self, counters: Callable[[], Sequence[CheckCounters]], steady: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with the present counts of ``counters()``; ``steady()`` is in seconds."""
        self._counters = counters
        self._steady = steady
        self._lock = threading.Lock()
        self._samples = deque([self._sample()])

    def poll(self) -> None:
        """Take a sample, and drop those that are older than a minute but one."""
        with self._lock:
            sample = self._sample()
            self._samples.append(sample)
            while len(self._samples) > 1 and self._samples[1][0] <= sample[0] - MINUTE_SECONDS:
                self._samples.popleft()

    def recent(self) -> RecentDecisions:
        """Return the decisions since the oldest sample, a minute ago at most."""
        with self._lock:
            (began, checks, allowed), now = self._samples[0], self._sample()
        counted = now[1] - checks
        return RecentDecisions(max(1, int((now[0] - began) * 1000)), counted, counted - (now[2] - allowed))

    def _sample(self) -> tuple[float, int, int]:
        """Return the time, all decisions so far, and the allows among them."""
        decisions = [counter.decisions() for counter in self._counters()]
        total = sum(sum(each.values()) for each in decisions)
        allowed = sum(
            number for each in decisions for (_, reason), number in each.items() if reason == Reason.ALLOWED
        )
        return self._steady(), total, allowed
