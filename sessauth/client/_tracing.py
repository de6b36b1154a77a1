"""Trace context of a client's calls; OpenTelemetry is imported only where it is requested."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ConfigError

Metadata = tuple[tuple[str, str], ...]


def carrier(trace: bool) -> Callable[[Metadata], Metadata] | None:
    """Return a function that adds the current trace (W3C ``traceparent``) to metadata, if ``trace``.

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
