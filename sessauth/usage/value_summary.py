"""What was seen in one place: at one argument path, or in one segment of a resource.

Everything here is a set, a least or a greatest, so that parts may be merged in any order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, TypeVar

from ..errors import ScopeError, UsageError
from ..scopes.value import Number, Value
from . import field_readers, limits
from .argument_reader import ArgumentNode, Json, NoValue, host_of, is_clean_path

KINDS: Final = ("text", "number", "truth", "null", "list", "object", "other")
"""Types of JSON; ``other`` is a number that the format gives no value."""

_NAMES: Final = (
    *("found", "kinds", "values", "low", "high", "prefix", "clean", "hosts"),
    *("elements", "longest", "opaque"),
)
T = TypeVar("T", Value, str)


@dataclass(slots=True)
class ValueSummary:
    """The values of one place.

    ``found``: calls that had something there. ``values``: the distinct scalars, ``elements``: those in
    lists; None where there were too many, or, in a list, something that is no scalar. ``low`` and ``high``
    bound the numbers, ``prefix`` begins all texts (None: no text was seen), ``clean``: all texts are clean
    paths, ``hosts``: those of all texts (None: some text is no URL, or there are too many), ``longest``:
    elements of the longest list. ``opaque``: what is below it is not known completely.
    """

    found: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    values: frozenset[Value] | None = frozenset()
    low: Number | None = None
    high: Number | None = None
    prefix: str | None = None
    clean: bool = True
    hosts: frozenset[str] | None = frozenset()
    elements: frozenset[Value] | None = frozenset()
    longest: int = 0
    opaque: bool = False

    def see(self, node: ArgumentNode) -> None:
        """Count what one call has here."""
        value = node.value
        # What was seen before changes nothing but the counts.
        if isinstance(value, list):
            again = "list" in self.kinds and len(value) <= self.longest and self._has(value)
        else:
            again = not isinstance(value, NoValue | dict | None) and value in (self.values or ())
        if again:
            self.found += 1
            self.kinds[kind_of(value)] += 1
        else:
            self.merge(_one(value, node.opaque, self))

    def _has(self, elements: list[Json]) -> bool:
        known = self.elements or ()
        return all(isinstance(each, str | bool | Number) and each in known for each in elements)

    def see_segment(self, text: str) -> None:
        """Count a segment of a resource: neither path nor URL."""
        if self.values is not None and text in self.values:
            self.found += 1
            self.kinds["text"] += 1
            return
        self.merge(
            ValueSummary(1, {"text": 1}, frozenset((text,)), prefix=_cut(text), clean=False, hosts=None)
        )

    def merge(self, other: ValueSummary) -> None:
        """Take over what another has seen."""
        self.found += other.found
        for kind, calls in other.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + calls
        self.values = _union(self.values, other.values, limits.MAX_VALUES)
        self.elements = _union(self.elements, other.elements, limits.MAX_VALUES)
        self.hosts = _union(self.hosts, other.hosts, limits.MAX_HOSTS)
        if other.low is not None and other.high is not None:
            self.low = other.low if self.low is None else min(self.low, other.low)
            self.high = other.high if self.high is None else max(self.high, other.high)
        if other.prefix is not None:
            self.prefix = other.prefix if self.prefix is None else common_prefix(self.prefix, other.prefix)
        self.clean &= other.clean
        self.longest = max(self.longest, other.longest)
        self.opaque |= other.opaque

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "found": self.found,
            "kinds": {kind: self.kinds[kind] for kind in KINDS if kind in self.kinds},
            "values": values_to_json(self.values),
            "low": None if self.low is None else str(self.low),
            "high": None if self.high is None else str(self.high),
            "prefix": self.prefix,
            "clean": self.clean,
            "hosts": None if self.hosts is None else sorted(self.hosts),
            "elements": values_to_json(self.elements),
            "longest": self.longest,
            "opaque": self.opaque,
        }

    @classmethod
    def from_dict(cls, data: object) -> ValueSummary:
        """Read what :meth:`to_dict` gave; raises UsageError for anything else."""
        given = field_readers.fields(data, *_NAMES)
        kinds = given["kinds"]
        counts = field_readers.fields(
            kinds, *(kind for kind in KINDS if isinstance(kinds, dict) and kind in kinds)
        )
        hosts = given["hosts"]
        prefix = given["prefix"]
        slot = cls(
            found=field_readers.count(given["found"]),
            kinds={kind: field_readers.count(calls) for kind, calls in counts.items()},
            values=_values(given["values"]),
            low=_number(given["low"]),
            high=_number(given["high"]),
            prefix=None if prefix is None else field_readers.text(prefix, limits.MAX_PREFIX_BYTES),
            clean=field_readers.truth(given["clean"]),
            hosts=None
            if hosts is None
            else frozenset(
                field_readers.text(host, 253) for host in field_readers.items(hosts, limits.MAX_HOSTS)
            ),
            elements=_values(given["elements"]),
            longest=field_readers.count(given["longest"]),
            opaque=field_readers.truth(given["opaque"]),
        )
        # Held to the bounds as what is seen here is.
        slot.merge(ValueSummary())
        return slot


def kind_of(value: Json) -> str:
    """Return the word of :data:`KINDS` for a JSON value."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, Number):
        return "number"
    if isinstance(value, NoValue):
        return "other"
    return "null" if value is None else "list" if isinstance(value, list) else "object"


