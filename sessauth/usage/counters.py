"""Counts with their first and last time, and tables of them that never grow beyond a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from . import field_readers

K = TypeVar("K", bound="tuple[Any, ...]")


@dataclass(slots=True)
class TimeSpan:
    """A number of calls, and the times of the first and the last, in ms since 1970; 0 if there was none."""

    calls: int = 0
    first_ms: int = 0
    last_ms: int = 0

    def add(self, at_ms: int) -> None:
        """Count one call."""
        if not self.calls or at_ms < self.first_ms:
            self.first_ms = at_ms
        if not self.calls or at_ms > self.last_ms:
            self.last_ms = at_ms
        self.calls += 1

    def merge(self, other: TimeSpan) -> None:
        """Add the calls of another."""
        if not other.calls:
            return
        self.first_ms = min(self.first_ms, other.first_ms) if self.calls else other.first_ms
        self.last_ms = max(self.last_ms, other.last_ms) if self.calls else other.last_ms
        self.calls += other.calls

    def to_list(self) -> list[int]:
        """Return ``[calls, first_ms, last_ms]``."""
        return [self.calls, self.first_ms, self.last_ms]

    @classmethod
    def from_list(cls, data: object) -> TimeSpan:
        """Read the values of :meth:`to_list`; raises UsageError for anything else."""
        return cls(*map(field_readers.count, field_readers.items(data, 3, exactly=True)))

    def to_dict(self) -> dict[str, object]:
        """Return it with names, for a report."""
        return asdict(self)


class TopKTable(Generic[K]):
    """Spans by key; of more than ``limit`` keys it holds those that sort first, with their full counts.

    A key among the first of the whole is among the first of every part. So no part dropped it, and parts
    merge in any order.
    """

    __slots__ = ("_rows", "_truncated", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._rows: dict[K, TimeSpan] = {}
        self._truncated = False

    def add(self, key: K, at_ms: int) -> None:
        """Count one call."""
        self._at(key).add(at_ms)

    def merge(self, other: TopKTable[K]) -> None:
        """Take over another's rows."""
        for key, span in other._rows.items():
            self._at(key).merge(span)
        self._truncated |= other._truncated

    def _at(self, key: K) -> TimeSpan:
        span = self._rows.get(key)
        if span is None:
            # Sorted rarely, so that a flood of keys costs little for each.
            if len(self._rows) >= 2 * self.limit:
                self._cut()
            span = self._rows[key] = TimeSpan()
        return span

    def _cut(self) -> None:
        if len(self._rows) > self.limit:
            self._rows = {key: self._rows[key] for key in sorted(self._rows)[: self.limit]}
            self._truncated = True

    @property
    def rows(self) -> Mapping[K, TimeSpan]:
        """The rows, at most ``limit``."""
        self._cut()
        return self._rows

    @property
    def truncated(self) -> bool:
        """True if a key was dropped."""
        self._cut()
        return self._truncated

    def __getitem__(self, key: K) -> TimeSpan:
        """Return the span of a key; an empty one if there is none."""
        return self.rows.get(key, TimeSpan())

    def __iter__(self) -> Iterator[tuple[K, TimeSpan]]:
        """Yield the rows in order of their keys."""
        return iter(sorted(self.rows.items()))

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {"rows": [[*key, *span.to_list()] for key, span in self], "truncated": self.truncated}

    @classmethod
    def from_dict(cls, limit: int, data: object, read_key: Callable[[list[object]], K]) -> TopKTable[K]:
        """Read the values of :meth:`to_dict`; raises UsageError for anything else."""
        plain = field_readers.fields(data, "rows", "truncated")
        table: TopKTable[K] = cls(limit)
        for row in field_readers.items(plain["rows"], limit):
            parts = field_readers.items(row, 8)
            table._at(read_key(parts[:-3])).merge(TimeSpan.from_list(parts[-3:]))
        table._truncated = field_readers.truth(plain["truncated"])
        return table
