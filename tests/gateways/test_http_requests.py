"""Plain HTTP requests: what they ask for, and which are refused."""

from __future__ import annotations

import pytest

from sessauth.errors import UsageError
from sessauth.gateways.request import Call, Fault, Refusal, RequestMapper
from tests.gateways.requests import BEARER, CATALOGUE, JSON, MAPPER, TOKEN, get, post


@pytest.mark.parametrize(("method", "action"), [("GET", "read"), ("HEAD", "read"), ("DELETE", "delete")])
def test_the_method_is_the_action(method: str, action: str) -> None:
    """A request without a body."""
    assert get("/v1/customers/7", method=method) == Call(TOKEN, "", action, "api/v1/customers/7", b"{}")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_the_members_of_a_body_are_arguments(method: str) -> None:
    """Their canonical form, together with those of the query, whose names no body can have."""
    mapped = MAPPER.map(method, "/v1/x?b=%20z&A=1", [BEARER, JSON], b'{ "c": 1.0, "a-a": [ ] }')

    assert mapped == Call(TOKEN, "", "write", "api/v1/x", b'{"?A":"1","?b":" z","a-a":[],"c":1}')


def test_an_empty_body_is_stated() -> None:
    """A body that was not shown would look like none."""
    empty = MAPPER.map("POST", "/v1/restart", [BEARER, ("content-length", "0")], b"")
    assert isinstance(empty, Call)
    hidden = MAPPER.map("POST", "/v1/restart", [BEARER], b"")
    assert isinstance(hidden, Refusal) and hidden.fault is Fault.PARTIAL_BODY


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/", "api"),
        ("/a", "api/a"),
        ("/a.b/c~d/@e", "api/a.b/c~d/@e"),
        ("/.well-known/x", "api/.well-known/x"),
        ("/a%20b/%C3%A4", "api/a b/ä"),
        ("/...", "api/..."),
    ],
)
def test_the_path_is_decoded_once(path: str, resource: str) -> None:
    """Segment by segment."""
    mapped = get(path)
    assert isinstance(mapped, Call) and mapped.resource == resource


@pytest.mark.parametrize(
    "path",
    [
        *("", "a", "//", "/a/", "/a//b", "//a", "/./a", "/a/..", "/a/../b", "/%2e%2e/a", "/%2E/a", "/.%2e/a"),
        *(
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a;x=1",
            "/a%3bb",
            "/a%253bb",
            "/a%25",
            "/%",
            "/%4",
            "/%zz",
        ),
        *("/a b", "/a%00b", "/a%0ab", "/ä", "/%ff", "/a#b", "/a%23b", "/a%3fb", "/a*", "/%2a", "/%EF%BC%8F"),
        *("/%E2%80%A5", "http://host/a", "/a\r\nb"),
        *("/%41" * 15_000, "/" + "a" * 60_000, "/" + "a/" * 32 + "a"),
        *("/%6dcp", "/MCP", "/mcp/", "/mcp/x", "/Mcp/x", "/mcp%20/../mcp"),
    ],
)
def test_a_path_that_servers_read_differently_is_refused(path: str) -> None:
    """Decoded, normalised, split or cut elsewhere; or another spelling of the endpoint of MCP."""
    mapped = get(path)
    assert isinstance(mapped, Refusal) and mapped.fault is Fault.PATH_FORM


@pytest.mark.parametrize(
    "query",
    [
        *(
            "a",
            "a=1&",
            "&a=1",
            "=1",
            "a=1&a=2",
            "a=1&A=2",
            "a=1;b=2",
            "a=1+2",
            "a=%",
            "a=%ff",
            "a=%00",
            "a[]=1",
        ),
        *("a[b]=1", "a.b=1", "%61=1", "ä=1", "a=ä", "a=1#b", "a= ", "a=%0a", "\u017f=1"),
        *("_method=DELETE", "a=1&_METHOD=DELETE", "x-http-method-override=DELETE"),
    ],
)
def test_a_query_that_servers_read_differently_is_refused(query: str) -> None:
    """Names twice, without a value, nested; plus signs; semicolons; names that are taken for the method."""
    mapped = get(f"/a?{query}")
    assert isinstance(mapped, Refusal) and mapped.fault is Fault.QUERY_FORM


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("GET", b'{"mode":"dry"}'), ("HEAD", b'{"mode":"dry"}'), ("DELETE", b'{"?mode":"dry"}')],
)
def test_a_name_of_the_query_is_bare_where_servers_read_no_body(method: str, arguments: bytes) -> None:
    """Some read one of a DELETE, so that another place may have the name there."""
    mapped = get("/v1/x?mode=dry", method=method)
    assert isinstance(mapped, Call) and mapped.arguments == arguments


