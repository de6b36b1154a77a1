"""Requests with any content of an agent's choice: the denial names the part."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth.reasons import Reason
from tests.support.state_fixture import StateFixture
from tests.vectors.world import child, root, token

ANYTHING = token(root("*:**"))

_RESOURCES: list[str | bytes] = [
    "",
    "/",
    "a/",
    "/a",
    "a//b",
    "..",
    ".",
    "a/../b",
    "a/./b",
    "a/..",
    "../a",
    "*",
    "a/*",
    "a*",
    "**",
    "a/{b,c}",
    "{",
    "}",
    "a\\b",
    "a%2fb",
    "a%2Fb",
    "%2e%2e",
    "a%00",
    "a\0b",
    "a\nb",
    "a\tb",
    "a\x1fb",
    "a\x7fb",
    "a\x80b",
    "a\x9fb",
    b"\xff",
    b"a\xc0\xafb",
    b"a\xed\xa0\x80b",
    b"a\xf4\x90\x80\x80",
    b"a\xc2",
    "\ud800",
    "a/\udfffb",
    "x" * 1025,
    "a/" * 32 + "b",
    "a/" * 500_000,
    b"\x00" * (10 << 20),
]


@pytest.mark.parametrize("resource", _RESOURCES, ids=range(len(_RESOURCES)))
def test_resources(state: StateFixture, resource: str | bytes) -> None:
    """A resource that any reader might take for another is refused, never put right."""
    decision = state.verifier._check(ANYTHING, "read", resource, now_ms=state.clock.now_ms())

    assert (decision.reason, decision.argument) == (Reason.MALFORMED_REQUEST, "resource")
    assert decision.level == 0


@pytest.mark.parametrize(
    "resource",
    ["a b", "a:b@c+d'e", "%", "100%", "%zz", "a%2", "...", "ä/日本", "-/_/~", "a.b", "\u00a0", "\U0010ffff"],
)
def test_ordinary_resources(state: StateFixture, resource: str) -> None:
    """Resources that only look odd are ordinary."""
    assert state.reason(ANYTHING, resource=resource) is Reason.ALLOWED


_ARGUMENTS: dict[str, bytes] = {
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "white space": b" ",
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":Infinity}',
    "-Infinity": b'{"a":-Infinity}',
    "plus": b'{"a":+1}',
    "hex": b'{"a":0x1}',
    "leading zero": b'{"a":01}',
    "no fraction": b'{"a":1.}',
    "no whole": b'{"a":.5}',
    "no exponent": b'{"a":1e}',
    "only minus": b'{"a":-}',
    "a comma too many": b'{"a":1,}',
    "a comma too few": b'{"a":1"b":2}',
    "single quotes": b"{'a':1}",
    "bare name": b"{a:1}",
    "comment": b'{/**/"a":1}',
    "no colon": b'{"a"1}',
    "no value": b'{"a":}',
    "cut off": b'{"a":1',
    "cut off in a string": b'{"a":"x',
    "garbage behind": b"{}x",
    "two objects": b"{}{}",
    "NUL behind": b"{}\0",
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "invalid UTF-8": b'{"a":"\xff"}',
    "overlong UTF-8": b'{"a":"\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "control character": b'{"a":"\n"}',
    "NUL in a string": b'{"a":"\0"}',
    "unknown escape": rb'{"a":"\x41"}',
    "short escape": rb'{"a":"\u12"}',
    "lone high surrogate": rb'{"a":"\ud800"}',
    "lone low surrogate": rb'{"a":"\udc00"}',
    "high twice": rb'{"a":"\ud800\ud800"}',
    "high then text": rb'{"a":"\ud800x"}',
    "surrogates reversed": rb'{"a":"\udc00\ud800"}',
    "lone surrogate in a name": rb'{"\ud800":1}',
    "a name twice": b'{"a":1,"a":1}',
    "a name twice by escape": rb'{"a":1,"\u0061":2}',
    "a name twice, deep": b'{"x":[{"b":1,"c":2,"b":3}]}',
    "an empty name twice": b'{"":1,"":2}',
    "a name twice among many": b"{" + b",".join(b'"k%d":0' % (i % 99) for i in range(100)) + b"}",
    "capital true": b'{"a":True}',
    "words run on": b'{"a":truefalse}',
    "form feed": b'{\x0c"a":1}',
    "no-break space": b'{\xc2\xa0"a":1}',
    "depth 33": b'{"a":' + b"[" * 32 + b"]" * 32 + b"}",
    "depth 1,000": b'{"a":' * 1000 + b"1" + b"}" * 1000,
    "depth 500,000, never closed": b'{"a":' + b"[" * 500_000,
    "10 MB": b'{"a":"' + b"x" * (10 << 20) + b'"}',
    "1,048,577 bytes": b'{"a":"' + b"x" * (1048577 - 8) + b'"}',
    "400,000 elements": b'{"a":[' + b"1," * 400_000 + b"1]}",
    "10,001 values": b'{"a":[' + b"1," * 9998 + b"1]}",
}


@pytest.mark.parametrize("name", _ARGUMENTS)
@pytest.mark.parametrize("part", ["arguments", "tool"])
def test_json(state: StateFixture, name: str, part: str) -> None:
    """JSON with two readings, or too much of it, is refused by the part's name."""
    decision = state.check(ANYTHING, **{part: _ARGUMENTS[name]})

    assert (decision.reason, decision.argument) == (Reason.MALFORMED_REQUEST, part)


