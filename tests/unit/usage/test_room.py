"""Suggestions that would be too long: tools are held less closely, the rarest first."""

from __future__ import annotations

import pytest

from sessauth.usage.kinds.scopes import room_plans
from sessauth.usage.suggest import MAX_BYTES, Suggestion
from tests.support.kinds import Call, learnt, permits

GRANT = "write:mcp/** free *"


def tool(number: int, **arguments: object) -> Call:
    """Return a call of one of many tools."""
    return ("write", f"mcp/desk/tool_{number}", dict(arguments))


def learnt_of(tools: int) -> Suggestion:
    """Return what is suggested after so many tools, each used by two sessions, tool 0 by all."""
    sessions = [
        [
            tool(0, to="ana@x.example"),
            *(tool(n, **{f"to{n}": f"name-{n}"}) for n in (number, (number + 1) % tools) if n),
        ]
        for number in range(tools)
    ]
    return learnt(sessions, GRANT)


@pytest.mark.parametrize("tools", [5, 150, 200])
def test_what_was_used_most_is_held_whatever_the_number_of_tools(tools: int) -> None:
    """Others are held by name at least; a tool that was not used is not in the suggestion."""
    suggestion = learnt_of(tools)
    scopes = suggestion.scopes

    assert [part.outcome for part in suggestion.parts] == ["tightened"]
    assert sum(len(scope.encode()) for scope in scopes) <= MAX_BYTES
    assert permits(scopes, tool(0, to="ana@x.example")) and not permits(
        scopes, tool(0, to="mallory@evil.example")
    )
    assert all(permits(scopes, tool(n, **{f"to{n}": f"name-{n}"})) for n in range(1, tools))
    assert not permits(scopes, ("write", "mcp/desk/wipe", {}))
    bare = sum("no room for its arguments" in note for note in suggestion.notes)
    assert bool(bare) == (tools > 5) and bare < tools - 1
    cause = "since the suggestion would be too long"
    assert suggestion.why == (f"{bare} of {tools} tools, {cause}" if bare else "")


def test_tools_that_take_the_same_arguments_share_a_scope() -> None:
    """Then their names find no room, and their arguments do."""
    sessions = [[tool(n, to=f"name-{n}") for n in range(k, 200, 8)] for k in range(8) for _ in range(2)]
    suggestion = learnt(sessions, GRANT)

    assert suggestion.notes[0].endswith("no room for its names: only name- is held")
    assert permits(suggestion.scopes, tool(7, to="name-9"))
    assert not permits(suggestion.scopes, tool(7, to="mallory"))


def test_without_room_for_their_names_tools_are_still_the_only_ones() -> None:
    """More tools than four kilobytes have room for."""
    suggestion = learnt(
        [[tool(n, a="x") for n in range(k, 600, 20)] for k in range(20) for _ in range(2)], GRANT
    )

    assert suggestion.why == "the suggestion would be too long"
    assert permits(suggestion.scopes, tool(7, a="x")) and not permits(suggestion.scopes, tool(600, a="x"))


def test_programs_are_left_out_where_there_is_no_room_for_them() -> None:
    """They are not opened for want of room."""
    sessions = [[tool(n, command="ls -l") for n in range(k, 200, 8)] for k in range(8) for _ in range(2)]
    suggestion = learnt(sessions, GRANT)

    assert not any(permits(suggestion.scopes, tool(n, command="rm -rf /")) for n in range(200))


def test_plans_become_wider_step_by_step() -> None:
    """No plan but the last has no tool that is held."""
    plans = list(room_plans(9))

    assert [(plan.names, plan.unlisted, plan.bare) for plan in plans[:4]] == [
        (24, 0, 0),
        (12, 0, 0),
        (6, 0, 0),
        (6, 2, 0),
    ]
    assert sorted(plan.unlisted + plan.bare for plan in plans) == [
        plan.unlisted + plan.bare for plan in plans
    ]
    assert [plan.bare for plan in plans if plan.bare == 9] == [9]
