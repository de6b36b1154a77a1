"""Other readers read in an accepted request what the mapper reads; and nothing makes it raise."""

from __future__ import annotations

import json
import os
import posixpath
import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth.gateways.request import ACTIONS, Call, Mapped, Refusal, TokenOnly
from sessauth.scopes.call_arguments import canonical
from tests.gateways.requests import (
    BEARER,
    CATALOGUE,
    JSON,
    LEGACY,
    MAPPER,
    MODERN,
    VERSION_META,
    call,
    message,
)
from tests.support.cases import CASES, examples

Headers: TypeAlias = Sequence[tuple[str, str | bytes]]
NUMBERS = {"parse_int": Decimal, "parse_float": Decimal}


def objects(values: st.SearchStrategy[Any], size: int) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects whose names differ in more than case."""
    return st.dictionaries(st.text(max_size=5), values, max_size=size).map(
        lambda made: dict({name.casefold(): (name, value) for name, value in made.items()}.values())
    )


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | objects(inner, 3),
    max_leaves=8,
)
OBJECTS = objects(VALUES, 4)


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


def _without_case(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Read names as Go does, where it knows them."""
    known = {
        name.casefold(): name
        for name in ("jsonrpc", "id", "method", "params", "name", "uri", "arguments", "_meta")
    }
    return {known.get(name.casefold(), name): value for name, value in pairs}


def _check_message(mapped: Call, body: bytes) -> None:
    """Compare a call with what three readers of its body have."""
    assert json.loads(body) is not None
    for hook in (dict, _first_wins):
        read = json.loads(body, object_pairs_hook=hook, **NUMBERS)
        assert read["method"] == mapped.method
        params = read.get("params", {})
        if mapped.method == "tools/call":
            assert params["name"] == mapped.tool
            arguments = params.get("arguments", {})
        else:
            arguments = {name: value for name, value in params.items() if name != "_meta"}
        assert arguments == json.loads(mapped.arguments, **NUMBERS)
    # Arguments keep their case: conditions mention each of them.
    read = json.loads(body, object_pairs_hook=_without_case)
    assert (read["method"], read.get("params", {}).get("name", "")) == (
        *(mapped.method, mapped.tool if mapped.tool else read.get("params", {}).get("name", "")),
    )


def _check_http(mapped: Call, method: str, target: str, body: bytes) -> None:
    """Compare a call with what a strict, a lenient and a normalising reader of paths and queries have."""
    split = urlsplit(target)
    path = unquote(split.path)
    assert mapped.action == ACTIONS[method]
    assert mapped.resource == ("api" + path).rstrip("/") and not split.fragment
    assert unquote(path) == path == posixpath.normpath(path) and "\\" not in path and ";" not in path
    query = parse_qsl(split.query, keep_blank_values=True, strict_parsing=bool(split.query))
    members = json.loads(body, **NUMBERS) if body else {}
    assert len({name.casefold() for name, _ in query} | {name.casefold() for name in members}) >= len(query)
    mark = "" if method in ("GET", "HEAD") else "?"
    assert {**{mark + name: value for name, value in query}, **members} == json.loads(
        mapped.arguments, **NUMBERS
    )


def _check(mapped: Mapped, method: str, target: str, headers: Headers, body: bytes) -> str:
    """Compare what was accepted with other readers; returns the outcome."""
    if isinstance(mapped, Refusal):
        return mapped.fault.name
    (stated,) = (value for name, value in headers if name.lower() in ("authorization", "x-sessauth-token"))
    text = stated if isinstance(stated, str) else stated.decode()
    assert mapped.token == text.split()[-1] and "," not in text
    if isinstance(mapped, TokenOnly):
        if method == "POST":
            assert json.loads(body).get("method", "") == mapped.method
        return "TOKEN_ONLY"
    assert mapped.arguments == canonical(mapped.arguments)
    if mapped.mcp:
        _check_message(mapped, body)
    else:
        _check_http(mapped, method, target, body)
    return "CALL"


@given(
    arguments=OBJECTS,
    tool=st.sampled_from(sorted(CATALOGUE)),
    indent=st.sampled_from([None, 1]),
    ascii=st.booleans(),
)
@settings(max_examples=examples(300), deadline=None)
def test_what_json_writes_is_read(
    arguments: dict[str, Any], tool: str, indent: int | None, ascii: bool
) -> None:
    """Each call that Python's encoder writes is a call, or beyond the limits of a number."""
    body = json.dumps(call(tool, arguments), indent=indent, ensure_ascii=ascii).encode(
        "utf-8", "surrogatepass"
    )
    mapped = MAPPER.map("POST", "/mcp", [BEARER, JSON, LEGACY], body)

    assert _check(mapped, "POST", "/mcp", [BEARER], body) == "CALL"


