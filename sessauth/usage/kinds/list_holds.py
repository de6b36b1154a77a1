"""Ways to hold lists: their scalars, or the members of the objects in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ...scopes.condition import Condition
from ...scopes.operand import Exact, Operand, operands_of
from ...scopes.operators import Accessor, Operator
from ...scopes.value import Number, Value
from ..argument_reader import ELEMENT, scope_path
from ..argument_reader import Path as Names
from ..open_arguments import ArgumentTree
from ..value_summary import ValueSummary, ordered
from .languages import is_language
from .observed import ToolEvidence, support
from .scalar_holds import add_range, add_texts, decimal, text_conditions
from .text_holds import Rules, held_programs, held_texts
from .ways import ArgumentHold, Way

_SEVERAL: Final = "lists of several kinds of elements"


@dataclass(frozen=True, slots=True)
class Place:
    """The place of an argument: the calls, its path, the arguments that sessions share, their facts."""

    tool: ToolEvidence
    path: Names
    tree: ArgumentTree
    facts: Sequence[Mapping[str, Value]]
    rules: Rules

    def at(self, path: Names) -> Place:
        """Return another place of the same calls."""
        return Place(self.tool, path, self.tree, self.facts, self.rules)


Hold = Callable[[Place], ArgumentHold]


def hold_list(
    result: ArgumentHold, place: Place, by_session: Mapping[int, ValueSummary], hold: Hold, *, required: bool
) -> None:
    """Add ways to hold lists: one for lists of scalars, and one for lists of objects or of lists.

    Args:
        result: takes the ways.
        place: of the lists.
        by_session: their summaries, by the number of the session.
        hold: holds a member of an element.
        required: each call had a list there.
    """
    rules = place.rules
    scalars = [summary.elements for summary in by_session.values() if summary.elements is not None]
    nested = len(by_session) - len(scalars)
    if nested >= rules.least:
        if place.tree.is_hidden(place.path):
            result.leave_open("lists of too many values, or of several kinds", required=required)
            return
        _hold_elements(result, place, hold, required)
        # An empty list is admitted by the way above.
        scalars = [elements for elements in scalars if elements]
    elif nested:
        result.once.append(((*place.path, ELEMENT), None))
    if len(scalars) >= rules.least:
        _hold_scalars(result, place, scalars, required)


def _hold_elements(result: ArgumentHold, place: Place, hold: Hold, required: bool) -> None:
    """Add one way for all elements: there is no "or" for each of them."""
    inside, rules = (*place.path, ELEMENT), place.rules
    kinds = support(summary.kinds for summary in place.tool.at(inside).values())
    often = [kind for kind, sessions in kinds.items() if sessions >= rules.least]
    result.once += [(inside, kind) for kind in kinds if kind not in often]
    if often and place.tree.is_hidden(inside):
        result.leave_open("elements that are not known completely", required=required)
        return
    if often == ["object"] and place.tree.members(inside):
        holds = [hold(place.at(path)) for path in place.tree.members(inside)]
    elif often == ["list"]:
        holds = [hold(place.at(inside))]
    else:
        result.leave_open(_SEVERAL, required=required)
        return
    whole = Way()
    for held in holds:
        result.once += held.once
        result.notes += held.notes
        held.ways = _as_one(held.ways)
        if len(held.ways) > 1:
            held.ways.clear()
            nulls = sum("null" in each.kinds for each in place.tool.at(held.names).values())
            always = place.tool.always(held.names, rules.least) and nulls < rules.least
            held.leave_open("elements of several kinds", required=always)
            result.notes += held.notes[-1:]
        if not held.ways and place.tool.always(held.names, rules.least):
            # No value of a member that every element has is free: neither is the list.
            return
        for way in held.ways:
            whole = whole.then(way)
    if whole != Way():
        result.ways.append(whole)


def _as_one(ways: list[Way]) -> list[Way]:
    """Return one way if all of them list values, such as names and null; else the ways as they are."""
    listing = (Operator.EQUAL, Operator.IN)
    listed = [
        each
        for way in ways
        for each in way.conditions
        if each.operator in listing and not (each.accessor or each.fact)
    ]
    if len(ways) < 2 or any(way.conditions not in [(each,) for each in listed] for way in ways):
        return ways
    values = operands_of(ordered(value for each in listed for value in each.values), equality=True)
    return [Way((replace(listed[0], operator=Operator.IN, values=values),))]


def _hold_scalars(
    result: ArgumentHold, place: Place, elements: Sequence[frozenset[Operand]], required: bool
) -> None:
    """Add a way for lists of texts, of numbers or of truths."""
    argument, rules = scope_path(place.path), place.rules
    optional = not place.tool.always(place.path, rules.least)
    types = support({_kind(value) for value in of_session} for of_session in elements)
    if len([sessions for sessions in types.values() if sessions >= rules.least]) > 1:
        result.leave_open("lists of several types", required=required)
        return
    rare = {value for of_session in elements for value in of_session if types[_kind(value)] < rules.least}
    result.once += [(place.path, value) for value in ordered(rare)]
    texts = [frozenset(v for v in of_session if isinstance(v, str)) for of_session in elements]
    numbers = [[v for v in of_session if isinstance(v, Number | Exact)] for of_session in elements]
    if any(texts):
        filled = [each for each in texts if each]
        run = not place.tool.reads and is_language(place.path, place.tool.at(place.path).values())
        if run:
            held = held_programs(filled, rules)
        else:
            held = held_texts(filled, [ValueSummary() for _ in filled], rules)
        if held.names and not (held.folders or held.hosts or held.stems or held.domains):
            conditions = [Condition(argument, Operator.SUBSET_OF, tuple(held.names), optional=optional)]
        else:
            conditions = text_conditions(argument, held, optional, each=True)
        if len(conditions) > 1:
            # One condition holds for all elements of a list: there is no "or" for each of them.
            result.leave_open("lists of several kinds of texts", required=required)
            conditions = []
        add_texts(result, place.path, held, conditions, required=required)
    elif any(numbers):
        ranges = [(min(each, key=decimal), max(each, key=decimal)) for each in numbers if each]
        if len(ranges) >= rules.least:
            add_range(result, argument, ranges, rules, optional=optional, each=True)
    elif any(elements):
        result.hold(Condition(argument, Operator.SUBSET_OF, (False, True), optional=optional))
    else:
        empty = (Number(0),)
        result.hold(Condition(argument, Operator.EQUAL, empty, accessor=Accessor.COUNT, optional=optional))


def _kind(value: object) -> str:
    return Number.__name__ if isinstance(value, Exact) else type(value).__name__
