"""Values that only one of several sessions brought: mistakes, rare cases, or an observed attacker's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ...scopes.operand import Operand, operand_to_text
from ..argument_reader import ELEMENT, Path, host_of, scope_path
from ..grants import GrantLayer
from ..open_arguments import ArgumentTree
from ..profile import NOTHING
from ..value_summary import ValueSummary
from .holds import hold
from .list_holds import Place
from .observed import Observed, ToolEvidence, tools
from .text_holds import Rules, names_hosts

MAX_ROWS: Final = 64
# Sessions of a tool from which on its arguments are compared: between two, everything differs.
_MIN_SESSIONS: Final = 3
# The words for what a record does not hold apart.
CROWDED_CALLS: Final = "too many kinds of call to tell apart"
CROWDED_VALUES: Final = "too many values to tell apart"


@dataclass(frozen=True, slots=True)
class BroughtOnce:
    """A call of a tool, or a value of one of its arguments, that only one session made or gave.

    ``value``: as scope text, or ``absent`` where all other sessions always gave the argument.
    """

    session: str
    call: str
    argument: str = ""
    value: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "session": self.session,
            "call": self.call,
            "argument": self.argument,
            "value": self.value,
        }


def brought_once(layer: GrantLayer, sessions: Sequence[Observed]) -> tuple[BroughtOnce, ...]:
    """Return what only one session brought to calls of a layer that change something: 64 rows at most.

    Free writing, dates and arguments that differ in every session are left out.
    """
    if len(sessions) < 2:
        return ()
    rows: dict[BroughtOnce, None] = {}
    crowded = [each for each in sessions if each.usage.profiles[layer.kind].level == NOTHING]
    if len(crowded) == 1:
        rows[BroughtOnce(crowded[0].name, CROWDED_CALLS)] = None
    for index in range(len(layer.scopes)):
        for tool in tools(layer, index, sessions):
            if not (tool.reads and tool.sessions == 1):
                rows |= dict.fromkeys(_of_tool(tool, sessions))
    return tuple(rows)[:MAX_ROWS]


def _of_tool(tool: ToolEvidence, sessions: Sequence[Observed]) -> Iterator[BroughtOnce]:
    if tool.sessions == 1:
        yield BroughtOnce(sessions[next(iter(tool.by_session))].name, tool.label)
        return
    if tool.sessions < _MIN_SESSIONS:
        return
    facts, rules = [session.facts for session in sessions], Rules(least=2)
    tree = ArgumentTree(tool.shared(1), ())
    for path in sorted(path for path in tool.whole.paths if ELEMENT not in path):
        if not tool.reads and len(lacking := tool.lacking(path)) == 1:
            yield BroughtOnce(sessions[lacking[0]].name, tool.label, str(scope_path(path)), "absent")
        below = [each for each in tool.whole.paths if each[: len(path)] == path]
        if not tool.reads or any(names_hosts(tool.at(each).values()) for each in below):
            held = hold(Place(tool, path, tree, facts, rules))
            if any(way.conditions for way in held.ways):
                yield from _crowded(tool, below, sessions)
            for names, value in dict.fromkeys(held.once):
                at = tool.at(names)
                number = next((n for n, each in at.items() if value is None or _brought(each, value)), None)
                if number is not None:
                    text = "" if value is None else operand_to_text(value)
                    yield BroughtOnce(sessions[number].name, tool.label, str(scope_path(names)), text)


def _crowded(
    tool: ToolEvidence, paths: Sequence[Path], sessions: Sequence[Observed]
) -> Iterator[BroughtOnce]:
    """Yield rows for texts of which one session alone gave too many to name."""
    for path in paths:
        crowded = [n for n, each in tool.at(path).items() if each.values is None and "text" in each.kinds]
        if len(crowded) == 1:
            argument = str(scope_path(path))
            yield BroughtOnce(sessions[crowded[0]].name, tool.label, argument, CROWDED_VALUES)


def _brought(summary: ValueSummary, value: Operand) -> bool:
    """Return True if a session gave a value, or a path, a URL or a type that ``value`` is the head of."""
    if not isinstance(value, str):
        return value in (*(summary.values or ()), summary.low, summary.high)
    texts = [text for text in (*(summary.values or ()), *(summary.elements or ())) if isinstance(text, str)]
    heads = (value, f"{value}/", f"{value.removesuffix('/')}/")
    return (
        value in summary.kinds
        or value in (summary.hosts or ())
        or any(text == value or text.startswith(heads[1:]) or host_of(text) == value for text in texts)
    )
