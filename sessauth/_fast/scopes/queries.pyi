from collections.abc import Mapping, Sequence
from typing import Any

from sessauth._fast.codec.errors import FormError as FormError

__all__ = ["FormError", "check_condition", "check_scope", "has_unknown_kind", "matches"]

def check_condition(condition: bytes) -> None: ...
def check_scope(scope: bytes) -> None: ...
def has_unknown_kind(scope: bytes) -> bool: ...
def matches(
    scope: bytes,
    action: bytes,
    resource: bytes,
    arguments: bytes = b"",
    *,
    facts: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[bool, int, str]: ...
