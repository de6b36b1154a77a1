"""Ways to hold texts and numbers: of an argument, or of each element of a list."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from ...scopes.argument_path import Path
from ...scopes.condition import Condition
from ...scopes.operand import Exact
from ...scopes.operators import Accessor, Operator
from ...scopes.value import Number
from ..argument_reader import Path as Names
from ..argument_reader import is_clean_path
from ..generalize import outward
from .text_holds import Rules, TextHold
from .ways import ArgumentHold

Range = tuple[Number | Exact, Number | Exact]


def add_texts(
    result: ArgumentHold, names: Names, held: TextHold, conditions: Sequence[Condition], *, required: bool
) -> None:
    """Add the ways of held texts, and what is said of them."""
    result.once += [(names, text) for text in held.once]
    result.notes += [(result.path, note) for note in held.notes]
    if held.open_why:
        result.leave_open(held.open_why, required=required)
    for condition in conditions:
        result.hold(condition)


def text_conditions(argument: Path, held: TextHold, optional: bool, *, each: bool = False) -> list[Condition]:
    """Return a condition for each way to hold texts."""

    def condition(operator: Operator, values: Sequence[str], accessor: Accessor = Accessor.NONE) -> Condition:
        return Condition(argument, operator, tuple(values), accessor=accessor, each=each, optional=optional)

    ways = []
    # Beside folders a name is one too, if it is a clean path and not the root.
    names = [name for name in held.names if not held.folders or name == "/" or not is_clean_path(name)]
    if held.folders:
        ways.append(condition(Operator.UNDER, sorted({*held.names, *held.folders}.difference(names))))
    if names:
        ways.append(condition(Operator.EQUAL if len(names) == 1 else Operator.IN, names))
    if held.hosts:
        ways.append(condition(Operator.IN, held.hosts, Accessor.HOST))
    if held.stems:
        ways.append(condition(Operator.STARTS_WITH, held.stems))
    if held.domains:
        ways.append(condition(Operator.GLOB, [f"*{domain}" for domain in held.domains]))
    return ways


def held_range(ranges: Sequence[Range], rules: Rules) -> tuple[Range | None, list[Number | Exact]]:
    """Return the range that enough sessions reached, rounded, and the extremes beyond it.

    An extreme that one session alone brought counts only as far as rounding reaches. The range is None if no
    number lies in what enough sessions reached, as with two sessions whose numbers differ.
    """
    lows = sorted((low for low, _ in ranges), key=decimal)
    highs = sorted((high for _, high in ranges), key=decimal, reverse=True)
    low, high = outward(lows[rules.least - 1], highs[rules.least - 1])
    if decimal(low) > decimal(high):
        return None, [lows[0], highs[0]]
    return (low, high), [n for n in (lows[0], highs[0]) if not decimal(low) <= decimal(n) <= decimal(high)]


def add_range(
    result: ArgumentHold, argument: Path, ranges: Sequence[Range], rules: Rules, *, optional: bool, each: bool
) -> None:
    """Add the way of a range, if enough sessions share one."""
    bounds, once = held_range(ranges, rules)
    result.once += [(result.names, number) for number in once]
    if bounds is not None:
        operators = (Operator.GREATER_EQUAL, Operator.LESS_EQUAL)
        result.hold(
            *(
                Condition(argument, operator, (bound,), each=each, optional=optional)
                for operator, bound in zip(operators, bounds, strict=True)
            )
        )


def decimal(number: Number | Exact) -> Decimal:
    """Return a number to compare."""
    return number.to_decimal()
