"""The workloads: their sizes, and the decisions that they end in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks import denied, realistic, tokens, workloads
from benchmarks.state_setup import World
from benchmarks.workloads import Workload
from sessauth._fast._check import Chain
from sessauth.reasons import Reason


def test_realistic_calls_are_allowed_and_no_others(live_world: World) -> None:
    """Every call is allowed with its own agent's token, and not with all of the others'."""
    tools = realistic.catalogue()
    agents = realistic.agents(live_world, tools)
    verifier = live_world.verifier()

    assert len(agents.calls) == len({call.token for call in agents.calls}) == 256
    agents.require_decisions(verifier)
    first = agents.calls[0]
    swapped = [verifier.check(call.token, *first[1:4], tool=first.tool) for call in agents.calls[1:50]]
    assert not all(swapped)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (denied.garbage, Reason.MALFORMED_TOKEN),
        (denied.torn, Reason.MALFORMED_TOKEN),
        (denied.oversized, Reason.TOKEN_TOO_LARGE),
        (denied.unknown_session, Reason.UNKNOWN_SESSION),
        (denied.ended_session, Reason.SESSION_ENDED),
        (denied.expired, Reason.EXPIRED),
        (denied.revoked_deep, Reason.REVOKED),
        (denied.forged, Reason.BAD_SIGNATURE),
    ],
)
def test_what_is_refused_is_refused_for_its_own_reason(make: Any, reason: Reason, live_world: World) -> None:
    """Each workload of denials ends in the reason that its name says."""
    workload: Workload = make(live_world)

    assert workload.reason is reason
    workload.require_decisions(live_world.verifier())


def test_the_revoked_block_lies_in_the_middle_of_the_chain(live_world: World) -> None:
    """The eighth of sixteen blocks: the seven above it and the eight below it are not revoked themselves."""
    (call,) = denied.revoked_deep(live_world).calls

    decision = live_world.verifier().check(*call[:4])

    assert Chain.parse(call.token).block_count == 16
    assert decision.index == 7


def test_chains_and_scopes_have_the_sizes_that_their_names_say(live_world: World) -> None:
    """Blocks and scopes are as numerous as their names say, and each call is allowed."""
    verifier = live_world.verifier()
    for blocks in (1, 2, 4, 8, 16):
        (call,) = workloads.chain(live_world, blocks).calls
        assert Chain.parse(call.token).block_count == blocks
        assert verifier.check(*call[:4])
    for count in (1, 8, 64):
        assert len(tokens.scopes(count)) == count
        workloads.scopes(live_world, count).require_decisions(verifier)


def test_each_nested_condition_can_fail(live_world: World) -> None:
    """Each condition refuses the call once its nested argument is changed."""
    (call,) = workloads.nested(live_world).calls
    verifier = live_world.verifier()
    changes: list[tuple[str, Any]] = [
        ("repository", {"owner": "evil", "name": "web"}),
        ("repository", {"owner": "acme", "name": "other"}),
        ("filter", {**workloads.NESTED["filter"], "labels": ["bug", "other"]}),
        ("filter", {**workloads.NESTED["filter"], "range": {"to": {"day": {"year": 2027}}}}),
        ("filter", {**workloads.NESTED["filter"], "any": [0] * 21}),
        ("files", ["src/app.py", "etc/passwd"]),
        ("callback", "https://evil.example.org/"),
        ("page", {"number": 3, "size": 101}),
    ]

    assert verifier.check(*call[:4]) and len(changes) == len(workloads.NESTED_CONDITIONS)
    for clause, (name, other) in enumerate(changes):
        arguments = json.dumps({**workloads.NESTED, name: other}).encode()
        decision = verifier.check(call.token, call.action, call.resource, arguments)
        assert (decision.reason, decision.clause) == (Reason.CONDITION_FAILED, clause)
