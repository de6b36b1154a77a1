from collections.abc import Collection, Mapping, Sequence
from typing import Any

__all__ = [
    "MAX_STEPS",
    "WorkBudget",
    "WorkExceeded",
    "all_constants",
    "covers_constants",
    "has_digest",
    "holding",
    "keys_of",
    "no_constant",
    "place",
]

_Condition = Mapping[str, Any]

MAX_STEPS: int

class WorkExceeded(Exception): ...

class WorkBudget:
    def __init__(self) -> None: ...
    def spend(self, steps: int) -> None: ...

def place(path: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]: ...
def all_constants(child: _Condition, parent: _Condition, work: WorkBudget) -> bool: ...
def no_constant(one: _Condition, other: _Condition, work: WorkBudget) -> bool: ...
def covers_constants(
    condition: _Condition, mentioned: Collection[tuple[str, ...]], work: WorkBudget
) -> bool: ...
def keys_of(condition: _Condition) -> list[tuple[Any, ...]]: ...
def has_digest(keys: Sequence[tuple[Any, ...]]) -> bool: ...
def holding(condition: _Condition, keys: Sequence[tuple[Any, ...]], work: WorkBudget) -> list[bool]: ...
