"""Paths: the place of a condition's value, or of an argument that a ``free`` list leaves open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import EllipsisType
from typing import Any

from .._fast.codec.record import Record
from .value import quoted

IDENT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class ValueSource(IntEnum):
    """The root of a path; the numbers of ``token.proto``."""

    ARGS = 1
    SESSION = 2
    TOOL = 3
    ELEMENTS = 8


EACH = "[]"
"""The segment of an ELEMENTS path that matches every element of a list."""

SOURCE_WORDS = {"args": ValueSource.ARGS, "session": ValueSource.SESSION, "tool": ValueSource.TOOL}
_WORDS: dict[int, str] = {source: word for word, source in SOURCE_WORDS.items()}


@dataclass(frozen=True, slots=True)
class Path(Record):
    """A source and the names of members, outermost first.

    ``source`` is a :class:`ValueSource`, or another number in a token from a later version. The names are
    exact: a name ``a.b`` is one member, not two. A path of the source ELEMENTS leads through lists: its
    segments are ``[]``, or a name after a ``.``.
    """

    segments: tuple[str, ...]
    source: int = ValueSource.ARGS

    @classmethod
    def args(cls, *names: str) -> Path:
        """Return a path into the call's arguments."""
        return cls(names)

    @classmethod
    def elements(cls, *parts: str | EllipsisType) -> Path:
        """Return a path into the call's arguments through lists; ``...`` matches every element.

        ``Path.elements("files", ..., "path")`` is ``files[].path``.
        """
        if ... not in parts:
            return cls(tuple(part for part in parts if isinstance(part, str)))
        segments = tuple(EACH if part is ... else f".{part}" for part in parts)
        return cls(segments, ValueSource.ELEMENTS)

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
    def is_argument(self) -> bool:
        """True for a path into the call's arguments."""
        return self.source in (ValueSource.ARGS, ValueSource.ELEMENTS)

    @property
    def parts(self) -> tuple[str, ...]:
        """The segments as those of an ELEMENTS path, so that paths of both sources compare."""
        if self.source == ValueSource.ELEMENTS:
            return self.segments
        return tuple(f".{name}" for name in self.segments)

    @property
    def argument(self) -> str:
        """The name that a decision's position gives it: segments joined by ``.``, without quotes."""
        if self.source == ValueSource.ELEMENTS:
            return "".join(self.segments).removeprefix(".")
        joined = ".".join(self.segments)
        return f"{_WORDS[self.source]}.{joined}" if self.source in (2, 3) else joined

    def __str__(self) -> str:
        """Return the canonical scope text."""
        elements = self.source == ValueSource.ELEMENTS
        text = "".join(part if part == EACH and elements else f".{_name(part[1:])}" for part in self.parts)
        text = text.removeprefix(".")
        if not self.is_argument:
            word = _WORDS.get(self.source, f"<unknown source {self.source}>")
            return f"{word}.{text}"
        shadowed = self.parts[0][1:] in SOURCE_WORDS and len(self.parts) > 1 and self.parts[1] != EACH
        return f"args.{text}" if shadowed else text


def _name(name: str) -> str:
    return name if IDENT.fullmatch(name) else quoted(name)
