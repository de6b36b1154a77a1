"""Reads the plain values that a verifier tells: whatever is not as expected is refused, with no guess."""

from __future__ import annotations

from ..errors import UsageError
from ..limits import MAX_TIME_MS


def fields(data: object, *names: str) -> dict[str, object]:
    """Return a dict that has exactly these names.

    Raises:
        UsageError: for anything else.
    """
    if not isinstance(data, dict) or set(data) != set(names):
        raise UsageError(f"a usage record: expected exactly the members {', '.join(names)}")
    return data


def items(data: object, most: int, *, exactly: bool = False) -> list[object]:
    """Return a list of at most ``most`` elements.

    Raises:
        UsageError: for anything else, or for fewer with ``exactly``.
    """
    if not isinstance(data, list) or len(data) > most or (exactly and len(data) < most):
        raise UsageError(f"a usage record: expected a list of {'' if exactly else 'at most '}{most}")
    return data


def count(data: object) -> int:
    """Return a number of things, or a time in ms.

    Raises:
        UsageError: for anything else.
    """
    if not isinstance(data, int) or isinstance(data, bool) or not 0 <= data <= MAX_TIME_MS:
        raise UsageError("a usage record: expected a count or a time in ms")
    return data


def truth(data: object) -> bool:
    """Return a truth.

    Raises:
        UsageError: for anything else.
    """
    if not isinstance(data, bool):
        raise UsageError("a usage record: expected true or false")
    return data


def text(data: object, most_bytes: int) -> str:
    """Return a text of at most so many bytes.

    Raises:
        UsageError: for anything else.
    """
    try:
        if isinstance(data, str) and len(data.encode()) <= most_bytes:
            return data
    except UnicodeEncodeError:
        pass
    raise UsageError(f"a usage record: expected a text of at most {most_bytes} bytes of UTF-8")
