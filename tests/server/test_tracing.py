"""Spans of calls: they continue the caller's trace, say what was decided, and nothing that is secret."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sessauth.client import AsyncClient, Client
from sessauth.errors import ConfigError
from sessauth.server import config as server_config
from sessauth.server import log
from sessauth.server.rpc.tracing import Tracing, open_tracing
from sessauth.server.sections import TracingSettings
from sessauth.v1 import authorization_service_pb2 as checks
from sessauth.v1 import session_service_pb2 as sessions
from tests.support import span_capture as spans
from tests.support.scrape import Traffic
from tests.support.service import Caller, RpcError, Service, running, wait_until
from tests.support.span_capture import Spans

# The server starts its workers.
pytestmark = pytest.mark.slow

CHECK = "AuthorizationService/Check"
FORWARD = "ForwardService/Forward"
TRACER = TracerProvider().get_tracer("tests")


class NeedsMore(InMemorySpanExporter):
    """An exporter that can't be made without an argument."""

    def __init__(self, endpoint: str) -> None:
        """Take where to send them."""
        super().__init__()


@dataclass
class Traced:
    """A server with a worker that sends spans, and the spans that it sent."""

    service: Service
    spans: Spans
    worker: Caller
    lines: io.StringIO

    def flush(self) -> None:
        """Have the control process send what it has; the worker does it by itself, ten times a second."""
        control = self.service.control
        assert control is not None and control._tracing is not None
        control._tracing._own.force_flush()

    def one(self, trace_id: str, rpc: str) -> dict[str, object]:
        """Wait for the only span of an RPC in a trace."""
        self.flush()
        assert wait_until(lambda: len(self.spans.of(trace_id, rpc)) == 1), self.spans.of(trace_id, rpc)
        return self.spans.of(trace_id, rpc)[0]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """The server, whose spans go to a file."""
    file = tmp_path_factory.mktemp("spans") / "spans.jsonl"
    root = logging.getLogger()
    handlers, level, lines = root.handlers[:], root.level, io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(spans.FILE, str(file))
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        log.configure("INFO", lines)
        with running(server={"workers": 1}, tracing={"enabled": True, "exporter": spans.EXPORTER}) as service:
            assert service.control is not None and service.control.supervisor.wait_ready(60)
            worker = service.caller(
                service.operator.credential, target=f"unix:{service.made.home}/run/check-0.sock"
            )
            yield Traced(service, Spans(file), worker, lines)
    root.handlers[:] = handlers
    root.setLevel(level)


@contextmanager
def in_trace() -> Iterator[tuple[str, str, tuple[tuple[str, str], ...]]]:
    """A trace of the caller's: its id, the id of the caller's span, and what tells both in metadata."""
    with TRACER.start_as_current_span("agent step") as span:
        context = span.get_span_context()
        ids = format(context.trace_id, "032x"), format(context.span_id, "016x")
        yield (*ids, (("traceparent", f"00-{ids[0]}-{ids[1]}-01"),))


def test_a_span_continues_the_clients_trace(traced: Traced) -> None:
    """The blocking client tells the current trace; the server's span is a child of the caller's."""
    made = traced.service.made
    credential = made.credential_file.read_text().strip()
    with Client(str(made.socket), credential, trace=True) as client, in_trace() as (trace_id, span_id, _):
        session = client.open_session(subject="agent-7", ceiling=["read:files/**"])
    assert session.subject == "agent-7"

    span = traced.one(trace_id, "SessionService/OpenSession")
    assert (span["parent"], span["kind"], span["status"]) == (span_id, "SERVER", "UNSET")
    assert span["attributes"] == {
        "rpc.system.name": "grpc",
        "rpc.method": "sessauth.v1.SessionService/OpenSession",
        "rpc.response.status_code": "OK",
        "sessauth.process": "control",
    }
    assert span["resource"]["service.name"] == "sessauth"  # type: ignore[index]


def test_the_client_of_asyncio_tells_its_trace_too(traced: Traced) -> None:
    """Over the same transport code, each call the trace that is current when it is made."""
    made = traced.service.made

    async def ask() -> str:
        credential = made.credential_file.read_text().strip()
        async with AsyncClient(str(made.socket), credential, trace=True) as client:
            with in_trace() as (trace_id, _, _):
                await client.list_sessions()
            return trace_id

    assert traced.one(asyncio.run(ask()), "SessionService/ListSessions")["kind"] == "SERVER"


