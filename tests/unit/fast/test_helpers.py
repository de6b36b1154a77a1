"""The short ways of matching and reading, against the plain definitions: texts, marks, kinds, runs, names."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth._fast import _check as kernel
from sessauth._fast import _codec as codec
from tests.oracle.canonical import canonical_decimal
from tests.oracle.json_values import BadJson, parse_object
from tests.oracle.model import BILLION, NO_VALUE
from tests.oracle.texts import is_action, is_plain_segment
from tests.support.cases import examples

EXAMPLES = settings(max_examples=examples(400), deadline=None)
ANY, LITERAL, PREFIX, ONE_OF, REST = 2, 1, 3, 4, 5
OUTSIDE, MALFORMED = -2, -3

# Texts that differ in one byte at each place, of each length that is compared in another way.
NEAR = st.builds(
    lambda base, at, other: base[: at % (len(base) + 1)] + other + base[at % (len(base) + 1) + 1 :],
    st.sampled_from(["a" * n for n in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 200)]),
    st.integers(0, 300),
    st.sampled_from(["", "a", "b", "A", "ab", "é", "\U0001f600"]),
).filter(lambda text: is_plain_segment(text))
ODD = st.text(
    alphabet=st.sampled_from("ab.%2f/\\*{}\x00\x1f \x7f\x80\x9f\xa0\xc2é\u2028\U0001f600"), max_size=20
)


def encoded(segments: list[dict[str, Any]], where: list[dict[str, Any]] = [], free_all: bool = True) -> bytes:  # noqa: B006
    """A scope of any action."""
    record: dict[str, Any] = {"actions": ["*"], "resource": segments, "where": where, "free_all": free_all}
    return kernel.encode_message("Scope", record)


def literal(text: str) -> dict[str, Any]:
    """A segment that stands for itself."""
    return {"kind": LITERAL, "texts": [text]}


def matched(scope: bytes, segments: list[str], arguments: bytes = b"") -> bool:
    """Return True if a scope matches a well-formed request."""
    found, clause, _ = codec.matches(scope, b"read", "/".join(segments).encode(), arguments)
    assert clause != MALFORMED
    return found


@given(st.lists(NEAR, min_size=1, max_size=4), st.lists(NEAR, min_size=1, max_size=4), st.data())
@EXAMPLES
def test_literals_are_compared_as_a_whole(asked: list[str], said: list[str], data: st.DataObject) -> None:
    """Scopes of literals match what is equal segment by segment, behind any number of leading marks."""
    kept = data.draw(st.integers(0, len(asked)))
    mixed = asked[:kept] + said
    for pattern in (asked, mixed, said, asked[:1] + mixed):
        scope = encoded([literal(text) for text in pattern])
        assert matched(scope, asked) is (pattern == asked)
        rest = encoded([*(literal(text) for text in pattern), {"kind": REST}])
        assert matched(rest, asked) is (asked[: len(pattern)] == pattern)


@given(st.lists(NEAR, min_size=1, max_size=4), st.data())
@EXAMPLES
def test_each_kind_of_segment(asked: list[str], data: st.DataObject) -> None:
    """Literals, prefixes, alternatives and wildcards in any order match as they are defined."""
    segments, right = [], True
    for text in asked:
        kind = data.draw(st.sampled_from([ANY, LITERAL, LITERAL, PREFIX, ONE_OF]))
        texts = data.draw(st.lists(st.one_of(NEAR, st.just(text)), min_size=2, max_size=5, unique=True))
        if kind == ANY:
            texts = []
        elif kind == ONE_OF:
            right &= text in texts
        else:
            texts = texts[:1] if kind == LITERAL else [texts[0][: data.draw(st.integers(1, len(texts[0])))]]
            right &= text == texts[0] if kind == LITERAL else text.startswith(texts[0])
        segments.append({"kind": kind, "texts": texts} if texts else {"kind": kind})
    assert matched(encoded(segments), asked) is right


@given(ODD)
@EXAMPLES
def test_plain_segments_are_those_of_the_format(text: str) -> None:
    """A resource is read if each segment is plain, whatever stands at the ends of them."""
    for whole in (text, f"a/{text}", f"{text}/a", f"a/{text}/b", f"{text}/{text}"):
        plain = all(is_plain_segment(segment) for segment in whole.split("/"))
        found, clause, _ = codec.matches(encoded([{"kind": REST}]), b"read", whole.encode())
        assert (found, clause == MALFORMED) == (plain, not plain)


@pytest.mark.parametrize("byte", range(256))
def test_each_byte_in_a_segment_and_in_an_action(byte: int) -> None:
    """Each byte alone, first, last and between is in a plain segment, or in an action, as the format says."""
    one = bytes([byte])
    for whole in (one, one + b"a", b"a" + one, b"a" + one + b"a", b"a" * 9 + one, b"\xc2" + one, b"%a" + one):
        try:
            text = whole.decode()
        except UnicodeDecodeError:
            plain = False
            action = False
        else:
            plain = all(is_plain_segment(segment) for segment in text.split("/"))
            action = is_action(text)
        scope = encoded([{"kind": REST}])
        assert codec.matches(scope, b"read", whole)[0] is plain
        assert codec.matches(scope, whole, b"a")[0] is action


def test_resources_at_their_ends() -> None:
    """1 to 1024 bytes in 1 to 32 segments are read; a resource shorter than a scope's marks is outside."""
    scope = encoded([literal("a"), literal("a"), {"kind": REST}])
    for count in range(1, 34):
        found, clause, _ = codec.matches(scope, b"read", b"/".join([b"a"] * count))
        assert (found, clause) == (
            (False, MALFORMED) if count > 32 else (True, -1) if count >= 2 else (False, OUTSIDE)
        )
    for size, right in ((1023, True), (1024, True), (1025, False)):
        assert codec.matches(encoded([{"kind": ANY}]), b"read", b"a" * size)[0] is right


