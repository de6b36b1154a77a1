"""Implication and contradiction of conditions, over the wire dicts of message Condition.

Both relations quantify over all calls, and both are sound: ``implies`` is true only if proven, and
``contradicts`` only if no call can satisfy both. The values that an equality permits are compared by the
kernel's own evaluation, so that no operator gets a second meaning here.

"Child" is the condition of the lower block. A holder's block sees only the session facts marked visible; with
``same_facts`` both sides see all (two ceilings of one session).
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from .._fast._check import encode_message
from .._fast._codec import matches
from .parts import ACCESSORS, WORDS

# A message of a scope as a dict, a path by its names, a path with its source, an operand with its type.
Record = Mapping[str, Any]
Segments = tuple[str, ...]
Place = tuple[int, Segments]
Key = tuple[str, Any]

ARGS: Final = 1
ELEMENTS: Final = 8
EQUAL: Final = 1
IN: Final = 3

_ACCESSORS: Final = frozenset((0, *ACCESSORS))

# A scope for constants.
_READ: Final = {"actions": ["a"], "resource": [{"kind": 1, "texts": ["a"]}]}

# One step is one pair of conditions, or one constant evaluated: a few microseconds.
MAX_STEPS: Final = 65536


class WorkExceeded(Exception):
    """The comparison exceeded its work budget, so its verdict is: unknown."""


class WorkBudget:
    """Counts the steps of one comparison."""

    def __init__(self) -> None:
        self.left = MAX_STEPS

    def spend(self, steps: int) -> None:
        """Take ``steps``, or raise WorkExceeded."""
        self.left -= steps
        if self.left < 0:
            raise WorkExceeded


def place(path: Record) -> Place:
    """Return the source of a path, and its segments in the form of ELEMENTS, so that all paths compare."""
    source, segments = path["source"], path["segments"]
    if source == ELEMENTS:
        return ARGS, tuple(segments)
    return source, tuple(["." + name for name in segments])


def _constants(condition: Record) -> list[bytes] | None:
    """Return the JSON texts of all values that satisfy a condition at its path; None: they are not known."""
    if (
        condition["operator"] not in (EQUAL, IN)
        or condition.get("fact")
        or place(condition["path"])[0] != ARGS
    ):
        return None
    if condition.get("accessor", 0) or _of_several(condition):
        return None
    keys = keys_of(condition)
    return None if has_digest(keys) else [_json(key) for key in keys]


def _below(constant: Record, condition: Record) -> dict[str, Any] | None:
    """Return the predicate on ``v`` that a condition is for a value ``v`` at the path of another; or None."""
    path, of = place(constant["path"])[1], place(condition["path"])
    if of[0] != ARGS or of[1][: len(path)] != path or condition.get("fact"):
        return None
    segments = (".v", *of[1][len(path) :])
    if "[]" in segments:
        return {**condition, "path": {"source": ELEMENTS, "segments": list(segments)}}
    # The empty name is in no path of ARGS.
    names = [segment[1:] for segment in segments]
    # The lists of an ELEMENTS path are above the value, so there is one place in it.
    some = condition.get("any", False) and condition["path"]["source"] != ELEMENTS
    return {**condition, "any": some, "path": {"source": ARGS, "segments": names}} if all(names) else None


def all_constants(child: Record, parent: Record, work: WorkBudget) -> bool:
    """Return True if the parent holds for each constant that the child permits at its path."""
    constants = _constants(child)
    if constants is None:
        return False
    predicate = _below(child, parent)
    return predicate is not None and all(_evaluated(predicate, constants, work))


def no_constant(one: Record, other: Record, work: WorkBudget) -> bool:
    """Return True if ``other`` holds for no constant that ``one`` permits at its path, which leads there."""
    constants = _constants(one)
    if constants is None:
        return False
    predicate = _below(one, other)
    return predicate is not None and not any(_evaluated(predicate, constants, work))


def _evaluated(predicate: Record, constants: Sequence[bytes], work: WorkBudget) -> list[bool]:
    """Evaluate a predicate on ``v`` for each JSON text with the kernel. Unknown counts as neither."""
    work.spend(len(constants))
    scope = encode_message("Scope", {**_READ, "where": [predicate], "free_all": True})
    return [matches(scope, b"a", b"a", b'{"v":%s}' % text)[0] for text in constants]


def covers_constants(condition: Record, mentioned: Collection[Segments], work: WorkBudget) -> bool:
    """Return True if paths mention all below each constant that a condition permits at its path.

    ``mentioned`` has the places (:func:`place`) of a closed scope's paths.
    """
    constants = _constants(condition)
    if constants is None or not 0 < len(mentioned) <= 64:
        return False
    work.spend(len(constants))
    free = [{"source": ELEMENTS if "[]" in path else ARGS, "segments": _names(path)} for path in mentioned]
    scope = encode_message("Scope", {**_READ, "free": free})
    for text in constants:
        for segment in reversed(place(condition["path"])[1]):
            text = (
                b"[%s]" % text if segment == "[]" else b"{%s:%s}" % (json.dumps(segment[1:]).encode(), text)
            )
        if not matches(scope, b"a", b"a", text)[0]:
            return False
    return True


def _names(path: Segments) -> list[str]:
    return list(path) if "[]" in path else [segment[1:] for segment in path]


def keys_of(condition: Record) -> list[Key]:
    """Return the operands as comparable tuples, type first; texts as bytes, numbers exact."""
    return [_key(value) for value in condition.get("values", ())]


def _key(value: Record) -> Key:
    if value.get("text") is not None:
        return ("text", value["text"].encode())
    if value.get("number") is not None:
        billionths = value["number"].get("units", 0) * 10**9 + value["number"].get("nanos", 0)
        # The constructor is exact in any context.
        return ("number", Decimal(f"{billionths}e-9"))
    if value.get("decimal") is not None:
        return ("number", Decimal(value["decimal"]))
    if value.get("json") is not None:
        return ("json", value["json"])
    if value.get("digest") is not None:
        return ("digest", value["digest"])
    return ("truth", bool(value["truth"]))


def has_digest(keys: Sequence[Key]) -> bool:
    """Return True if one of the operands is known by its digest alone."""
    return any(key[0] == "digest" for key in keys)


def holding(condition: Record, keys: Sequence[Key], work: WorkBudget) -> list[bool]:
    """Evaluate the condition's relation for each constant with the kernel."""
    work.spend(len(keys))
    predicate = {"path": {"source": ARGS, "segments": ["v"]}, "operator": condition["operator"]}
    predicate["values"] = condition["values"]
    scope = encode_message("Scope", {**_READ, "where": [predicate]})
    return [matches(scope, b"a", b"a", b'{"v":%s}' % _json(key))[0] for key in keys]


