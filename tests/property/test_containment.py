"""Containment is sound: what it proves holds for every request, as the kernel judges it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sessauth._fast import _codec as codec
from sessauth.errors import ScopeError
from sessauth.scopes import containment, implication
from sessauth.scopes.implication import WorkBudget
from sessauth.scopes.parts import Operator, Path
from sessauth.scopes.scope import Condition, Scope
from tests.support.cases import examples
from tests.support.scope_strategies import (
    CLEAN,
    FACTS,
    GLOBS,
    JSON,
    NAMES,
    NETS,
    NUMBERS,
    TEXTS,
    conditions,
    near,
    scopes,
    variations,
)


def _value(rng: Random, depth: int = 0) -> Any:
    """Return a value of any shape, from the constants that scopes have."""
    roll = rng.random()
    if depth < 2 and roll < 0.15:
        return [_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if depth < 2 and roll < 0.3:
        return {name: _value(rng, depth + 1) for name in rng.sample(NAMES, rng.randrange(3))}
    pools = (TEXTS, [float(number) for number in NUMBERS], (True, False, None, []), JSON)
    return rng.choice(rng.choice(pools))


def _request(rng: Random) -> tuple[bytes, bytes, bytes]:
    segments = [rng.choice(("a", "b", "ab", "abc", "x")) for _ in range(rng.randint(1, 4))]
    arguments = {name: _value(rng) for name in rng.sample(NAMES, rng.randrange(4))}
    action = rng.choice((b"read", b"write", b"other"))
    return action, "/".join(segments).encode(), json.dumps(arguments).encode()


# Made once: drawn by Hypothesis they took most of the time.
REQUESTS = [_request(Random(f"request {number}")) for number in range(3_000)]
FACT_RECORDS = [
    {"name": "level", "value": {"number": {"units": 1}}, "visible": True},
    {"name": "who", "value": {"text": "a"}, "visible": True},
    {"name": "yes", "value": {"truth": True}, "visible": True},
]


def permits(
    scope: bytes, request: tuple[bytes, bytes, bytes], facts: list[dict[str, Any]] = FACT_RECORDS
) -> bool:
    """Ask the kernel about an encoded scope."""
    return codec.matches(scope, *request, facts=facts)[0]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Scope, Scope]:
    """Give two scopes that are often close to each other."""
    parent = draw(scopes())
    return parent, draw(variations(parent))


@settings(max_examples=examples(400), deadline=None)
@given(pairs(), st.integers(0, len(REQUESTS) - 60))
def test_a_proof_about_scopes_holds_for_every_request(pair: tuple[Scope, Scope], first: int) -> None:
    """1 means the parent matches whatever the child matches; -1 that no request matches both."""
    parent, child = pair
    verdict, part = containment.contains([parent.to_record()], [child.to_record()], same_facts=True)
    encoded = parent.encode(), child.encode()
    both = [(permits(encoded[0], r), permits(encoded[1], r)) for r in REQUESTS[first : first + 60]]

    assert (verdict == 1) == (part == "")
    if verdict == 1:
        assert (False, True) not in both
    if verdict == -1:
        assert (True, True) not in both


def permitted(layer: list[Scope], request: tuple[bytes, bytes, bytes]) -> bool:
    """Ask the kernel about a layer of a ceiling. An exception alone permits what is outside of it."""
    stated = [scope for scope in layer if not scope.exception]
    outside = all(permits(scope.encode(), request) for scope in layer if scope.exception)
    return outside and (not stated or any(permits(scope.encode(), request) for scope in stated))


@st.composite
def layers(draw: st.DrawFn, like: Scope) -> list[Scope]:
    """Give one or two scopes and as many exceptions, or exceptions alone, near to a scope."""
    made = draw(st.lists(st.one_of(variations(like), scopes()), max_size=2))
    exceptions = draw(st.lists(st.one_of(variations(like), scopes()), min_size=not made, max_size=2))
    return [*made, *filter(None, map(excepting, exceptions))]


def excepting(scope: Scope) -> Scope | None:
    """Return a scope as an exception; None if it can't be one."""
    with suppress(ScopeError):
        return replace(scope, free_paths=(), everything_free=False, exception=True)
    return None


@settings(max_examples=examples(400), deadline=None)
@given(
    scopes().flatmap(lambda like: st.tuples(layers(like), layers(like))),
    st.integers(0, len(REQUESTS) - 30),
)
def test_a_proof_about_layers_with_exceptions_holds(
    pair: tuple[list[Scope], list[Scope]], first: int
) -> None:
    """Inside: the parent permits what the child does. Apart: a scope of the child permits nothing of it."""
    parent, child = pair
    assume(parent and child)
    records = [[scope.to_record() for scope in layer] for layer in pair]
    verdicts = [verdict for verdict, _ in containment.compare(*records, same_facts=True)]
    exceptions = [scope for scope in child if scope.exception]

    for request in REQUESTS[first : first + 30]:
        if min(verdicts) == 1 and permitted(child, request):
            assert permitted(parent, request)
        for verdict, scope in zip(verdicts, child, strict=True):
            if verdict == -1 and permitted([scope, *exceptions], request):
                assert not permitted(parent, request)