def test_arguments_beside_those_permitted(state: StateFixture) -> None:
    """An argument that no condition mentions denies the call, by whatever name it comes."""
    held = token(root('read:files/* where path under "/srv" and o.p == 1'))
    permitted = '"path":"/srv/a","o":{"p":1}'
    assert state.reason(held, arguments=f"{{{permitted}}}") is Reason.ALLOWED
    for extra in (
        '"":1',
        '"Path":1',
        '"path ":1',
        '"pa\\u0000th":1',
        '"path\\u200b":1',
        '"args":1',
        '"o.p":1',
    ):
        decision = state.check(held, arguments=f"{{{permitted},{extra}}}")
        assert (decision.reason, decision.clause) == (Reason.CONDITION_FAILED, -1)
    decision = state.check(held, arguments='{"path":"/srv/a","o":{"p":1,"q":2}}')
    assert (decision.reason, decision.argument) == (Reason.CONDITION_FAILED, "o.q")


@pytest.mark.parametrize(
    "path",
    [
        "/srvx",
        "/srv/../etc",
        "/srv/./a",
        "//srv/a",
        "/srv//a",
        "/srv/",
        "srv/a",
        "/srv/%2e%2e/a",
        "/srv/a\\\\b",
        "/SRV/a",
        "",
    ],
)
def test_paths_that_are_not_under(state: StateFixture, path: str) -> None:
    """Nothing but a clean path below the folder is under it."""
    held = token(root('read:files/* where path under "/srv"'))

    assert state.reason(held, arguments=f'{{"path":"{path}"}}') is Reason.CONDITION_FAILED


def test_gateway_parts_of_any_content(state: StateFixture) -> None:
    """Sources, peers and sessions that are none are as others, not an exception."""
    held = token(root("read:files/**", source=["10.0.0.0/8"], peer=["sha256:aa"]))
    for source in ("", "10.0.0.256", "10.0.0.1 ", "::1", "\ud800", "x" * 100_000, "10.0.0.1\0", "010.0.0.1"):
        assert state.reason(held, source=source, peer=("sha256:aa",)) is Reason.WRONG_SOURCE
    for peer in ("\ud800", "", "sha256:a", "sha256:aaa", "SHA256:AA"):
        assert state.reason(held, source="10.0.0.1", peer=(peer,)) is Reason.WRONG_PEER
    for session in (b"x", bytes(16), bytes(17)):
        assert state.reason(held, session=session) is Reason.WRONG_SESSION


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=80) | st.text(max_size=40),
    st.binary(max_size=80) | st.text(max_size=40),
    st.binary(max_size=200) | st.binary(max_size=60).map(lambda inner: b'{"a":"' + inner + b'"}'),
)
def test_any_request_at_all(
    state: StateFixture, action: bytes | str, resource: bytes | str, arguments: bytes
) -> None:
    """A token that permits one action on one resource permits only that, for any request."""
    narrow = token(root("*:**"), child("read:files/a"))
    decision = state.verifier._check(narrow, action, resource, arguments, now_ms=state.clock.now_ms())

    assert decision.fault is None
    assert not decision or (action in (b"read", "read") and resource in (b"files/a", "files/a"))