@pytest.mark.parametrize("name", ["?mode", "\\u003fmode", "?"])
@pytest.mark.parametrize("path", ["/a", "/a?b=1"])
def test_a_member_of_a_body_is_no_argument_of_the_query(name: str, path: str) -> None:
    """One deeper in the body can't be taken for one."""
    mapped = post(b'{"%b":"dry"}' % name.encode(), path=path)
    assert isinstance(mapped, Refusal) and mapped.fault is Fault.BODY_FORM
    assert isinstance(post(b'{"a":{"%b":1}}' % name.encode(), path=path), Call)


def test_a_name_of_query_and_body_is_refused() -> None:
    """Names that differ in case count as one."""
    mapped = post(b'{"Path":1}', path="/a?path=1")
    assert isinstance(mapped, Refusal) and mapped.fault is Fault.QUERY_FORM


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"[1]",
            b"1",
            b"{}{}",
            b'{"a":1,"a":2}',
            b'{"a":1,"\\u0061":2}',
            b'{"a":NaN}',
            b"\xef\xbb\xbf{}",
            b"{",
        ),
        *(
            b'{"a":1,"A":2}',
            b'{"c":[{"k":1,"\xe2\x84\xaa":2}]}',
            b'{"_method":"DELETE"}',
            b'{"a":[{"\\u005fMETHOD":1}]}',
        ),
    ],
)
def test_a_body_that_is_not_one_strict_object_is_refused(body: bytes) -> None:
    """The same holds behind a query."""
    for path in ("/a", "/a?b=1"):
        mapped = post(body, path=path)
        assert isinstance(mapped, Refusal) and mapped.fault is Fault.BODY_FORM


def test_a_number_of_any_length_raises_nothing() -> None:
    """Python reads at most 4,300 digits."""
    mapped = post(b'{"n":%b}' % (b"1" * 9_000), path="/a?b=1")
    assert isinstance(mapped, Call) and mapped.arguments == b'{"?b":"1","n":%b}' % (b"1" * 9_000)


def test_a_query_and_a_body_that_are_too_large_together_are_refused() -> None:
    """Each alone is within the limit."""
    mapped = post(b'{"n":"%b"}' % (b"b" * 1_000_000), path=f"/a?x={'a' * 60_000}")
    assert isinstance(mapped, Refusal) and mapped.fault is Fault.BODY_FORM


