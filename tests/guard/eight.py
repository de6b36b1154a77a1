"""The tests that every adapter passes, with its framework's real library.

class TestLangChain(EightTests):
    def call(self, world, guard, tool, arguments, token): ...      # through the framework
    def listed(self, world, guard, token): ...
"""

from __future__ import annotations

from typing import Any

from sessauth.decisions.outward import Outward
from sessauth.guard import Guard
from sessauth.reasons import Reason
from tests.guard.world import UNKNOWN, Broken, World

_REASONS = {reason.name for reason in Reason if reason is not Reason.ALLOWED}
_REASONS |= {"NO_TOKEN", "NO_ANSWER", "BAD_CALL", "NO_GUARD", "RuntimeError", "is broken"}


class EightTests:
    """Eight stories, of which only the first runs a tool.

    Attributes:
        brings_token: True for an adapter whose calls bring the token; its guard then has none.
    """

    brings_token = False

    def call(self, world: World, guard: Guard, tool: str, arguments: dict[str, Any], token: str) -> str:
        """Have an agent of the framework call a tool, and return what the agent is shown.

        The tools are those of the catalogue and ``drop_tables``; each calls ``world.run``. ``token`` is
        empty unless calls bring it.
        """
        raise NotImplementedError

    def listed(self, world: World, guard: Guard, token: str) -> set[str]:
        """Return the names of the tools that an agent of the framework is offered."""
        raise NotImplementedError

    def test_an_allowed_call_runs(self, world: World) -> None:
        """The tool runs once, with the arguments that were judged, and the agent has its result."""
        shown = self._call(world, "get_weather", {"city": "Bern"})

        assert world.ran == [("get_weather", {"city": "Bern"})]
        assert "get_weather done" in shown
        assert world.denied == []

    def test_a_denied_call_does_not_run(self, world: World) -> None:
        """A tool that may be called with other arguments: the agent learns no more than "not allowed"."""
        self._refused(world, self._call(world, "pay", {"amount": 500}), Outward.DENIED)
        assert world.denied[-1].reason == "CONDITION_FAILED"
        assert world.denied[-1].decision_id

    def test_an_unknown_tool_does_not_run(self, world: World) -> None:
        """A tool that the framework has, and nobody pinned."""
        self._refused(world, self._call(world, UNKNOWN, {}))

    def test_tools_that_are_never_allowed_are_hidden(self, world: World) -> None:
        """The agent is offered what it may call with some arguments; what it calls anyway does not run."""
        token = world.token()
        guard, text = self._guard(world, token)

        assert self.listed(world, guard, text) == {"get_weather", "pay"}
        self._refused(world, self._call(world, "delete_repo", {"name": "web"}, token))

    def test_without_a_token_nothing_runs(self, world: World) -> None:
        """A call that comes without a token, or a guard that has none."""
        shown = self.call(world, world.guard(), "get_weather", {"city": "Bern"}, "")

        self._refused(world, shown, Outward.UNAUTHENTICATED)
        assert self.listed(world, world.guard(), "") == set()

    def test_after_the_end_of_the_session_nothing_runs(self, world: World) -> None:
        """A call that ran a moment ago does not run any more."""
        token = world.token()
        self._call(world, "get_weather", {"city": "Bern"}, token)
        world.end(token)
        world.ran.clear()

        self._refused(
            world, self._call(world, "get_weather", {"city": "Bern"}, token), Outward.UNAUTHENTICATED
        )

    def test_a_guard_that_raises_lets_nothing_run(self, world: World) -> None:
        """The tool does not run, whatever a verifier raises, and the agent does not see it."""
        shown = self._call(world, "get_weather", {"city": "Bern"}, verifier=Broken())

        self._refused(world, shown, Outward.UNAVAILABLE)

    def test_with_a_dead_server_nothing_runs(self, world: World) -> None:
        """A server that is not there gives no answer, which is no yes."""
        with world.dead_client() as client:
            shown = self._call(world, "get_weather", {"city": "Bern"}, verifier=client)

        self._refused(world, shown, Outward.UNAVAILABLE)

    def _guard(self, world: World, token: Any, **options: Any) -> tuple[Guard, str]:
        if self.brings_token:
            return world.guard(**options), token.present().text
        return world.guard(token=token, **options), ""

    def _call(
        self, world: World, tool: str, arguments: dict[str, Any], token: Any = None, **options: Any
    ) -> str:
        guard, text = self._guard(world, token or world.token(), **options)
        return self.call(world, guard, tool, arguments, text)

    @staticmethod
    def _refused(world: World, shown: str, expected: Outward | None = None) -> None:
        """Nothing ran; ``shown`` has the expected text, or nothing of ours; it has no reason in it."""
        assert world.ran == []
        if expected is not None:
            assert expected.text in shown
        assert not [word for word in _REASONS if word in shown]


# Collected where an adapter is tested, not here.
EightTests.__test__ = False  # type: ignore[attr-defined]


def adapter(test_class: type[EightTests]) -> type[EightTests]:
    """Have the tests of an adapter collected."""
    test_class.__test__ = True  # type: ignore[attr-defined]
    return test_class
