"""The parts of scopes: operators, paths, segments of a resource, needs, and their encoding.

``parser.py`` makes them from text, ``scope.py`` joins them to scopes. The kernel checks the encoded form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import EllipsisType
from typing import Any

from .._fast import _check as kernel
from .._fast import _codec as codec
from .._fast.codec import base64url
from .._fast.codec.record import Record
from ..errors import ScopeError
from .value import Number, quoted, shows


def checked_condition(record: Mapping[str, object]) -> bytes:
    """Return the canonical bytes of message ``Condition``. Raises ScopeError if it is against the format."""
    return _checked("Condition", record, codec.check_condition)


def checked_scope(record: Mapping[str, object]) -> bytes:
    """Return the canonical bytes of message ``Scope``. Raises ScopeError if it is against the format."""
    return _checked("Scope", record, codec.check_scope)


def _checked(message: str, record: Mapping[str, object], check: Callable[[bytes], object]) -> bytes:
    try:
        data = kernel.encode_message(message, record)
        check(data)
    except (ValueError, TypeError, OverflowError) as error:
        raise ScopeError(f"a {message.lower()} against the format: {error}") from None
    return data


class Operator(IntEnum):
    """The relation of a condition; the numbers of ``token.proto``."""

    EQUAL = 1
    NOT_EQUAL = 2
    IN = 3
    NOT_IN = 4
    LESS = 5
    LESS_EQUAL = 6
    GREATER = 7
    GREATER_EQUAL = 8
    STARTS_WITH = 9
    GLOB = 10
    UNDER = 11
    CIDR = 12
    SUBSET_OF = 13
    PRESENT = 14
    ABSENT = 15
    NOT_STARTS_WITH = 19
    NOT_GLOB = 20
    NOT_UNDER = 21
    NOT_CIDR = 22


class Accessor(IntEnum):
    """The part of a value that is compared; the numbers of ``token.proto``."""

    NONE = 0
    COUNT = 1
    HOST = 2
    SCHEME = 3
    PORT = 4
    PATH = 10
    DOMAIN = 11
    LENGTH = 12


OPERATOR_WORDS = {
    "==": Operator.EQUAL,
    "!=": Operator.NOT_EQUAL,
    "in": Operator.IN,
    "not in": Operator.NOT_IN,
    "<": Operator.LESS,
    "<=": Operator.LESS_EQUAL,
    ">": Operator.GREATER,
    ">=": Operator.GREATER_EQUAL,
    "starts_with": Operator.STARTS_WITH,
    "glob": Operator.GLOB,
    "under": Operator.UNDER,
    "cidr": Operator.CIDR,
    "subset_of": Operator.SUBSET_OF,
    "present": Operator.PRESENT,
    "absent": Operator.ABSENT,
    "not starts_with": Operator.NOT_STARTS_WITH,
    "not glob": Operator.NOT_GLOB,
    "not under": Operator.NOT_UNDER,
    "not cidr": Operator.NOT_CIDR,
}
WORDS = {int(operator): word for word, operator in OPERATOR_WORDS.items()}
ACCESSOR_WORDS = {
    "count": Accessor.COUNT,
    "host": Accessor.HOST,
    "scheme": Accessor.SCHEME,
    "port": Accessor.PORT,
    "path": Accessor.PATH,
    "domain": Accessor.DOMAIN,
    "length": Accessor.LENGTH,
}
ACCESSORS = {int(accessor): word for word, accessor in ACCESSOR_WORDS.items()}
LIST_ONLY = (Operator.IN, Operator.NOT_IN, Operator.SUBSET_OF)
EQUALITY = (Operator.EQUAL, Operator.NOT_EQUAL, *LIST_ONLY)
NEGATED: dict[int, Operator] = {
    Operator.NOT_STARTS_WITH: Operator.STARTS_WITH,
    Operator.NOT_GLOB: Operator.GLOB,
    Operator.NOT_UNDER: Operator.UNDER,
    Operator.NOT_CIDR: Operator.CIDR,
}
"""The operators on texts that exclude, with the one that each negates."""


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


@dataclass(frozen=True, slots=True)
class Approval(Record):
    """``threshold`` of these Ed25519 public keys (32 bytes each) must approve the call."""

    threshold: int
    keys: tuple[bytes, ...]

    def __str__(self) -> str:
        """Return the scope text."""
        return f"approval({', '.join([str(self.threshold), *(quoted(key_text(k)) for k in self.keys)])})"


@dataclass(frozen=True, slots=True)
class Budget(Record):
    """Each call takes ``amount``, an argument, in ``unit``, from the budget ``name`` of ``limit``."""

    name: str
    limit: Number
    amount: Path
    unit: str = ""

    def __str__(self) -> str:
        """Return the scope text."""
        unit = [quoted(self.unit)] if self.unit else []
        return f"budget({', '.join([quoted(self.name), str(self.limit), *unit, str(self.amount)])})"


_EMPTY_BUDGET: dict[str, Any] = {"name": "", "limit": None, "amount": None}


@dataclass(frozen=True, slots=True)
class Needs(Record):
    """The needs of a scope: an approval, a number of uses (0: no such limit), a budget; at least one."""

    approval: Approval | None = None
    uses: int = 0
    budget: Budget | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Needs:
        """Read the dict of message Needs; missing parts are empty."""
        approval, budget = record.get("approval"), record.get("budget")
        return cls(
            None if approval is None else Approval.from_record({"threshold": 0, "keys": (), **approval}),
            record.get("uses", 0),
            None if budget is None else Budget.from_record(_EMPTY_BUDGET | dict(budget)),
        )

    def __str__(self) -> str:
        """Return the scope text."""
        uses = f"uses({self.uses})" if self.uses else None
        return ", ".join(str(need) for need in (self.approval, uses, self.budget) if need)


def key_text(key: bytes) -> str:
    """Return a public key as scope text writes it: base64url without padding."""
    return base64url.encode(key)