@pytest.mark.parametrize("method", ["OPTIONS", "CONNECT", "TRACE", "get", "PROPFIND", ""])
def test_a_method_without_an_action_is_refused(method: str) -> None:
    """One in lower case is another method."""
    mapped = MAPPER.map(method, "/a", [BEARER, ("content-length", "0")], None)
    assert isinstance(mapped, Refusal) and mapped.fault is Fault.METHOD


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ([], Fault.NO_TOKEN),
        ([BEARER, BEARER], Fault.HEADER_FORM),
        ([BEARER, ("Authorization", "Bearer b")], Fault.HEADER_FORM),
        ([BEARER, ("x-sessauth-token", TOKEN)], Fault.TOKEN_FORM),
        ([("authorization", f"Bearer {TOKEN},Bearer {TOKEN}")], Fault.TOKEN_FORM),
        ([("authorization", "Basic YTpi")], Fault.TOKEN_FORM),
        ([("authorization", "Bearer ")], Fault.TOKEN_FORM),
        ([("authorization", b"Bearer \xff")], Fault.HEADER_FORM),
        ([BEARER, ("x-sessauth-proof", "a,b")], Fault.TOKEN_FORM),
        ([BEARER, ("x_sessauth_session", "00")], Fault.HEADER_FORM),
        ([BEARER, ("x-sessauth_session", "00")], Fault.HEADER_FORM),
        ([BEARER, ("mcp_name", "a")], Fault.HEADER_FORM),
        ([BEARER, ("x-http-method-override", "DELETE")], Fault.HEADER_FORM),
        ([BEARER, ("x-original-url", "/b")], Fault.HEADER_FORM),
        ([BEARER, ("upgrade", "websocket")], Fault.HEADER_FORM),
        ([BEARER, ("connection", "close, x-sessauth-session")], Fault.HEADER_FORM),
        ([BEARER, (":path", "/b")], Fault.HEADER_FORM),
        ([BEARER, (":method", "POST")], Fault.HEADER_FORM),
        ([BEARER, ("SCRIPT_NAME", "/a")], Fault.HEADER_FORM),
        ([BEARER, ("content-length", "1")], Fault.PARTIAL_BODY),
        ([BEARER, ("content-length", "+0")], Fault.HEADER_FORM),
        ([BEARER, ("content-length", "9" * 5000)], Fault.PARTIAL_BODY),
        ([BEARER, ("transfer-encoding", "chunked")], Fault.PARTIAL_BODY),
        ([BEARER, ("transfer-encoding", "gzip, chunked")], Fault.HEADER_FORM),
    ],
)
def test_a_request_with_such_headers_is_refused(headers: list[tuple[str, str | bytes]], fault: Fault) -> None:
    """Two tokens; names that CGI reads as ours; a method or path beside the request's; a body unseen."""
    mapped = MAPPER.map("GET", "/a", headers, None)
    assert isinstance(mapped, Refusal) and mapped.fault is fault


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ([("content-type", "text/plain")], Fault.BODY_TYPE),
        ([("content-type", "application/json; charset=utf-16")], Fault.BODY_TYPE),
        ([JSON, ("content-encoding", "gzip")], Fault.BODY_TYPE),
        ([], Fault.BODY_TYPE),
        ([JSON, ("content-length", "3")], Fault.PARTIAL_BODY),
    ],
)
def test_a_body_of_another_form_is_refused(headers: list[tuple[str, str]], fault: Fault) -> None:
    """Coded, of another type, or of another size."""
    mapped = MAPPER.map("POST", "/a", [BEARER, *headers], b"{}")
    assert isinstance(mapped, Refusal) and mapped.fault is fault


def test_a_body_where_none_is_read_is_refused() -> None:
    """A GET with a body; and a body of another size than the gateway counted."""
    mapped = MAPPER.map("GET", "/a", [BEARER, JSON], b"{}")
    assert isinstance(mapped, Refusal) and mapped.fault is Fault.BODY_FORM
    mapped = post(b"{}", path="/a", size=3)
    assert isinstance(mapped, Refusal) and mapped.fault is Fault.PARTIAL_BODY


def test_a_token_may_have_a_header_of_its_own() -> None:
    """A proof has one as well."""
    headers = [("X-Sessauth-Token", TOKEN), ("x-sessauth-proof", b"p1")]
    assert MAPPER.map("GET", "/a", headers, None) == Call(TOKEN, "p1", "read", "api/a", b"{}")


def test_without_an_api_other_paths_are_not_served() -> None:
    """Nor is any path without a catalogue."""
    for mapper in (RequestMapper(mcp={"/mcp": CATALOGUE}), RequestMapper()):
        mapped = mapper.map("GET", "/a", [BEARER], None)
        assert isinstance(mapped, Refusal) and mapped.fault is Fault.NOT_SERVED


@pytest.mark.parametrize("path", ["", "mcp", "/mcp/", "/m%63p", "/a//b", "/a?b"])
def test_an_endpoint_has_a_plain_path(path: str) -> None:
    """It is compared as it is."""
    with pytest.raises(UsageError):
        RequestMapper(mcp={path: CATALOGUE})


@pytest.mark.parametrize("base", ["mcp", "mcp/demo", "/api", "api/", "a//b", "*"])
def test_an_api_has_a_resource_of_its_own(base: str) -> None:
    """The resources of MCP stay apart."""
    with pytest.raises(UsageError):
        RequestMapper(http=base)
