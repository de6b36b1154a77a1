"""Tools of several servers: a name is judged by the catalogue of the server that it is from."""

from __future__ import annotations

import pytest

from sessauth import ToolCatalog, UsageError
from sessauth.guard import ToolDenied
from sessauth.guard.call import Origins
from tests.guard.world import World

DESK = ToolCatalog.from_mcp("desk", [{"name": "search", "annotations": {"readOnlyHint": True}}])
LAB = ToolCatalog.from_mcp("lab", [{"name": "search"}, {"name": "burn"}])
SCOPES = ("read:mcp/desk/search", "write:mcp/lab/burn")


@pytest.mark.parametrize(
    ("tool", "origin", "runs"),
    [
        ("search", "desk", True),
        ("burn", "the lab", True),
        ("search", "the lab", False),
        ("search", "evil", False),
        ("search", "", False),
        ("burn", "desk", False),
    ],
)
def test_a_tool_is_judged_by_the_catalogue_of_its_server(
    world: World, tool: str, origin: str, runs: bool
) -> None:
    """The same name of another server, or of the program itself, is another tool."""
    world.catalogue = {"desk": DESK, "the lab": LAB}
    token = world.token(*SCOPES, session=world.session(ceiling=["read,write:mcp/**"]))
    guard = world.guard(token=token)

    assert guard.visible([tool], origin=origin) == ([tool] if runs else [])
    if runs:
        assert guard.check(tool, origin=origin)
    else:
        with pytest.raises(ToolDenied):
            guard.check(tool, origin=origin)
        assert world.denied[-1].decision_id


@pytest.mark.parametrize(("origin", "runs"), [("", True), ("tools", True), ("evil", False)])
def test_one_catalogue_is_of_its_server_and_of_the_program(world: World, origin: str, runs: bool) -> None:
    """A tool of another server is in none."""
    guard = world.guard(token=world.token())

    assert guard.visible(["pay"], origin=origin) == (["pay"] if runs else [])


def test_two_catalogues_of_one_server_are_refused() -> None:
    """Their tools would have one resource."""
    with pytest.raises(UsageError, match="desk"):
        Origins({"desk": DESK, "another": ToolCatalog.from_mcp("desk", [])})