def _one(value: Json, opaque: bool, so_far: ValueSummary) -> ValueSummary:
    """Return the slot of one value. What ``so_far`` has given up is not looked at again."""
    slot = ValueSummary(1, {kind_of(value): 1}, opaque=opaque)
    if isinstance(value, str):
        slot.values, slot.prefix = frozenset((value,)), _cut(value)
        slot.clean = so_far.clean and is_clean_path(value)
        host = "" if so_far.hosts is None else host_of(value)
        slot.hosts = frozenset((host,)) if host else None
    elif isinstance(value, bool):
        slot.values = frozenset((value,))
    elif isinstance(value, Number):
        slot.values, slot.low, slot.high = frozenset((value,)), value, value
    elif isinstance(value, list):
        scalars = frozenset(each for each in value if isinstance(each, str | bool | Number))
        plain = all(isinstance(each, str | bool | Number) for each in value)
        slot.elements = scalars if plain else None
        slot.longest = len(value)
    return slot


def _union(a: frozenset[T] | None, b: frozenset[T] | None, most: int) -> frozenset[T] | None:
    if a is None or b is None:
        return None
    both = a | b
    texts = sum(len(each.encode()) for each in both if isinstance(each, str))
    return both if len(both) <= most and texts <= limits.MAX_VALUES_BYTES else None


def common_prefix(a: str, b: str) -> str:
    """Return the longest text that both begin with, in whole characters."""
    for index, (ours, theirs) in enumerate(zip(a, b, strict=False)):
        if ours != theirs:
            return a[:index]
    return min(a, b, key=len)


def _cut(text: str) -> str:
    """Return the longest beginning of ``text`` within the bound, in whole characters."""
    return text.encode()[: limits.MAX_PREFIX_BYTES].decode(errors="ignore")


def ordered(values: Iterable[Value]) -> list[Value]:
    """Return scalars in one order: truths, numbers, texts."""
    return sorted(values, key=_rank)


def _rank(value: Value) -> tuple[int, Number, str]:
    zero = Number(0)
    if isinstance(value, bool):
        return 0, Number(int(value)), ""
    return (1, value, "") if isinstance(value, Number) else (2, zero, value)


def values_to_json(values: frozenset[Value] | None) -> list[object] | None:
    """Return scalars as JSON values in one order; a number is ``{"number": "1.5"}``, to stay exact."""
    if values is None:
        return None
    return [{"number": str(each)} if isinstance(each, Number) else each for each in ordered(values)]


def _values(data: object) -> frozenset[Value] | None:
    if data is None:
        return None
    return frozenset(_value(each) for each in field_readers.items(data, limits.MAX_VALUES))


def _value(data: object) -> Value:
    if isinstance(data, bool):
        return data
    if isinstance(data, dict):
        return _exact(field_readers.fields(data, "number")["number"])
    return field_readers.text(data, limits.MAX_VALUES_BYTES)


def _number(data: object) -> Number | None:
    return None if data is None else _exact(data)


def _exact(data: object) -> Number:
    text = field_readers.text(data, 64)
    try:
        return Number.of(Decimal(text))
    except (ScopeError, ArithmeticError):
        raise UsageError("a usage record: expected a number of the format, as a text") from None
