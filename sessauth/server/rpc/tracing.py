"""Spans of calls for OpenTelemetry, where ``[tracing]`` asks for them; else nothing here is imported.

A call's span continues the trace that its metadata names (W3C ``traceparent``). It says which RPC it was,
how it ended, and of a check the stage, the reason and the revision: no token, no argument, nothing of a
session.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ...errors import ConfigError
from ...reasons import Reason, Stage
from .. import log
from ..config.sections import TracingSettings
from ..status import CODES, word_of
from ..writer.port import RESPONSES
from .call import CallContext

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

INSTALL: Final = "pip install 'sessauth[tracing]'"
SERVICE: Final = "sessauth"
TRACEPARENT: Final = ("traceparent", "tracestate")
# gRPC's own codes for faults of the server; the others are the caller's, and no error of the span.
SERVER_FAULTS: Final = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE"})

Metadata = tuple[tuple[str, str | bytes], ...]
Told = Callable[[CallContext], object]
Refused = Callable[[CallContext, BaseException], object]
Answer = Callable[[bytes, CallContext], bytes]


class Tracing:
    """Makes a span for each call of one process."""

    def __init__(
        self, settings: TracingSettings, process: str, provider: TracerProvider | None = None
    ) -> None:
        """Send spans to ``provider``; None: to the one that the process has, else to one by ``settings``.

        ``process`` is told with each span. Raises ConfigError if OpenTelemetry or the exporter is not there.
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

    def around(
        self, admit: Told, answered: Told, refused: Refused, *, one_thread: bool
    ) -> tuple[Told, Told, Refused]:
        """Return what begins a call, and what is told of its end, with a span around it.

        ``one_thread`` says that it begins and ends on one: then what is logged meanwhile names the trace.
        """

        def begin(call: CallContext) -> None:
            self.begin(call, attach=one_thread)
            admit(call)

        def end(call: CallContext) -> None:
            answered(call)
            self._end(call, "OK")

        def end_refused(call: CallContext, error: BaseException) -> None:
            refused(call, error)
            self._end(call, word_of(error))

        return begin, end, end_refused

    def begin(self, call: CallContext, *, attach: bool) -> None:
        """Begin the span of a call."""
        metadata = call.context.invocation_metadata() or ()
        carried = {key: value for key, value in metadata if key in TRACEPARENT and isinstance(value, str)}
        parent = self._carrier.extract(carried)
        method = call.method.lstrip("/")
        span = self._tracer.start_span(
            method,
            context=parent,
            kind=self._trace.SpanKind.SERVER,
            attributes={
                "rpc.system.name": "grpc",
                "rpc.method": method,
                "sessauth.process": self._process,
            },
        )
        token = self._context.attach(self._trace.set_span_in_context(span)) if attach else None
        call.span = (span, token)

    def refused(self, call: CallContext, error: BaseException, refused: Refused) -> None:
        """Make the span of a call that was refused before it began."""
        self.begin(call, attach=True)
        refused(call, error)
        self._end(call, word_of(error))

    def described(self, kind: str, answer: Answer) -> Answer:
        """Return what answers a unary check, and says in the call's span what its response says.

        ``kind`` is the kernel's word for the request.
        """

        def answer_and_describe(data: bytes, call: CallContext) -> bytes:
            response = answer(data, call)
            span = _span_of(call)
            if span is not None and span.is_recording():
                span.set_attributes(_decisions(kind, response))
            return response

        return answer_and_describe

    def carry(self, metadata: Metadata, call: CallContext) -> Metadata:
        """Return metadata with which another process continues the call's trace."""
        span = _span_of(call)
        if span is None:
            return metadata
        carried: dict[str, str] = {}
        self._carrier.inject(carried, self._trace.set_span_in_context(span))
        return (*metadata, *carried.items())

    def close(self) -> None:
        """Send what was not sent yet."""
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
        """Return the trace that this thread works for, in hex; empty if there is none."""
        found = self._trace.get_current_span().get_span_context()
        return format(found.trace_id, "032x") if found.is_valid else ""


def _span_of(call: CallContext) -> Span | None:
    found: tuple[Span, object] | None = call.span
    return None if found is None else found[0]


def _decisions(kind: str, response: bytes) -> dict[str, str | int]:
    """Return what an encoded response to a check says, as attributes; of a batch the numbers of its items."""
    message = RESPONSES[kind].FromString(response)
    if kind == "batch":
        denied = sum(not decision.allowed for decision in message.decisions)
        return {"sessauth.items": len(message.decisions), "sessauth.denied": denied}
    decision = message.decision
    return {
        "sessauth.reason": Reason(decision.reason).name,
        "sessauth.stage": Stage(decision.stage).name.lower(),
        "sessauth.revision": decision.revision,
    }


def open_tracing(settings: TracingSettings, process: str) -> Tracing | None:
    """Return what makes spans, or None where none are asked for. Raises ConfigError."""
    return Tracing(settings, process) if settings.enabled else None


def _provider(exporter: str) -> Any:
    """Return a provider that sends spans in batches to a new exporter of that class."""
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
        made = kind()
    except Exception as error:
        raise ConfigError(f"tracing.exporter: {exporter} can't be made: {error}") from error
    # What OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say goes before this name.
    attributes: Mapping[str, str] = {"service.name": SERVICE}
    provider = TracerProvider(resource=Resource(attributes).merge(_stated(Resource)))
    provider.add_span_processor(BatchSpanProcessor(made))
    return provider


def _stated(resource: Any) -> Any:
    """Return what the environment says of this process."""
    stated = resource.create()
    if str(stated.attributes.get("service.name", "")).startswith("unknown_service"):
        return resource({key: value for key, value in stated.attributes.items() if key != "service.name"})
    return stated
