"""Lines of JSON-RPC: any bytes are a message or refused, and what is forwarded says the same on one line."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sessauth.gateways.json_parts import array_text, elements, members, object_text
from sessauth.gateways.mcp_proxy.messages import BadMessage, Kind, one_line, read_client, read_server
from tests.support.cases import examples

ENDS = re.compile("[\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
_text = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["\u2028", "a\x85", "\\", '"', "\x7f"]
)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=12,
)
_spaces = st.sampled_from([(",", ":"), (", ", ": "), (",\r", " :\t"), ("\n,", ":\r\n")])
_pieces = st.sampled_from(
    [
        *(b"{", b"}", b"[", b"]", b",", b":", b'"', b" ", b"\r", b"\\", b"\\u2028", b"\xe2\x80\xa8", b"\xff"),
        *(b'"jsonrpc":"2.0"', b'"id":1', b'"id":null', b'"method":"tools/call"', b'"method":"ping"'),
        *(b'"params":{}', b'"result":{}', b'"error":{}', b'"Method":"x"', b"1e999", b"-0", b"NaN"),
    ]
)


def assert_same(text: str, value: Any) -> None:
    """Expect a text that is one line for every reader, and reads as ``value``."""
    assert not ENDS.search(text)
    assert json.loads(text) == value


@settings(max_examples=examples(300), deadline=None)
@given(_values, st.booleans(), _spaces)
def test_a_line_is_one_and_says_the_same(value: Any, ascii: bool, spaces: tuple[str, str]) -> None:
    """Escapes and spaces change, the value does not."""
    assert_same(one_line(json.dumps(value, ensure_ascii=ascii, separators=spaces)), value)


@settings(max_examples=examples(300), deadline=None)
@given(st.dictionaries(_text, _values, max_size=5), st.booleans(), _spaces)
def test_members_are_taken_apart_and_put_together(
    value: dict[str, Any], ascii: bool, spaces: tuple[str, str]
) -> None:
    """Each member's own text is that of its value."""
    text = json.dumps(value, ensure_ascii=ascii, separators=spaces)
    parts = members(text)

    assert {name: json.loads(part) for name, part in parts.items()} == value
    assert json.loads(object_text(parts)) == value


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(_values, max_size=5), st.booleans(), _spaces)
def test_elements_are_taken_apart_and_put_together(
    value: list[Any], ascii: bool, spaces: tuple[str, str]
) -> None:
    """Each element's own text is that of its value."""
    parts = elements(json.dumps(value, ensure_ascii=ascii, separators=spaces))

    assert [json.loads(part) for part in parts] == value
    assert json.loads(array_text(parts)) == value


@settings(max_examples=examples(1000), deadline=None)
@given(st.binary(max_size=60) | st.lists(_pieces, max_size=12).map(b"".join))
@example(b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
@example(b'{"jsonrpc":"2.0","id":1,"result":\r{"a":"\xe2\x80\xa8"}\r}')
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    """Nothing else is raised, whatever either side sends."""
    for read in (read_client, read_server):
        try:
            message = read(data)
        except BadMessage:
            continue
        value = json.loads(data)
        assert_same(message.text, value)
        assert (message.kind is Kind.RESPONSE) == ("method" not in value)
        assert (message.kind is Kind.NOTIFICATION) == ("id" not in value)


@settings(max_examples=examples(300), deadline=None)
@given(st.dictionaries(_text, _values, max_size=4), _spaces, st.booleans())
def test_requests_are_forwarded_with_the_same_parameters(
    params: dict[str, Any], spaces: tuple[str, str], ascii: bool
) -> None:
    """The canonical form is forwarded, unless two names differ in case only."""
    value = {"jsonrpc": "2.0", "id": 5, "method": "resources/read", "params": params}
    data = json.dumps(value, separators=spaces, ensure_ascii=ascii).encode()
    if _has_twins(params):
        with pytest.raises(BadMessage, match="case"):
            read_client(data)
    else:
        assert_same(read_client(data).text, value)


def _has_twins(value: Any) -> bool:
    if isinstance(value, dict):
        return len({name.casefold() for name in value}) < len(value) or any(map(_has_twins, value.values()))
    return isinstance(value, list) and any(map(_has_twins, value))
