"""The trace that a client's calls belong to, where it is asked for; else nothing here is imported."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ConfigError

Metadata = tuple[tuple[str, str], ...]


def carrier(trace: bool) -> Callable[[Metadata], Metadata] | None:
    """Return what adds the caller's current trace (W3C ``traceparent``) to metadata; None if not asked for.

    Raises ConfigError if OpenTelemetry is not installed.
    """
    if not trace:
        return None
    try:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        raise ConfigError("trace: needs OpenTelemetry; pip install 'sessauth[tracing]'") from None
    propagator = TraceContextTextMapPropagator()

    def carry(metadata: Metadata) -> Metadata:
        carried: dict[str, str] = {}
        propagator.inject(carried)
        return (*metadata, *carried.items())

    return carry