def equals(name: str, text: str) -> list[dict[str, Any]]:
    """The condition that an argument is a text."""
    return [
        {"path": {"source": 1, "segments": [name]}, "operator": 1, "values": [{"text": text}]},
    ]


SCOPE = encoded([{"kind": REST}], equals("x", "found"))


def oracle(data: bytes) -> dict[str, object] | None:
    """Return the oracle's parse, or None."""
    try:
        return parse_object(data)
    except BadJson:
        return None


def hold_json(data: bytes) -> None:
    """Hold that both read or refuse it, and that each text, number and truth at its top is what it is."""
    value = oracle(data)
    clause = codec.matches(SCOPE, b"read", b"a", data)[1]
    assert (clause == MALFORMED) is (value is None)
    for name, item in (value or {}).items():
        path = {"source": 1, "segments": [name]}
        if not name or len(name.encode()) > 64 or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
            continue
        if isinstance(item, bool):
            values = [{"truth": item}, {"truth": not item}]
        elif isinstance(item, str) and 0 < len(item.encode()) <= 1024:
            values = [{"text": item}, {"text": item + "x"}]
        elif isinstance(item, int):
            units, nanos = divmod(item, BILLION)
            values = [{"number": {"units": units, "nanos": nanos}}, {"number": {"units": ~units}}]
        elif isinstance(item, Decimal):
            values = [{"decimal": canonical_decimal(item)}, {"decimal": canonical_decimal(-item)}]
        else:
            assert item is None or item is NO_VALUE or isinstance(item, str | list | dict)
            continue
        for operand, right in zip(values, (True, False), strict=True):
            try:
                scope = encoded([{"kind": REST}], [{"path": path, "operator": 1, "values": [operand]}])
                found = codec.matches(scope, b"read", b"a", data)
            except codec.FormError:
                # A text that no condition may hold.
                continue
            assert found[0] is right, (name, item)


