"""The encoding of scopes and conditions, whose form the kernel checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._fast import _check as kernel
from .._fast import _codec as codec
from ..errors import ScopeError


def checked_condition(record: Mapping[str, object]) -> bytes:
    """Return the canonical bytes of message ``Condition``.

    Raises:
        ScopeError: if it is against the format.
    """
    return _checked("Condition", record, codec.check_condition)


def checked_scope(record: Mapping[str, object]) -> bytes:
    """Return the canonical bytes of message ``Scope``.

    Raises:
        ScopeError: if it is against the format.
    """
    return _checked("Scope", record, codec.check_scope)


def _checked(message: str, record: Mapping[str, object], check: Callable[[bytes], object]) -> bytes:
    try:
        data = kernel.encode_message(message, record)
        check(data)
    except (ValueError, TypeError, OverflowError) as error:
        raise ScopeError(f"a {message.lower()} against the format: {error}") from None
    return data
