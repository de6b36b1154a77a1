from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_Record = Mapping[str, Any]

def compare(
    parent: Sequence[_Record] | None,
    child: Sequence[_Record] | None,
    *,
    parent_where: Iterable[_Record] = ...,
    child_where: Iterable[_Record] = ...,
    same_facts: bool = False,
) -> list[tuple[int, str]]: ...
def contains(
    parent: Sequence[_Record] | None,
    child: Sequence[_Record] | None,
    *,
    parent_where: Iterable[_Record] = ...,
    child_where: Iterable[_Record] = ...,
    same_facts: bool = False,
    same_session: bool = True,
) -> tuple[int, str]: ...
def overlaps(a: _Record, b: _Record, *, same_facts: bool = True) -> bool: ...
