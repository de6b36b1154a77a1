"""Encodes scopes and conditions, and has the kernel judge their form."""

from __future__ import annotations

from collections.abc import Mapping

from .._fast.codec import protobuf
from .._fast.scopes import queries as _kernel
from ..errors import ScopeError

Record = Mapping[str, object]
"""A message as the kernel's codec takes it."""


def checked_condition(record: Record) -> bytes:
    """Return the canonical bytes of message ``Condition``.

    Raises:
        ScopeError: if it is against the format.
    """
    try:
        data = protobuf.encode("Condition", record)
        _kernel.check_condition(data)
    except (ValueError, TypeError, OverflowError) as error:
        raise ScopeError(f"a condition against the format: {error}") from None
    return data


def checked_scope(record: Record) -> bytes:
    """Return the canonical bytes of message ``Scope``.

    Raises:
        ScopeError: if it is against the format.
    """
    try:
        data = protobuf.encode("Scope", record)
        _kernel.check_scope(data)
    except (ValueError, TypeError, OverflowError) as error:
        raise ScopeError(f"a scope against the format: {error}") from None
    return data
