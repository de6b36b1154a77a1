"""Answers that call a tool allowed, of which a guard takes none but a verifier's own."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest

from sessauth import ToolCatalog
from sessauth.client._results import RemoteDecision
from sessauth.decisions.decision import Decision
from sessauth.guard import Guard, ToolDenied
from tests.guard.world import TOOLS, allowed

CATALOGUE = ToolCatalog.from_mcp("tools", TOOLS)


class _Subclass(RemoteDecision):
    """A decision that someone else made."""


IMITATIONS = (True, 1, "ALLOWED", object(), MagicMock(), MagicMock(spec=Decision), allowed(_Subclass))


def _call(guard: Guard, method: str) -> None:
    if method == "check_tool":
        guard.check_method("resources/list")
    else:
        guard.run("pay", {}, lambda: pytest.fail("it ran"))


@pytest.mark.parametrize("answer", IMITATIONS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("method", ["check", "commit", "check_tool", "list_allowed"])
def test_only_a_decision_that_is_allowed_lets_a_call_be_made(answer: Any, method: str) -> None:
    """Nothing else that is true is an allow: no mock, no object, no subclass of a decision."""

    class Verifier:
        def __getattr__(self, name: str) -> Any:
            return lambda *_, **__: answer if name == method else allowed()

    guard = Guard(Verifier(), CATALOGUE, token=b"t", permit_ms=1)
    if method == "list_allowed":
        Verifier.list_allowed = lambda *_, **__: [answer]  # type: ignore[attr-defined]
        assert guard.visible(["pay"]) == []
        return
    with pytest.raises(ToolDenied) as caught:
        _call(guard, method)
    assert caught.value.reason == "NO_ANSWER"


def test_a_decision_of_a_server_lets_a_call_be_made() -> None:
    """The answers that the imitations imitate, so that the refusals above show something."""

    class Verifier:
        def __getattr__(self, name: str) -> Any:
            return lambda *_, **__: allowed()

    guard = Guard(Verifier(), CATALOGUE, token=b"t", permit_ms=1)

    assert guard.run("pay", {}, lambda: "ran") == "ran"
    assert guard.check_method("resources/list")
