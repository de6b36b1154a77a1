from __future__ import annotations

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

import sessauth
from sessauth.clock import SystemClock
from sessauth.errors import StateError
from sessauth.server import log
from sessauth.server.rpc.call import REFUSALS_PER_SECOND
from sessauth.v1 import session_service_pb2 as sessions
from tests.support.pool_calls import CountedCalls
from tests.support.service import Caller, RpcError, Service, running


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """The log lines of the test, as the server would write them."""
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    log.configure("INFO", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def test_an_event_is_one_json_line(lines: io.StringIO) -> None:
    """Time, level, event and fields; text with a line break stays one line."""
    log.event(logging.INFO, "serving", socket="/run/a\nb", number=3)

    [line] = lines.getvalue().splitlines()
    record = json.loads(line)
    assert record["at"].endswith("Z")
    assert (record["level"], record["event"]) == ("INFO", "serving")
    assert (record["socket"], record["number"]) == ("/run/a\nb", 3)


def test_what_libraries_log_is_an_event_too(lines: io.StringIO) -> None:
    """A sentence of somebody else is no event of its own: it is the message of one."""
    logging.getLogger("grpc._server").warning("something of %s", "gRPC")

    record = json.loads(lines.getvalue())
    assert datetime.fromisoformat(record["at"]).tzinfo is not None
    assert {key: record[key] for key in ("level", "event", "logger", "message")} == {
        "level": "WARNING",
        "event": "log",
        "logger": "grpc._server",
        "message": "something of gRPC",
    }


def test_events_are_words() -> None:
    """Each event of the server is one word, stated where it is logged."""
    found = [
        (path.name, node.lineno, ast.unparse(argument))
        for path in Path(sessauth.__file__).parent.joinpath("server").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"event", "log.event", "server_log.event", "LOGGER.error"}
        for argument in node.args[0 if "LOGGER" in ast.unparse(node.func) else 1 :][:1]
    ]

    assert len(found) >= 20
    assert [place for place in found if not re.fullmatch(r"'[a-z]+(_[a-z]+)*'", place[2])] == []


@pytest.mark.parametrize("kind", ["token", "secret", "key_operator"])
def test_what_looks_like_a_secret_is_cut(lines: io.StringIO, kind: str) -> None:
    """A token, a stored token or a credential in a field or a traceback never reaches the log."""
    secret = f"sessauth_{kind}_QUJDREVGR0g.abcdef"
    try:
        raise ValueError(secret)
    except ValueError:
        logging.getLogger("sessauth.server").exception("fault", extra={"fields": {"text": f"<{secret}>"}})

    assert "QUJDREVGR0g" not in lines.getvalue()
    assert "ValueError" in json.loads(lines.getvalue())["exception"]


