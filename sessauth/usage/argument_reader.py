"""Reads the arguments of an allowed call into a value for each path."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from .. import limits
from .._fast import _codec as codec
from .._fast._check import masked
from ..errors import ScopeError
from ..scopes.parts import EACH, ValueSource
from ..scopes.parts import Path as ScopePath
from ..scopes.scope import Scope
from ..scopes.value import Exact, Number, Value, operands_of
from ..scopes.value import Json as JsonOperand
from . import records as bounds

# A longer number counts as one without a value: it is left open, never wrongly bounded.
_MAX_NUMBER_CHARS = 1024

Path = tuple[str, ...]
"""Names of members, outermost first; :data:`ELEMENT` means every element of a list."""

# No member of this name has a path, so it is free to mean elements.
ELEMENT: Final = ""


class NoValue:
    """A JSON number that the format gives no value."""


Json = Value | Exact | NoValue | None | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class ArgumentNode:
    """The value at a path. ``opaque``: no path of the format can name some of the values below it.

    At a path that ends in ``ELEMENT`` the value is a whole list, whose elements are there.
    """

    path: Path
    value: Json
    opaque: bool = False


@dataclass(frozen=True, slots=True)
class ParsedArguments:
    """One call's arguments: nodes, outermost first on each branch; numbers of JSON values and of bytes.

    ``opaque``: the outermost object has a name that no path of the format can hold.
    """

    nodes: tuple[ArgumentNode, ...]
    size: int
    weight: int
    opaque: bool


def read(arguments: bytes) -> ParsedArguments:
    """Return parsed arguments; they are opaque if ``arguments`` can't be read."""
    try:
        document = json.loads(
            (arguments or b"{}").decode(), parse_int=_number, parse_float=_number, parse_constant=_number
        )
        if isinstance(document, dict):
            document = _masked(document)
            nodes = tuple(_ArgumentWalk().members((), document))
            return ParsedArguments(nodes, _size(document), len(arguments), not all(map(_is_name, document)))
    except (ValueError, RecursionError):
        # No call with such arguments is allowed.
        pass
    return ParsedArguments((), 1, len(arguments), True)


def _masked(value: Json) -> Any:
    """Return a value with the tokens in its names and texts masked."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {masked(name): _masked(each) for name, each in value.items()}
    return [_masked(each) for each in value] if isinstance(value, list) else value


class _ArgumentWalk:
    """A walk of one call's arguments, with the number of values that it may still read inside lists."""

    def __init__(self) -> None:
        self._room = bounds.MAX_ELEMENT_VALUES

    def members(self, prefix: Path, members: dict[str, Json]) -> Iterator[ArgumentNode]:
        """Yield what is at and below the members of an object."""
        if len(prefix) == limits.MAX_PATH_SEGMENTS:
            return
        for name, value in members.items():
            if not _is_name(name, prefix):
                continue
            path = (*prefix, name)
            if isinstance(value, dict):
                yield ArgumentNode(path, value, _is_opaque(path, value))
                yield from self.members(path, value)
            else:
                yield ArgumentNode(path, value)
                if isinstance(value, list):
                    yield from self._elements(path, value)

    def _elements(self, path: Path, elements: list[Json]) -> Iterator[ArgumentNode]:
        if not self._enters(path, elements):
            return
        place = (*path, ELEMENT)
        opaque = any(isinstance(each, dict) and _is_opaque(place, each) for each in elements)
        yield ArgumentNode(place, elements, opaque)
        for element in elements:
            if isinstance(element, dict):
                yield from self.members(place, element)
            elif isinstance(element, list):
                yield from self._elements(place, element)

    def _enters(self, path: Path, value: list[Json]) -> bool:
        """Return True for a list of objects or lists, and an empty one, if paths of elements can name it."""
        if value and not any(isinstance(each, dict | list) for each in value):
            return False
        named = all(name == ELEMENT or _is_name(name, (ELEMENT,)) for name in path)
        if len(path) == limits.MAX_PATH_SEGMENTS or not named:
            return False
        size = _size(value)
        if size > self._room:
            return False
        self._room -= size
        return True


def _is_opaque(path: Path, members: dict[str, Json]) -> bool:
    deep = len(path) == limits.MAX_PATH_SEGMENTS
    return deep or not all(_is_name(name, path) for name in members)


def _is_name(name: str, prefix: Path = ()) -> bool:
    size = len(name) if name.isascii() else len(name.encode())
    # In a path through lists a name follows a mark of one byte.
    return 0 < size <= limits.MAX_STRING_BYTES - (ELEMENT in prefix)


def _size(value: Json) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_size, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(_size, value))
    return 1


def _number(text: str) -> Number | Exact | NoValue:
    try:
        number = operands_of([Decimal(text)], equality=False) if len(text) <= _MAX_NUMBER_CHARS else ()
    except (ScopeError, ArithmeticError):
        number = ()
    return number[0] if number and isinstance(number[0], Number | Exact) else NoValue()


def scope_path(path: Path) -> ScopePath:
    """Return a path as conditions have it."""
    return ScopePath.elements(*(... if name == ELEMENT else name for name in path))


def names_of(path: ScopePath) -> Path:
    """Return the names of a condition's path into the arguments."""
    if path.source != ValueSource.ELEMENTS:
        return path.segments
    return tuple(ELEMENT if segment == EACH else segment[1:] for segment in path.segments)


def equality_of(value: Json) -> JsonOperand | None:
    """Return the JSON value to compare with, or None for a value that has no equality form."""
    try:
        return JsonOperand.of(_plain(value))
    except ScopeError:
        return None


def _plain(value: Json) -> object:
    if isinstance(value, Number | Exact):
        return value.to_decimal()
    if isinstance(value, NoValue):
        raise ScopeError("a number without a value")
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return list(map(_plain, value)) if isinstance(value, list) else value


_CLEAN_PATH = Scope.parse('a:a where v under "/"').encode()


def is_clean_path(text: str) -> bool:
    """Return True if the kernel takes a text for a clean path (docs/token-format.md, 6.8)."""
    absolute = text if text.startswith("/") else "/" + text
    return bool(text) and _matches(_CLEAN_PATH, absolute)


def host_of(text: str) -> str:
    """Return the host that the kernel finds in a URL; "" if it takes the text for none."""
    _, separator, rest = text.partition("://")
    if not separator or len(text) > limits.MAX_STRING_BYTES:
        return ""
    authority = rest.split("/")[0].split("?")[0].split("#")[0]
    guess = authority[1:].split("]")[0] if authority.startswith("[") else authority.split(":")[0]
    guess = guess.lower()
    return guess if guess and _matches(_host_is(guess), text) else ""


@lru_cache(maxsize=256)
def _host_is(host: str) -> bytes:
    return Scope.on("a", "a").where("v", "==", host, accessor="host").encode()


def _matches(scope: bytes, text: str) -> bool:
    document = json.dumps({"v": text}).encode()
    return codec.matches(scope, b"a", b"a", document)[0]
