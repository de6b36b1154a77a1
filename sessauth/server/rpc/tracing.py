"""Spans of calls for OpenTelemetry, if ``[tracing]`` is enabled; else OpenTelemetry is not imported.

A call's span continues the trace that its metadata names (W3C ``traceparent``). Its attributes are the RPC,
the status, and for a check the stage, the reason and the revision: no token, no argument, nothing of a
session.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ...errors import ConfigError
from ...reasons import Level, Reason, Stage
from .. import log
from ..sections import TracingSettings
from ..status import CODES, word_of
from ..writer.port import RESPONSE_TYPES
from .call import CallContext

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

INSTALL: Final = "pip install 'sessauth[tracing]'"
SERVICE: Final = "sessauth"
TRACEPARENT: Final = ("traceparent", "tracestate")
# gRPC's own codes for faults of the server; the others are the caller's, and no error of the span.
SERVER_FAULTS: Final = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE"})

Metadata = tuple[tuple[str, str | bytes], ...]
OnEvent = Callable[[CallContext], object]
OnFailure = Callable[[CallContext, BaseException], object]
Answer = Callable[[bytes, CallContext], bytes]


class Tracing:
    """Makes a span for each call of one process."""

    def __init__(
        self, settings: TracingSettings, process: str, provider: TracerProvider | None = None
    ) -> None:
        """Send spans to ``provider``; None: to the one that the process has, else to one by ``settings``.

        ``process`` is an attribute of each span. Raises ConfigError if OpenTelemetry or the exporter is
        missing.
        """
        try:
            from opentelemetry import context, trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError:
            raise ConfigError(f"tracing.enabled: needs OpenTelemetry; {INSTALL}") from None
        self._own: Any = None
        if provider is None:
            provider = trace.get_tracer_provider()
            if isinstance(provider, trace.ProxyTracerProvider):
                provider = self._own = _provider(settings.exporter)
        self._process = process
        self._trace = trace
        self._context = context
        self._carrier = TraceContextTextMapPropagator()
        self._tracer = provider.get_tracer(SERVICE)
        log.add_trace_ids(self._trace_id)

    def wrap(
        self, admit: OnEvent, on_success: OnEvent, on_failure: OnFailure, *, one_thread: bool
    ) -> tuple[OnEvent, OnEvent, OnFailure]:
        """Wrap the callbacks of a call's begin, success and failure in a span.

        ``one_thread``: the call begins and ends on one thread. Its log lines then name the trace.
        """

        def begin(call: CallContext) -> None:
            self.begin(call, attach=one_thread)
            admit(call)

        def succeed(call: CallContext) -> None:
            on_success(call)
            self._end(call, "OK")

        def fail(call: CallContext, error: BaseException) -> None:
            on_failure(call, error)
            self._end(call, word_of(error))

        return begin, succeed, fail

    def begin(self, call: CallContext, *, attach: bool) -> None:
        """Begin the span of a call."""
        metadata = call.context.metadata
        carried = {key: value for key, value in metadata if key in TRACEPARENT and isinstance(value, str)}
        parent = self._carrier.extract(carried)
        method = call.method.lstrip("/")
        span = self._tracer.start_span(
            method,
            context=parent,
            kind=self._trace.SpanKind.SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": method, "sessauth.process": self._process},
        )
        token = self._context.attach(self._trace.set_span_in_context(span)) if attach else None
        call.span = (span, token)

    def wrap_refusal(self, on_failure: OnFailure) -> OnFailure:
        """Wrap the callback of a call that was refused before it began in a span."""

        def fail(call: CallContext, error: BaseException) -> None:
            self.begin(call, attach=True)
            on_failure(call, error)
            self._end(call, word_of(error))

        return fail

    def with_decision(self, kind: str, answer: Answer) -> Answer:
        """Wrap a handler of unary checks: its decision becomes attributes of the call's span.

        ``kind`` is the kernel's word for the request.
        """

        def answer_with_decision(data: bytes, call: CallContext) -> bytes:
            response = answer(data, call)
            span = _span_of(call)
            if span is not None and span.is_recording():
                span.set_attributes(_decisions(kind, response))
            return response

        return answer_with_decision

    def inject(self, metadata: Metadata, call: CallContext) -> Metadata:
        """Return ``metadata`` with the call's trace, for another process to continue."""
        span = _span_of(call)
        if span is None:
            return metadata
        carried: dict[str, str] = {}
        self._carrier.inject(carried, self._trace.set_span_in_context(span))
        return (*metadata, *carried.items())

    def close(self) -> None:
        """Send the spans that wait."""
        log.add_trace_ids(None)
        if self._own is not None:
            self._own.shutdown()

    def _end(self, call: CallContext, word: str) -> None:
        span, token = call.span
        code = "OK" if word == "OK" else CODES[word].name
        span.set_attribute("rpc.response.status_code", code)
        if word != "OK":
            span.set_attribute("error.type", word)
        if code in SERVER_FAULTS:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, word))
        if token is not None:
            self._context.detach(token)
        span.end()

    def _trace_id(self) -> str:
        """Return the trace id of this thread in hex; empty if there is none."""
        span = self._trace.get_current_span().get_span_context()
        return format(span.trace_id, "032x") if span.is_valid else ""


def _span_of(call: CallContext) -> Span | None:
    state: tuple[Span, object] | None = call.span
    return None if state is None else state[0]


def _decisions(kind: str, response: bytes) -> dict[str, str | int | bool]:
    """Return the attributes of an encoded response to a check; for a batch, counts of its items."""
    message = RESPONSE_TYPES[kind].FromString(response)
    if kind == "batch":
        denied = sum(not decision.allowed for decision in message.decisions)
        return {"sessauth.items": len(message.decisions), "sessauth.denied": denied}
    decision = message.decision
    observed = decision.allowed and decision.failed.level == Level.CEILING
    return {
        **({"sessauth.observed": True} if observed else {}),
        "sessauth.reason": Reason(decision.reason).name,
        "sessauth.stage": Stage(decision.stage).name.lower(),
        "sessauth.revision": decision.revision,
    }


def open_tracing(settings: TracingSettings, process: str) -> Tracing | None:
    """Return the tracing of a process; None if it is not enabled. Raises ConfigError."""
    return Tracing(settings, process) if settings.enabled else None


def _provider(exporter: str) -> Any:
    """Return a provider that sends batches of spans to a new exporter of class ``exporter``."""
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
    except ImportError:
        raise ConfigError(f"tracing.enabled: needs the SDK of OpenTelemetry; {INSTALL}") from None
    module, _, name = exporter.partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"tracing.exporter: {exporter} can't be made: {error}; install the package that it comes from"
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, SpanExporter)):
        raise ConfigError(f"tracing.exporter: {exporter} is no SpanExporter of OpenTelemetry; name another")
    try:
        instance = kind()
    except Exception as error:
        raise ConfigError(f"tracing.exporter: {exporter} can't be made: {error}") from error
    # OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME take precedence over this name.
    attributes: Mapping[str, str] = {"service.name": SERVICE}
    provider = TracerProvider(resource=Resource(attributes).merge(_environment_resource(Resource)))
    provider.add_span_processor(BatchSpanProcessor(instance))
    return provider


def _environment_resource(resource: Any) -> Any:
    """Return the attributes that the environment states."""
    stated = resource.create()
    if str(stated.attributes.get("service.name", "")).startswith("unknown_service"):
        return resource({key: value for key, value in stated.attributes.items() if key != "service.name"})
    return stated
