from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

def compare(
    parent: Sequence[Record] | None,
    child: Sequence[Record] | None,
    *,
    parent_where: Iterable[Record] = ...,
    child_where: Iterable[Record] = ...,
    same_facts: bool = False,
) -> list[tuple[int, str]]: ...
def contains(
    parent: Sequence[Record] | None,
    child: Sequence[Record] | None,
    *,
    parent_where: Iterable[Record] = ...,
    child_where: Iterable[Record] = ...,
    same_facts: bool = False,
    same_session: bool = True,
) -> tuple[int, str]: ...
def overlaps(a: Record, b: Record, *, same_facts: bool = True) -> bool: ...
