"""Whole checks as subjects: warm ones, and cold ones, whose verifier is made anew each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from benchmarks.floors import fresh
from benchmarks.state_setup import World
from benchmarks.workloads import Workload, WrongDecision
from sessauth.decisions.tool_catalog import ToolCatalog
from sessauth.verifier.verifier import Verifier

# Token, action, resource, arguments and tool of a call.
FreshCall: TypeAlias = tuple[bytes, str, str, bytes, bytes]


def fresh_calls(workload: Workload, count: int) -> list[FreshCall]:
    """Return ``count`` calls in turn, each with a token and arguments that were never hashed.

    They are plain tuples: to take a named one apart costs the timed loop 50 ns, a tenth of a warm check.
    """
    calls = workload.calls
    return [
        (fresh(call.token), call.action, call.resource, fresh(call.arguments), call.tool)
        for call in (calls[number % len(calls)] for number in range(count))
    ]


def checking(verifier: Verifier) -> Callable[[Sequence[FreshCall]], None]:
    """Return the loop that checks each call."""

    def run(items: Sequence[FreshCall]) -> None:
        check = verifier.check
        for token, action, resource, arguments, tool in items:
            check(token, action, resource, arguments, tool=tool)

    return run


class Warm:
    """Checks whose chain is in the cache; refusals, which never are, go the same way.

    Raises WrongDecision at construction if a decision is not the workload's.
    """

    def __init__(self, name: str, world: World, workload: Workload, calls: int = 400) -> None:
        """Ask for every call twice: once to fill the cache, once to hold what the filled one says."""
        self.name = name
        self.calls = calls
        self._workload = workload
        self._verifier = world.verifier()
        for _ in range(2):
            workload.require_decisions(self._verifier)

    def prepare(self, count: int) -> Sequence[Any]:
        """Return fresh calls."""
        return fresh_calls(self._workload, count)

    def run(self, items: Sequence[Any]) -> None:
        """Check each."""
        checking(self._verifier)(items)


class WarmTool(Warm):
    """The same, asked as a gateway asks: by the tool's name, with action and facts from a catalogue."""

    def __init__(self, name: str, world: World, workload: Workload, catalogue: ToolCatalog) -> None:
        """Judge the calls of a workload whose resources end in the names of the catalogue's tools."""
        super().__init__(name, world, workload, calls=80)
        self._catalogue = catalogue
        for token, tool, arguments in self.prepare(len(workload.calls)):
            if not self._verifier.check_tool(token, catalogue, tool, arguments):
                raise WrongDecision(f"{name}: {tool} was denied")

    def prepare(self, count: int) -> Sequence[Any]:
        """Return fresh calls."""
        calls = fresh_calls(self._workload, count)
        return [(token, resource.rpartition("/")[2], arguments) for token, _, resource, arguments, _ in calls]

    def run(self, items: Sequence[Any]) -> None:
        """Check each."""
        check_tool, catalogue = self._verifier.check_tool, self._catalogue
        for token, tool, arguments in items:
            check_tool(token, catalogue, tool, arguments)


class WarmPrepared(Warm):
    """The same as ``Warm``, by the handles of tokens that a gateway holds across calls."""

    def __init__(self, name: str, world: World, workload: Workload) -> None:
        """Prepare every token; raises WrongDecision if a handle is judged otherwise than its token."""
        super().__init__(name, world, workload)
        prepare = self._verifier.prepare
        self._handles = [prepare(call.token) for call in workload.calls]
        for handle, action, resource, arguments, tool in self.prepare(len(self._handles)):
            decision = self._verifier.check(handle, action, resource, arguments, tool=tool)
            if decision.reason is not workload.reason:
                raise WrongDecision(f"{name}: {decision.reason.name}, not {workload.reason.name}")

    def prepare(self, count: int) -> Sequence[Any]:
        """Return calls with fresh arguments and the handles."""
        calls, handles = fresh_calls(self._workload, count), self._handles
        return [(handles[number % len(handles)], *call[1:]) for number, call in enumerate(calls)]


@dataclass
class Cold:
    """Checks whose chain no cache has: a new verifier for each block, and no token in it twice.

    ``known`` is checked first, so that session and issuer are in the view, and the parent that it
    shares with the workload, if it has one, among the verified prefixes.
    """

    name: str
    world: World
    workload: Workload
    known: Workload
    calls: int
    _turn: int = 0
    _verifier: Verifier = field(init=False)

    def __post_init__(self) -> None:
        """Raise WrongDecision if a decision is not the workload's, or a token is there twice."""
        if len({call.token for call in self.workload.calls}) != len(self.workload.calls):
            raise WrongDecision(f"{self.workload.name}: a token is there twice")
        self._verifier = self.world.verifier()
        self.workload.require_decisions(self._verifier)

    def prepare(self, count: int) -> Sequence[Any]:
        """Return fresh calls, at most as many as there are tokens, for a verifier that has none of them."""
        self._verifier = self.world.verifier()
        self.known.require_decisions(self._verifier)
        calls = self.workload.calls
        self._turn = (self._turn + count) % len(calls)
        turned = Workload(self.workload.name, calls[self._turn :] + calls[: self._turn])
        return fresh_calls(turned, min(count, len(calls)))

    def run(self, items: Sequence[Any]) -> None:
        """Check each."""
        checking(self._verifier)(items)
