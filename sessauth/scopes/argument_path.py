"""Paths: the place of a condition's value, or of an argument that a ``free`` list leaves open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .._fast.codec.record import Record
from .value import quoted

IDENT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class ValueSource(IntEnum):
    """The root of a path; the numbers of ``token.proto``."""

    ARGS = 1
    SESSION = 2
    TOOL = 3


SOURCE_WORDS = {"args": ValueSource.ARGS, "session": ValueSource.SESSION, "tool": ValueSource.TOOL}
_WORDS = {source: word for word, source in SOURCE_WORDS.items()}


@dataclass(frozen=True, slots=True)
class Path(Record):
    """A source and the names of members, outermost first.

    ``source`` is a :class:`ValueSource`, or another number in a token from a later version. The names are
    exact: a name ``a.b`` is one member, not two.
    """

    segments: tuple[str, ...]
    source: int = ValueSource.ARGS

    @classmethod
    def args(cls, *names: str) -> Path:
        """Return a path into the call's arguments."""
        return cls(names)

    @classmethod
    def session(cls, fact: str) -> Path:
        """Return the path to a session fact."""
        return cls((fact,), ValueSource.SESSION)

    @classmethod
    def tool(cls, *names: str) -> Path:
        """Return a path into the tool's entry in the gateway's catalogue."""
        return cls(names, ValueSource.TOOL)

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> Path:
        """Read the dict of message Path; missing parts are empty."""
        record = record or {}
        return cls(tuple(record.get("segments", ())), record.get("source", 0))

    @property
    def argument(self) -> str:
        """The name that a decision's position gives it: segments joined by ``.``, without quotes."""
        joined = ".".join(self.segments)
        return f"{_WORDS[ValueSource(self.source)]}.{joined}" if self.source in (2, 3) else joined

    def __str__(self) -> str:
        """Return the canonical scope text."""
        names = ".".join(n if IDENT.fullmatch(n) else quoted(n) for n in self.segments)
        if self.source not in _WORDS:
            return f"<unknown source {self.source}>.{names}"
        word = _WORDS[ValueSource(self.source)]
        shadowed = len(self.segments) > 1 and self.segments[0] in SOURCE_WORDS
        return f"{word}.{names}" if self.source != ValueSource.ARGS or shadowed else names
