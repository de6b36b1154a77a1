"""``@grpc/grpc-js`` at a native worker: Node's own HTTP/2."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2

from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.interop_server import (
    BATCH,
    CHECK,
    INSTALLED,
    STREAM,
    InteropServer,
    interop_server,
    program,
)
from tests.support.watching import item

MODULE = INSTALLED / "node_modules" / "@grpc" / "grpc-js"
SCRIPT = Path(__file__).with_name("client.js")
OK, CANCELLED, INVALID_ARGUMENT, DEADLINE_EXCEEDED, UNAVAILABLE = 0, 1, 3, 4, 14


def _stream_request(number: int, token: bytes, *, watch: bool = False) -> bytes:
    request = pb.CheckStreamRequest(id=number, item=item(token), audience="gw", watch=watch)
    return request.SerializeToString()


@contextmanager
def _playing(play: str, served: InteropServer, transport: str, token: bytes) -> Iterator[Any]:
    """Run the script; yields a process whose lines are JSON."""
    node = program("node")
    if not MODULE.is_dir():
        pytest.skip(f"needs @grpc/grpc-js: npm install --prefix {INSTALLED} @grpc/grpc-js@1.14.7")
    arguments = b'{"text":"%s"}' % (b"a" * 11_400)
    large = [
        pb.CheckItem(token_index=1, action=b"read", resource=b"files/a", arguments=arguments)
        for _ in range(1000)
    ]
    requests = {
        "allowed": served.check(),
        "denied": served.check(b"logs"),
        "batch": served.batch(),
        "large": pb.CheckBatchRequest(items=large, tokens=[served.token], audience="gw").SerializeToString(),
        "survey": pb.ListAllowedRequest(
            token=served.token, candidates=[pb.Candidate(action=b"read", resource=b"files/a")], audience="gw"
        ).SerializeToString(),
        "first": _stream_request(1, token),
        "second": _stream_request(2, token),
        "third": _stream_request(3, token, watch=True),
    }
    settings = {
        "module": str(MODULE),
        "play": play,
        "target": served.target(transport),
        "authorization": dict(served.metadata(transport)).get("authorization"),
        "requests": {name: base64.b64encode(data).decode() for name, data in requests.items()},
        "check": CHECK,
        "batch": BATCH,
        "stream": STREAM,
        "survey": "/sessauth.v1.AuthorizationService/ListAllowed",
        "tls": {
            name: str(served.home / file)
            for name, file in (("ca", "ca.pem"), ("key", "client.key"), ("certificate", "client.pem"))
        }
        if transport == "tls"
        else None,
    }
    file = served.home / "settings.json"
    file.write_text(json.dumps(settings))
    file.chmod(0o600)
    pipe = subprocess.PIPE
    with subprocess.Popen([node, str(SCRIPT), str(file)], stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _next(process: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(process.stdout.readline())
    assert found["name"] == name
    return found


def _decision(text: str) -> pb.Decision:
    return pb.CheckResponse.FromString(base64.b64decode(text)).decision


def test_unary_calls_of_node_are_answered(served: InteropServer, transport: str) -> None:
    """Answers, errors with details, deadlines, 11 MiB, 500 at once."""
    with _playing("calls", served, transport, served.token) as process:
        assert _decision(_next(process, "allowed")["answer"]).allowed
        assert _decision(_next(process, "denied")["answer"]).reason == pb.REASON_OUT_OF_SCOPE
        for name, count in (("batch", 3), ("large", 1000)):
            data = base64.b64decode(_next(process, name)["answer"])
            assert len(pb.CheckBatchResponse.FromString(data).decisions) == count
        survey = pb.ListAllowedResponse.FromString(base64.b64decode(_next(process, "survey")["answer"]))
        assert list(survey.verdicts) == [pb.VERDICT_YES]
        assert _next(process, "health")["code"] == OK
        error = _next(process, "error")
        assert (error["code"], error["message"]) == (INVALID_ARGUMENT, "item: is required")
        info = error_details_pb2.ErrorInfo()
        status = status_pb2.Status.FromString(base64.b64decode(error["details"]))
        assert status.details[0].Unpack(info)
        assert (info.reason, info.domain) == ("INVALID_ARGUMENT", "sessauth")
        missing = _next(process, "no deadline")
        assert missing["code"] == INVALID_ARGUMENT
        assert b"DEADLINE_REQUIRED" in base64.b64decode(missing["details"])
        assert _next(process, "many")["codes"] == [OK] * 500


def test_streams_of_node_are_answered(served: InteropServer, transport: str) -> None:
    """Answers in order, a withdrawal, an end; a deadline that passes, a cancellation, a watch of health."""
    session_id, token = served.session()
    with _playing("streams", served, transport, token) as process:
        answers = [
            pb.CheckStreamResponse.FromString(base64.b64decode(text))
            for text in _next(process, "answers")["answers"]
        ]
        assert [(each.id, each.decision.allowed) for each in answers] == [(1, True), (2, True), (3, True)]
        served.end(session_id)
        process.stdin.write("ended\n")
        process.stdin.flush()
        (text,) = _next(process, "withdrawn")["answers"]
        withdrawn = pb.CheckStreamResponse.FromString(base64.b64decode(text))
        assert (withdrawn.id, withdrawn.withdrawn) == (3, True)
        assert _next(process, "end")["code"] == OK
        assert _next(process, "late")["code"] == DEADLINE_EXCEEDED
        assert _next(process, "cancelled")["code"] == CANCELLED
        assert len(_next(process, "health")["answers"]) == 1
        assert _next(process, "after")["code"] == OK


def _assert_codes(process: Any, last: int, among: set[int]) -> dict[str, Any] | None:
    """Read calls until one ends with ``last``; returns the stream's status if it came meanwhile."""
    stream = None
    for line in process.stdout:
        found = json.loads(line)
        if found["name"] == "stream":
            stream = found
            continue
        assert found["code"] in among
        if found["code"] == last:
            return stream
    raise AssertionError("the script ended")


def test_node_reaches_a_replaced_worker(served: InteropServer, transport: str) -> None:
    """The same client: UNAVAILABLE while there is none, then answered again."""
    with _playing("loop", served, transport, served.token) as process:
        _assert_codes(process, OK, {OK})
        served.replace_worker()
        for _ in range(50):
            _assert_codes(process, OK, {OK, UNAVAILABLE})
        process.stdin.write("over\n")
        process.stdin.flush()


def test_node_learns_of_a_drain(library: None) -> None:
    """A watched stream is ended with the word for it; calls are UNAVAILABLE after their last OK."""
    with interop_server() as served, _playing("loop", served, "unix", served.token) as process:
        _assert_codes(process, OK, {OK})
        served.drain()
        stream = _assert_codes(process, UNAVAILABLE, {OK, UNAVAILABLE})
        while stream is None:
            stream = _assert_codes(process, UNAVAILABLE, {UNAVAILABLE})
        assert stream["code"] == UNAVAILABLE
        assert b"SHUTTING_DOWN" in base64.b64decode(stream["details"])
        assert served.process.wait(30) == 0