def _json(key: Key) -> bytes:
    if key[0] == "text":
        return json.dumps(key[1].decode()).encode()
    if key[0] == "truth":
        return b"true" if key[1] else b"false"
    return key[1].encode() if key[0] == "json" else str(key[1]).encode()


Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SESSION: Final = 2
COUNT: Final = 1
NOT_EQUAL: Final = 2
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
NOT_STARTS_WITH: Final = 19
NOT_GLOB: Final = 20
NOT_UNDER: Final = 21
NOT_CIDR: Final = 22


def is_known(condition: Record) -> bool:
    """Return True if operator, accessor and source are of this version."""
    source = (condition.get("path") or {}).get("source", 0)
    if not (1 <= source <= 3 or source == ELEMENTS):
        return False
    return condition["operator"] in WORDS and condition.get("accessor", 0) in _ACCESSORS


def requires_value(condition: Record) -> bool:
    """Return True if the condition holds only with a value at its path."""
    return bool(condition["operator"] != ABSENT and not condition.get("optional", False))


def argument(condition: Record) -> str:
    """Return the path in the form of a position."""
    source, segments = place(condition["path"])
    text = "".join(segments)
    return text.removeprefix(".") if source == ARGS else ("", "", "session", "tool")[source] + text


def related(one: Place, other: Place) -> bool:
    """Return True if one path leads to the other or is it. Else no condition says a thing of the other's."""
    shorter = min(len(one[1]), len(other[1]))
    return one[0] == other[0] and one[1][:shorter] == other[1][:shorter]


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
        if child.get("any", False):
            # It holds at one place, and above its lists.
            child_path = _lists(child)[0]
        if child_path == parent_path and _may_be_null(child):
            return False
        return requires_value(child) and child_path[: len(parent_path)] == parent_path
    if child_op == ABSENT:
        below = parent_path[: len(child_path)] == child_path
        return below and (parent_op == ABSENT or parent.get("optional", False))
    if child.get("optional", False) and not (parent.get("optional", False) or parent_op == ABSENT):
        return False
    if child == parent or all_constants(child, parent, work):
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
    if PRESENT in (child["operator"], parent["operator"]) or child == parent:
        return False
    # A condition that does not see the fact may hold by its `optional`.
    if not hidden and (_excludes(child, parent) or _excludes(parent, child)):
        return True
    if requires_value(child) or requires_value(parent):
        if no_constant(child, parent, work) or no_constant(parent, child, work):
            return True
    if not _same_subject(child, parent):
        return False
    # An empty list satisfies any two conditions on each of its elements, and two elements any two on some.
    if _of_several(child):
        return False
    # Without a value both may hold, and a holder's block may not see a value that the other sees.
    if not requires_value(child) and (hidden or not requires_value(parent)):
        return False
    return _value_contradicts(child, parent, work)


