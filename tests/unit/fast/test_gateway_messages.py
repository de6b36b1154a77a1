"""Messages that gateways pass on: JSON-RPC, and Envoy's requests, of any bytes."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth._fast._check import RpcMessage
from sessauth._fast._codec import ExtAuthzRequest
from sessauth._fast.codec.errors import FormError
from sessauth.gateways.extauthz.v1 import check_pb2 as pb
from tests.support.cases import CASES

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# Names that no gateway reads, which are left out.
PLAIN = (
    *("accept", "accept-encoding", "accept-language", "user-agent", "x-request-id", "x-forwarded-for"),
    *("x-forwarded-proto", "x-envoy-internal", ":authority", ":scheme", "traceparent", "cookie"),
)

NAMES = TEXTS.filter(bool) | st.sampled_from(PLAIN)


def _request(**fields: Any) -> pb.CheckRequest:
    return pb.CheckRequest(attributes=pb.AttributeContext(request=pb.Request(http=pb.HttpRequest(**fields))))


def _encoded(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))


@given(
    method=TEXTS,
    path=TEXTS,
    lines=st.lists(st.tuples(NAMES, st.binary(max_size=20)), max_size=6),
    body=st.none() | st.binary(max_size=40),
    size=st.integers(-1, 1 << 40),
    principal=TEXTS,
)
@settings(max_examples=300, deadline=None)
def test_protobuf_writes_what_is_read(
    method: str, path: str, lines: list[tuple[str, bytes]], body: bytes | None, size: int, principal: str
) -> None:
    """Every field, in both forms of header lines."""
    values = {pair[0]: pair[1].hex() for pair in lines}
    for joined in (False, True):
        request = _request(method=method, path=path, size=size)
        http = request.attributes.request.http
        if joined:
            http.headers.update(values)
        else:
            for name, value in lines:
                http.header_map.headers.add(key=name, raw_value=value)
        if body:
            http.raw_body = body
        request.attributes.source.principal = principal
        request.attributes.source.address.socket_address.address = "10.0.0.1"
        read = ExtAuthzRequest(_encoded(request))

        assert (read.method, read.path, read.size) == (method, path, size or -1)
        assert (read.body, read.principal, read.source) == (body or None, principal, "10.0.0.1")
        expected: list[Any] = sorted(values.items()) if joined else lines
        given = sorted(read.headers) if joined else read.headers
        assert given == [pair for pair in expected if pair[0] not in PLAIN]
        assert read.joined is (joined and bool(values))


def test_envoys_marker_is_read_in_both_forms() -> None:
    """A second one, or another value than false, is a part."""
    marker = "x-envoy-auth-partial-body"
    for values, partial in (([], None), (["false"], False), (["true"], True), (["false", "false"], True)):
        raw = _request(method="POST")
        for value in values:
            raw.attributes.request.http.header_map.headers.add(key=marker, raw_value=value.encode())
        read = ExtAuthzRequest(_encoded(raw))
        assert (read.partial, read.headers) == (partial, [])
    assert ExtAuthzRequest(_encoded(_request(headers={marker: "false"}))).partial is False
    assert ExtAuthzRequest(_encoded(_request(headers={marker: "false,false"}))).partial is True


@pytest.mark.parametrize(
    "data",
    [
        b"",
        _encoded(pb.CheckRequest()),
        _encoded(_request(headers={"a": "b"}, header_map=pb.HeaderMap(headers=[pb.HeaderValue(key="a")]))),
        _encoded(_request(body="a", raw_body=b"a")),
        _encoded(
            _request(header_map=pb.HeaderMap(headers=[pb.HeaderValue(key="a", value="b", raw_value=b"c")]))
        ),
        _encoded(_request(header_map=pb.HeaderMap(headers=[pb.HeaderValue(value="b")]))),
        _encoded(_request(method="GET")) * 2,
        _encoded(_request(method="GET"))[:-1],
        _encoded(_request(path="/\x00")).replace(b"/\x00", b"/\xff"),
    ],
)
def test_what_protobuf_would_merge_is_malformed(data: bytes) -> None:
    """Both forms of one thing, one form twice, no request, no UTF-8."""
    with pytest.raises(FormError):
        ExtAuthzRequest(data)


def _mutated(data: bytes, source: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(source.randrange(1, 4)):
        at = source.randrange(len(made) + 1)
        kind = source.randrange(3)
        if kind == 0:
            made[at : at + 1] = bytes([source.randrange(256)])
        elif kind == 1:
            del made[at : at + source.randrange(1, 6)]
        else:
            made[at:at] = made[at : at + source.randrange(1, 30)]
    return bytes(made)


def test_any_bytes() -> None:
    """Changed messages are read, or malformed; nothing else is raised, and nothing read that is not there."""
    source = random.Random(int(os.environ.get("SESSAUTH_SEED", "5")))
    request = _request(method="POST", path="/mcp?x", raw_body=b"{}", size=2)
    for name in ("authorization", "x-a", "cookie", "x-envoy-auth-partial-body"):
        request.attributes.request.http.header_map.headers.add(key=name, raw_value=b"false")
    request.attributes.source.principal = "spiffe://a"
    message = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": "\u00e4\n",
            "method": "tools/call",
            "params": {
                "name": "n",
                "arguments": {"a": [1, -2.5, {"b": None}]},
                "_meta": {"io.sessauth/x": 1},
            },
        }
    ).encode()
    read = {RpcMessage: 0, ExtAuthzRequest: 0}
    for _ in range(CASES // 2):
        for kind, seed in ((RpcMessage, message), (ExtAuthzRequest, _encoded(request))):
            data = _mutated(seed, source)
            try:
                made = kind(data)
            except FormError:
                continue
            read[kind] += 1
            if isinstance(made, RpcMessage):
                assert json.loads(data)["jsonrpc"] == "2.0"
                assert not made.id or json.loads(made.id) == json.loads(data)["id"]
            else:
                pb.CheckRequest.FromString(data)

    assert min(read.values()) > CASES // 100
