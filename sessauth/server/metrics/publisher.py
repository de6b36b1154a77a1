"""Puts what the parts of a process know onto its page."""

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
    """Tells a page what it must be told; decisions and calls are counted there as they happen."""

    def __init__(
        self,
        page: Page,
        verifier: Verifier,
        serving: Serving,
        watching: Watching,
        audit: Callable[[], AuditNumbers | None],
    ) -> None:
        """Read the parts of this process.

        ``audit`` gives None while nothing is recorded.
        """
        self._page = page
        self._verifier = verifier
        self._serving = serving
        self._watching = watching
        self._audit = audit
        self._lock = threading.Lock()

    def publish(self) -> None:
        """Tell the page what stands now."""
        with self._lock:
            tell, verifier, cache = self._page.tell, self._verifier, self._verifier.cache
            tell(MetricSlot.CACHE_HITS, cache.hits)
            tell(MetricSlot.CACHE_MISSES, cache.misses)
            tell(MetricSlot.CACHE_EVICTED, cache.evicted)
            tell(MetricSlot.CACHE_BYTES, cache.used)
            tell(MetricSlot.CACHE_CHAINS, len(cache))
            tell(MetricSlot.SIGNATURES, verifier.signatures)
            tell(MetricSlot.BAD_SIGNATURES, verifier.bad_signatures)
            self._tell_revision()
            streams, calls = self._watching.open_now()
            tell(MetricSlot.WATCHED_STREAMS, streams)
            tell(MetricSlot.WATCHED_CALLS, calls)
            tell(MetricSlot.WITHDRAWALS, self._watching.withdrawals.read())
            overloaded = self._serving.accounting.overloaded
            for index, name in enumerate(POOL_NAMES):
                self._page.tell_pool(index, overloaded[name], self._serving.pools[name].in_flight)
            self._publish_audit(self._audit())

    def capacities(self) -> dict[str, int]:
        """Return how many calls each pool of a process can hold."""
        return {name: self._serving.pools[name].capacity for name in POOL_NAMES}

    def _tell_revision(self) -> None:
        try:
            revision = self._verifier.view.revision
        except Exception:  # noqa: BLE001 - what can't be read stays as it was; the checks say what is wrong
            return
        self._page.tell(MetricSlot.REVISION, revision)

    def _publish_audit(self, audit: AuditNumbers | None) -> None:
        tell = self._page.tell
        tell(MetricSlot.AUDIT_ON, audit is not None)
        if audit is not None:
            tell(MetricSlot.AUDIT_LOST, audit.lost)
            tell(MetricSlot.AUDIT_RECORDED, audit.recorded)
            tell(MetricSlot.AUDIT_WAITING_BYTES, audit.waiting_bytes)
            tell(MetricSlot.AUDIT_HEALTHY, audit.healthy)
