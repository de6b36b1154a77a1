"""Parts of a session's usage give the same whole in any order and grouping, within the same bounds."""

from __future__ import annotations

import json
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth.reasons import Reason
from sessauth.scopes.scope import Scope
from sessauth.usage import SessionUsage, records
from sessauth.usage.profile import BY_ACTION, CEILING, MINTED, NOTHING, GrantLayer
from tests.support.cases import examples
from tests.support.usage_cases import CALLS, Call, bounded, grants

MANY = st.lists(
    st.tuples(CALLS, st.integers(0, 5), st.sampled_from((*[Reason.ALLOWED] * 3, Reason.OUT_OF_SCOPE))),
    max_size=20,
)


def observed(layer: GrantLayer, told: list[tuple[Call, int, Reason]]) -> SessionUsage:
    """Return the usage record that one verifier makes of its decisions."""
    usage = SessionUsage()
    for call, at_ms, reason in told:
        found = layer.matching_positions(call.action, call.resource, call.arguments)
        usage.observe(
            call.action,
            call.resource,
            call.arguments,
            at_ms=at_ms,
            matched=found,
            block_ids=[bytes([at_ms])],
            minted=GrantLayer(MINTED, layer.scopes[: 1 + at_ms % len(layer.scopes)]),
            reason=reason,
        )
    return usage


def merged(parts: list[SessionUsage]) -> SessionUsage:
    """All parts, each by way of JSON, as a verifier tells them."""
    whole = SessionUsage()
    for part in parts:
        whole.merge(SessionUsage.from_json(part.to_json()))
    return whole


@settings(max_examples=examples(60), deadline=None)
@given(grants(), st.lists(MANY, min_size=1, max_size=4), st.randoms(use_true_random=False), st.booleans())
def test_order_and_grouping_make_no_difference(
    scopes: list[Scope], told: list[list[tuple[Call, int, Reason]]], rng: Random, small: bool
) -> None:
    """One verifier that saw everything, several in any order, and pairs of pairs agree."""
    layer = GrantLayer(CEILING, scopes)
    with bounded(small):
        parts = [observed(layer, part) for part in told]
        at_once = observed(layer, [each for part in told for each in part])
        shuffled = rng.sample(parts, len(parts))
        half = len(shuffled) // 2

        assert merged(parts) == at_once
        assert merged(shuffled) == at_once
        assert merged([merged(shuffled[:half]), merged(shuffled[half:])]) == at_once


def flood(rng: Random, calls: int, *, actions: int, resources: int, names: int) -> SessionUsage:
    """A session that tries to make what is kept of it grow."""
    usage, layer = SessionUsage(), GrantLayer(CEILING, [Scope.parse("*:**")])
    for at_ms in range(calls):
        action, resource = f"a{rng.randrange(actions)}", f"r{rng.randrange(resources)}/{'x' * 900}"
        deep = {f"n{rng.randrange(names)}": {f"m{rng.randrange(names)}": rng.randrange(10**6)}}
        arguments = json.dumps(
            {**deep, "text": rng.randbytes(rng.randrange(400)).hex(), "list": [*range(40)]}
        )
        usage.observe(
            action,
            resource,
            arguments.encode(),
            at_ms=at_ms,
            block_ids=[rng.randbytes(32)],
            matched=[(layer.id, 0), (f"minted:{rng.randrange(500)}", rng.randrange(64))],
            reason=rng.choice((1, 1, 1, 80, 81, 999)),
        )
    return usage


def test_floods_stay_within_bounds_and_say_so() -> None:
    """Each dimension is flooded; what is kept has its bound, and the counts are still right."""
    rng, sizes = Random("flood"), {}
    for name, widths in {
        "resources": (2, 2000, 2),
        "kinds": (40, 30, 2),
        "actions": (400, 2, 2),
        "names": (1, 2, 5000),
    }.items():
        actions, resources, names = widths
        usage = flood(rng, 700, actions=actions, resources=resources, names=names)
        sizes[name] = len(usage.to_json())
        assert usage.allowed.calls + sum(span.calls for _, span in usage.denied) == 700
        assert usage.truncated, name
        assert SessionUsage.from_json(usage.to_json()) == usage
        levels = {profile.level for profile in usage.profiles.values()}
        assert (levels == {BY_ACTION, NOTHING} or levels == {NOTHING}) or name in ("names", "resources")

    assert max(sizes.values()) < 3_000_000, sizes


def test_a_flooded_whole_is_the_same_in_any_order() -> None:
    """Detail is given up by the sum of all reports, not by their order."""
    rng = Random("parts")
    widths = ((1, 40), (40, 9), (9, 30), (70, 1))
    parts = [flood(rng, 120, actions=a, resources=r, names=40) for a, r in widths]
    whole = merged(parts)

    for _ in range(2):
        assert merged(rng.sample(parts, len(parts))) == whole
    assert merged([merged(parts[2:]), merged(parts[:2])]) == whole
    assert whole.profiles[CEILING].level > 0
    assert any(part.profiles[CEILING].level == 0 for part in parts)
    assert len(whole.calls.rows) == records.MAX_ROWS and whole.calls.truncated
