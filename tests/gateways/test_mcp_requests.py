"""Messages of MCP: which tool is called, and which messages are refused."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import pytest

from sessauth.gateways.request import Call, Fault, Refusal, TokenOnly
from sessauth.scopes.call_arguments import canonical
from tests.gateways.requests import (
    BEARER,
    CATALOGUE,
    JSON,
    LEGACY,
    MAPPER,
    MODERN,
    TOKEN,
    VERSION_META,
    call,
    get,
    message,
    post,
)

MODERN_META = {"_meta": {VERSION_META: "2026-07-28"}}


def _modern(body: Any, method: str, name: str | None = None) -> Any:
    named = () if name is None else (("mcp-name", name),)
    return post(body, MODERN, ("mcp-method", method), *named)


def test_a_tool_call_has_action_resource_facts_and_arguments() -> None:
    """The arguments in their canonical form."""
    mapped = post(call(arguments={"n": 3, "city": "Paris"}), LEGACY)

    action, resource, facts = CATALOGUE.ask("get_weather")
    assert mapped == Call(
        TOKEN, "", action, resource, b'{"city":"Paris","n":3}', facts, "tools/call", "get_weather", True, b"1"
    )


def test_a_message_names_its_session_of_mcp() -> None:
    """A call, the handshake, an answer, a stream and the end; none where the header is not there."""
    line = ("Mcp-Session-Id", "s-1")
    bodies = (call(), message("ping"), {"jsonrpc": "2.0", "id": 1, "result": {}})
    for mapped in (
        *(post(body, line) for body in bodies),
        get("/mcp", line),
        get("/mcp", line, method="DELETE"),
    ):
        assert isinstance(mapped, Call | TokenOnly) and mapped.mcp_session == "s-1"
    without = post(message("ping"))
    assert isinstance(without, TokenOnly) and without.mcp_session == ""


@pytest.mark.parametrize("values", [[""], ["a,b"], ["a b"], ["\xe4"], ["a" * 257], ["a", "a"]])
def test_an_id_that_two_readers_could_read_differently_is_refused(values: list[str]) -> None:
    """It would be bound as another one than the server's."""
    mapped = post(message("ping"), *(("mcp-session-id", value) for value in values))
    assert isinstance(mapped, Refusal) and mapped.fault is Fault.HEADER_FORM


def test_a_modern_call_repeats_method_and_name() -> None:
    """A name in base64 too."""
    assert isinstance(_modern(call(**MODERN_META), "tools/call", "get_weather"), Call)
    name = "wetter_für,alle"
    sentinel = f"=?base64?{base64.b64encode(name.encode()).decode()}?="
    mapped = _modern(call(name, **MODERN_META), "tools/call", sentinel)
    assert isinstance(mapped, Call) and mapped.tool == name


@pytest.mark.parametrize(
    "headers",
    [
        [("mcp-name", "get_weather")],
        [("mcp-method", "tools/call")],
        [("mcp-method", "tools/list"), ("mcp-name", "get_weather")],
        [("mcp-method", "tools/call"), ("mcp-name", "delete_repo")],
        [("mcp-method", "tools/call"), ("mcp-name", "=?base64?Z2V0X3dlYXRoZXI?=")],
        [("mcp-method", "tools/call"), ("mcp-name", "=?base64?Z2V0X3dlYXRoZXJ=?=")],
        [("mcp-method", "tools/call"), ("mcp-name", "Get_weather")],
        [("mcp-method", "tools/call"), ("mcp-name", "get_weather"), ("mcp-param-city", "Rome")],
    ],
)
def test_headers_that_disagree_with_the_body_are_refused(headers: list[tuple[str, str]]) -> None:
    """Missing ones too; with the code for which a client retries, and the message's id."""
    mapped = post(call(arguments={"city": "Paris"}, **MODERN_META), MODERN, *headers)
    assert isinstance(mapped, Refusal)
    assert (mapped.fault, mapped.request_id, mapped.mcp) == (Fault.HEADER_MISMATCH, b"1", True)


def test_the_version_is_stated_alike() -> None:
    """The header and _meta have the same one."""
    for headers in ((), (LEGACY,)):
        mapped = post(call(**MODERN_META), *headers)
        assert isinstance(mapped, Refusal) and mapped.fault is Fault.HEADER_MISMATCH
    mapped = post(call(), ("mcp-protocol-version", "2025-11-25,2026-07-28"))
    assert isinstance(mapped, Refusal) and mapped.fault is Fault.HEADER_FORM


