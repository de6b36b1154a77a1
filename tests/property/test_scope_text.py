"""The kernel's reader of scope text takes what is common, and never differs from the parser."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessauth._fast import _codec as codec
from sessauth.errors import ScopeError
from sessauth.scopes.parser import parse_condition, parse_scope
from sessauth.scopes.parts import checked_condition
from sessauth.scopes.scope import Scope
from tests.support.scope_strategies import scopes

# Each must be taken: a reader that gives up at everything would pass all other tests.
COMMON = [
    "read:files/**",
    "*:**",
    'read,write.all,x-y_z:mcp/github/*/pre*/{a,b,"c d"}/"my notes"',
    "read:a free *",
    'read:a free path, args.session.x, "a b".c, files[].name',
    "read:a where no arguments",
    "read:a where no == 1",
    'read:a  where  owner  ==  "acme"  and  n  <=  100  free  *',
    "read:a where a == -0.5 and b != 12.000000001 and c < 3 and d >= -7 and e > 0",
    'read:a where a in ["x", "y"] and b not  in [1,2,  3] and c subset_of ["a"]',
    'read:a where each(files[].path) under "/a" and path? starts_with ["/a", "/b"]',
    'read:a where count(to) <= 3 and host(url) == "a.example" and each(host(urls)) in ["a"]',
    'read:a where port(url) == 443 and scheme(url) == "https"',
    'read:a where session.role == "admin" and owner == session.user and tool.annotations.x == true',
    'read:a where x glob "*.md" and ip cidr ["10.0.0.0/8"] and y present and z absent',
    "read:a where truth == true and lie == false and amount <= session.limit",
    "read:files/case-4711/** where per_page == 50",
]
# Left to the parser, which reads them.
RARE = [
    'read:"a\\u0062"',
    "read:größe",
    "read:a where x == [1, 2]",
    'read:a where x in [1, "a"]',
    "read:a where x == 1e3",
    "read:a where x == 0.1234567891",
    "read:a where x == null",
    "read:a needs uses(3)",
    f'read:a where x == "{"y" * 1025}"',
]
WRONG = [
    "",
    "read",
    "read:",
    "read:a/",
    "read a",
    "read:a where",
    "read:a where x",
    "read:a where x ==",
    "read:a where x == 01",
    "read:a where x == truest",
    "read:a where x =< 1",
    "read:a where x in []",
    "read:a where x in [1,]",
    "read:a where x present and",
    "read:a where x presently",
    "read:a wherex == 1",
    "read:a free",
    "read:a free x,",
    "read:a where no arguments free *",
    'read:"a',
    f'read:"{"y" * 1025}"tail',
    f'read:a where x == "{"y" * 1025}"true',
    "read:**/a",
    "read:{a}",
    "read:{a,a}",
    "read:a where x == 1 where y == 2",
    "read:a where count(x == 1",
    "read:a where each(x) == 1)",
    "read:a where a.b.[] == 1",
    "read:a\x00",
    "read:a where x == 9223372036854775808 free *x",
]


def _by_parser(text: str) -> bytes | None:
    try:
        return parse_scope(text)
    except ScopeError:
        return None


def _agrees(text: str) -> bytes | None:
    """Return what the reader gives, which is nothing or what the parser gives."""
    read = codec.scope_from_text(text)
    if read is not None:
        assert read == _by_parser(text), text
    return read


@pytest.mark.parametrize("text", COMMON)
def test_common_texts_are_taken(text: str) -> None:
    """Each form of the grammar but the rare ones."""
    assert _agrees(text) is not None


@pytest.mark.parametrize("text", RARE)
def test_rare_texts_are_left_to_the_parser(text: str) -> None:
    """They are read all the same."""
    assert codec.scope_from_text(text) is None
    assert Scope.parse(text).encode() == parse_scope(text)


@pytest.mark.parametrize("text", WRONG)
def test_wrong_texts_are_left_to_the_parser(text: str) -> None:
    """It alone says what is wrong, and where."""
    assert _agrees(text) is None or _by_parser(text) is not None
    if _by_parser(text) is None:
        with pytest.raises(ScopeError):
            Scope.parse(text)


@given(scopes())
def test_printed_scopes(scope: Scope) -> None:
    """A printed scope is read as the same scope, by either."""
    text = str(scope)
    assert _agrees(text) in (None, scope.encode())


@given(st.sampled_from(COMMON), st.randoms(use_true_random=False))
def test_mutated_texts(text: str, rng: random.Random) -> None:
    """Cut, doubled, removed and replaced characters."""
    for _ in range(6):
        at = rng.randrange(len(text) + 1)
        change = rng.choice(
            ["", " ", '"', ",", "[", "]", ")", "*", "/", ".", "-", "0", "x", "é", "\\", "\x1f"]
        )
        text = text[:at] + change + text[at + rng.randrange(3) :]
        assert _agrees(text) in (None, _by_parser(text))


def test_texts_of_the_docs() -> None:
    """All that looks like a scope in the documentation."""
    found = 0
    for page in Path("docs").rglob("*.md"):
        for text in re.findall(r"[\"'`]([a-z*,]+:[^\"'`\n]+)[\"'`]", page.read_text("utf-8")):
            found += _agrees(text) is not None
    assert found > 50


@pytest.mark.parametrize(
    "text", [one.split(" where ")[1].split(" free ")[0] for one in COMMON if " == " in one]
)
def test_conditions(text: str) -> None:
    """A condition alone."""
    text = text.split(" and ")[0].strip()
    read = codec.condition_from_text(text)
    assert read is not None
    assert read == checked_condition(parse_condition(text))


@pytest.mark.parametrize("text", ["", "x", "x == 1 and y == 2", "x == 1 ", "each(x == 1", 'x in [1, "a"]'])
def test_conditions_that_are_left(text: str) -> None:
    """Errors, and what is rare."""
    assert codec.condition_from_text(text) is None
