"""Constants in conditions: the values that an equality permits, and the kernel's form of them.

Over the wire dicts of message Condition. The kernel's own evaluation decides, so that no operator has a
second meaning.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from .._fast._check import encode_message
from .._fast._codec import matches

# A message of a scope as a dict, a path by its names, a path with its source, an operand with its type.
Record = Mapping[str, Any]
Segments = tuple[str, ...]
Place = tuple[int, Segments]
Key = tuple[str, Any]

ARGS: Final = 1
ELEMENTS: Final = 8
EQUAL: Final = 1
IN: Final = 3

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
    if condition.get("accessor", 0) or condition.get("each", False):
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
    return {**condition, "path": {"source": ARGS, "segments": names}} if all(names) else None


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
        # The constructor is exact, whatever the context.
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
