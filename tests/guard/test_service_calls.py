"""Requests of services as calls: messages, templates of resources, queries and bodies."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from sessauth.errors import UsageError
from sessauth.guard.services.methods import ServiceMethod
from sessauth.guard.services.presented import bearer, one_proof
from sessauth.guard.services.routes import (
    Places,
    ResourceTemplate,
    RouteTable,
    ServiceRoute,
    require_json,
    route_arguments,
)
from sessauth.scopes.call_arguments import canonical
from tests.guard.shop import OrderRequest

REFUND = ServiceMethod("write", "orders/{order_id}")


def test_a_64_bit_integer_is_a_number() -> None:
    """So that a condition can compare it; the largest keeps all its digits."""
    call = REFUND.call(OrderRequest(order_id="17", amount=2**63 - 1, limit={"value": 2**64 - 1}))

    assert b'"amount":9223372036854775807' in call.arguments
    assert b'"limit":18446744073709551615' in call.arguments


def test_defaults_are_there_and_what_has_presence_only_if_set() -> None:
    """The handler reads false and 0, so a condition can too."""
    call = REFUND.call(OrderRequest(order_id="17"))

    assert call == (
        "write",
        "orders/17",
        b'{"amount":0,"data":"","kind":"KIND_UNSPECIFIED","order_id":"17","rate":0,"rush":false}',
    )


def test_each_kind_of_field_has_its_json() -> None:
    """Enums by name, bytes in base64, maps with texts as names, messages as objects."""
    request = OrderRequest(
        order_id="17",
        kind=1,
        data=b"\xff\x00",
        rate=1.5,
        note="",
        tags=["a", "b"],
        counts={-3: 4},
        inner={"order_id": "18"},
        at={"seconds": 5},
    )
    request.extra.update({"deep": [1, {"x": None}, True]})

    arguments = REFUND.call(request).arguments
    for member in (
        *(b'"kind":"KIND_GIFT"', b'"data":"/wA="', b'"rate":1.5', b'"note":""', b'"tags":["a","b"]'),
        *(b'"counts":{"-3":4}', b'"at":{"nanos":0,"seconds":5}', b'"extra":{"deep":[1,{"x":null},true]}'),
    ):
        assert member in arguments


def test_an_unknown_value_of_an_enum_is_its_number() -> None:
    """It has no name."""
    assert b'"kind":7' in REFUND.call(OrderRequest(order_id="17", kind=7)).arguments


def test_a_struct_is_the_object_that_it_stands_for() -> None:
    """Also as the whole message."""
    request = struct_pb2.Struct()
    request.update({"order_id": "17", "amount": 5})

    assert REFUND.call(request) == ("write", "orders/17", b'{"amount":5,"order_id":"17"}')


@pytest.mark.parametrize("rate", [float("nan"), float("inf")])
def test_a_number_that_json_lacks_is_refused(rate: float) -> None:
    """NaN and the infinities."""
    with pytest.raises(UsageError):
        REFUND.call(OrderRequest(order_id="17", rate=rate))


def test_what_is_no_message_is_refused() -> None:
    """A handler without a deserializer is given bytes."""
    with pytest.raises(TypeError, match="bytes"):
        REFUND.call(b"\x0a\x0217")


@pytest.mark.parametrize("text", ["", "a//b", "/a", "a/", "a/{b", "a/b}", "a/x{b}", "{a b}", "{}"])
def test_a_template_that_can_not_be_read(text: str) -> None:
    """A place is a whole segment."""
    with pytest.raises(UsageError):
        ResourceTemplate(text)


@pytest.mark.parametrize(
    ("template", "values", "resource"),
    [
        ("orders/{id}", {"id": "17"}, "orders/17"),
        ("orders/{id}", {"id": 17}, "orders/17"),
        ("orders/{order.id}/lines", {"order": {"id": "a b"}}, "orders/a b/lines"),
        ("files/{path*}", {"path": "a/b/c"}, "files/a/b/c"),
        ("orders", {}, "orders"),
    ],
)
def test_a_template_is_filled(template: str, values: dict[str, Any], resource: str) -> None:
    """Texts and whole numbers."""
    assert ResourceTemplate(template).fill(values) == resource


@pytest.mark.parametrize(
    "value", [None, "", ".", "..", "a/b", "/", True, 1.0, [], {}, b"17"], ids=lambda value: repr(value)
)
def test_a_value_that_is_no_segment_is_refused(value: object) -> None:
    """So that no value changes the shape of the resource."""
    with pytest.raises(UsageError):
        ResourceTemplate("orders/{id}/lines").fill({"id": value})
    with pytest.raises(UsageError):
        ResourceTemplate("orders/{id}/lines").fill({})


@pytest.mark.parametrize("value", ["", "a//b", "a/", "/a", "../a", "a/../b", "a/."])
def test_a_path_in_a_resource_takes_no_steps(value: str) -> None:
    """Each of its segments is one."""
    with pytest.raises(UsageError):
        ResourceTemplate("files/{path*}").fill({"path": value})


@given(st.text(), st.text())
def test_a_filled_resource_has_the_segments_of_its_template(first: str, second: str) -> None:
    """No value is more or less than its segment."""
    try:
        resource = ResourceTemplate("a/{first}/b/{second}").fill({"first": first, "second": second})
    except UsageError:
        return
    assert resource.split("/") == ["a", first, "b", second]


def test_one_bearer_token_and_one_proof() -> None:
    """Two are none, or refused."""
    assert bearer(["Bearer t"]) == bearer(["bearer  t "]) == "t"
    assert bearer([]) == bearer(["Bearer a", "Bearer b"]) == bearer(["Basic x"]) == ""
    assert (one_proof([]), one_proof([" p "])) == ("", "p")
    with pytest.raises(UsageError):
        one_proof(["p", "p"])


@pytest.mark.parametrize(
    ("query", "body", "arguments"),
    [
        (b"", b"", b"{}"),
        (b"a=1&b=", b"", b'{"?a":"1","?b":""}'),
        (b"", b'{ "amount": 1.10 }', b'{"amount":1.10}'),
        (b"z=%C3%A4+b", b'{"amount":1E400}', '{"?z":"ä b","amount":1E400}'.encode()),
        (b"a=1", b"{}", b'{"?a":"1"}'),
        (b"a=1", b" { } ", b'{"?a":"1"}'),
    ],
)
def test_arguments_of_a_query_and_a_body(query: bytes, body: bytes, arguments: bytes) -> None:
    """Their members together; numbers stay as they were written."""
    assert route_arguments(query, body, Places()) == arguments


@pytest.mark.parametrize(
    ("query", "body"),
    [
        (b"a=1&a=2", b""),
        (b"a=1&%61=2", b""),
        (b"a=1", b'{"a":1}'),
        (b"a=1", b'{"\\u0061":1}'),
        (b"", b'{"a":1,"a":2}'),
        (b"", b"[1]"),
        (b"", b'{"a":NaN}'),
        (b"", b'{"a":1}{"a":2}'),
        (b"", b"\xef\xbb\xbf{}"),
        (b"", b'{"a":"\xff"}'),
        (b"a=%ff", b""),
        (b"a=\xff", b""),
        (b"&".join(b"a%d=1" % number for number in range(1001)), b""),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(query: bytes, body: bytes) -> None:
    """A name that stands twice, above all."""
    with pytest.raises(UsageError):
        route_arguments(query, body, Places())


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8")), st.integers() | st.text(st.characters(codec="utf-8"))
    ),
    st.dictionaries(st.text(st.characters(codec="ascii")), st.text(st.characters(codec="utf-8"))),
)
def test_arguments_are_those_of_both_or_refused(body: dict[str, Any], query: dict[str, str]) -> None:
    """Any names: refused exactly if one stands in both, or begins with the mark of the query's."""
    import json
    from urllib.parse import urlencode

    raw, text = urlencode(query).encode(), json.dumps(body).encode()
    if body.keys() & query.keys() or any(name.startswith("?") for name in (*body, *query)):
        with pytest.raises(UsageError):
            route_arguments(raw, text, Places())
    else:
        marked = {f"?{name}": value for name, value in query.items()}
        assert route_arguments(raw, text, Places()) == canonical({**body, **marked})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": ["text/plain"]},
        {"content-type": ["application/x-www-form-urlencoded"]},
        {"content-type": ["application/json", "application/json"]},
        {"content-type": ["application/json; charset=utf-16"]},
        {"content-type": ["application/jsonp"]},
        {"content-type": ["application/json"], "content-encoding": ["gzip"]},
    ],
)
def test_a_body_that_is_not_plain_json_is_refused(headers: dict[str, list[str]]) -> None:
    """Another reader could read something else in it."""
    with pytest.raises(UsageError):
        require_json(headers)


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=UTF-8", "application/a.b+json"]
)
def test_a_body_that_is_json(kind: str) -> None:
    """The charset may be stated."""
    headers = {"content-type": [kind], "content-encoding": ["identity"]}

    try:
        require_json(headers)
    except UsageError as error:
        pytest.fail(str(error))


