"""Copies the numbers of a process to its shared page."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ...audit.recording.process import AuditNumbers
from ...verifier.verifier import Verifier
from ..rpc.grpc_server import Serving
from ..rpc.pools import POOL_NAMES
from ..watch.recheck import Watching
from .shared_page import MetricSlot, Page


class Publisher:
    """Copies process metrics to the shared page; decisions and calls are counted there directly."""

    def __init__(
        self,
        page: Page,
        verifier: Verifier,
        serving: Serving,
        watching: Watching,
        audit: Callable[[], AuditNumbers | None],
    ) -> None:
        """Read the parts of this process. ``audit`` returns None while nothing is recorded."""
        self._page = page
        self._verifier = verifier
        self._serving = serving
        self._watching = watching
        self._audit = audit
        self._lock = threading.Lock()

    def publish(self) -> None:
        """Write the current numbers to the page."""
        with self._lock:
            write, verifier, cache = self._page.write, self._verifier, self._verifier.cache
            write(MetricSlot.CACHE_HITS, cache.hits)
            write(MetricSlot.CACHE_MISSES, cache.misses)
            write(MetricSlot.CACHE_EVICTED, cache.evicted)
            write(MetricSlot.CACHE_BYTES, cache.used)
            write(MetricSlot.CACHE_CHAINS, len(cache))
            write(MetricSlot.SIGNATURES, verifier.signatures)
            write(MetricSlot.BAD_SIGNATURES, verifier.bad_signatures)
            self._publish_revision()
            streams, calls = self._watching.open_now()
            write(MetricSlot.WATCHED_STREAMS, streams)
            write(MetricSlot.WATCHED_CALLS, calls)
            write(MetricSlot.WITHDRAWALS, self._watching.withdrawals.read())
            native = self._serving.native_numbers()
            write(MetricSlot.CONNECTIONS, native.connections)
            write(MetricSlot.REFUSED_CONNECTIONS, native.refused_connections)
            write(MetricSlot.DIRECT_CALLS, native.direct_calls)
            overloaded = self._serving.accounting.overloaded
            for index, name in enumerate(POOL_NAMES):
                self._page.write_pool(index, overloaded[name], self._serving.pools[name].in_flight)
            self._publish_audit(self._audit())

    def capacities(self) -> dict[str, int]:
        """Return how many calls each pool of a process can hold."""
        return {name: self._serving.pools[name].capacity for name in POOL_NAMES}

    def _publish_revision(self) -> None:
        try:
            revision = self._verifier.view.revision
        except Exception:  # noqa: BLE001 - the last revision stays on the page; checks report the fault
            return
        self._page.write(MetricSlot.REVISION, revision)

    def _publish_audit(self, audit: AuditNumbers | None) -> None:
        write = self._page.write
        write(MetricSlot.AUDIT_ON, audit is not None)
        if audit is not None:
            write(MetricSlot.AUDIT_LOST, audit.lost)
            write(MetricSlot.AUDIT_RECORDED, audit.recorded)
            write(MetricSlot.AUDIT_WAITING_BYTES, audit.waiting_bytes)
            write(MetricSlot.AUDIT_HEALTHY, audit.healthy)