@pytest.mark.parametrize(
    "special", ['"', "\\", "\x00", "\x1f", "\x7f", "\x80", "é", "\U0001f600", " ", "!", "#", "["]
)
@pytest.mark.parametrize("raw", [False, True])
def test_specials_at_every_place_in_a_word(special: str, raw: bool) -> None:
    """Quotes, backslashes, controls and longer characters at 24 places of a text, at each of 8 offsets."""
    for before in range(24):
        for behind in (0, 1, 7, 8, 9):
            text = "a" * before + special + "b" * behind
            inside = text if raw else json.dumps(text, ensure_ascii=before % 2 == 0)[1:-1]
            for offset in range(8):
                hold_json(f'{" " * offset}{{"x":"{inside}","y":true}}'.encode())


def test_texts_at_the_end_of_the_bytes() -> None:
    """Texts that are cut at each place, or end with the bytes, are refused without a look behind them."""
    for size in (*range(20), 63, 64, 65):
        whole = f'{{"x":"{"a" * size}"}}'.encode()
        hold_json(whole)
        for end in range(len(whole)):
            hold_json(bytes(bytearray(whole[:end])))
        for tail in (b"\\", b"\\u", b"\\u12", b"\\ud800", b"\\ud800\\u", b"\xe2\x82", b'"', b"\xff"):
            hold_json(f'{{"x":"{"a" * size}'.encode() + tail)


_NAMES = st.one_of(
    # Names of one bit: five times the length and the first byte give it.
    st.integers(0, 11).map(lambda n: chr(ord("z") - 5 * n) + "q" * n),
    st.sampled_from(["", "a", "b", "aa", "ab", "x", "\u0061", "é", "e\u0301", "\x00", '"', "\\"]),
    st.text(max_size=3),
)


@given(st.lists(_NAMES, max_size=30), st.data())
@EXAMPLES
def test_names_that_are_there_twice(names: list[str], data: st.DataObject) -> None:
    """A name that is there twice is refused, among few names or many, escaped or not, nested or not."""
    if data.draw(st.booleans()):
        names = list(dict.fromkeys(names))
    parts = []
    for number, name in enumerate(names):
        written = json.dumps(name, ensure_ascii=data.draw(st.booleans()))
        if data.draw(st.integers(0, 4)) == 0:
            written = '"' + "".join(f"\\u{ord(c):04x}" for c in name if ord(c) < 0x10000) + '"'
        parts.append(f"{written}:{number}")
    whole = "{" + ",".join(parts) + "}"
    try:
        encoded_whole = whole.encode()
    except UnicodeEncodeError:
        return
    for document in (encoded_whole, b'{"o":' + encoded_whole + b"}", b'{"l":[{},' + encoded_whole + b"]}"):
        hold_json(document)


@pytest.mark.parametrize("count", [1, 2, 11, 12, 13, 14, 64, 65, 300])
def test_one_name_twice_among_many(count: int) -> None:
    """Among names that all differ, or all share one bit, one that is there twice is found at any place."""
    for distinct in (
        [f"{number:05}" for number in range(count)],
        # 64 letters more come to the same bit.
        [chr(0x21 + number % 64) * (1 + 64 * (number // 64)) for number in range(count)],
    ):
        hold_json(json.dumps(dict.fromkeys(distinct, 1)).encode())
        for first in {0, count // 2, count - 1}:
            for place in {0, count // 2, count}:
                names = [*distinct[:place], distinct[first], *distinct[place:]]
                data = ("{" + ",".join(f"{json.dumps(name)}:1" for name in names) + "}").encode()
                assert oracle(data) is None
                hold_json(data)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(["\\", '"', "\u0000", "\U0001f600" * 5, "x" * 40]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=20), JSON, max_size=6), st.booleans(), st.data())
@EXAMPLES
def test_documents_and_damaged_ones(value: dict[str, object], ascii_only: bool, data: st.DataObject) -> None:
    """Generated documents, and those with one changed byte, are read or refused as by the oracle."""
    indent = data.draw(st.sampled_from([None, 0, 1, 3]))
    try:
        whole = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    except UnicodeEncodeError:
        return
    hold_json(whole)
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(list(b'"\\{}[],:0-.eE\x1f\x80'))))
    hold_json(whole[:at] + bytes([byte]) + whole[at + 1 :])
    hold_json(whole[:at] + whole[at + 1 :])
    hold_json(whole[:at] + bytes([byte]) + whole[at:])