@settings(max_examples=examples(1200), deadline=None)
@given(conditions(), st.sets(st.sampled_from(list(FACTS))))
def test_a_call_is_outside_an_exception_only_if_it_is_known_to_fail_it(
    condition: Condition, missing: set[str]
) -> None:
    """No call is outside of it that the same scope matches, and a call without the argument is."""
    facts = [record for record in FACT_RECORDS if record["name"] not in missing]
    scope = READ_A.where(condition).encode()
    excepted = excepting(Scope.on("read", "a").where(condition))
    assume(excepted is not None)
    exception = excepted.encode()

    for arguments in ARGUMENTS:
        request = (b"read", b"a", arguments)
        assert not (permits(scope, request, facts) and permits(exception, request, facts)), arguments
    is_needed = (
        condition.path.is_argument and not condition.optional and condition.operator != Operator.ABSENT
    )
    assert permits(exception, (b"read", b"a", b"{}"), facts) or not is_needed


@st.composite
def condition_pairs(draw: st.DrawFn) -> tuple[Condition, Condition]:
    """Give two conditions, mostly on one subject, half of them on what the values below stand at."""
    first = draw(conditions())
    if first.operator <= Operator.CIDR and draw(st.booleans()):
        first = replace(first, path=Path.args("a"), accessor=0, each=False, any=False)
    pair = [first, draw(st.one_of(near(first), near(first), near(first), conditions()))]
    return tuple(pair if draw(st.booleans()) else reversed(pair))  # type: ignore[return-value]


# Every constant above, beside what is of no type or several.
LEAVES: list[Any] = [
    *(*TEXTS, *NETS, *GLOBS, *CLEAN, "aa", "b/a", "192.168.0.1", "::ffff:10.0.0.1", "http://[::1]:443/"),
    *(*map(float, NUMBERS), 0.25, 1e300, True, False, None, {}, {"a": "a"}, {"b": 1, "ab": "a"}),
]
LISTS: list[Any] = [[], *([leaf] for leaf in LEAVES), ["a", "ab"], [1, 2], [1, "a"], [True], [None]]
VALUES: list[Any] = [
    *(*LEAVES, *LISTS, *JSON, [["a"]], [["a"], []], [["a", "b"]]),
    *([{name: leaf}] for name in NAMES for leaf in (*LEAVES, *LISTS)),
    *({name: leaf} for name in NAMES for leaf in (*LISTS, *JSON)),
    *([{"a": "a"}, {"a": leaf}] for leaf in TEXTS),
]
ARGUMENTS = [
    json.dumps(arguments).encode()
    for arguments in ({}, *({name: value} for name in NAMES for value in VALUES))
]
READ_A = Scope.on("read", "a").free_all()


@settings(max_examples=examples(1200), deadline=None)
@given(condition_pairs(), *[st.sets(st.sampled_from(list(FACTS)))] * 2)
def test_a_proof_about_conditions_holds_for_every_value(
    pair: tuple[Condition, Condition], visible: set[str], missing: set[str]
) -> None:
    """Answers hold also without a fact, and for a child that sees fewer facts than the parent."""
    child, parent = pair
    facts = [record for record in FACT_RECORDS if record["name"] not in missing]
    implied = implication.implies(child.to_record(), parent.to_record(), False, WorkBudget())
    apart = implication.contradicts(child.to_record(), parent.to_record(), False, WorkBudget())
    seen = [record for record in facts if record["name"] in visible]
    encoded = READ_A.where(child).encode(), READ_A.where(parent).encode()

    for arguments in ARGUMENTS if implied or apart else ():
        request = (b"read", b"a", arguments)
        if permits(encoded[0], request, seen):
            parent_holds = permits(encoded[1], request, facts)
            assert not (implied and not parent_holds), arguments
            assert not (apart and parent_holds), arguments


@settings(max_examples=examples(300), deadline=None)
@given(scopes())
def test_every_scope_lies_inside_itself(scope: Scope) -> None:
    """Containment is reflexive, unless the scope contradicts itself."""
    verdict, part = containment.contains([scope.to_record()], [scope.to_record()], same_facts=True)

    assert verdict == 1 or (verdict == -1 and part)


@settings(max_examples=examples(300), deadline=None)
@given(scopes(), scopes())
def test_overlap_is_symmetric_and_follows_from_containment(a: Scope, b: Scope) -> None:
    """Two scopes overlap the same way round, and what lies inside overlaps."""
    first, second = a.to_record(), b.to_record()
    overlap = containment.overlaps(first, second)

    assert overlap == containment.overlaps(second, first)
    if containment.contains([first], [second], same_facts=True)[0] == 1:
        assert overlap
