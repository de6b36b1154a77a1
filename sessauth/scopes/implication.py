"""Implication and contradiction of conditions, over the wire dicts of message Condition.

Both relations quantify over all calls, and both are sound: ``implies`` is true only if proven, and
``contradicts`` only if no call can satisfy both. The kernel's own evaluation decides on constants, so no
operator has a second meaning.

"Child" is the condition of the lower block. A holder's block sees only the session facts marked
visible; with ``same_facts`` both sides see all (two ceilings of one session).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from .constants import (
    Key,
    Place,
    Record,
    Segments,
    WorkBudget,
    all_constants,
    has_digest,
    holding,
    keys_of,
    no_constant,
    place,
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ARGS: Final = 1
SESSION: Final = 2
ELEMENTS: Final = 8
COUNT: Final = 1
EQUAL: Final = 1
NOT_EQUAL: Final = 2
IN: Final = 3
NOT_IN: Final = 4
LESS: Final = 5
LESS_EQUAL: Final = 6
GREATER: Final = 7
GREATER_EQUAL: Final = 8
STARTS_WITH: Final = 9
GLOB: Final = 10
UNDER: Final = 11
CIDR: Final = 12
SUBSET_OF: Final = 13
PRESENT: Final = 14
ABSENT: Final = 15


def is_known(condition: Record) -> bool:
    """Return True if operator, accessor and source are of this version."""
    source = (condition.get("path") or {}).get("source", 0)
    if not (1 <= source <= 3 or source == ELEMENTS):
        return False
    return bool(1 <= condition["operator"] <= 15 and 0 <= condition.get("accessor", 0) <= 4)


def requires_value(condition: Record) -> bool:
    """Return True if the condition holds only with a value at its path."""
    return bool(condition["operator"] != ABSENT and not condition.get("optional", False))


def argument(condition: Record) -> str:
    """Return the path in the form of a position."""
    source, segments = place(condition["path"])
    text = "".join(segments)
    return text.removeprefix(".") if source == ARGS else ("", "", "session", "tool")[source] + text


def implies(child: Record, parent: Record, same_facts: bool, work: WorkBudget) -> bool:
    """Return True if ``parent`` holds for every call for which ``child`` holds."""
    work.spend(1)
    source, child_path = _path(child)
    parent_source, parent_path = _path(parent)
    if source != parent_source:
        return False
    if source == SESSION and not same_facts and not requires_value(child):
        return False
    child_op = child["operator"]
    parent_op = parent["operator"]
    if parent_op == PRESENT:
        if child_path == parent_path and _may_be_null(child):
            return False
        return requires_value(child) and child_path[: len(parent_path)] == parent_path
    if child_op == ABSENT:
        below = parent_path[: len(child_path)] == child_path
        return below and (parent_op == ABSENT or parent.get("optional", False))
    if child.get("optional", False) and not (parent.get("optional", False) or parent_op == ABSENT):
        return False
    if all_constants(child, parent, work):
        return True
    if child_op == PRESENT or parent_op == ABSENT:
        return False
    if _of_elements(child, parent):
        # Facts that hold for each element of a list that is not empty.
        return _value_implies(child, {**parent, "operator": IN} if parent_op == SUBSET_OF else parent, work)
    return _same_subject(child, parent) and _value_implies(child, parent, work)


def contradicts(child: Record, parent: Record, same_facts: bool, work: WorkBudget) -> bool:
    """Return True if no call satisfies both."""
    work.spend(1)
    source, child_path = _path(child)
    parent_source, parent_path = _path(parent)
    if source != parent_source:
        return False
    hidden = source == SESSION and not same_facts
    if child["operator"] == ABSENT:
        return not hidden and requires_value(parent) and parent_path[: len(child_path)] == child_path
    if parent["operator"] == ABSENT:
        return requires_value(child) and child_path[: len(parent_path)] == parent_path
    if PRESENT in (child["operator"], parent["operator"]):
        return False
    # A condition that does not see the fact may hold by its `optional`.
    if not hidden and (_excludes(child, parent) or _excludes(parent, child)):
        return True
    if requires_value(child) or requires_value(parent):
        if no_constant(child, parent, work) or no_constant(parent, child, work):
            return True
    if not _same_subject(child, parent):
        return False
    # An empty list satisfies any two conditions on each of its elements.
    if child.get("each", False):
        return False
    # Without a value both may hold, and a holder's block may not see a value that the other sees.
    if not requires_value(child) and (hidden or not requires_value(parent)):
        return False
    return _value_contradicts(child, parent, work)


def _value_implies(child: Record, parent: Record, work: WorkBudget) -> bool:
    """Return True if every value that satisfies ``child`` satisfies ``parent``."""
    child_op = child["operator"]
    parent_op = parent["operator"]
    if child.get("fact") or parent.get("fact"):
        return child_op == parent_op and child.get("fact") == parent.get("fact")
    ours, theirs = keys_of(child), keys_of(parent)
    if child_op == parent_op and set(ours) == set(theirs):
        return True
    of_json = _is_json(child) or _is_json(parent)
    if parent_op in (NOT_EQUAL, NOT_IN):
        # The child excludes each of these values too, or they can't satisfy it.
        if child_op in (NOT_EQUAL, NOT_IN):
            return _type(child) == _type(parent) and set(theirs) <= set(ours)
        if child_op in (EQUAL, IN):
            return not has_digest(ours) and all(holding(parent, ours, work))
        # A list may have no form, and then it is not unequal to anything.
        if _is_json(child) or (_is_json(parent) and (child_op == SUBSET_OF or has_digest(theirs))):
            return False
        if not of_json and _type(child) != _type(parent):
            return False
        return not any(holding(child, theirs, work))
    if child_op in (EQUAL, IN):
        if has_digest(ours):
            return parent_op in (EQUAL, IN) and set(ours) <= set(theirs)
        return all(holding(parent, ours, work))
    if of_json and not (child_op == parent_op == SUBSET_OF):
        return False
    if child_op in (STARTS_WITH, UNDER) and parent_op == STARTS_WITH:
        return all(holding(parent, ours, work))
    if child_op == UNDER and parent_op == UNDER:
        return all(holding(parent, ours, work))
    if child_op == parent_op and child_op in (GLOB, SUBSET_OF):
        return set(ours) <= set(theirs)
    if child_op == parent_op == CIDR:
        nets = _networks(theirs)
        return all(any(_inside(a, b) for b in nets) for a in _networks(ours))
    if child_op in (LESS, LESS_EQUAL) and parent_op in (LESS, LESS_EQUAL):
        return _bound_implies(ours[0], theirs[0], child_op == LESS_EQUAL and parent_op == LESS)
    if child_op in (GREATER, GREATER_EQUAL) and parent_op in (GREATER, GREATER_EQUAL):
        return _bound_implies(theirs[0], ours[0], child_op == GREATER_EQUAL and parent_op == GREATER)
    return False


def _value_contradicts(child: Record, parent: Record, work: WorkBudget) -> bool:
    """Return True if no value satisfies both."""
    child_op = child["operator"]
    parent_op = parent["operator"]
    if child.get("fact") or parent.get("fact"):
        return False
    of_json = _is_json(child) or _is_json(parent)
    if not of_json and _type(child) != _type(parent):
        return True
    ours, theirs = keys_of(child), keys_of(parent)
    if child_op in (EQUAL, IN) and not has_digest(ours):
        return not any(holding(parent, ours, work))
    if parent_op in (EQUAL, IN) and not has_digest(theirs):
        return not any(holding(child, theirs, work))
    if of_json:
        return False
    if child_op == parent_op == UNDER:
        return not any(holding(parent, ours, work)) and not any(holding(child, theirs, work))
    if child_op in (STARTS_WITH, UNDER) and parent_op in (STARTS_WITH, UNDER):
        work.spend(len(ours) * len(theirs))
        return not any(a[1].startswith(b[1]) or b[1].startswith(a[1]) for a in ours for b in theirs)
    if child_op == parent_op == CIDR:
        nets = _networks(theirs)
        return not any(_inside(a, b) or _inside(b, a) for a in _networks(ours) for b in nets)
    if child_op in (LESS, LESS_EQUAL) and parent_op in (GREATER, GREATER_EQUAL):
        return _apart(ours[0], theirs[0], child_op == LESS_EQUAL and parent_op == GREATER_EQUAL)
    if child_op in (GREATER, GREATER_EQUAL) and parent_op in (LESS, LESS_EQUAL):
        return _apart(theirs[0], ours[0], child_op == GREATER_EQUAL and parent_op == LESS_EQUAL)
    return False


def _bound_implies(tighter: Key, wider: Key, must_be_less: bool) -> bool:
    """Return True if one upper bound implies another. Exchange the arguments for lower bounds."""
    if tighter[0] != wider[0]:
        return False
    return tighter < wider or (tighter == wider and not must_be_less)


def _apart(upper: Key, lower: Key, both_include: bool) -> bool:
    """Return True if no value is between an upper and a lower bound."""
    return upper < lower or (upper == lower and not both_include)


def _path(condition: Record) -> Place:
    return place(condition["path"])


def _excludes(scalar: Record, other: Record) -> bool:
    """Return True if one condition requires a scalar where the other requires a list, or a value below it."""
    if not _is_scalar(scalar):
        return False
    path, below = _path(scalar)[1], _path(other)[1]
    if requires_value(other) and len(below) > len(path) and below[: len(path)] == path:
        return True
    return path in _lists(other)


def _lists(condition: Record) -> list[Segments]:
    """Return the paths at which any value must be a list, optional or not."""
    source, path = _path(condition)
    above = [path[:n] for n in range(len(path)) if path[n] == "[]"] if source == ARGS else []
    of_list = (
        condition.get("each", False)
        or condition["operator"] == SUBSET_OF
        or condition.get("accessor", 0) == COUNT
    )
    return [*above, path] if of_list else above


def _is_scalar(condition: Record) -> bool:
    """Return True if the condition requires a text, a number or a truth at its path."""
    if not requires_value(condition) or condition["operator"] > CIDR or condition.get("each", False):
        return False
    return condition.get("accessor", 0) != COUNT and not _is_json(condition)


def _same_subject(child: Record, parent: Record) -> bool:
    if _path(child) != _path(parent):
        return False
    return all(child.get(part, 0) == parent.get(part, 0) for part in ("accessor", "each"))


def _of_elements(child: Record, parent: Record) -> bool:
    """Return True if the child is of all elements of a list, the parent of it by `each` or `subset_of`."""
    if child.get("each", False) or not (parent.get("each", False) or parent["operator"] == SUBSET_OF):
        return False
    # `each` needs its fact for an empty list too, with which the child holds by its `optional`.
    if parent.get("fact") and not requires_value(child):
        return False
    source, path = _path(parent)
    return _path(child) == (source, (*path, "[]")) and child.get("accessor", 0) == parent.get("accessor", 0)


def _is_json(condition: Record) -> bool:
    return any(key[0] in ("json", "digest") for key in keys_of(condition))


def _may_be_null(condition: Record) -> bool:
    """Return True if null may satisfy a condition that requires a value."""
    if not _is_json(condition):
        return False
    return condition["operator"] not in (EQUAL, IN) or any(
        key == ("json", "null") or key[0] == "digest" for key in keys_of(condition)
    )


def _type(condition: Record) -> str:
    """Return the type of all values that satisfy the condition; of JSON values nothing is known."""
    return (
        "list" if condition["operator"] == SUBSET_OF else keys_of(condition)[0][0].replace("digest", "json")
    )


def _networks(keys: Sequence[Key]) -> list[Network]:
    return [ipaddress.ip_network(key[1].decode()) for key in keys]


def _inside(a: Network, b: Network) -> bool:
    return a.version == b.version and a.subnet_of(b)  # type: ignore[arg-type]
