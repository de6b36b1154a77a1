"""Scopes and conditions: reading text, building from Python, what is refused and where."""

from __future__ import annotations

from decimal import Decimal

import pytest

from sessauth._fast import _check as kernel
from sessauth.errors import ScopeError
from sessauth.scopes.parts import Accessor, Operator, Path, Segment, SegmentKind, ValueSource
from sessauth.scopes.scope import Condition, FactReference, Scope


@pytest.mark.parametrize(
    ("text", "offset", "expected"),
    [
        ("", 0, "an action"),
        ("read", 4, "':' after the action"),
        ("read:", 5, "a resource segment"),
        ("read:a//b", 7, "a resource segment"),
        ("read:a/", 7, "a resource segment"),
        ("read:{a", 7, "'}'"),
        ("read:a b", 6, "' where '"),
        ("read:a where", 12, "a condition"),
        ("read:a where x", 14, "an operator"),
        ("read:a where x = 1", 15, "an operator"),
        ("read:a where x == ", 18, "a value"),
        ('read:a where x in "a"', 18, "'['"),
        ("read:a where x in [1,]", 21, "a value"),
        ('read:a where x == "abc', 18, "a JSON string"),
        ('read:a where x == "\\ud800"', 18, "lone surrogates"),
        ("read:a where x == 01", 19, "' and '"),
        ("read:a where x == 1e1000000000", 18, "an exponent of at most 999,999,999"),
        ("read:a where each(x == 1", 19, "')'"),
        ("read:a where x glob session.y", 20, "a value"),
        ("read:a free", 11, "'*'"),
        ("read:a free x,", 14, "the name of an argument"),
        ("read:a needs uses(0)", 18, "uses"),
        ("read:a needs uses(1), uses(2)", 22, "at most once"),
        ('read:a needs approval(1, "x")', 25, "a public key"),
        ("read:a where x == 1 ", 19, "' and '"),
    ],
)
def test_an_error_says_where_and_what_was_expected(text: str, offset: int, expected: str) -> None:
    """ScopeError holds the offset in characters, and its message what should stand there."""
    with pytest.raises(ScopeError) as caught:
        Scope.parse(text)

    assert caught.value.offset == offset
    assert expected in str(caught.value)
    assert caught.value.text == text


@pytest.mark.parametrize(
    "text",
    [
        "read:a/../b",
        'read:"a%2fb"',
        "read:**/a",
        "read,*:a",
        'read:a where x cidr "10.0.0.1/8"',
        "read:a where session.x.y == 1",
        "read:" + "/".join("a" * 33),
    ],
)
def test_what_is_against_the_format_is_refused(text: str) -> None:
    """Text of the right grammar that the kernel's rules refuse raises ScopeError, too."""
    with pytest.raises(ScopeError, match="against the format"):
        Scope.parse(text)


@pytest.mark.parametrize("name", ["*", "a*", "a/b", "**", "{a,b}", "..", ""])
def test_a_name_can_not_inject_a_pattern(name: str) -> None:
    """A builder takes a segment literally, so what would be a wildcard or a slash is refused."""
    with pytest.raises(ScopeError):
        Scope.on("read", "files", name)


def test_a_literal_that_looks_like_grammar_stays_literal() -> None:
    """Spaces, quotes, commas and colons are ordinary in a name and are quoted in text."""
    scope = Scope.on("read", "a b", 'say "hi"', "x,y:z")

    assert str(scope) == 'read:"a b"/"say \\"hi\\""/"x,y:z"'
    assert [s.kind for s in Scope.parse(str(scope)).resource] == [SegmentKind.LITERAL] * 3


def test_a_built_scope_equals_the_parsed_one() -> None:
    """Every builder has its text."""
    built = (
        Scope.on(["read", "list"], "mcp", Segment.one_of("a", "b"), Segment.prefix("get_"), Segment.rest())
        .where("owner", "==", "acme")
        .where(Path.args("range", "to"), "<=", Decimal("10.5"), optional=True)
        .where("ids", "in", 1, 2, each=True)
        .where("url", "!=", "evil.example", accessor="host")
        .where("case", "==", FactReference("case_id"))
        .where(Condition.of(Path.tool("destructive"), "==", False))
        .free("body", Path.args("a.b", "c"))
    )

    assert built == Scope.parse(
        'read,list:mcp/{a,b}/get_*/** where owner == "acme" and range.to? <= 10.5 and each(ids) in [1, 2]'
        ' and host(url) != "evil.example" and case == session.case_id and tool.destructive == false'
        ' free body, "a.b".c'
    )
    assert built.free_all() == Scope.parse(str(built).rsplit(" free ")[0] + " free *")


def test_true_and_one_are_different_operands() -> None:
    """Conditions that differ only in the type of their operand are not equal."""
    assert Condition.of("x", "==", True) != Condition.of("x", "==", 1)
    assert str(Condition.of("x", "==", True)) == "x == true"


@pytest.mark.parametrize(
    ("operator", "operands", "options", "problem"),
    [
        ("=", (1,), {}, "unknown operator"),
        ("==", (1,), {"accessor": "len"}, "unknown accessor"),
        ("==", (1.5,), {}, "float"),
        ("==", (FactReference("a"), 1), {}, "only operand"),
        ("==", (FactReference("a-b"),), {}, "against the format"),
        ("==", (), {}, "against the format"),
        ("present", (1,), {}, "against the format"),
        ("==", ("\ud800",), {}, "against the format"),
    ],
)
def test_a_wrong_condition_is_refused(
    operator: str, operands: tuple[object, ...], options: dict[str, str], problem: str
) -> None:
    """The builder names what is wrong."""
    with pytest.raises(ScopeError, match=problem):
        Condition.of("x", operator, *operands, **options)  # type: ignore[arg-type]


X = {"source": 1, "segments": ["x"]}
TEXT = [{"text": "a"}]


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"resource": [{"kind": 9, "texts": ["a"]}]}, "<unknown segment 9>"),
        ({"where": [{"path": {**X, "source": 7}, "operator": 1, "values": TEXT}]}, "<unknown source 7>"),
        ({"where": [{"path": X, "operator": 99}]}, "<unknown operator 99>"),
        ({"where": [{"path": X, "operator": 1, "accessor": 8, "values": TEXT}]}, "<unknown accessor 8>"),
    ],
)
def test_kinds_of_a_later_version_are_kept_and_shown(change: dict[str, object], shown: str) -> None:
    """A scope with an unknown kind is read, reported, shown and encoded to the same bytes."""
    record = {"actions": ["read"], "resource": [{"kind": 1, "texts": ["a"]}], **change}
    data = kernel.encode_message("Scope", record)
    scope = Scope.from_record(kernel.decode_message("Scope", data))

    assert scope.has_unknown_kind
    assert shown in str(scope)
    assert scope.encode() == data


def test_the_numbers_of_the_enums_are_those_of_the_proto() -> None:
    """Source, operator, accessor and segment kind agree with the generated stubs."""
    from sessauth.v1 import token_pb2

    pairs = [
        (Operator, token_pb2.Operator, "OPERATOR_"),
        (ValueSource, token_pb2.Source, "SOURCE_"),
        (SegmentKind, token_pb2.SegmentKind, "SEGMENT_KIND_"),
        (Accessor, token_pb2.Accessor, "ACCESSOR_"),
    ]
    for ours, theirs, prefix in pairs:
        named = {f"{prefix}{member.name}": int(member) for member in ours if int(member)}
        assert named == {name: number for name, number in theirs.items() if number}
