"""Containment of scopes in other scopes, over the wire dicts of message Scope.

A list of scopes permits a call if one of its scopes matches. The verdicts:

     1  every call that the child permits is permitted by the parent: proven
     0  unknown
    -1  some scope of the child can never be satisfied together with the parent

Both proofs are sound for every call, and neither is complete. They exist to report a mistake before a call is
denied: checks intersect authority and ignore these verdicts.

``unmet_need`` finds a need of a scope that no call can ever meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from .implication import (
    Record,
    Segments,
    WorkBudget,
    WorkExceeded,
    argument,
    contradicts,
    covers_constants,
    implies,
    is_known,
    place,
    requires_value,
)
from .parts import Operator, Segment, SegmentKind, ValueSource
from .scope import Condition, Scope
from .value import Number

Verdict = tuple[int, str]


# A block without scopes permits every call.
_ANYTHING: Final[Record] = {"actions": ["*"], "resource": [{"kind": SegmentKind.REST}], "free_all": True}


_ARGUMENTS: Final = (ValueSource.ARGS, ValueSource.ELEMENTS)


def contains(
    parent: Sequence[Record] | None,
    child: Sequence[Record] | None,
    *,
    parent_where: Sequence[Record] = (),
    child_where: Sequence[Record] = (),
    same_facts: bool = False,
    same_session: bool = True,
) -> Verdict:
    """Return the verdict over all scopes of ``child``, and its subject.

    Args:
        parent: scopes, or None for a block that states none.
        child: scopes, or None for a block that states none.
        parent_where: the parent's conditions outside of scopes, which mention no arguments.
        child_where: likewise for the child.
        same_facts: both sides see the same session facts.
        same_session: both sides read the facts of one session. Without it a condition on a fact proves
            nothing, and only other parts can disprove a scope.

    Returns:
        The least of the verdicts, and ``scope INDEX: PART`` for the first child scope that has it;
        empty if it is 1.
    """
    if not same_session:
        if parent is None or child is None:
            raise TypeError("facts of different sessions are compared for stated scopes only")
        if any(_reads_facts(one) for scope in (*parent, *child) for one in scope.get("where", ())):
            verdict, part = contains(_without_facts(parent), _without_facts(child))
            return (verdict, part) if verdict < 0 else (0, "a condition on facts of the session")
    verdicts = compare(
        parent, child, parent_where=parent_where, child_where=child_where, same_facts=same_facts
    )
    least = min((verdict for verdict, _ in verdicts), default=1)
    if least == 1:
        return 1, ""
    index = [verdict for verdict, _ in verdicts].index(least)
    return least, f"scope {index}: {verdicts[index][1]}"


def _without_facts(scopes: Sequence[Record]) -> list[Record]:
    """Drop the scopes' conditions on facts, leaving their arguments free. The rest permits no less."""
    bare: list[Record] = []
    for scope in scopes:
        where = [one for one in scope.get("where", ()) if not _reads_facts(one)]
        compared = [one["path"] for one in scope.get("where", ()) if _reads_facts(one)]
        free = [*scope.get("free", ()), *(path for path in compared if path["source"] in _ARGUMENTS)]
        bare.append({**scope, "where": where, "free": free})
    return bare


def _reads_facts(condition: Record) -> bool:
    return bool(condition.get("fact")) or condition["path"]["source"] == ValueSource.SESSION


def compare(
    parent: Sequence[Record] | None,
    child: Sequence[Record] | None,
    *,
    parent_where: Sequence[Record] = (),
    child_where: Sequence[Record] = (),
    same_facts: bool = False,
) -> list[Verdict]:
    """Return ``(verdict, part)`` for each scope of ``child``; arguments as of :func:`contains`.

    A child that states no scopes has one verdict: -1 if its conditions contradict the parent, else 1.
    """
    work = WorkBudget()
    parents = _with_known([_ANYTHING] if parent is None else parent, parent_where)
    children = _with_known([_ANYTHING] if child is None else child, child_where)
    verdicts = [_best(parents, parent_where, one, child_where, same_facts, work) for one in children]
    if child is None:
        return [(verdict, part) if verdict < 0 else (1, "") for verdict, part in verdicts]
    return verdicts


def overlaps(a: Record, b: Record, *, same_facts: bool = True) -> bool:
    """Return True if some call may match both scopes. False is proven."""
    (ours,), theirs = _with_known([b], ()), _with_known([a], ())
    return _best(theirs, (), ours, (), same_facts, WorkBudget())[0] >= 0


