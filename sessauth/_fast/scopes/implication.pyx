# cython: boundscheck=True, wraparound=True
"""Implication and contradiction of conditions, over the wire dicts of message Condition.

Both relations quantify over all calls, and both are sound: ``implies`` is true only if proven, ``contradicts`` only if
no call can satisfy both. The kernel's own evaluation decides on constants, so that no operator has a second meaning.

"Child" is the condition of the lower block. A holder's block sees only the session facts marked
visible; with ``same_facts`` both sides see all (two ceilings of one session).
"""

import ipaddress
import json

from sessauth._fast.codec import protobuf as wire
from sessauth._fast.scopes import queries as _scope

__all__ = ["MAX_STEPS", "WorkExceeded", "WorkBudget", "argument", "contradicts", "found", "implies", "is_known"]

cdef enum:
    SESSION = 2

cdef enum:
    EQUAL = 1
    NOT_EQUAL = 2
    IN = 3
    NOT_IN = 4
    LESS = 5
    LESS_EQUAL = 6
    GREATER = 7
    GREATER_EQUAL = 8
    STARTS_WITH = 9
    GLOB = 10
    UNDER = 11
    CIDR = 12
    SUBSET_OF = 13
    PRESENT = 14
    ABSENT = 15

# One step is one pair of conditions, or one constant evaluated: a few microseconds.
MAX_STEPS = 65536


class WorkExceeded(Exception):
    """The comparison exceeded its work budget, so its verdict is: unknown."""


cdef class WorkBudget:
    """Counts the steps of one comparison."""

    cdef int left

    def __init__(self):
        self.left = MAX_STEPS

    cpdef spend(self, int steps):
        """Take ``steps``, or raise WorkExceeded."""
        self.left -= steps
        if self.left < 0:
            raise WorkExceeded


def is_known(condition):
    """Return True if operator, accessor and source are of this version."""
    source = (condition.get("path") or {}).get("source", 0)
    return 1 <= source <= 3 and 1 <= condition["operator"] <= 15 and 0 <= condition.get("accessor", 0) <= 4


def requires_value(condition):
    """Return True if the condition holds only with a value at its path."""
    return condition["operator"] != ABSENT and not condition.get("optional", False)


def argument(condition):
    """Return the path in the form of a position."""
    source, segments = _path(condition)
    return ("", "", "session.", "tool.")[source] + ".".join(segments)


def implies(child, parent, bint same_facts, WorkBudget work):
    """Return True if ``parent`` holds for every call for which ``child`` holds."""
    work.spend(1)
    source, child_path = _path(child)
    parent_source, parent_path = _path(parent)
    if source != parent_source:
        return False
    if source == SESSION and not same_facts and not requires_value(child):
        return False
    cdef int child_op = child["operator"]
    cdef int parent_op = parent["operator"]
    if parent_op == PRESENT:
        return requires_value(child) and child_path[: len(parent_path)] == parent_path
    if child_op == ABSENT:
        below = parent_path[: len(child_path)] == child_path
        return below and (parent_op == ABSENT or parent.get("optional", False))
    if child_op == PRESENT or parent_op == ABSENT or not _same_subject(child, parent):
        return False
    if child.get("optional", False) and not parent.get("optional", False):
        return False
    return _value_implies(child, parent, work)


def contradicts(child, parent, bint same_facts, WorkBudget work):
    """Return True if no call satisfies both."""
    work.spend(1)
    source, child_path = _path(child)
    parent_source, parent_path = _path(parent)
    if source != parent_source:
        return False
    cdef bint hidden = source == SESSION and not same_facts
    if child["operator"] == ABSENT:
        return not hidden and requires_value(parent) and parent_path[: len(child_path)] == child_path
    if parent["operator"] == ABSENT:
        return requires_value(child) and child_path[: len(parent_path)] == parent_path
    if PRESENT in (child["operator"], parent["operator"]) or not _same_subject(child, parent):
        return False
    # An empty list satisfies any two conditions on each of its elements.
    if child.get("each", False):
        return False
    # Without a value both may hold, and a holder's block may not see a value that the other sees.
    if not requires_value(child) and (hidden or not requires_value(parent)):
        return False
    return _value_contradicts(child, parent, work)


