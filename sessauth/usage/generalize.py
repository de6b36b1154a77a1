"""Conditions and segments that hold for everything that was seen in one place.

Two fits. EXACT says what was seen and nothing beside it. LOOSE expects more of the same: a range is rounded
outward, a text is held to its folder, host or beginning, and values are listed only where they are *settled*,
that is few, and each seen twice on average. What was seen once or twice says nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from enum import StrEnum
from typing import Final

from ..errors import ScopeError
from ..scopes.argument_path import Path
from ..scopes.condition import Condition
from ..scopes.operators import Accessor, Operator
from ..scopes.segment import Segment, SegmentKind
from ..scopes.value import NANOS, Number, Value
from .value_summary import ValueSummary, ordered

_SETTLED_VALUES: Final = 24
_SETTLED_CALLS: Final = 2
_TELLING_CALLS: Final = 3
# What may end a beginning that is taken for all texts to come: a word is not cut in two.
_BREAKS: Final = "/:.-_ @#"


class Fit(StrEnum):
    """How close to what was seen a suggestion stays."""

    EXACT = "exact"
    LOOSE = "loose"


def is_settled(slot: ValueSummary) -> bool:
    """Whether its values are few and come again."""
    return _come_again(slot.values or (), slot.found)


def _come_again(values: Collection[Value], calls: int) -> bool:
    least = max(_TELLING_CALLS, _SETTLED_CALLS * len(values))
    return 0 < len(values) <= _SETTLED_VALUES and calls >= least


def is_listed(fit: Fit, among: ValueSummary, *, first: bool) -> bool:
    """Whether the texts of a segment are listed, and no others expected.

    Args:
        fit: how close.
        among: the texts of all calls whose resources begin alike: a tool that came once stands beside
            others that came again.
        first: whether it is the first segment, which names what kind of thing the resource is.
    """
    few = among.values is not None and len(among.values) <= _SETTLED_VALUES
    return fit is Fit.EXACT or is_settled(among) or (first and few)


def segment(granted: Segment, seen: ValueSummary) -> Segment:
    """Return a segment inside ``granted`` that matches the texts that were seen, and few others."""
    if granted.kind == SegmentKind.LITERAL:
        return granted
    texts = None if seen.values is None else sorted(value for value in seen.values if isinstance(value, str))
    if texts:
        return Segment.literal(texts[0]) if len(texts) == 1 else Segment.one_of(*texts)
    above = granted.texts[0] if granted.kind == SegmentKind.PREFIX else ""
    if seen.prefix and seen.prefix.startswith(above) and granted.kind != SegmentKind.ONE_OF:
        return Segment.prefix(seen.prefix)
    return granted


def conditions(path: tuple[str, ...], seen: ValueSummary, calls: int, fit: Fit) -> list[Condition]:
    """Return conditions that hold for each of ``calls`` calls; none where nothing can be said.

    Args:
        path: of the argument.
        seen: what the calls had there.
        calls: how many calls there were; those that had nothing there make the conditions optional.
        fit: how close.
    """
    at, optional = Path(path), seen.found < calls
    if set(seen.kinds) == {"list"}:
        return _of_lists(at, seen, optional, fit)
    if len(seen.kinds) != 1:
        return []
    if seen.values and (fit is Fit.EXACT or is_settled(seen)):
        return [_among(at, seen.values, optional)]
    if fit is Fit.LOOSE and seen.found < _TELLING_CALLS:
        return []
    if seen.low is not None and seen.high is not None:
        low, high = (seen.low, seen.high) if fit is Fit.EXACT else _outward(seen.low, seen.high)
        return [
            Condition(at, Operator.GREATER_EQUAL, (low,), optional=optional),
            Condition(at, Operator.LESS_EQUAL, (high,), optional=optional),
        ]
    return [] if seen.prefix is None else _of_texts(at, seen, optional, fit)


def _among(at: Path, values: frozenset[Value], optional: bool) -> Condition:
    operator = Operator.EQUAL if len(values) == 1 else Operator.IN
    return Condition(at, operator, tuple(ordered(values)), optional=optional)


def _of_lists(at: Path, seen: ValueSummary, optional: bool, fit: Fit) -> list[Condition]:
    elements = seen.elements
    # A list of several types satisfies no condition on its elements.
    if not elements or len({type(each) for each in elements}) > 1:
        return []
    if fit is Fit.LOOSE and not _come_again(elements, seen.found):
        return []
    return [Condition(at, Operator.SUBSET_OF, tuple(ordered(elements)), optional=optional)]


def _of_texts(at: Path, seen: ValueSummary, optional: bool, fit: Fit) -> list[Condition]:
    prefix = seen.prefix or ""
    if seen.hosts:
        return [replace(_among(at, frozenset(seen.hosts), optional), accessor=Accessor.HOST)]
    folder = _folder(prefix) if seen.clean else ""
    if folder:
        # Not starts_with: that would take what climbs out of the folder again.
        return [Condition(at, Operator.UNDER, (folder,), optional=optional)]
    begins = prefix if fit is Fit.EXACT else _whole_words(prefix)
    # A beginning of a URL can end inside the name of the host, and then says nothing about where it leads.
    if not begins or ("://" in begins and begins.count("/") < 3):
        return []
    return [Condition(at, Operator.STARTS_WITH, (begins,), optional=optional)]


def _folder(prefix: str) -> str:
    """Return the innermost folder that all clean paths that begin with ``prefix`` lie under; "" for none."""
    folder, separator, _ = prefix.rpartition("/")
    return folder or separator


def _whole_words(prefix: str) -> str:
    return prefix[: max((prefix.rfind(each) for each in _BREAKS), default=-1) + 1]


def _outward(low: Number, high: Number) -> tuple[Number, Number]:
    """Round a range to numbers of one digit: 1, 2 or 5 times a power of ten."""
    return _rounded(low, up=False), _rounded(high, up=True)


def _rounded(number: Number, *, up: bool) -> Number:
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