def test_a_check_says_stage_reason_and_revision(traced: Traced) -> None:
    """The outcome of one call, the counts of a batch; in the worker that judged."""
    traffic = Traffic(traced.service.operator)
    _, token = traffic.open()
    with in_trace() as (trace_id, _, metadata):
        item = checks.CheckItem(token=token, action=b"write", resource=b"files/a")
        decision = traced.worker.call(
            CHECK,
            checks.CheckRequest(item=item, audience="gw"),
            metadata=(*traced.worker.metadata, *metadata),
        ).decision
        batch = checks.CheckBatchRequest(items=[item, item], audience="gw")
        traced.worker.call(
            "AuthorizationService/CheckBatch", batch, metadata=(*traced.worker.metadata, *metadata)
        )

    attributes = traced.one(trace_id, CHECK)["attributes"]
    assert attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": f"sessauth.v1.{CHECK}",
        "rpc.response.status_code": "OK",
        "sessauth.process": "worker-0",
        "sessauth.reason": "OUT_OF_SCOPE",
        "sessauth.stage": "scope",
        "sessauth.revision": decision.revision,
    }
    attributes = traced.one(trace_id, "AuthorizationService/CheckBatch")["attributes"]
    assert (attributes["sessauth.items"], attributes["sessauth.denied"]) == (2, 2)  # type: ignore[index]


def test_what_a_worker_hands_on_is_in_the_same_trace(traced: Traced) -> None:
    """The control process's span is a child of the worker's, and both say the writer's decision."""
    traffic = Traffic(traced.service.operator)
    _, token = traffic.open()
    with in_trace() as (trace_id, span_id, metadata):
        item = checks.CheckItem(token=token, action=b"read", resource=b"files/a", permit_ms=1_000)
        request = checks.CheckRequest(item=item, audience="gw")
        metadata = (*traced.worker.metadata, *metadata)
        assert traced.worker.call(CHECK, request, metadata=metadata).decision.allowed

    worker, control = traced.one(trace_id, CHECK), traced.one(trace_id, FORWARD)
    assert worker["parent"] == span_id
    assert control["parent"] == worker["span"]
    for span in (worker, control):
        assert span["attributes"]["sessauth.reason"] == "ALLOWED"  # type: ignore[index]


