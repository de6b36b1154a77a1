"""The kernel's reader of scope text: the bytes that ``Scope.parse`` gives, or nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sessauth._fast import _codec as codec
from sessauth.errors import ScopeError
from sessauth.scopes.parts import checked_condition
from sessauth.scopes.scope import Condition, Scope
from tests.property.test_scope_text import awkward_scopes
from tests.support.cases import CASES, examples
from tests.support.scope_strategies import scopes

ROOT = Path(__file__).parents[2]
KEY = "A" * 42 + "E"
COMMON = (
    "*:**",
    "a,b.c,d-e_f:x/*/pre*/{a,b,c}/**",
    'read:"my notes"/{"a b",c}/"pre fix"*',
    'read:a where a == "q\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00"',
    "read:\u00e9t\u00e9/\U0001f511",
    'read:mcp/github/* where owner == "acme" and repo != "web" free *',
    "r:a where a < 1 and b <= -2.5 and c > 1e3 and d >= 0 and e == 9223372036854775807",
    "r:a where a == 9223372036854775807.999999999 and b == -0.000000001 and c == 1.50 and d in [1, 2,3,   4]",
    'r:a where a in ["x","y"] and b not in ["z"] and c not   in [1] and d subset_of ["a"]',
    "r:a where a in [true, false]",
    'r:a where a starts_with "x" and b starts_with ["x", "y"] and c under "/a" and d under ["/a", "/b"]',
    'r:a where a glob "a/**" and b glob ["*", "b*"]',
    'r:a where a cidr "10.0.0.0/8" and b cidr ["10.0.0.0/8", "::1/128"]',
    'r:a where a not glob "a/**" and b not   under ["/a", "/b"] and c not cidr "10.0.0.0/8"',
    'r:a where a not under session.b and not not glob "x" and b? not under "/"',
    'r:a where path(a) under "/v1" and domain(b?) == "x.y" and each(length(c)) <= 3',
    'r:a where path == "p" and length.x == 1 and domain[] == "d" and path("path") == "/"',
    "r:a where a present and b absent and c == true and d == false",
    'r:a where count(a) <= 3 and host(b?) in ["x.y"] and scheme(c) == "https" and port(d) == 443',
    "r:a where any(a) == 4 and any(host(b[].c?)) not starts_with session.host and any == 1",
    'r:a where a not starts_with "x" and b not starts_with ["x", "y"]',
    "r:a where each(a) != 4 and each(host(a.b?)) == session.host and a? == 1",
    'r:a where args.a == 1 and args.session.id == "x" and session.case_id present and tool.writes.x == false',
    'r:a where files[].path under "/a" and "a b"."c.d"[] == 1',
    'r:a where args."[]"[][].x == 2 and args.session[] == 1 and session[] == 2',
    "r:a where session == 1 and tool == 2 and args == 3 and no == 4 and in in [true] and not not in [1]",
    "r:a where a == session.b and b < session.c and c under session.d and e starts_with session.f",
    "except r:a/**",
    'except   r,w:a where host(u) cidr "10.0.0.0/8" and any(b[].c) == 1',
    "except:a",
    "except,read:a where except == 1",
    "r:a where no arguments",
    "r:a where no arguments needs uses(3)",
    "r:a free path, options.depth,x[].y",
    'r:a   where   a  ==  "x"   and  b  ==  1  free  *  needs  uses(18446744073709551615)',
    f'r:a needs approval(2, "{KEY}", "{"B" * 42 + "E"}"), uses(2)',
    'r:a needs uses(1), budget("travel", 100.25, "EUR", amount.value)',
    'r:a needs budget("travel", 100,amount)',
    'r:a needs budget("travel", 100, "the amount"."x")',
    'r:a needs budget("travel", 100, "", x)',
    f'r:a where a == "{"x" * 1024}"',
    f"r:a where a in [{', '.join(map(str, range(64)))}]",
)
# Read by the Python parser alone.
RARE = (
    'r:a where a == ["x"]',
    "r:a where a == null",
    'r:a where a in ["x", 1]',
    'r:a where a == digest("' + KEY + '")',
    "r:a where a == 1e300",
    f'r:a where a == "{"x" * 1025}"',
    f'r:a where a == "{chr(0xE9) * 513}"',
)
REFUSED = (
    "",
    "read",
    "read:",
    "read:a/",
    "read:a//b",
    "read:**/a",
    "read:{a}",
    "read:{a, b}",
    "read:a where x == 01",
    "read:a where x == 1.",
    "read:a where x == 1 ",
    "read:a where x == tru",
    'read:a where x == "abc',
    'read:a where x == "\\ud800"',
    'read:a where x == "\\udc00"',
    'read:a where x == "\\ud800\\u0041"',
    'read:a where x == "\\x"',
    'read:a where x == "\\u12g4"',
    'read:a where x == "\n"',
    'read:a where x == "\ud800"',
    "read:\udc80",
    "read:a where x == session.",
    "read:a where x == session.1",
    "read:a where x glob session.y",
    "read:a where session.x[] == 1",
    "read:a where a.b.c.d.e.f.g.h.i == 1",
    "read:a where no argument",
    "read:a where no arguments free *",
    "read:a where\u00e9 == 1",
    "read:a wherex == 1",
    "read:a where count(x == 1",
    "read:a where a in [1, 1]",
    f"read:a where a in [{', '.join(map(str, range(65)))}]",
    "read:a free *, x",
    "read:a needs uses(0)",
    "read:a needs uses(01)",
    "read:a needs uses(18446744073709551616)",
    "read:a needs uses(1), uses(2)",
    "read:a needs uses(1),",
    "read:a needs ",
    f'read:a needs approval(4294967297, "{KEY}")',
    f'read:a needs approval(0, "{KEY}")',
    f'read:a needs approval(1, "{KEY[:-1]}B")',
    f'read:a needs approval(1, "{KEY[:-1]}',
    'read:a needs budget("", 1, x)',
    'read:a needs budget("a", 0, x)',
    'read:a needs budget("a", 1, x[])',
    "read:a\x00",
    "a" * 65_537,
)


def _texts() -> Iterator[str]:
    """Yield scope texts of the vectors, and everything quoted in the docs and tests that looks like one."""
    for path in sorted((ROOT / "tests/vectors").glob("*.json")):
        yield from _texts_in(json.loads(path.read_text(encoding="utf-8")))
    for folder, pattern in (("docs", "*.md"), ("tests", "*.py")):
        for path in sorted((ROOT / folder).rglob(pattern)):
            content = path.read_text(encoding="utf-8")
            yield from re.findall(r"'([^'\n]*:[^'\n]*)'", content)
            yield from re.findall(r"`([^`\n]*:[^`\n]*)`", content)
            yield from re.findall(r'"([a-z*][^"\n]*:[^"\n]*)"', content)


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str) and ":" in value:
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts_in(inner)


def _scope(text: str) -> bytes | None:
    try:
        return Scope.parse(text).encode()
    except ScopeError:
        return None


def _condition(text: str) -> bytes | None:
    try:
        return checked_condition(Condition.parse(text).to_record())
    except ScopeError:
        return None


def _agrees(text: str) -> bool:
    """Return whether the kernel reads the text as the Python parser does, or not at all."""
    scope, condition = codec.scope_from_text(text), codec.condition_from_text(text)
    return scope in (None, _scope(text)) and condition in (None, _condition(text))


@pytest.mark.parametrize("text", COMMON)
def test_common_text_is_read(text: str) -> None:
    """Each common form gives the bytes of the Python parser, and so does each condition of it alone."""
    assert codec.scope_from_text(text) == Scope.parse(text).encode()
    for condition in Scope.parse(text).conditions:
        assert codec.condition_from_text(str(condition)) == checked_condition(condition.to_record())


@pytest.mark.parametrize("text", RARE)
def test_rare_text_is_left_to_the_python_parser(text: str) -> None:
    """An operand that is compared as JSON, or that no Number holds, is not read."""
    assert _scope(text) is not None
    assert codec.scope_from_text(text) is None
    assert codec.condition_from_text(text.partition(" where ")[2]) is None


@pytest.mark.parametrize("text", REFUSED)
def test_refused_text_is_not_read(text: str) -> None:
    """A text that is no scope is none here."""
    assert _scope(text) is None
    assert codec.scope_from_text(text) is None


def test_every_text_at_hand_is_read_alike() -> None:
    """Vectors, documents and tests: the same bytes, or none; most scopes of them are read."""
    texts = set(_texts())
    known = [text for text in texts if _scope(text) is not None]

    read = [text for text in known if codec.scope_from_text(text) is not None]

    assert [text for text in texts if not _agrees(text)] == []
    assert len(known) > 300
    assert len(read) > 0.9 * len(known)


@settings(max_examples=examples(400), deadline=None)
@given(st.one_of(scopes(), awkward_scopes()))
def test_printed_scopes_are_read_alike(scope: Scope) -> None:
    """A printed scope and each of its conditions give the same bytes, or none."""
    assert _agrees(str(scope))
    assert all(_agrees(str(condition)) for condition in scope.conditions)


@settings(max_examples=examples(800), deadline=None)
@given(st.from_regex(r"-?[0-9]{1,21}(\.[0-9]{1,11})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
@example("0e999999999999999999")
@example("0e9999999999999999999")
@example("0e99999999999999999999999999")
@example("-9223372036854775808.000000001")
@example("-9223372036854775807.999999999")
@example("0." + 300 * "0" + "1e301")
@example(300 * "9")
@example("-9223372036854775808")
@example("9223372036854775808")
def test_numbers_are_read_alike(number: str) -> None:
    """A number of any spelling is the same, or none."""
    assert _agrees(f"a == {number}")
    assert _agrees(f"r:a where a in [{number}, 5]")
    assert _agrees(f'r:a needs budget("x", {number}, a)')


def test_damaged_text_is_read_alike() -> None:
    """Cut, doubled and changed texts, and mixtures of two: the same bytes, or none."""
    rng = Random(1)
    pieces = [*' ",:/*{}[]().?\\_-0e', "\u00e9", "\ud800", "\0", " where ", " and ", " free ", "[]", "1"]
    for _ in range(5 * CASES):
        text, other = rng.choice(COMMON), rng.choice((*COMMON, *RARE, *REFUSED[:-1]))
        for _ in range(rng.choice((1, 1, 2, 3))):
            at, cut = rng.randint(0, len(text)), rng.choice((0, 0, 1, 2, 9))
            put = rng.choice((rng.choice(pieces), "", other[rng.randint(0, len(other)) :]))
            text = text[:at] + put + text[at + cut :]
        assert _agrees(text), text
        assert _agrees(text.partition(" where ")[2]), text


def test_each_beginning_of_a_text_is_read_alike() -> None:
    """A text that ends anywhere is the same scope, or none."""
    beginnings = (text[:end] for text in COMMON[:-2] for end in range(len(text)))
    assert [text for text in beginnings if not _agrees(text)] == []


@pytest.mark.parametrize("text", [None, b"a:b", 1])
def test_only_a_str_is_a_text(text: object) -> None:
    """Other types are refused."""
    for read in (codec.scope_from_text, codec.condition_from_text):
        with pytest.raises(TypeError):
            read(text)  # type: ignore[arg-type]