# A scope, and True if all kinds of it and of its outer conditions are known.
_Known: TypeAlias = tuple[Record, bool]


def _with_known(scopes: Sequence[Record], where: Sequence[Record]) -> list[_Known]:
    return [(scope, _is_known(scope, where)) for scope in scopes]


def _best(
    parents: Sequence[_Known],
    parent_where: Sequence[Record],
    child: _Known,
    child_where: Sequence[Record],
    same_facts: bool,
    work: WorkBudget,
) -> Verdict:
    """Compare one child scope with the parent's alternatives. The closest one names the part."""
    best = (-1, "nothing is permitted above it", -1)
    try:
        for parent in parents:
            verdict = _verdict(parent, parent_where, child, child_where, same_facts, work)
            if verdict[0] == 1:
                return 1, ""
            # One unknown verdict outweighs any number of disproven ones.
            if (verdict[0], verdict[2]) > (best[0], best[2]):
                best = verdict
    except WorkExceeded:
        return 0, "too much to compare"
    return best[0], best[1]


def _verdict(
    parent_known: _Known,
    parent_where: Sequence[Record],
    child_known: _Known,
    child_where: Sequence[Record],
    same_facts: bool,
    work: WorkBudget,
) -> tuple[int, str, int]:
    """Return (verdict, part, degree of agreement) for two scopes with their outer conditions."""
    work.spend(1)
    (parent, parent_is_known), (child, child_is_known) = parent_known, child_known
    if not (parent_is_known and child_is_known):
        return 0, "a kind of a later version", 0
    apart = _actions_apart(parent, child)
    if apart:
        return -1, apart, 0
    index = _first_apart(parent["resource"], child["resource"])
    if index >= 0:
        return -1, f"resource segment {index + 1}", index + 1
    ours = [*child.get("where", ()), *child_where]
    theirs = [*parent.get("where", ()), *parent_where]
    for condition in ours:
        for other in theirs:
            if contradicts(condition, other, same_facts, work):
                return -1, f"condition on {argument(condition)}", 100
    left = _left_over(parent, ours) or _left_over(child, theirs)
    if left:
        return -1, f"argument {left}", 100
    outside = _outside(parent, theirs, child, ours, same_facts, work)
    return (0, outside, 101) if outside else (1, "", 102)


def _outside(
    parent: Record,
    theirs: Sequence[Record],
    child: Record,
    ours: Sequence[Record],
    same_facts: bool,
    work: WorkBudget,
) -> str:
    """Return the first part of the child without a proof of containment; empty if all are proven."""
    if "*" not in parent["actions"]:
        for action in child["actions"]:
            if action not in parent["actions"]:
                return f"action {action}"
    index = _first_outside(parent["resource"], child["resource"])
    if index >= 0:
        return f"resource segment {index + 1}"
    if parent.get("needs") and parent["needs"] != child.get("needs"):
        return "what the parent needs"
    for other in theirs:
        if _never_there(child, other):
            continue
        if not any(implies(condition, other, same_facts, work) for condition in ours):
            return f"the parent's condition on {argument(other)}"
    if _is_closed(parent):
        if not _is_closed(child):
            return "arguments that the parent does not leave open"
        mentioned = _mentioned(parent)
        for path in sorted(_mentioned(child)):
            if any(path[:n] in mentioned for n in range(1, len(path) + 1)):
                continue
            held = [condition for condition in ours if place(condition["path"]) == (ValueSource.ARGS, path)]
            if len(path) == 1 and any(condition["operator"] == Operator.ABSENT for condition in held):
                continue
            if not any(covers_constants(condition, mentioned, work) for condition in held):
                return f"argument {''.join(path)[1:]}"
    return ""


def _is_known(scope: Record, where: Sequence[Record]) -> bool:
    conditions = [*scope.get("where", ()), *where]
    return (
        all(1 <= segment.get("kind", 0) <= SegmentKind.REST for segment in scope["resource"])
        and all(is_known(condition) for condition in conditions)
        and all(path.get("source", 0) in _ARGUMENTS for path in scope.get("free", ()))
    )


def _actions_apart(parent: Record, child: Record) -> str:
    ours, theirs = child["actions"], parent["actions"]
    if "*" in ours or "*" in theirs or set(ours) & set(theirs):
        return ""
    return f"action {','.join(ours)}"


