"""Conditions and segments that hold for all observed values in one place.

Two of the three fits; KINDS is in :mod:`sessauth.usage.kinds`. EXACT admits the observed values and nothing
else. LOOSE expects more of the same: a range is rounded outward, a text is held to its folder, host or
beginning, and values are listed only if they are *recurring*: few, and each observed twice on average. One or
two observations prove nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from enum import StrEnum
from typing import Final

from ..errors import ScopeError
from ..scopes.argument_path import Path
from ..scopes.condition import Condition
from ..scopes.operand import Exact, Operand, operands_of
from ..scopes.operators import Accessor, Operator
from ..scopes.segment import Segment, SegmentKind
from ..scopes.value import NANOS, Number
from .kinds.languages import is_language
from .value_summary import ValueSummary, ordered

_RECURRING_VALUES: Final = 24
_RECURRING_CALLS: Final = 2
_MIN_CALLS: Final = 3
# Characters that may end a common beginning: no word is cut in two.
_BREAKS: Final = "/:.-_ @#"


class Fit(StrEnum):
    """The distance of a suggestion from the observed calls.

    KINDS: each argument by the kind of its values, and by how many sessions brought them.
    """

    KINDS = "kinds"
    EXACT = "exact"
    LOOSE = "loose"


def is_recurring(summary: ValueSummary) -> bool:
    """Return True if its values are few and recur."""
    return _recurs(summary.values or (), summary.found)


def _recurs(values: Collection[Operand], calls: int) -> bool:
    least = max(_MIN_CALLS, _RECURRING_CALLS * len(values))
    return 0 < len(values) <= _RECURRING_VALUES and calls >= least


def is_listed(fit: Fit, among: ValueSummary, *, first: bool) -> bool:
    """Return True if a suggestion lists the texts of a segment, and expects no others.

    Args:
        fit: of the suggestion.
        among: the texts of all calls whose resources begin alike: one call of a tool stands beside recurring
            ones.
        first: it is the first segment, which names the kind of the resource.
    """
    few = among.values is not None and len(among.values) <= _RECURRING_VALUES
    return fit is Fit.EXACT or is_recurring(among) or (first and few)


def segment(granted: Segment, summary: ValueSummary) -> Segment:
    """Return a segment inside ``granted`` that matches the observed texts, and few others."""
    if granted.kind == SegmentKind.LITERAL:
        return granted
    texts = sorted(value for value in summary.values or () if isinstance(value, str))
    if texts:
        return Segment.literal(texts[0]) if len(texts) == 1 else Segment.one_of(*texts)
    above = granted.texts[0] if granted.kind == SegmentKind.PREFIX else ""
    if summary.prefix and summary.prefix.startswith(above) and granted.kind != SegmentKind.ONE_OF:
        return Segment.prefix(summary.prefix)
    return granted


def conditions(
    path: tuple[str, ...], summary: ValueSummary, calls: int, fit: Fit, *, changes: bool
) -> list[Condition]:
    """Return conditions that hold for each of ``calls`` calls; none if there is no such condition.

    Args:
        path: of the argument.
        summary: the values there.
        calls: the number of calls; calls without a value there make the conditions optional.
        fit: of the suggestion.
        changes: the tool may change something, so that its programs are held by their values in each fit.
    """
    argument, optional = Path(path), summary.found < calls
    if summary.values and (fit is Fit.EXACT or (changes and is_language(path, [summary]))):
        return [_among(argument, summary.values, optional)]
    if set(summary.kinds) == {"list"}:
        return _list_conditions(argument, summary, optional, fit)
    if len(summary.kinds) != 1 or not {"text", "number", "truth"} >= set(summary.kinds):
        return []
    if summary.values and is_recurring(summary):
        return [_among(argument, summary.values, optional)]
    if fit is Fit.LOOSE and summary.found < _MIN_CALLS:
        return []
    if summary.low is not None and summary.high is not None:
        low, high = summary.low, summary.high
        if fit is Fit.LOOSE:
            low, high = outward(low, high)
        return [
            Condition(argument, Operator.GREATER_EQUAL, (low,), optional=optional),
            Condition(argument, Operator.LESS_EQUAL, (high,), optional=optional),
        ]
    return [] if summary.prefix is None else _text_conditions(argument, summary, optional, fit)


def _among(argument: Path, values: Collection[Operand], optional: bool) -> Condition:
    operator = Operator.EQUAL if len(values) == 1 else Operator.IN
    operands = operands_of(ordered(values), equality=True)
    return Condition(argument, operator, operands, optional=optional)


def _list_conditions(argument: Path, summary: ValueSummary, optional: bool, fit: Fit) -> list[Condition]:
    elements = summary.elements
    # A list of several types satisfies no condition on its elements.
    if not elements or len({Number if isinstance(each, Exact) else type(each) for each in elements}) > 1:
        return []
    if fit is Fit.LOOSE and not _recurs(elements, summary.found):
        return []
    return [Condition(argument, Operator.SUBSET_OF, tuple(ordered(elements)), optional=optional)]


def _text_conditions(argument: Path, summary: ValueSummary, optional: bool, fit: Fit) -> list[Condition]:
    prefix = summary.prefix or ""
    if summary.hosts:
        return [replace(_among(argument, frozenset(summary.hosts), optional), accessor=Accessor.HOST)]
    folder = _folder(prefix) if summary.clean else ""
    if folder:
        # Not starts_with: that would admit paths that climb out of the folder.
        return [Condition(argument, Operator.UNDER, (folder,), optional=optional)]
    begins = prefix if fit is Fit.EXACT else _whole_words(prefix)
    # A beginning of a URL may end inside the host name, and then doesn't restrict the host.
    if not begins or ("://" in begins and begins.count("/") < 3):
        return []
    return [Condition(argument, Operator.STARTS_WITH, (begins,), optional=optional)]


def _folder(prefix: str) -> str:
    """Return the innermost folder of all clean paths that begin with ``prefix``; "" for none."""
    folder, separator, _ = prefix.rpartition("/")
    return folder or separator


def _whole_words(prefix: str) -> str:
    return prefix[: max((prefix.rfind(char) for char in _BREAKS), default=-1) + 1]


def outward(low: Number | Exact, high: Number | Exact) -> tuple[Number | Exact, Number | Exact]:
    """Round a range to numbers of one digit: 1, 2 or 5 times a power of ten."""
    return _rounded(low, up=False), _rounded(high, up=True)


def _rounded(number: Number | Exact, *, up: bool) -> Number | Exact:
    if isinstance(number, Exact):
        return number
    total = number.units * NANOS + number.nanos
    magnitude = abs(total)
    if not magnitude:
        return number
    power = 10 ** (len(str(magnitude)) - 1)
    steps = [power * digit for digit in (1, 2, 5, 10)]
    away = up == (total > 0)
    size = (
        min(step for step in steps if step >= magnitude)
        if away
        else max(step for step in steps if step <= magnitude)
    )
    rounded = size if total > 0 else -size
    try:
        return Number(rounded // NANOS, rounded % NANOS)
    except ScopeError:
        return number