@given(target=st.text(max_size=40), method=st.sampled_from([*ACTIONS, "OPTIONS"]))
@settings(max_examples=examples(500), deadline=None)
def test_any_target(target: str, method: str) -> None:
    """Any text is a call that others read alike, or refused."""
    for path in (target, "/" + target):
        headers = [BEARER, ("content-length", "0")]
        assert _check(MAPPER.map(method, path, headers, b""), method, path, headers, b"")


@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from(
                ["authorization", "mcp-name", "mcp-method", "Content-Type", "mcp-param-a", "x_a", ":path"]
            )
            | st.text(max_size=12),
            st.text(max_size=12)
            | st.binary(max_size=12)
            | st.sampled_from([BEARER[1], JSON[1], "tools/call"]),
        ),
        max_size=6,
    )
)
@settings(max_examples=examples(500), deadline=None)
def test_any_headers(headers: list[tuple[str, str | bytes]]) -> None:
    """Nothing raises, and no call is without the one token."""
    body = json.dumps(call()).encode()
    for method, path, sent in (("POST", "/mcp", body), ("GET", "/a", b"")):
        mapped = MAPPER.map(method, path, headers, sent)
        assert _check(mapped, method, path, headers, sent)


def _seeds() -> list[tuple[str, str, list[tuple[str, str]], bytes]]:
    modern = {"_meta": {VERSION_META: "2026-07-28", "progressToken": 1}}
    named = [MODERN, ("mcp-method", "tools/call"), ("mcp-name", "get_weather"), ("mcp-param-city", "Paris")]
    bodies = [
        ([LEGACY], call(arguments={"city": "Päris", "n": [1, 2.5, {"a": None}]})),
        (named, call(arguments={"city": "Paris"}, **modern)),
        ([], message("resources/read", {"uri": "file:///a"})),
        ([], message("initialize", {})),
        ([], message(None, id="x", result={"a": 1})),
    ]
    made = [("POST", "/mcp", [BEARER, JSON, *more], json.dumps(body).encode()) for more, body in bodies]
    made += [
        ("GET", "/v1/a%20b/c.d?name=x%20y&n=1", [BEARER], b""),
        ("POST", "/v1/x?q=1", [BEARER, JSON], b'{"a":{"b":[1,"\\u00e4"]},"c":-1.50}'),
        ("DELETE", "/v1/x/y", [BEARER], b""),
    ]
    return made


PIECES = [
    *(
        b'"',
        b"{",
        b"}",
        b",",
        b"[",
        b"]",
        b":",
        b"\\",
        b"\\u006d",
        b" ",
        b"\x00",
        b"\xff",
        b"method",
        b"Name",
    ),
    *(
        b'"method":"tools/list",',
        b'"name":"delete_repo",',
        b'"arguments":{},',
        b"null",
        b"1e999",
        b"\xef\xbb\xbf",
    ),
    *(
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_repo"}}',
        b"%2e",
        b"%2F",
        b"..",
        b"/",
    ),
    *(b";", b"&", b"=", b"?", b"#", b"//", b"%25", b"+", b"%00", b"mcp", b"a=1&", b"\xc5\xbf"),
]


def _mutated(data: bytes, source: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(source.randrange(3)):
        at = source.randrange(len(made) + 1)
        kind = source.randrange(4)
        if kind == 0:
            made[at:at] = source.choice(PIECES)
        elif kind == 1:
            del made[at : at + source.randrange(1, 8)]
        elif kind == 2:
            made[at : at + 1] = bytes([source.randrange(256)])
        else:
            end = at + source.randrange(1, 40)
            made[at:at] = made[at:end]
    return bytes(made)


def test_mutated_requests() -> None:
    """Other readers agree on each accepted request, with any changes of bodies, targets and headers."""
    source = random.Random(int(os.environ.get("SESSAUTH_SEED", "13")))
    outcomes: dict[str, int] = {}
    seeds = _seeds()
    for _ in range(CASES):
        method, target, headers, body = source.choice(seeds)
        body = _mutated(body, source) if body else body
        target = _mutated(target.encode(), source).decode("latin-1") if source.random() < 0.5 else target
        changed: list[tuple[str, str | bytes]] = list(headers)
        if source.random() < 0.3:
            at = source.randrange(len(changed))
            name, value = headers[at]
            changed[at] = (name, _mutated(value.encode(), source))
        if source.random() < 0.1:
            changed.append(source.choice(headers))
        outcome = _check(MAPPER.map(method, target, changed, body), method, target, changed, body)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    assert outcomes["CALL"] > CASES // 20
    assert outcomes["TOKEN_ONLY"] > CASES // 50
    assert {
        "BODY_FORM",
        "HEADER_MISMATCH",
        "HEADER_FORM",
        "PATH_FORM",
        "QUERY_FORM",
        "TOKEN_FORM",
    } <= outcomes.keys()
