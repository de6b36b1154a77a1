"""Conditions on one argument by the kind of its values, as sessions brought them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from ...scopes.argument_path import Path
from ...scopes.condition import Condition
from ...scopes.operand import Exact, Json, Operand
from ...scopes.operators import Accessor, Operator
from ...scopes.value import Number, Value
from ..argument_reader import is_clean_path
from ..generalize import outward
from ..value_summary import ValueSummary
from .observed import support
from .text_holds import Rules, TextHold, held_texts

_SCALARS: Final = ("text", "number", "truth")
_NULL: Final = Json("null")


@dataclass(slots=True)
class ArgumentHold:
    """Ways to hold one argument, of which one must hold; a way without conditions leaves it open.

    ``notes``: what is not held, and why. ``once``: values that too few sessions brought, left out.
    """

    path: tuple[str, ...]
    ways: list[tuple[Condition, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    once: list[Value | Exact] = field(default_factory=list)

    @property
    def open(self) -> bool:
        """True if a way leaves it open."""
        return () in self.ways


def hold(
    path: tuple[str, ...],
    by_session: Mapping[int, ValueSummary],
    facts: Sequence[Mapping[str, Value]],
    rules: Rules,
    *,
    optional: bool,
) -> ArgumentHold:
    """Return the ways to hold the argument at ``path``.

    Args:
        path: of the argument; an object's members are held at their own paths.
        by_session: the values there, by the number of the session.
        facts: of all sessions.
        rules: how many sessions must have brought what stays free.
        optional: some calls had no value there.
    """
    argument, result = Path(path), ArgumentHold(path)
    fact = _fact(by_session, facts)
    if fact:
        result.ways = [(Condition(argument, Operator.EQUAL, fact=fact, optional=optional),)]
        return result
    kinds = support(summary.kinds for summary in by_session.values())
    for kind in [kind for kind, sessions in kinds.items() if sessions >= rules.least]:
        of_kind = {n: summary for n, summary in by_session.items() if kind in summary.kinds}
        if kind == "text":
            _texts(result, argument, of_kind, rules, optional)
        elif kind == "number":
            result.ways += _numbers(result, argument, of_kind, rules, optional)
        elif kind == "truth":
            result.ways.append((Condition(argument, Operator.IN, (False, True), optional=optional),))
        elif kind == "list":
            _lists(result, argument, of_kind, rules, optional)
        elif kind == "null":
            result.ways.append((Condition(argument, Operator.EQUAL, (_NULL,), optional=optional),))
        else:
            _leave_open(result, "a number that no condition can hold" if kind == "other" else "an object")
    result.once += [kind for kind, sessions in kinds.items() if sessions < rules.least]
    return result


def _leave_open(result: ArgumentHold, why: str) -> None:
    result.ways.append(())
    result.notes.append(why)


def _texts(
    result: ArgumentHold, argument: Path, by_session: Mapping[int, ValueSummary], rules: Rules, optional: bool
) -> None:
    held = held_texts(
        [_text_values(summary) for summary in by_session.values()], list(by_session.values()), rules
    )
    _add_notes(result, held)
    result.ways += [(condition,) for condition in text_conditions(argument, held, optional)]


def _add_notes(result: ArgumentHold, held: TextHold) -> None:
    result.once += held.once
    result.notes += held.notes
    if held.open_why:
        _leave_open(result, held.open_why)


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


def _text_values(summary: ValueSummary) -> frozenset[str] | None:
    """Return the texts; None if some of them are not known, such as long ones."""
    if summary.values is None or any(map(_is_long_text, summary.values)):
        return None
    return frozenset(value for value in summary.values if isinstance(value, str))


def _is_long_text(value: Operand) -> bool:
    # A digest can be that of a list or an object, too: then the texts beside it count as unknown.
    return isinstance(value, Json) and (not value.form or value.form.startswith('"'))


def _numbers(
    result: ArgumentHold, argument: Path, by_session: Mapping[int, ValueSummary], rules: Rules, optional: bool
) -> list[tuple[Condition, ...]]:
    lows = sorted((s.low for s in by_session.values() if s.low is not None), key=_decimal)
    highs = sorted((s.high for s in by_session.values() if s.high is not None), key=_decimal, reverse=True)
    if len(lows) < rules.least:
        return []
    single = len({*lows, *highs}) == 1 and len(lows) >= rules.proves
    if single:
        return [(Condition(argument, Operator.EQUAL, (lows[0],), optional=optional),)]
    # An extreme that one session alone brought counts only as far as rounding reaches.
    low, high = outward(lows[rules.least - 1], highs[rules.least - 1])
    result.once += [n for n in (lows[0], highs[0]) if not _decimal(low) <= _decimal(n) <= _decimal(high)]
    return [
        (
            Condition(argument, Operator.GREATER_EQUAL, (low,), optional=optional),
            Condition(argument, Operator.LESS_EQUAL, (high,), optional=optional),
        )
    ]


def _lists(
    result: ArgumentHold, argument: Path, by_session: Mapping[int, ValueSummary], rules: Rules, optional: bool
) -> None:
    """Hold the elements of lists of scalars. Lists of objects stay open."""
    unknown = sum(summary.elements is None for summary in by_session.values())
    if unknown >= rules.least:
        _leave_open(result, "lists of objects, of lists, or of too many values")
        return
    elements = [summary.elements for summary in by_session.values() if summary.elements is not None]
    types = support({_kind(value) for value in of_session} for of_session in elements)
    if len([sessions for sessions in types.values() if sessions >= rules.least]) > 1:
        _leave_open(result, "lists of several types")
        return
    texts = [frozenset(v for v in of_session if isinstance(v, str)) for of_session in elements]
    numbers = [v for of_session in elements for v in of_session if isinstance(v, Number | Exact)]
    if any(texts):
        filled = [each for each in texts if each]
        held = held_texts(filled, [ValueSummary() for _ in filled], rules)
        _add_notes(result, held)
        if held.names and not (held.folders or held.hosts or held.stems or held.domains):
            names = tuple(held.names)
            result.ways.append((Condition(argument, Operator.SUBSET_OF, names, optional=optional),))
        else:
            conditions = text_conditions(argument, held, optional, each=True)
            if len(conditions) > 1:
                # One condition holds for all elements of a list: there is no "or" for each of them.
                _leave_open(result, "lists of several kinds of texts")
            else:
                result.ways += [(condition,) for condition in conditions]
    elif numbers:
        low, high = outward(min(numbers, key=_decimal), max(numbers, key=_decimal))
        bounds = ((Operator.GREATER_EQUAL, low), (Operator.LESS_EQUAL, high))
        result.ways.append(
            tuple(Condition(argument, op, (n,), each=True, optional=optional) for op, n in bounds)
        )
    elif any(elements):
        result.ways.append((Condition(argument, Operator.SUBSET_OF, (False, True), optional=optional),))
    else:
        empty = Condition(argument, Operator.EQUAL, (Number(0),), accessor=Accessor.COUNT, optional=optional)
        result.ways.append((empty,))


def _decimal(number: Number | Exact) -> Decimal:
    return number.to_decimal()


def _kind(value: object) -> str:
    return Number.__name__ if isinstance(value, Exact) else type(value).__name__


def _fact(by_session: Mapping[int, ValueSummary], facts: Sequence[Mapping[str, Value]]) -> str:
    """Return the session fact that the argument was equal to in each session, if its values differ."""
    values = {n: summary.values for n, summary in by_session.items()}
    if len(by_session) < 2 or any(len(v or ()) != 1 for v in values.values()):
        return ""
    if any(set(summary.kinds) - set(_SCALARS) for summary in by_session.values()):
        return ""
    single = {n: next(iter(v or ())) for n, v in values.items()}
    if len(set(single.values())) < 2:
        return ""
    names = sorted(set.intersection(*(set(facts[n]) for n in single)))
    return next((name for name in names if all(facts[n][name] == v for n, v in single.items())), "")
