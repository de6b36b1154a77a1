"""Ways to hold one argument by the kind of its values, as sessions brought them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ...scopes.argument_path import Path
from ...scopes.condition import Condition
from ...scopes.operand import Json, Operand
from ...scopes.operators import Operator
from ...scopes.value import Value
from ..argument_reader import scope_path
from ..value_summary import ValueSummary
from .languages import is_language
from .list_holds import Place, hold_list
from .observed import support
from .scalar_holds import add_range, add_texts, text_conditions
from .text_holds import Rules, held_programs, held_texts
from .ways import ArgumentHold

_SCALARS: Final = ("text", "number", "truth")
_NULL: Final = Json("null")


def hold(place: Place) -> ArgumentHold:
    """Return the ways to hold the argument at a place; an object's members are held at their own paths."""
    tool, path, rules = place.tool, place.path, place.rules
    argument, by_session, optional = scope_path(path), tool.at(path), not tool.always(path, rules.least)
    result = ArgumentHold(path)
    if len(by_session) < rules.least:
        result.once.append((path, None))
        return result
    fact = _fact(by_session, place.facts)
    if fact:
        result.hold(Condition(argument, Operator.EQUAL, fact=fact, optional=optional))
        return result
    kinds = support(summary.kinds for summary in by_session.values())
    # `present` does not hold for null, so where null was given nothing must be.
    required = not optional and kinds.get("null", 0) < rules.least
    for kind in [kind for kind, sessions in kinds.items() if sessions >= rules.least]:
        of_kind = {n: summary for n, summary in by_session.items() if kind in summary.kinds}
        if kind == "text":
            texts = [_text_values(summary) for summary in of_kind.values()]
            summaries = list(of_kind.values())
            run = not tool.reads and is_language(path, summaries)
            held = held_programs(texts, rules) if run else held_texts(texts, summaries, rules)
            if run and None in texts:
                result.once.append((path, None))
            add_texts(result, path, held, text_conditions(argument, held, optional), required=required)
        elif kind == "number":
            _numbers(result, argument, of_kind, rules, optional)
        elif kind == "truth":
            result.hold(Condition(argument, Operator.IN, (False, True), optional=optional))
        elif kind == "list":
            hold_list(result, place, of_kind, hold, required=required)
        elif kind == "null":
            result.hold(Condition(argument, Operator.EQUAL, (_NULL,), optional=optional))
        else:
            why = "a number that no condition can hold" if kind == "other" else "an object"
            result.leave_open(why, required=required)
    result.once += [(path, kind) for kind, sessions in kinds.items() if sessions < rules.least]
    return result


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
) -> None:
    ranges = [(s.low, s.high) for s in by_session.values() if s.low is not None and s.high is not None]
    if len(ranges) < rules.least:
        return
    if len({bound for bounds in ranges for bound in bounds}) == 1 and len(ranges) >= rules.proves:
        result.hold(Condition(argument, Operator.EQUAL, ranges[0][:1], optional=optional))
        return
    add_range(result, argument, ranges, rules, optional=optional, each=False)


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