_NEGATIONS: Final = {
    **{EQUAL: NOT_EQUAL, NOT_EQUAL: EQUAL, IN: NOT_IN, NOT_IN: IN, SUBSET_OF: NOT_IN},
    **{LESS: GREATER_EQUAL, LESS_EQUAL: GREATER, GREATER: LESS_EQUAL, GREATER_EQUAL: LESS},
    **{STARTS_WITH: NOT_STARTS_WITH, GLOB: NOT_GLOB, UNDER: NOT_UNDER, CIDR: NOT_CIDR},
    **{NOT_STARTS_WITH: STARTS_WITH, NOT_GLOB: GLOB, NOT_UNDER: UNDER, NOT_CIDR: CIDR},
    **{PRESENT: ABSENT, ABSENT: PRESENT},
}


def negated(condition: Record) -> dict[str, Any]:
    """Return the condition that holds where another is known to fail (docs/token-format.md, section 5.1)."""
    of_places = condition["path"]["source"] == ELEMENTS
    op, each, some = condition["operator"], condition.get("each", False), condition.get("any", False)
    if op in (PRESENT, ABSENT):
        # Of lists this asks for more: all places, where one would do.
        return {**condition, "operator": _NEGATIONS[op]}
    return {
        **condition,
        "operator": _NEGATIONS[op],
        "each": some and not of_places,
        "any": not some and (each or of_places or op == SUBSET_OF),
        "optional": not condition.get("optional", False),
    }


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
    if parent_op in (NOT_STARTS_WITH, NOT_GLOB, NOT_UNDER, NOT_CIDR):
        return _stays_outside(child, parent, work)
    if of_json and not (child_op == parent_op == SUBSET_OF):
        return False
    if child_op in (STARTS_WITH, UNDER) and parent_op == STARTS_WITH:
        return all(holding(parent, ours, work))
    if child_op == UNDER and parent_op == UNDER:
        return all(holding(parent, ours, work))
    if child_op == parent_op and child_op in (GLOB, SUBSET_OF):
        return set(ours) <= set(theirs)
    if child_op == parent_op == CIDR:
        return _all_inside(ours, theirs)
    if child_op in (LESS, LESS_EQUAL) and parent_op in (LESS, LESS_EQUAL):
        return _bound_implies(ours[0], theirs[0], child_op == LESS_EQUAL and parent_op == LESS)
    if child_op in (GREATER, GREATER_EQUAL) and parent_op in (GREATER, GREATER_EQUAL):
        return _bound_implies(theirs[0], ours[0], child_op == GREATER_EQUAL and parent_op == GREATER)
    return False


