from collections.abc import Mapping, Sequence
from typing import Any

class FormError(ValueError):
    reason: int
    detail: str
    def __init__(self, reason: int, detail: str) -> None: ...

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