def test_header_lines_twice_are_refused() -> None:
    """Lines that the gateway joined are two as well."""
    twice = [("mcp-name", "get_weather"), ("mcp-name", "get_weather")]
    for headers, joined in ((twice, False), ([("mcp-name", "get_weather,get_weather")], True)):
        mapped = post(call(), *headers, joined=joined)
        assert isinstance(mapped, Refusal) and mapped.fault is Fault.HEADER_FORM


def test_a_param_header_states_a_value_of_the_arguments() -> None:
    """A text, a number or a truth, at any depth."""
    arguments = {"a": {"b": ["x,y"]}, "n": 1.50, "t": True, "none": None}
    for value in ("x,y", "1.5", "true", "=?base64?eCx5?="):
        assert isinstance(post(call(arguments=arguments), ("mcp-param-q", value)), Call)
    for value in ("x", "1.50", "True", "null", ""):
        mapped = post(call(arguments=arguments), ("mcp-param-q", value))
        assert isinstance(mapped, Refusal) and mapped.fault is Fault.HEADER_MISMATCH
    twice = post(call(arguments=arguments), ("mcp-param-q", "true"), ("Mcp-Param-Q", "x,y"))
    assert isinstance(twice, Refusal) and twice.fault is Fault.HEADER_FORM


@pytest.mark.parametrize(
    "body",
    [
        message("initialize", {"protocolVersion": "2025-11-25"}),
        message("ping"),
        message("notifications/initialized", id=None),
        message("notifications/cancelled", {"requestId": 1}, id=None),
        message(None, id=7, result={"action": "accept"}),
        message(None, id=7, error={"code": 1, "message": ""}),
    ],
)
def test_the_handshake_needs_a_token_that_stands(body: Any) -> None:
    """Notifications and the client's answers need no more."""
    mapped = post(body)
    assert isinstance(mapped, TokenOnly) and mapped.token == TOKEN


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_streams_need_a_token_that_stands(method: str) -> None:
    """Headers of a message have no place there."""
    assert get("/mcp", method=method) == TokenOnly(TOKEN, "")
    mapped = get("/mcp", ("mcp-method", "tools/call"), method=method)
    assert isinstance(mapped, Refusal) and mapped.fault is Fault.HEADER_MISMATCH


def test_numbers_are_judged_as_values() -> None:
    """Each as a double that has the same value; digits beyond one are kept."""
    for text, judged in (("5.0", "5"), ("1.50e1", "15"), ("-0.0", "0"), ("0.1", "0.1"), ("1e22", "1e+22")):
        mapped = post(
            b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_weather",'
            b'"arguments":{"n":%s}}}' % text.encode()
        )
        assert isinstance(mapped, Call) and mapped.arguments == b'{"n":%s}' % judged.encode()
    for text in ("0.10000000000000000555", "1E+400", "123456789012345678901.5", "1e99999999999999999999"):
        mapped = post(
            b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_weather",'
            b'"arguments":{"n":%s}}}' % text.encode()
        )
        assert isinstance(mapped, Call)
        judged = json.loads(mapped.arguments, parse_float=str)["n"]
        assert judged == text or Decimal(judged) == Decimal(text)


def test_many_numbers_stay_as_they_were_written() -> None:
    """A stranger's body costs no more than reading it."""
    arguments = {"n": [0.5] * 2_000, "m": 5.0}
    mapped = post(call(arguments=arguments))
    assert isinstance(mapped, Call) and mapped.arguments == canonical(json.dumps(arguments))
    assert b'"m":5.0' in mapped.arguments


def test_any_token_that_stands_may_list_tools() -> None:
    """A list calls none of them."""
    assert isinstance(post(message("tools/list")), TokenOnly)


def test_other_methods_are_judged_with_their_params() -> None:
    """Members of _meta and of the protocol are no arguments."""
    retried = message("prompts/get", {"name": "p", "requestState": "x", "inputResponses": {"a": 1}})
    mapped = post(retried)
    assert isinstance(mapped, Call) and mapped.arguments == b'{"name":"p"}'
    mapped = post(message("resources/read", {"uri": "file:///a,b", "_meta": {"progressToken": 1}}))
    assert isinstance(mapped, Call)
    assert (mapped.action, mapped.resource, mapped.arguments) == (
        *("read", "mcp/demo/@resources/read", b'{"uri":"file:///a,b"}'),
    )
    mapped = _modern(message("tasks/get", {"taskId": "t1", **MODERN_META}), "tasks/get", "t1")
    assert isinstance(mapped, Call)
    mapped = _modern(message("tasks/get", {"taskId": "t1", **MODERN_META}), "tasks/get", "t2")
    assert isinstance(mapped, Refusal) and mapped.fault is Fault.HEADER_MISMATCH


