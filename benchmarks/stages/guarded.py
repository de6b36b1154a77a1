"""The guard: the same calls as of a gateway, judged by a guard with a catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import realistic
from benchmarks.measure import Row
from benchmarks.stages.checks import WarmTool
from benchmarks.state_setup import World
from sessauth.guard import Guard


class Guarded(WarmTool):
    """Calls of tools that a guard judges; ``runs`` makes it call a function that does nothing, too."""

    def __init__(self, name: str, *parts: Any, runs: bool) -> None:
        """Judge the calls of a workload; see :class:`WarmTool`."""
        super().__init__(name, *parts)
        self._guard = Guard(self._verifier, self._catalogue)
        self._runs = runs

    def run(self, items: Sequence[Any]) -> None:
        """Judge each."""
        check, run = self._guard.check, self._guard.run
        if self._runs:
            for token, tool, arguments in items:
                run(tool, arguments, _nothing, token=token)
        else:
            for token, tool, arguments in items:
                check(tool, arguments, token=token)


def rows(world: World, module: Any) -> Iterator[Row]:
    """Yield the rows."""
    tools = realistic.catalogue()
    agents = realistic.agents(world, tools)
    check_tool = WarmTool("guard/check-tool", world, agents, tools)
    yield Row(check_tool, None)
    yield Row(Guarded("guard/check", world, agents, tools, runs=False), check_tool)
    yield Row(Guarded("guard/run", world, agents, tools, runs=True), check_tool)


def _nothing() -> None:
    pass
