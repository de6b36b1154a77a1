"""One session of many that floods its record, or makes a huge call, reopens nothing that others tighten."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from sessauth.scopes.scope import Scope
from sessauth.usage import SessionUsage
from sessauth.usage.kinds.observed import Observed
from sessauth.usage.kinds.scopes import brought_once
from sessauth.usage.profile import MINTED, GrantLayer
from sessauth.usage.suggest import Suggestion, suggest
from sessauth.usage.tighten import Fit

Call = tuple[str, str, dict[str, Any]]
LAYER = GrantLayer(MINTED, [Scope.parse("*:** free *")])
PAY = "mcp/bank/pay"
HONEST: Call = ("pay", PAY, {"to": "ana", "items": [{"id": "a1"}]})
# Ten tools more, so that a suggestion has many conditions.
TOOLS: list[Call] = [("send", f"mcp/bank/t{n}", {f"a{k}": f"v{k}" for k in range(6)}) for n in range(10)]
EVIL = {"to": "eve", "items": [{"id": "e9"}]}
FLOODS: dict[str, list[Call]] = {
    "nothing": [],
    "one call": [("pay", PAY, EVIL)],
    "many elements": [("pay", PAY, {**EVIL, "items": [{"id": f"e{n}"} for n in range(4_900)]})],
    "many names of members": [("pay", PAY, {**EVIL, "items": [{f"m{n}": 1} for n in range(4_900)]})],
    "many arguments": [("pay", PAY, {**EVIL, **{f"m{n}": 1 for n in range(9_000)}})],
    "many values": [("pay", PAY, {**EVIL, "to": f"eve{n}"}) for n in range(100)],
    "many types": [
        ("pay", PAY, {**EVIL, "to": each}) for each in (1, None, True, [], {}, [1], {"a": 1}, "x" * 2_000)
    ],
    "many tools": [("pay", f"mcp/bank/x{n}", EVIL) for n in range(200)],
    "many resources": [("pay", f"files/{n}", EVIL) for n in range(200)],
    "many actions": [(f"a{n}", PAY, EVIL) for n in range(200)],
    "many actions and tools": [(f"a{n % 70}", f"mcp/s{n}/x", EVIL) for n in range(400)],
}
ATTACKS: list[Call] = [
    ("pay", PAY, {**HONEST[2], "to": "eve"}),
    ("pay", PAY, {**HONEST[2], "items": [{"id": "e9"}]}),
    ("pay", PAY, {**HONEST[2], "items": [{"id": "a1", "other": 1}]}),
    ("pay", PAY, {**HONEST[2], "other": 1}),
    ("send", "mcp/bank/t3", {**TOOLS[3][2], "a2": "eve"}),
    ("pay", PAY, {"items": HONEST[2]["items"]}),
    ("drop", "mcp/bank/drop", {}),
]


def used(calls: Sequence[Call], name: str) -> Observed:
    """Return the usage of a session with these calls."""
    usage = SessionUsage()
    for at_ms, (action, resource, arguments) in enumerate(calls, start=1):
        data = json.dumps(arguments).encode()
        matched = LAYER.matching_positions(action, resource, data)
        usage.observe(action, resource, data, at_ms=at_ms, matched=matched, minted=LAYER)
    return Observed(usage, {}, name)


def suggested(honest: int, *floods: Sequence[Call]) -> Suggestion:
    """Return what is suggested after so many honest sessions and some that flood."""
    sessions = [used([HONEST, *TOOLS], f"s{number}") for number in range(honest)]
    sessions += [used([HONEST, *TOOLS, *flood], f"bad{number}") for number, flood in enumerate(floods)]
    whole = SessionUsage()
    for session in sessions:
        whole.merge(session.usage)
    return suggest(LAYER, whole, Fit.KINDS, sessions=sessions)


def allowed(suggestion: Suggestion, call: Call) -> bool:
    """Return True if the kernel permits a call under a suggestion."""
    action, resource, arguments = call
    layer = GrantLayer(MINTED, suggestion.scopes)
    positions = layer.matching_positions(action, resource, json.dumps(arguments).encode())
    return all(index >= 0 for _, index in positions)


@pytest.mark.parametrize("flood", FLOODS)
def test_one_session_of_fifteen_opens_nothing(flood: str) -> None:
    """Honest calls are permitted, attacks are not, whatever bound of a record the flood reaches."""
    suggestion = suggested(14, FLOODS[flood])

    assert suggestion.why == ""
    assert all(allowed(suggestion, call) for call in (HONEST, *TOOLS))
    assert [call for call in ATTACKS if allowed(suggestion, call)] == []
    assert bool(suggestion.once) is (flood != "nothing")


@pytest.mark.parametrize("flood", FLOODS)
def test_the_report_names_the_session(flood: str) -> None:
    """Each value that only it brought; or the argument or the calls, if they are too many to name."""
    sessions = [used([HONEST, *TOOLS], f"s{number}") for number in range(14)]
    # The items are honest ones: nothing but the flood itself tells.
    calls = [
        (
            action,
            resource,
            {**each, "items": HONEST[2]["items"]} if each.get("items") == EVIL["items"] else each,
        )
        for action, resource, each in FLOODS[flood]
    ]
    rows = brought_once(LAYER, [*sessions, used([HONEST, *TOOLS, *calls], "bad")])

    assert {row.session for row in rows} == (set() if flood == "nothing" else {"bad"})
    if flood == "many values":
        assert [(row.argument, row.value) for row in rows] == [("to", "too many values to tell apart")]


def test_an_honest_session_with_many_values_is_not_named() -> None:
    """Writing that is open anyway is not compared."""
    calls: list[list[Call]] = [
        [("pay", PAY, {"note": f"This is note {n} of the day {number}."}) for n in range(2 if number else 40)]
        for number in range(6)
    ]
    assert brought_once(LAYER, [used(each, f"s{number}") for number, each in enumerate(calls)]) == ()


@pytest.mark.parametrize("flood", ["many actions", "many actions and tools"])
def test_the_session_is_named(flood: str) -> None:
    """A record that holds nothing apart any more can't name values, so the session itself is named."""
    assert suggested(14, FLOODS[flood]).once[-1] == "session bad0: too many kinds of call to tell apart"


@pytest.mark.parametrize(("honest", "floods"), [(3, 1), (13, 2)])
def test_few_sessions_and_two_that_flood_leave_the_grant(honest: int, floods: int) -> None:
    """Each of fewer than five sessions counts, and two that do the same are believed. The cause is given."""
    suggestion = suggested(honest, *[FLOODS["many actions"]] * floods)

    assert suggestion.scopes == LAYER.scopes
    assert suggestion.why == "too many kinds of call to tell apart"


def test_two_sessions_with_huge_calls_are_believed() -> None:
    """Their size counts in the work of a check then: arguments are left open, and the cause is given."""
    suggestion = suggested(13, *[FLOODS["many elements"]] * 2)

    assert "too much work" in suggestion.why
    assert all(allowed(suggestion, call) for call in (HONEST, *TOOLS))
    assert not allowed(suggestion, ("drop", "mcp/bank/drop", {}))
