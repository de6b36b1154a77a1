"""The verdict on a suggestion, in one line before all else: its price, and what it leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .kinds.languages import PROGRAM
from .kinds.price import SessionPrice
from .opened import LEFT_OPEN
from .suggest import Suggestion

# From so many percent of denied calls on a suggestion is not for enforcement.
_MOST_DENIED: Final = 5
_NAMED: Final = 3


def verdict(suggestion: Suggestion, prices: Sequence[SessionPrice], *, by_approval: bool = False) -> str:
    """Return what an operator must know before a suggestion is used.

    Args:
        suggestion: for one granted list of scopes.
        prices: of the sessions, each judged by what the others suggest; none of one session alone.
        by_approval: what is new is not denied: a person is asked.
    """
    if not suggestion.scopes:
        return "nothing is suggested: no call was allowed, or by too few sessions"
    calls, denied = sum(each.calls for each in prices), sum(each.denied for each in prices)
    running = open_programs(suggestion)
    facts = [f"as granted where used: {suggestion.why}"] if suggestion.why else []
    if calls:
        verb = "asks about" if by_approval else "denies"
        share = f"{100 * denied / calls:.0f} % of these sessions' calls, each judged by the others"
        facts.append(f"{verb} {share}")
    else:
        facts.append("of one session alone: what it denies is not known")
    if running:
        facts.append(f"runs any program: {_named(running)}")
    if others := len(suggestion.notes) - len(running):
        facts.append(f"{others} not tightened")
    if suggestion.once:
        facts.append(f"{len(suggestion.once)} left out")
    if not by_approval and (running or suggestion.why or not calls or 100 * denied > _MOST_DENIED * calls):
        facts.append("not to be enforced as it is: observe more sessions, or use --new approval")
    return "; ".join(facts)


def open_programs(suggestion: Suggestion) -> list[str]:
    """Return the calls and arguments with which a suggestion permits any program."""
    return [note.rpartition(":")[0] for note in suggestion.notes if PROGRAM in note and LEFT_OPEN in note]


def _named(places: Sequence[str]) -> str:
    more = len(places) - _NAMED
    return ", ".join(places[:_NAMED]) + (f" and {more} more" if more > 0 else "")
