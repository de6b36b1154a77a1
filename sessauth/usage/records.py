"""Usage records: their limits, and the JSON form of their fields.

Verifiers make usage records and the control process adds them up, so both use these limits. A
:class:`~sessauth.usage.session_usage.SessionUsage` at all its limits takes about 2 MB; a session of some
dozen tools takes a few KB. Contents beyond a limit are dropped by value and never by time, so parts merge in
any order.

Dataclasses of :class:`PlainFields` are written as dicts and read back strictly. Verifiers report these
values, so anything unexpected raises UsageError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Generic, Self, TypeVar, get_type_hints

from ..errors import UsageError
from ..limits import MAX_TIME_MS

# Distinct values of one argument, and their bytes together; beyond them only range and prefix are known.
MAX_VALUES: Final = 32
MAX_VALUES_BYTES: Final = 1024
MAX_PREFIX_BYTES: Final = 128
# Hosts are stored beside URLs: there are many URLs and few hosts.
MAX_HOSTS: Final = 8

# Argument paths of one kind of call, the outermost first.
MAX_PATHS: Final = 24
# JSON values of one call that are read inside lists of objects; a list beyond it is not entered.
MAX_ELEMENT_VALUES: Final = 512

# Separate resources of one action; call groups in all; actions in all once resources are joined.
MAX_RESOURCES: Final = 32
MAX_KINDS: Final = 128
MAX_GROUPS: Final = 64

# Rows of the tables: (action, resource), scopes, tokens, calls that were denied.
MAX_ROWS: Final = 128
MAX_POSITIONS: Final = 256
MAX_TOKENS: Final = 64
MAX_DENIED_ROWS: Final = 64
MAX_DENIED_REASONS: Final = 64
# Calls that a ceiling in observe mode would have refused.
MAX_OBSERVED_ROWS: Final = 64
# The longest name of an argument there; in UTF-8 it has at most four times as many bytes.
MAX_OBSERVED_CHARS: Final = 256
# Lists of scopes that tokens were minted with.
MAX_MINTED_LAYERS: Final = 16


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """The JSON form of a field: ``write`` returns a plain value, ``read`` reads one or raises UsageError."""

    write: Callable[[T], object]
    read: Callable[[object], T]


class PlainFields:
    """A base of dataclasses whose fields are all of types ``Annotated[type, Form(…)]``."""

    __slots__ = ()
    _forms: ClassVar[dict[str, Form[Any]]]

    def __init_subclass__(cls) -> None:
        """Collect the forms."""
        hints = get_type_hints(cls, include_extras=True)
        cls._forms = {name: hints[name].__metadata__[0] for name in cls.__annotations__}

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {name: form.write(getattr(self, name)) for name, form in self._forms.items()}

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Read the values of :meth:`to_dict`; raises UsageError for anything else."""
        plain = fields(data, *cls._forms)
        value = cls(**{name: form.read(plain[name]) for name, form in cls._forms.items()})
        value._validate()
        return value

    def _validate(self) -> None:
        """Check values against each other after reading. Raises UsageError."""


def fields(data: object, *names: str) -> dict[str, object]:
    """Return a dict that has exactly these names. Raises UsageError for anything else."""
    if not isinstance(data, dict) or set(data) != set(names):
        raise UsageError(f"a usage record: expected exactly the members {', '.join(names)}")
    return data


def items(data: object, most: int, *, exactly: bool = False) -> list[object]:
    """Return a list of at most ``most`` elements, or of just as many. Raises UsageError for anything else."""
    if not isinstance(data, list) or len(data) > most or (exactly and len(data) < most):
        raise UsageError(f"a usage record: expected a list of {'' if exactly else 'at most '}{most}")
    return data


def count(data: object) -> int:
    """Return a number of things, or a time in ms. Raises UsageError for anything else."""
    if not isinstance(data, int) or isinstance(data, bool) or not 0 <= data <= MAX_TIME_MS:
        raise UsageError("a usage record: expected a count or a time in ms")
    return data


def truth(data: object) -> bool:
    """Return a truth. Raises UsageError for anything else."""
    if not isinstance(data, bool):
        raise UsageError("a usage record: expected true or false")
    return data


def text(data: object, most_bytes: int) -> str:
    """Return a text of at most so many bytes. Raises UsageError for anything else."""
    try:
        if isinstance(data, str) and len(data.encode()) <= most_bytes:
            return data
    except UnicodeEncodeError:
        pass
    raise UsageError(f"a usage record: expected a text of at most {most_bytes} bytes of UTF-8")


def optional(write: Callable[[T], object], read: Callable[[object], T]) -> Form[T | None]:
    """Return the form of a value that may be None."""
    return Form(
        lambda value: None if value is None else write(value),
        lambda data: None if data is None else read(data),
    )


def _same(value: T) -> T:
    return value


Count = Annotated[int, Form(_same, count)]
Truth = Annotated[bool, Form(_same, truth)]
