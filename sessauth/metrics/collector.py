"""A collector of one verifier's metrics.

from prometheus_client import REGISTRY
from sessauth.metrics import VerifierCollector

REGISTRY.register(VerifierCollector(verifier))
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from .._fast._check import CheckCounters
from . import families as f
from .samples import decision_families, family

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

    from .._fast._check import ChainCache, View
    from ..audit.recording.process import ProcessRecorder


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
        yield family(f.SIGNATURES, verifier.signatures)
        yield family(f.BAD_SIGNATURES, verifier.bad_signatures)
        yield family(f.CACHE_HITS, cache.hits)
        yield family(f.CACHE_MISSES, cache.misses)
        yield family(f.CACHE_EVICTED, cache.evicted)
        yield family(f.CACHE_BYTES, cache.used)
        yield family(f.CACHE_CHAINS, len(cache))
        yield from self._view()
        audit = verifier.recorder.audit_numbers() if verifier.recorder is not None else None
        if audit is not None:
            yield family(f.AUDIT_HEALTHY, audit.healthy)
            yield family(f.AUDIT_WAITING, audit.waiting_bytes)
            yield family(f.AUDIT_RECORDED, audit.recorded)
            yield family(f.AUDIT_LOST, audit.lost)

    def _view(self) -> Iterator[Family]:
        """Yield the metrics of the state's view; a revision that can't be read is left out."""
        view = self._verifier.view
        try:
            revision = view.revision
        except Exception:  # noqa: BLE001 - with such a state checks deny, and give the reason
            yield family(f.VIEW_CURRENT, False)
            return
        yield family(f.VIEW_CURRENT, view.current)
        yield family(f.REVISION, revision)