cdef _value_implies(child, parent, WorkBudget work):
    """Return True if every value that satisfies ``child`` satisfies ``parent``."""
    cdef int child_op = child["operator"]
    cdef int parent_op = parent["operator"]
    if child.get("fact") or parent.get("fact"):
        return child_op == parent_op and child.get("fact") == parent.get("fact")
    ours, theirs = _keys(child), _keys(parent)
    if child_op == parent_op and set(ours) == set(theirs):
        return True
    if parent_op in (NOT_EQUAL, NOT_IN):
        # The child excludes each of these values too, or they can't satisfy it.
        if _type(child) != _type(parent):
            return False
        if child_op in (NOT_EQUAL, NOT_IN):
            return set(theirs) <= set(ours)
        return not any(_holding(child, theirs, work))
    if child_op in (EQUAL, IN):
        return all(_holding(parent, ours, work))
    if child_op in (STARTS_WITH, UNDER) and parent_op == STARTS_WITH:
        return all(_holding(parent, ours, work))
    if child_op == UNDER and parent_op == UNDER:
        return all(_holding(parent, ours, work))
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


cdef _value_contradicts(child, parent, WorkBudget work):
    """Return True if no value satisfies both."""
    cdef int child_op = child["operator"]
    cdef int parent_op = parent["operator"]
    if child.get("fact") or parent.get("fact"):
        return False
    if _type(child) != _type(parent):
        return True
    ours, theirs = _keys(child), _keys(parent)
    if child_op in (EQUAL, IN):
        return not any(_holding(parent, ours, work))
    if parent_op in (EQUAL, IN):
        return not any(_holding(child, theirs, work))
    if child_op == parent_op == UNDER:
        return not any(_holding(parent, ours, work)) and not any(_holding(child, theirs, work))
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


cdef _bound_implies(tighter, wider, bint must_be_less):
    """Return True if one upper bound implies another. Exchange the arguments for lower bounds."""
    if tighter[0] != wider[0]:
        return False
    return tighter < wider or (tighter == wider and not must_be_less)


cdef _apart(upper, lower, bint both_include):
    """Return True if no value is between an upper and a lower bound."""
    return upper < lower or (upper == lower and not both_include)


cdef _path(condition):
    path = condition["path"]
    return path["source"], tuple(path["segments"])


cdef _same_subject(child, parent):
    if _path(child) != _path(parent):
        return False
    return all(child.get(part, 0) == parent.get(part, 0) for part in ("accessor", "each"))


cdef _keys(condition):
    """Return the operands as comparable tuples, type first; texts as bytes, numbers exact."""
    return [_key(value) for value in condition.get("values", ())]


cdef _key(value):
    if value.get("text") is not None:
        return ("text", value["text"].encode())
    if value.get("number") is not None:
        return ("number", value["number"].get("units", 0), value["number"].get("nanos", 0))
    return ("truth", bool(value["truth"]))


cdef _type(condition):
    """Return the type of all values that satisfy the condition."""
    return "list" if condition["operator"] == SUBSET_OF else _keys(condition)[0][0]


cdef _networks(keys):
    return [ipaddress.ip_network(key[1].decode()) for key in keys]


cdef _inside(a, b):
    return a.version == b.version and a.subnet_of(b)


cdef _holding(condition, keys, WorkBudget work):
    """Evaluate the condition's relation for each constant with the kernel."""
    work.spend(len(keys))
    predicate = {"path": {"source": 1, "segments": ["v"]}, "operator": condition["operator"]}
    predicate["values"] = condition["values"]
    scope = wire.encode(
        "Scope",
        {"actions": ["a"], "resource": [{"kind": 1, "texts": ["a"]}], "where": [predicate]},
    )
    return [_scope.matches(scope, b"a", b"a", b'{"v":%s}' % _json(key))[0] for key in keys]


cdef _json(key):
    if key[0] == "text":
        return json.dumps(key[1].decode()).encode()
    if key[0] == "truth":
        return b"true" if key[1] else b"false"
    total = key[1] * 10**9 + key[2]
    whole, rest = divmod(abs(total), 10**9)
    return b"%s%d.%09d" % (b"-" if total < 0 else b"", whole, rest)
