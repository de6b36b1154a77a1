"""What only one of several sessions brought: a mistake, a rare case, or an attacker who was observed, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ...scopes.argument_path import Path
from ...scopes.value import Number, Value, value_to_text
from ..grants import GrantLayer
from ..value_summary import ValueSummary
from .observed import Observed, ToolEvidence, support, tools
from .text_holds import Rules, is_own
from .texts import TextKind, text_kind

MAX_ROWS: Final = 64
# Sessions of a tool from which on its arguments are compared: between two, everything differs.
_MIN_SESSIONS: Final = 3


@dataclass(frozen=True, slots=True)
class BroughtOnce:
    """A call of a tool, or a value of one of its arguments, that only one session made or gave."""

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
    """Return what only one session brought to changing calls of a layer, at most 64 rows.

    Free writing, dates and arguments that differ in every session are left out.
    """
    if len(sessions) < 2:
        return ()
    rows: dict[BroughtOnce, None] = {}
    for index in range(len(layer.scopes)):
        for tool in tools(layer, index, sessions):
            if not tool.reads:
                rows |= dict.fromkeys(_of_tool(tool, sessions))
    return tuple(rows)[:MAX_ROWS]


def _of_tool(tool: ToolEvidence, sessions: Sequence[Observed]) -> Iterator[BroughtOnce]:
    if tool.sessions == 1:
        yield BroughtOnce(sessions[next(iter(tool.by_session))].name, tool.label)
        return
    if tool.sessions < _MIN_SESSIONS:
        return
    for path in sorted(tool.whole.paths):
        seen = tool.at(path)
        values = {number: frozenset(_names(summary)) for number, summary in seen.items()}
        texts = [frozenset(str(value) for value in each) for each in values.values() if each]
        if is_own(texts, Rules()):
            continue
        counts = support(values.values())
        for number, of_session in values.items():
            for value in sorted(of_session, key=str):
                if counts[value] == 1:
                    name = sessions[number].name
                    yield BroughtOnce(name, tool.label, str(Path(path)), value_to_text(value))


def _names(summary: ValueSummary) -> Iterator[Value]:
    """Yield the values that name something: no words, dates and truths."""
    for value in (*(summary.values or ()), *(summary.elements or ())):
        named = isinstance(value, str) and text_kind(value) < TextKind.LABEL
        if named or (isinstance(value, Number) and not isinstance(value, bool)):
            yield value
