"""Hypothesis strategies for scopes and conditions, from vocabularies small enough to meet often."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from sessauth.errors import ScopeError
from sessauth.scopes.parts import EACH, EQUALITY, NEGATED, Accessor, Operator, Path, Segment, ValueSource
from sessauth.scopes.scope import Condition, FactReference, Scope
from sessauth.scopes.value import Json

# Small vocabularies, so that random scopes and requests meet often.
NAMES = ("a", "b", "ab")
TEXTS = (
    "",
    "a",
    "ab",
    "b",
    "/",
    "/a",
    "/a/b",
    "a/b",
    "10.0.0.1",
    "10.1.0.1",
    "::1",
    "http://a/b",
    "https://ab:80/",
    "http://b/a/b?",
    "a@ab.b",
)
NETS = ("10.0.0.0/8", "10.0.0.0/16", "10.0.0.1/32", "::/0", "::1/128")
CLEAN = ("a", "a/b", "/", "/a", "/a/b", "b")
GLOBS = ("*", "a*", "a/**", "**", "*b", "/a/*")
NUMBERS = (
    -1,
    0,
    1,
    2,
    Decimal("0.5"),
    Decimal("1.000000001"),
    80,
    443,
    Decimal("1.0000000001"),
    Decimal("1e30"),
)
# Lists, objects and null, some of them with others inside.
JSON = (
    *(None, [], {}, ["a"], ["a", "ab"], [1], [None], [[]], {"a": "a"}, {"b": 1, "ab": "a"}),
    *([{"a": "a"}], [{"a": "a"}, {"a": "ab", "b": 1}], [{}], {"b": ["a", "b"]}, [{"b": ["a"]}], ["x" * 1100]),
)
FACTS = {"who": "a", "level": 1, "yes": True}

segments = st.one_of(
    st.sampled_from(NAMES).map(Segment.literal),
    st.just(Segment.any()),
    st.sampled_from(NAMES).map(Segment.prefix),
    st.lists(st.sampled_from(NAMES), min_size=2, max_size=3, unique=True).map(lambda t: Segment.one_of(*t)),
)
actions = st.one_of(
    st.just(("*",)),
    st.lists(st.sampled_from(("read", "write")), min_size=1, max_size=2, unique=True).map(tuple),
)
paths = st.one_of(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=2).map(lambda n: Path.args(*n)),
    st.sampled_from(NAMES).map(Path.args),
    st.lists(st.one_of(st.sampled_from(NAMES), st.just(...)), min_size=1, max_size=3).map(
        lambda parts: Path.elements("a", *parts)
    ),
    st.sampled_from(list(FACTS)).map(Path.session),
)


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    """Build any well-formed condition over the small vocabularies."""
    path = draw(paths)
    operator = draw(st.sampled_from(Operator))
    if operator in (Operator.PRESENT, Operator.ABSENT):
        return Condition(path, operator)
    plain = operator != Operator.SUBSET_OF
    json = operator in EQUALITY and path.source != ValueSource.SESSION and not draw(st.integers(0, 2))
    accessor = draw(st.sampled_from((0, 0, 0, *Accessor))) if plain and not json else 0
    quantifier = draw(st.sampled_from(("", "", "", "", "each", "any"))) if plain else ""
    optional = draw(st.booleans()) and draw(st.booleans())
    word = next(w for w, o in WORDS.items() if o == operator)
    return Condition.of(
        path,
        word,
        *(draw(json_operands(operator)) if json else draw(operands(operator))),
        accessor=next((w for w, a in ACCESSORS.items() if a == accessor), ""),
        each=quantifier == "each",
        optional=optional,
        any=quantifier == "any",
    )


WORDS = {
    **{"==": 1, "!=": 2, "in": 3, "not in": 4, "<": 5, "<=": 6, ">": 7, ">=": 8},
    **{"starts_with": 9, "glob": 10, "under": 11, "cidr": 12, "subset_of": 13},
    **{"not starts_with": 19, "not glob": 20, "not under": 21, "not cidr": 22},
}
ACCESSORS = {"count": 1, "host": 2, "scheme": 3, "port": 4, "path": 10, "domain": 11, "length": 12}


def json_operands(operator: Operator) -> st.SearchStrategy[list[Any]]:
    """Give JSON values, at least one of which is a list, an object or null."""
    first = st.sampled_from(range(len(JSON))).map(lambda index: JSON[index])
    if operator in (Operator.EQUAL, Operator.NOT_EQUAL):
        return st.lists(first, min_size=1, max_size=1)
    more = st.lists(st.one_of(first, st.sampled_from(("a", "b", 1, True))), max_size=2)
    return st.builds(lambda one, others: _distinct([one, *others]), first, more)


def _distinct(values: list[Any]) -> list[Any]:
    return list({Json.of(value): value for value in values}.values())


def operands(operator: Operator) -> st.SearchStrategy[list[Any]]:
    """Give operands of a type that the operator takes."""
    special = {Operator.GLOB: GLOBS, Operator.UNDER: CLEAN, Operator.CIDR: NETS, Operator.STARTS_WITH: TEXTS}
    special |= {negated: special[plain] for negated, plain in NEGATED.items()}
    if operator in special:
        many = st.lists(st.sampled_from(special[operator]), min_size=1, max_size=3)
        fact = st.just([FactReference("who")])
        takes_fact = operator in (
            Operator.STARTS_WITH,
            Operator.UNDER,
            Operator.NOT_STARTS_WITH,
            Operator.NOT_UNDER,
        )
        return st.one_of(many, many, fact) if takes_fact else many
    ordered = Operator.LESS <= operator <= Operator.GREATER_EQUAL
    single = ordered or operator in (Operator.EQUAL, Operator.NOT_EQUAL)
    pools: list[Any] = [TEXTS, NUMBERS, *([] if ordered else [(True, False)])]
    size = {"min_size": 1, "max_size": 1 if single else 3}
    constants = st.one_of(*(st.lists(st.sampled_from(p), unique=True, **size) for p in pools))
    return (
        st.one_of(constants, constants, st.sampled_from(list(FACTS)).map(lambda f: [FactReference(f)]))
        if single
        else constants
    )


@st.composite
def scopes(draw: st.DrawFn) -> Scope:
    """Build any scope over the small vocabularies."""
    resource = draw(st.lists(segments, min_size=1, max_size=3))
    if draw(st.booleans()) and draw(st.booleans()):
        resource.append(Segment.rest())
    free_all = draw(st.booleans())
    free = [] if free_all else draw(st.lists(paths.filter(lambda p: p.is_argument), max_size=2, unique=True))
    where = draw(st.lists(conditions(), max_size=3))
    return Scope(draw(actions), tuple(resource), tuple(where), tuple(free), free_all)


@st.composite
def variations(draw: st.DrawFn, scope: Scope) -> Scope:
    """Change one or two things of a scope, so that pairs are often nearly equal."""
    for _ in range(draw(st.integers(0, 2))):
        other = draw(scopes())
        match draw(st.integers(0, 5)):
            case 0:
                scope = Scope(other.actions, *_rest(scope))
            case 1:
                scope = Scope(scope.actions, other.resource, *_rest(scope)[1:])
            case 2:
                scope = scope.where(draw(conditions()))
            case 3:
                more = tuple(draw(near(c)) for c in scope.conditions)
                scope = Scope(scope.actions, scope.resource, more, scope.free_paths, scope.everything_free)
            case 4:
                scope = Scope(
                    scope.actions, scope.resource, scope.conditions, other.free_paths, other.everything_free
                )
            case _:
                scope = Scope(scope.actions, scope.resource, scope.conditions[1:], scope.free_paths)
    return scope


@st.composite
def near(draw: st.DrawFn, condition: Condition) -> Condition:
    """Give a condition on the same subject, often with the same operand, or on its list's elements."""
    other = draw(conditions())
    if (condition.each or condition.any) and condition.path.is_argument and draw(st.booleans()):
        elements = Path((*condition.path.parts, EACH), ValueSource.ELEMENTS)
        return replace(condition, path=elements, each=False, any=draw(st.booleans()), optional=other.optional)
    if condition.values and draw(st.booleans()):
        # A neighbour differs by one step: < and <=, == and !=, starts_with and glob.
        step = draw(st.sampled_from((-1, 0, 1)))
        with suppress(ScopeError, ValueError):
            return replace(condition, operator=Operator(condition.operator + step), optional=other.optional)
    with suppress(ScopeError):
        if other.operator in (Operator.PRESENT, Operator.ABSENT, Operator.SUBSET_OF):
            return Condition(condition.path, other.operator, other.values)
        return replace(
            other, path=condition.path, accessor=condition.accessor, each=condition.each, any=condition.any
        )
    return other


def _rest(scope: Scope) -> tuple[Any, ...]:
    return scope.resource, scope.conditions, scope.free_paths, scope.everything_free
