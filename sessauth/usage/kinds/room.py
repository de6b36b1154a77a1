"""Room for a suggestion: where there is too little, tools are held less closely, the rarest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ...scopes.scope import Scope
from .observed import Observed, ToolEvidence
from .scopes import KindScopes, combined, scopes_of_tool
from .text_holds import MAX_NAMES, Rules

_PARTS: Final = 8


@dataclass(frozen=True, slots=True)
class RoomPlan:
    """Numbers of tools, the rarest first: ``unlisted`` ones list no values, of ``bare`` ones none is held.

    ``names``: values of one argument that are listed for the other tools.
    """

    names: int = MAX_NAMES
    unlisted: int = 0
    bare: int = 0


def room_plans(tools: int) -> Iterator[RoomPlan]:
    """Yield plans for so many tools, from the closest to the widest."""
    for part in (1, 2, 4):
        yield RoomPlan(MAX_NAMES // part)
    counts = dict.fromkeys(-(-tools * part // _PARTS) for part in range(1, _PARTS + 1))
    for count in counts:
        yield RoomPlan(MAX_NAMES // 4, unlisted=count)
    for count in counts:
        yield RoomPlan(MAX_NAMES // 4, unlisted=tools, bare=count)


@dataclass(slots=True)
class KindSuggester:
    """Makes scopes of the same tools by several plans, and each tool's scopes by the same rules once."""

    granted: Sequence[Scope]
    tools: Sequence[Sequence[ToolEvidence]]
    sessions: Sequence[Observed]
    rules: Rules
    _made: dict[tuple[int, int, Rules], KindScopes] = field(default_factory=dict)

    def make(self, plan: RoomPlan) -> list[KindScopes]:
        """Return the scopes for each granted scope."""
        # The rarest first.
        places = [(at, n) for at, tools in enumerate(self.tools) for n in range(len(tools))]
        places.sort(key=lambda place: self._use(*place))
        close = replace(self.rules, names=plan.names)
        rules = dict.fromkeys(places, close)
        rules |= dict.fromkeys(places[: plan.unlisted], replace(close, names=0))
        rules |= dict.fromkeys(places[: plan.bare], replace(close, names=0, bare=True))
        return [
            combined(
                scope, self.tools[at], [self._of(at, n, rules[at, n]) for n in range(len(self.tools[at]))]
            )
            for at, scope in enumerate(self.granted)
        ]

    def _use(self, at: int, n: int) -> tuple[int, int]:
        tool = self.tools[at][n]
        return tool.sessions, tool.whole.calls

    def _of(self, at: int, n: int, rules: Rules) -> KindScopes:
        if (at, n, rules) not in self._made:
            made = scopes_of_tool(self.granted[at], self.tools[at][n], self.sessions, rules)
            self._made[at, n, rules] = made
        return self._made[at, n, rules]