def _stays_outside(child: Record, parent: Record, work: WorkBudget) -> bool:
    """Return True if every text of the child is outside all operands of the parent, which excludes them."""
    ours, theirs = keys_of(child), keys_of(parent)
    child_op, parent_op = child["operator"], parent["operator"]
    if parent_op == NOT_GLOB:
        return child_op == NOT_GLOB and set(theirs) <= set(ours)
    if parent_op == NOT_STARTS_WITH:
        if child_op == NOT_STARTS_WITH:
            return all(holding({**child, "operator": STARTS_WITH}, theirs, work))
        begins = child_op in (STARTS_WITH, UNDER)
        return begins and _value_contradicts(child, {**parent, "operator": STARTS_WITH}, work)
    if parent_op == NOT_CIDR:
        if child_op == NOT_CIDR:
            return _all_inside(theirs, ours)
        return child_op == CIDR and _none_shared(ours, theirs)
    if child_op == NOT_UNDER:
        return all(holding({**child, "operator": UNDER}, theirs, work))
    return child_op == UNDER and _value_contradicts(child, {**parent, "operator": UNDER}, work)


def _is_excluded(inner: Record, exclusion: Record, work: WorkBudget) -> bool:
    """Return True if an exclusion excludes all texts that satisfy the other condition."""
    if (inner["operator"], exclusion["operator"]) == (UNDER, NOT_UNDER):
        return all(holding({**exclusion, "operator": UNDER}, keys_of(inner), work))
    if (inner["operator"], exclusion["operator"]) == (CIDR, NOT_CIDR):
        return _all_inside(keys_of(inner), keys_of(exclusion))
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
    if child_op in (NOT_UNDER, NOT_CIDR):
        return _is_excluded(parent, child, work)
    if parent_op in (NOT_UNDER, NOT_CIDR):
        return _is_excluded(child, parent, work)
    if child_op in (STARTS_WITH, UNDER) and parent_op in (STARTS_WITH, UNDER):
        work.spend(len(ours) * len(theirs))
        return not any(a[1].startswith(b[1]) or b[1].startswith(a[1]) for a in ours for b in theirs)
    if child_op == parent_op == CIDR:
        return _none_shared(ours, theirs)
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
        or (condition.get("any", False) and not above)
        or condition["operator"] == SUBSET_OF
        or condition.get("accessor", 0) == COUNT
    )
    return [*above, path] if of_list else above


def _is_scalar(condition: Record) -> bool:
    """Return True if the condition requires a text, a number or a truth at its path."""
    if not requires_value(condition) or CIDR < condition["operator"] <= ABSENT or _of_several(condition):
        return False
    return condition.get("accessor", 0) != COUNT and not _is_json(condition)


def _same_subject(child: Record, parent: Record) -> bool:
    if _path(child) != _path(parent):
        return False
    return _subject(child) == _subject(parent)


def _subject(condition: Record) -> tuple[int, bool, bool]:
    return condition.get("accessor", 0), condition.get("each", False), condition.get("any", False)


def _of_several(condition: Record) -> Any:
    return condition.get("each", False) or condition.get("any", False)


def _of_elements(child: Record, parent: Record) -> bool:
    """Return True if the child is of all elements of a list, the parent of it by `each` or `subset_of`."""
    if _of_several(child) or not (parent.get("each", False) or parent["operator"] == SUBSET_OF):
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


def _all_inside(keys: Sequence[Key], others: Sequence[Key]) -> bool:
    """Return True if each network is inside one of the others."""
    nets = _networks(others)
    return all(any(_inside(a, b) for b in nets) for a in _networks(keys))


def _none_shared(keys: Sequence[Key], others: Sequence[Key]) -> bool:
    """Return True if no address is in both."""
    nets = _networks(others)
    return not any(_inside(a, b) or _inside(b, a) for a in _networks(keys) for b in nets)


def _inside(a: Network, b: Network) -> bool:
    return a.version == b.version and a.subnet_of(b)  # type: ignore[arg-type]