def test_an_unknown_tool_is_refused_with_what_a_record_needs() -> None:
    """Its token, name and arguments."""
    mapped = post(call("rm_rf", {"a": 1}))
    assert isinstance(mapped, Refusal)
    assert mapped[0] is Fault.UNKNOWN_TOOL
    assert mapped[3:] == (b"1", TOKEN, "tools/call", "rm_rf", b'{"a":1}')


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b'"tools/call"'),
        json.dumps([call(), call("delete_repo")]).encode(),
        json.dumps(call()).encode() + json.dumps(call("delete_repo")).encode(),
        json.dumps(call()).encode() + b"\n" + b" " * 100 + b"{}",
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","\\u006dethod":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_weather","name":"delete_repo"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_weather","Name":"delete_repo"}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_weather","argumentſ":{}}}'.encode(),
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call"}',
        call(arguments={"amount": 5, "Amount": 5000}),
        call(arguments={"items": [{"k": 1, "\u212a": 2}]}),
        message(jsonrpc="1.0", params={"name": "get_weather"}),
        message(jsonrpc=None, params={"name": "get_weather"}),
        message(params=["get_weather"]),
        message(params={"name": ["get_weather"]}),
        message(params={"name": "get_weather", "arguments": []}),
        message(params={"name": "get_weather", "arguments": None}) | {"id": True},
        message(params={"name": "get_weather", "_meta": []}),
        message(params={"arguments": {}}),
        message(params={"name": ""}),
        message("tools/call"),
        message("tools/call", id=None),
        message("notifications/initialized"),
        message("tools/call", {"name": "get_weather"}, result={}),
        message("", {}),
        message("a b"),
        message(None, id=1, result={}, error={}),
        message(None, id=None, result={}),
        message(None, id=1, result={}, params={}),
        *(message("ping", id=each) for each in (1.5, True, [], "", "x" * 300, 10**18, -(10**18))),
        b'{"jsonrpc":"2.0","id":1e0,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":-0,"method":"ping"}',
    ],
)
def test_a_body_that_is_not_one_message_is_refused(body: Any) -> None:
    """Batches, duplicates, two documents, other spellings, answers that are requests, ids of no kind."""
    mapped = post(body, ("content-length", "0")) if body == b"" else post(body)
    assert isinstance(mapped, Refusal)
    assert mapped.fault in (Fault.BODY_FORM, Fault.BODY_TYPE)


@pytest.mark.parametrize(
    "name", ["io.sessauth/token", "io.sessauth/proof", "IO.Sessauth/x", "io.\u017fessauth/x"]
)
def test_a_token_in_meta_is_refused(name: str) -> None:
    """The gateway can't take it out of the body."""
    mapped = post(call(_meta={name: "x"}))
    assert isinstance(mapped, Refusal)
    assert (mapped.fault, mapped.request_id) == (Fault.META_TOKEN, b"1")


def test_a_number_of_any_length_raises_nothing() -> None:
    """Python reads at most 4,300 digits. The name is that of another parameter."""
    body = b'{"jsonrpc":"2.0","id":1,"method":"x/y","params":{"n":%b,"z":"a"}}' % (b"1" * 9_000)
    mapped = post(body, ("mcp-name", "a"))
    assert isinstance(mapped, Call) and mapped.resource == "mcp/demo/@x/y"


@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "HEAD"])
def test_the_endpoint_has_three_methods(method: str) -> None:
    """POST, GET and DELETE."""
    mapped = MAPPER.map(method, "/mcp", [BEARER, ("content-length", "0")], None)
    assert isinstance(mapped, Refusal) and mapped.fault is Fault.METHOD


def test_the_endpoint_has_no_query() -> None:
    """An empty one is refused too."""
    for path in ("/mcp?", "/mcp?a=1"):
        mapped = MAPPER.map("POST", path, [BEARER, JSON], json.dumps(call()).encode())
        assert isinstance(mapped, Refusal) and mapped.fault is Fault.QUERY_FORM


def test_a_message_without_a_token_keeps_its_id() -> None:
    """The answer needs it."""
    mapped = MAPPER.map("POST", "/mcp", [JSON], json.dumps(call()).encode())
    assert isinstance(mapped, Refusal)
    assert (mapped.fault, mapped.request_id) == (Fault.NO_TOKEN, b"1")
