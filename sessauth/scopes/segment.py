"""Segments of a resource pattern."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .._fast.codec.record import Record
from .value import quoted, shows

BARE = re.compile(r'[^ "/,*{}]+')


class SegmentKind(IntEnum):
    """The kind of a segment's match; the numbers of ``token.proto``."""

    LITERAL = 1
    ANY = 2
    PREFIX = 3
    ONE_OF = 4
    REST = 5


@dataclass(frozen=True, slots=True)
class Segment(Record):
    """One segment of a pattern. ``kind`` is beyond :class:`SegmentKind` only in a later version's token."""

    kind: int
    texts: tuple[str, ...] = ()

    @classmethod
    def literal(cls, text: str) -> Segment:
        """Match the equal segment."""
        return cls(SegmentKind.LITERAL, (text,))

    @classmethod
    def any(cls) -> Segment:
        """Match exactly one segment of any text."""
        return cls(SegmentKind.ANY)

    @classmethod
    def prefix(cls, text: str) -> Segment:
        """Match one segment that starts with ``text``."""
        return cls(SegmentKind.PREFIX, (text,))

    @classmethod
    def one_of(cls, *texts: str) -> Segment:
        """Match one segment equal to one of ``texts``; there are two or more."""
        return cls(SegmentKind.ONE_OF, texts)

    @classmethod
    def rest(cls) -> Segment:
        """Match zero or more segments; only as the last of a pattern."""
        return cls(SegmentKind.REST)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Segment:
        """Read the dict of message Segment; missing parts are empty."""
        return cls(record.get("kind", 0), tuple(record.get("texts", ())))

    def __str__(self) -> str:
        """Return the canonical scope text."""
        match self.kind:
            case SegmentKind.LITERAL:
                return _literal(self.texts[0])
            case SegmentKind.ANY:
                return "*"
            case SegmentKind.PREFIX:
                return f"{_literal(self.texts[0])}*"
            case SegmentKind.ONE_OF:
                return "{" + ",".join(map(_literal, self.texts)) + "}"
            case SegmentKind.REST:
                return "**"
            case _:
                return f"<unknown segment {self.kind}>"


def _literal(text: str) -> str:
    return text if BARE.fullmatch(text) and shows(text) else quoted(text)
