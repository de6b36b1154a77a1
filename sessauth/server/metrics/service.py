"""Metrics of the control process and its workers, if ``metrics.address`` is set."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ...errors import ConfigError
from ..config.config import Config
from ..log import LOGGER
from .collect import Collector
from .publisher import Publisher
from .recent import MinuteCounts
from .shared_page import Page
from .state import ReceiptMetrics, StateNumbers

if TYPE_CHECKING:
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