def test_a_fault_is_logged_whole_and_told_as_nothing(
    service: Service, operator: Caller, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception of ours is INTERNAL without its text; the log has its traceback; the server goes on."""
    assert service.control is not None

    def broken(*_: object) -> None:
        raise RuntimeError("the inner detail")

    with monkeypatch.context() as patched:
        patched.setattr(service.control.writer, "page_of_sessions", broken)
        with pytest.raises(RpcError) as fault:
            operator.call("SessionService/ListSessions", sessions.ListSessionsRequest())

    assert (fault.value.code, fault.value.word) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "inner" not in fault.value.message
    assert "the inner detail" in lines.getvalue()
    operator.call("SessionService/ListSessions", sessions.ListSessionsRequest())


def test_changes_are_logged_and_reads_are_not(operator: Caller, lines: io.StringIO) -> None:
    """At INFO a change has a line with who and what; reads and health have none."""
    request = sessions.OpenSessionRequest(subject="s", ceiling=["read:a"])
    opened = operator.call("SessionService/OpenSession", request).session
    operator.call("SessionService/GetSession", sessions.GetSessionRequest(session_id=opened.id))
    operator.call("Health/Check", health_pb2.HealthCheckRequest())

    records = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [(r["event"], r["principal"], r["outcome"]) for r in records] == [("call", "operator", "OK")]
    assert records[0]["method"] == "/sessauth.v1.SessionService/OpenSession"


def test_lines_say_where_a_call_came_from_and_of_which_session(
    service: Service, operator: Caller, lines: io.StringIO
) -> None:
    """Changes and refusals name the peer, and the session where the message names one."""
    request = sessions.OpenSessionRequest(subject="s", ceiling=["read:a"])
    opened = operator.call("SessionService/OpenSession", request).session
    operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=opened.id))
    for unknown in (bytes(16), b"no id"):
        with pytest.raises(RpcError):
            operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=unknown))
    with pytest.raises(RpcError):
        service.caller().call("SessionService/ListSessions", sessions.ListSessionsRequest())

    records = [json.loads(line) for line in lines.getvalue().splitlines()]
    told = [(each["event"], each["outcome"], each.get("session")) for each in records]
    assert told == [
        ("call", "OK", opened.id.hex()),
        ("call", "OK", opened.id.hex()),
        ("refused", "NOT_FOUND", bytes(16).hex()),
        ("refused", "INVALID_ARGUMENT", None),
        ("refused", "UNAUTHENTICATED", None),
    ]
    assert all(each["peer"].startswith("unix:") for each in records)
    assert [each["level"] for each in records] == ["INFO", "INFO", "INFO", "INFO", "WARNING"]


@pytest.mark.parametrize("cause", ["brake", "stale", "key", "clock"])
def test_every_cause_of_not_being_ready_is_logged_once(lines: io.StringIO, cause: str) -> None:
    """The brake, a passed bound, a key, a clock: one error that says which, and one line when it is over."""
    with running() as started:
        control = started.control
        assert control is not None
        with pytest.MonkeyPatch.context() as patched:
            if cause == "brake":
                control.writer._brake.engage("drill", by_hand=True)
            elif cause == "stale":
                control.writer._brake.deny_now()
            elif cause == "key":
                patched.setattr(control.keyring, "newest_active", lambda keys: None)
            else:
                patched.setattr(control.writer, "now_ms", _suspect)
            for _ in range(3):
                control.readiness.report()
            assert not control.is_ready()
        if cause == "brake":
            control.writer._brake.release(by_hand=True)
        elif cause == "stale":
            control.writer._brake.fresh_until(SystemClock().steady_ms() + 30_000)
        control.readiness.report()
        assert control.is_ready()

    records = [json.loads(line) for line in lines.getvalue().splitlines()]
    found = [each for each in records if each["event"] in ("not_ready", "ready")]
    assert [(each["level"], each["event"]) for each in found] == [("ERROR", "not_ready"), ("INFO", "ready")]
    words = {
        "brake": "set by hand|drill",
        "stale": "not known to be current",
        "key": "no active issuer key",
        "clock": "the clock jumped",
    }
    assert re.search(words[cause], found[0]["error"])


def _suspect() -> int:
    raise StateError("the clock jumped")


def test_a_flood_of_refusals_is_counted_not_logged(
    service: Service, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusals beyond 50 a second have no line of their own, and every one is counted."""
    assert service.control is not None
    stranger = service.caller()
    counted = CountedCalls()
    monkeypatch.setattr(service.control.serving.accounting, "_meter", counted)
    for _ in range(300):
        with pytest.raises(RpcError):
            stranger.call("SessionService/GetSession", sessions.GetSessionRequest(session_id=bytes(16)))

    records = [json.loads(line) for line in lines.getvalue().splitlines()]
    seconds = len({record["at"][:19] for record in records}) + 1
    assert sum(record["event"] == "refused" for record in records) <= REFUSALS_PER_SECOND * seconds
    assert counted == {("/sessauth.v1.SessionService/GetSession", "UNAUTHENTICATED"): 300}