def test_refused_calls_have_a_span_too(traced: Traced) -> None:
    """A stranger's, and one with a field at fault: with gRPC's code, and our own word."""
    for caller, word, code in (
        (traced.service.caller(""), "UNAUTHENTICATED", "UNAUTHENTICATED"),
        (traced.service.operator, "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
    ):
        request = sessions.GetSessionRequest(session_id=b"short")
        with in_trace() as (trace_id, _, metadata), pytest.raises(RpcError):
            caller.call("SessionService/GetSession", request, metadata=(*caller.metadata, *metadata))
        span = traced.one(trace_id, "SessionService/GetSession")
        attributes = span["attributes"]
        assert attributes["rpc.response.status_code"] == code  # type: ignore[index]
        assert attributes["error.type"] == word  # type: ignore[index]
        # The caller's mistake is no fault of the server.
        assert span["status"] == "UNSET"


def test_a_stream_has_one_span(traced: Traced) -> None:
    """One span covers begin and end, on any threads."""
    caller = traced.service.operator
    _, token = Traffic(caller).open()
    item = checks.CheckItem(token=token, action=b"read", resource=b"files/a")
    requests = [checks.CheckStreamRequest(id=number, item=item, audience="gw") for number in range(3)]
    with in_trace() as (trace_id, _, metadata):
        rpc, metadata = "AuthorizationService/CheckStream", (*caller.metadata, *metadata)
        answers = list(caller.stream(rpc, iter(requests), metadata=metadata))

    assert [answer.decision.allowed for answer in answers] == [True] * 3
    assert traced.one(trace_id, rpc)["kind"] == "SERVER"


def test_what_is_logged_names_the_trace(traced: Traced) -> None:
    """Each line that a call causes has its trace's id; a line outside of calls has none."""
    caller = traced.service.operator
    with in_trace() as (trace_id, _, metadata):
        request = sessions.OpenSessionRequest(subject="agent-7", ceiling=["read:files/**"])
        caller.call("SessionService/OpenSession", request, metadata=(*caller.metadata, *metadata))
    log.event(logging.INFO, "outside")

    lines = [json.loads(line) for line in traced.lines.getvalue().splitlines()]
    [called] = [line for line in lines if line.get("trace_id") == trace_id]
    assert (called["event"], called["outcome"]) == ("call", "OK")
    assert "trace_id" not in lines[-1]


def test_spans_hold_no_secrets(traced: Traced) -> None:
    """No token, argument, subject, session, resource or credential, in whatever part of a span."""
    caller = traced.service.operator
    session_id, token = Traffic(caller).open(subject="somebody-known")
    item = checks.CheckItem(
        token=token, action=b"read", resource=b"files/payroll", arguments=b'{"iban":"DE00"}'
    )
    with in_trace() as (trace_id, _, metadata):
        request = checks.CheckRequest(item=item, audience="gw")
        caller.call(CHECK, request, metadata=(*caller.metadata, *metadata))
    traced.one(trace_id, CHECK)

    text = traced.spans.file.read_text("utf-8")
    words = ["sessauth_token", "sessauth_key", "iban", "payroll", "somebody-known", session_id.hex()]
    assert [word for word in [*words, token[-40:].decode("latin1")] if word in text] == []


@pytest.mark.parametrize("stated", ["", "00-zz-zz-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_call_without_a_trace_begins_one(traced: Traced, stated: str) -> None:
    """So does one whose traceparent is none."""
    caller = traced.service.operator
    before = len(traced.spans.read())
    metadata = (*caller.metadata, *((("traceparent", stated),) if stated else ()))
    caller.call("SessionService/ListSessions", sessions.ListSessionsRequest(), metadata=metadata)
    traced.flush()

    span = traced.spans.read()[-1]
    assert len(traced.spans.read()) > before
    assert span["parent"] == "" and int(span["trace"], 16)


def test_a_provider_that_the_process_has_is_used() -> None:
    """A provider as that of ``opentelemetry-instrument`` is used, and not shut down."""
    tracing = Tracing(TracingSettings(enabled=True), "control", trace.NoOpTracerProvider())
    try:
        assert tracing._own is None
    finally:
        tracing.close()


def test_tracing_needs_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package is named at the start, with what to install; for a client too."""
    with pytest.raises(ConfigError, match=r"tracing\.exporter: nowhere:Nothing can't be made"):
        open_tracing(TracingSettings(enabled=True, exporter="nowhere:Nothing"), "control")
    for function in ("os:system", "os:getcwd"):
        with pytest.raises(ConfigError, match=rf"tracing\.exporter: {function} is no SpanExporter"):
            open_tracing(TracingSettings(enabled=True, exporter=function), "control")
    with pytest.raises(ConfigError, match=r"tracing\.exporter: .*NeedsMore can't be made: .*endpoint"):
        open_tracing(TracingSettings(enabled=True, exporter=f"{__name__}:NeedsMore"), "control")
    with pytest.raises(ConfigError, match=r"tracing\.exporter: must be module:Class"):
        server_config.from_dict({"tracing": {"exporter": "nothing"}})

    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace.propagation.tracecontext", None)
    with pytest.raises(ConfigError, match=r"tracing\.enabled: .*pip install 'sessauth\[tracing\]'"):
        open_tracing(TracingSettings(enabled=True), "control")
    with pytest.raises(ConfigError, match=r"trace: .*pip install 'sessauth\[tracing\]'"):
        Client("/nowhere.sock", "", trace=True)


def test_nothing_is_loaded_that_is_not_asked_for(tmp_path: Path) -> None:
    """A server, a worker and a client with metrics and tracing off import nothing of the extras."""
    program = (
        "import sys, sessauth.client, sessauth.server.process.worker, sessauth.verifier.verifier\n"
        "from tests.support.service import running\n"
        "with running() as service:\n"
        "    client = sessauth.client.Client(\n"
        "        str(service.made.socket), service.made.credential_file.read_text().strip())\n"
        "    client.list_sessions(); client.close()\n"
        "    assert service.control._tracing is None and service.control.metrics is None\n"
        "extras = ('prometheus_client', 'opentelemetry', 'http.server')\n"
        "print([name for name in sys.modules if name.startswith(extras)])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )

    assert answer.stdout == "[]\n"