def test_routes_are_found_in_their_order() -> None:
    """The first that matches counts, as in a framework; HEAD is answered by GET."""
    table = RouteTable(
        [
            ServiceRoute("GET", "/orders/me", "read", "me"),
            ServiceRoute("GET", "/orders/{order_id:int}", "read", "orders/{order_id}"),
            ServiceRoute("GET", "/files/{path:path}", "read", "files/{path*}"),
        ]
    )

    assert table.call("GET", "/orders/me", b"", b"").resource == "me"
    assert table.call("HEAD", "/orders/17", b"", b"").resource == "orders/17"
    assert table.call("GET", "/files/a/b", b"", b"").resource == "files/a/b"
    for method, path in (("POST", "/orders/me"), ("GET", "/orders/17/"), ("GET", "/orders/"), ("GET", "/x")):
        with pytest.raises(UsageError):
            table.call(method, path, b"", b"")
    with pytest.raises(UsageError):
        table.call("GET", "/files/../a", b"", b"")


PATHS = [
    *("/a", "/{x}", "/{x:int}", "/{x:float}", "/{x:uuid}", "/{x:path}", "/{x:str}"),
    *("/a/{x:path}", "/a/{x}", "/{x}/{y:int}", "/a/{x:int}.json"),
]
TEXTS = [
    *("/a", "/a/", "/a\n", "/b", "/1", "/1\n", "/1.5", "/1.", "/", "", "/a/b", "/a/b/c", "/a/1", "/a/1.json"),
    *("/a\nb", "/a/b\nc", "/\u0661", "/01234567-89ab-cdef-0123-456789abcdef", "/a//b", "/A", "/a/1\n"),
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_route_is_the_one_that_starlette_calls(text: str) -> None:
    """A request is judged as the route that answers it, or refused."""
    routing = pytest.importorskip("starlette.routing", reason="compared where Starlette is installed")
    scope = {"type": "http", "method": "GET", "path": text}
    for first, second in itertools.permutations(PATHS, 2):
        table = RouteTable([ServiceRoute("GET", path, "read", "x") for path in (first, second)])
        answering = [
            path for path in (first, second) if routing.Route(path, print).matches(scope)[0].value == 2
        ]
        found = table.find("GET", text)
        if found is not None:
            assert answering[:1] == [found[0].path]
        else:
            assert answering == [] or "\n" in text


@pytest.mark.parametrize("path", ["orders", "/orders/{", "/orders/{a b}", "/{a}/{a}", "/{a:other}"])
def test_a_path_that_can_not_be_read(path: str) -> None:
    """It begins with a slash, and each place has a name of its own."""
    with pytest.raises(UsageError):
        ServiceRoute("GET", path, "read", "x")
