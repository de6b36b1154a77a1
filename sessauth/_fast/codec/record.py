"""The base of dataclasses that mirror a protobuf message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

from sessauth._fast._check import decode_message, encode_message


class Record:
    """A dataclass with slots whose fields are those of one message, by name.

    Enums, tuples and other records among the fields are numbers, lists and dicts in the message.
    """

    __slots__: tuple[str, ...] = ()

    message: ClassVar[str] = ""
    """The name of the message; empty: the name of the class."""

    encodes_by_field: ClassVar[bool] = True
    """True if the fields are encoded as they are; False if ``to_record`` gives others."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Note whether the class has a ``to_record`` of its own."""
        super().__init_subclass__(**kwargs)
        cls.encodes_by_field = cls.to_record is Record.to_record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read the dict of the message; raises ValueError for an enum's unknown number."""
        return cls(**cls.read_fields(record))

    @classmethod
    def read_fields(cls, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the class that the dict of the message stands for."""
        values = dict(record)
        for name, convert in _converters(cls):
            if name in values:
                values[name] = convert(values[name])
        return values

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read an encoded message; raises ``WireError`` if it is not canonical, else ValueError."""
        return cls.from_record(decode_message(cls.message or cls.__name__, data))

    def to_record(self) -> dict[str, object]:
        """Return the dict of the message."""
        record = {name: getattr(self, name) for name in self.__slots__}
        for name, value in record.items():
            if type(value) not in _SCALARS:
                record[name] = _plain(value)
        return record

    def encode(self) -> bytes:
        """Return the canonical bytes; raises ``WireError`` for a value out of range."""
        return encode_message(self.message or type(self).__name__, self)


_SCALARS = frozenset({bytes, str, int, bool, type(None)})


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Record):
        return value.to_record()
    return int(value) if isinstance(value, IntEnum) else value


_Converters = tuple[tuple[str, Callable[[Any], Any]], ...]
_CACHE: dict[type[Record], _Converters] = {}


def _converters(cls: type[Record]) -> _Converters:
    """Return the fields that the message states otherwise, each with the function that reads it."""
    if cls not in _CACHE:
        hints = get_type_hints(cls)
        found = ((name, _converter(hints[name])) for name in cls.__slots__)
        _CACHE[cls] = tuple((name, convert) for name, convert in found if convert is not None)
    return _CACHE[cls]


def _converter(kind: Any) -> Callable[[Any], Any] | None:
    if get_origin(kind) is tuple:
        item = _converter(get_args(kind)[0])
        return tuple if item is None else lambda values: tuple(map(item, values))
    if not isinstance(kind, type):
        return None
    if issubclass(kind, Record):
        return kind.from_record
    return kind if issubclass(kind, IntEnum) else None