# --- resource patterns ---


def _first_apart(a: Sequence[Record], b: Sequence[Record]) -> int:
    """Return the first segment at which no resource can match both patterns, or -1."""
    for i in range(max(len(a), len(b))):
        if (i < len(a) and a[i]["kind"] == SegmentKind.REST) or (
            i < len(b) and b[i]["kind"] == SegmentKind.REST
        ):
            return -1
        if i >= len(a) or i >= len(b) or not _segments_meet(a[i], b[i]):
            return i
    return -1


def _first_outside(parent: Sequence[Record], child: Sequence[Record]) -> int:
    """Return the first segment at which the child's pattern is not inside the parent's, or -1."""
    for i in range(max(len(parent), len(child))):
        if i < len(parent) and parent[i]["kind"] == SegmentKind.REST:
            return -1
        if i >= len(parent) or i >= len(child) or not _segment_inside(parent[i], child[i]):
            return i
    return -1


def _segments_meet(a: Record, b: Record) -> bool:
    if SegmentKind.ANY in (a["kind"], b["kind"]):
        return True
    if a["kind"] == SegmentKind.PREFIX and b["kind"] == SegmentKind.PREFIX:
        return bool(a["texts"][0].startswith(b["texts"][0]) or b["texts"][0].startswith(a["texts"][0]))
    if a["kind"] == SegmentKind.PREFIX:
        return any(text.startswith(a["texts"][0]) for text in b["texts"])
    if b["kind"] == SegmentKind.PREFIX:
        return any(text.startswith(b["texts"][0]) for text in a["texts"])
    return bool(set(a["texts"]) & set(b["texts"]))


def _segment_inside(parent: Record, child: Record) -> bool:
    if parent["kind"] == SegmentKind.ANY:
        return bool(child["kind"] != SegmentKind.REST)
    if child["kind"] in (SegmentKind.ANY, SegmentKind.REST):
        return False
    if parent["kind"] == SegmentKind.PREFIX:
        return all(text.startswith(parent["texts"][0]) for text in child["texts"])
    return child["kind"] != SegmentKind.PREFIX and set(child["texts"]) <= set(parent["texts"])


# --- the closed world ---


def _is_closed(scope: Record) -> bool:
    return bool(scope.get("where") or scope.get("free")) and not scope.get("free_all", False)


def _never_there(scope: Record, condition: Record) -> bool:
    """Return True if a condition holds since a closed scope mentions nothing on the way to its path."""
    source, path = place(condition["path"])
    if source != ValueSource.ARGS or requires_value(condition) or not _is_closed(scope):
        return False
    return all(mentioned[0] != path[0] for mentioned in _mentioned(scope))


def _mentioned(scope: Record) -> set[Segments]:
    paths = [*(condition["path"] for condition in scope.get("where", ())), *scope.get("free", ())]
    return {place(path)[1] for path in paths if path["source"] in _ARGUMENTS}


def _left_over(scope: Record, conditions: Sequence[Record]) -> str:
    """Return an argument that ``conditions`` require and a closed ``scope`` forbids; or empty."""
    if not _is_closed(scope):
        return ""
    mentioned = _mentioned(scope)
    for condition in conditions:
        if condition["path"]["source"] not in _ARGUMENTS or not requires_value(condition):
            continue
        path = place(condition["path"])[1]
        covered = any(path[: len(m)] == m or m[: len(path)] == path for m in mentioned)
        if not covered:
            return argument(condition)
    return ""


def unmet_need(scope: Scope) -> str:
    """Return why no call can meet the needs of ``scope``; empty if that is not proven.

    A budget takes a number of 0 or more. No call has one at its path where a condition asks for something
    else there, such as a list, or where the scope does not mention the argument and so denies it.
    """
    # Most scopes need nothing; the others of its fields are not read for that.
    if not scope.has_needs or scope.needs is None or scope.needs.budget is None:
        return ""
    budget = scope.needs.budget
    number = Condition(budget.amount, Operator.GREATER_EQUAL, (Number(),))
    payable = Scope(("*",), (Segment.rest(),), (number,), everything_free=True)
    if overlaps(scope.to_record(), payable.to_record()):
        return ""
    return f"no call can pay its budget: argument `{budget.amount.argument}` is never a number of 0 or more"
