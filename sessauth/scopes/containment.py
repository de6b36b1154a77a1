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
from typing import Final

from .implication import (
    Place,
    Record,
    Segments,
    WorkBudget,
    WorkExceeded,
    argument,
    contradicts,
    covers_constants,
    implies,
    is_known,
    negated,
    place,
    related,
    requires_value,
)
from .parts import Operator, Segment
from .scope import Condition, Scope
from .value import Number

Verdict = tuple[int, str]

LITERAL: Final = 1
ANY: Final = 2
PREFIX: Final = 3
ONE_OF: Final = 4
REST: Final = 5

# A block without scopes permits every call.
_ANYTHING: Final[Record] = {"actions": ["*"], "resource": [{"kind": REST}], "free_all": True}


SESSION: Final = 2
ABSENT: Final = 15

# The sources ARGS and ELEMENTS.
_ARGUMENTS: Final = (1, 8)


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
        if scope.get("exception", False):
            # Without a condition it would deny more.
            bare += [] if any(map(_reads_facts, scope.get("where", ()))) else [scope]
            continue
        where = [one for one in scope.get("where", ()) if not _reads_facts(one)]
        compared = [one["path"] for one in scope.get("where", ()) if _reads_facts(one)]
        free = [*scope.get("free", ()), *(path for path in compared if path["source"] in _ARGUMENTS)]
        bare.append({**scope, "where": where, "free": free})
    return bare


def _reads_facts(condition: Record) -> bool:
    return bool(condition.get("fact")) or condition["path"]["source"] == SESSION


def compare(
    parent: Sequence[Record] | None,
    child: Sequence[Record] | None,
    *,
    parent_where: Sequence[Record] = (),
    child_where: Sequence[Record] = (),
    same_facts: bool = False,
) -> list[Verdict]:
    """Return ``(verdict, part)`` for each scope of ``child``; arguments as of :func:`contains`.

    A child that states no scopes has one verdict: -1 if its conditions contradict the parent, else 1. An
    exception of the child has the verdict 1; exceptions alone stand for all but themselves.
    """
    work = WorkBudget()
    permits, excepted = _split(parent)
    parents = [_Side(scope, parent_where) for scope in permits]
    exceptions = [_Side(scope, ()) for scope in excepted]
    own = [_Side(scope, ()) for scope in _split(child)[1]]
    alone = child is not None and len(own) == len(child)
    verdicts: list[Verdict] = []
    for scope in [_ANYTHING] if child is None else child:
        if scope.get("exception", False) and not alone:
            verdicts.append((1, ""))
            continue
        one = _Side(_ANYTHING if alone else scope, child_where)
        verdict = _best(parents, one, same_facts, work)
        verdicts.append(_excepted(exceptions, one, own, same_facts, work) if verdict[0] == 1 else verdict)
    if child is None:
        return [(verdict, part) if verdict < 0 else (1, "") for verdict, part in verdicts]
    return verdicts


def _split(scopes: Sequence[Record] | None) -> tuple[list[Record], list[Record]]:
    """Return what a list permits, and its exceptions."""
    if scopes is None:
        return [_ANYTHING], []
    permits = [scope for scope in scopes if not scope.get("exception", False)]
    exceptions = [scope for scope in scopes if scope.get("exception", False)]
    return permits or ([_ANYTHING] if exceptions else []), exceptions


def _excepted(
    exceptions: Sequence[_Side], child: _Side, own: Sequence[_Side], same_facts: bool, work: WorkBudget
) -> Verdict:
    """Return the verdict on a child scope that lies inside what the parent permits but for its exceptions."""
    try:
        for exception in exceptions:
            if any(_covers(each, exception, same_facts, work) for each in own):
                continue
            if not _is_outside(exception, child, same_facts, work):
                within = _verdict(exception, child, same_facts, work)[0] == 1
                return (
                    -1 if within else 0,
                    f"an exception of the parent: {Scope.from_record(exception.scope)}",
                )
    except WorkExceeded:
        return 0, "too much to compare"
    return 1, ""


def _covers(own: _Side, exception: _Side, same_facts: bool, work: WorkBudget) -> bool:
    """Return True if all that falls under an exception of the parent falls under one of the child's own."""
    conditions = exception.scope.get("where", ())
    if any(condition not in conditions for condition in own.scope.get("where", ())):
        return False
    bare = [_Side({**side.scope, "where": []}, ()) for side in (own, exception)]
    return _verdict(bare[0], bare[1], same_facts, work)[0] == 1


def _is_outside(exception: _Side, child: _Side, same_facts: bool, work: WorkBudget) -> bool:
    """Return True if no call of the child falls under an exception, also none that leaves it undecided."""
    if not (exception.is_known and child.is_known):
        return False
    if _action_outside(exception.scope, child.scope) and _actions_apart(exception.scope, child.scope):
        return True
    if _first_apart(exception.scope["resource"], child.scope["resource"]) >= 0:
        return True
    return any(
        _left_never(child, condition, at)
        or any(
            related(other_at, at) and implies(other, negated(condition), same_facts, work)
            for other, other_at in child.conditions
        )
        for condition, at in exception.conditions
    )


def _left_never(child: _Side, condition: Record, at: Place) -> bool:
    """Return True if an exception's condition needs an argument that a closed child never permits."""
    source, path = at
    return (
        source == 1
        and requires_value(condition)
        and child.closed
        and all(
            mentioned[: len(path)] != path and path[: len(mentioned)] != mentioned
            for mentioned in child.mentioned
        )
    )


def overlaps(a: Record, b: Record, *, same_facts: bool = True) -> bool:
    """Return True if some call may match both scopes. False is proven."""
    return _best([_Side(a, ())], _Side(b, ()), same_facts, WorkBudget())[0] >= 0


class _Side:
    """A scope of one side, with its outer conditions; what pairs of scopes compare is read once."""

    __slots__ = ("closed", "conditions", "is_known", "mentioned", "scope")

    def __init__(self, scope: Record, where: Sequence[Record]) -> None:
        self.scope = scope
        stated, free = scope.get("where", ()), scope.get("free", ())
        self.conditions = [(each, place(each["path"])) for each in (*stated, *where)]
        self.is_known = self._is_known(free)
        # An exception is of any arguments.
        is_open = scope.get("free_all", False) or scope.get("exception", False)
        self.closed = bool(stated or free) and not is_open
        # The places below which a closed scope permits arguments.
        self.mentioned: set[Segments] = set()
        if self.closed:
            paths = [*(each["path"] for each in stated), *free]
            self.mentioned = {place(path)[1] for path in paths if path["source"] in _ARGUMENTS}

    def _is_known(self, free: Sequence[Record]) -> bool:
        """Return False if a kind of a later version is among its parts."""
        for segment in self.scope["resource"]:
            if not 1 <= segment.get("kind", 0) <= REST:
                return False
        for condition, _ in self.conditions:
            if not is_known(condition):
                return False
        return not free or all(path.get("source", 0) in _ARGUMENTS for path in free)


def _best(parents: Sequence[_Side], child: _Side, same_facts: bool, work: WorkBudget) -> Verdict:
    """Compare one child scope with the parent's alternatives. The closest one names the part."""
    best = (-1, "nothing is permitted above it", -1)
    try:
        for parent in parents:
            verdict = _verdict(parent, child, same_facts, work)
            if verdict[0] == 1:
                return 1, ""
            # One unknown verdict outweighs any number of disproven ones.
            if (verdict[0], verdict[2]) > (best[0], best[2]):
                best = verdict
    except WorkExceeded:
        return 0, "too much to compare"
    return best[0], best[1]


def _verdict(parent: _Side, child: _Side, same_facts: bool, work: WorkBudget) -> tuple[int, str, int]:
    """Return (verdict, part, degree of agreement) for two scopes with their outer conditions."""
    work.spend(1)
    if not (parent.is_known and child.is_known):
        return 0, "a kind of a later version", 0
    # A scope lies inside most often, and what lies inside is not apart.
    action = _action_outside(parent.scope, child.scope)
    if action and _actions_apart(parent.scope, child.scope):
        return -1, f"action {','.join(child.scope['actions'])}", 0
    outside = _first_outside(parent.scope["resource"], child.scope["resource"])
    index = _first_apart(parent.scope["resource"], child.scope["resource"]) if outside >= 0 else -1
    if index >= 0:
        return -1, f"resource segment {index + 1}", index + 1
    for condition, at in child.conditions:
        work.spend(len(parent.conditions))
        for other, other_at in parent.conditions:
            if related(at, other_at) and contradicts(condition, other, same_facts, work):
                return -1, f"condition on {argument(condition)}", 100
    left = _left_over(parent, child) or _left_over(child, parent)
    if left:
        return -1, f"argument {left}", 100
    if action:
        return 0, f"action {action}", 101
    if outside >= 0:
        return 0, f"resource segment {outside + 1}", 101
    unproven = _unproven(parent, child, same_facts, work)
    return (0, unproven, 101) if unproven else (1, "", 102)


def _unproven(parent: _Side, child: _Side, same_facts: bool, work: WorkBudget) -> str:
    """Return the first part of the child, after its resource, without a proof of containment, or empty."""
    if parent.scope.get("needs") and parent.scope["needs"] != child.scope.get("needs"):
        return "what the parent needs"
    for other, other_at in parent.conditions:
        if _never_there(child, other, other_at):
            continue
        work.spend(len(child.conditions))
        if not any(
            related(at, other_at) and implies(condition, other, same_facts, work)
            for condition, at in child.conditions
        ):
            return f"the parent's condition on {argument(other)}"
    if parent.closed:
        if not child.closed:
            return "arguments that the parent does not leave open"
        for path in sorted(child.mentioned):
            if any(path[:n] in parent.mentioned for n in range(1, len(path) + 1)):
                continue
            held = [condition for condition, at in child.conditions if at == (1, path)]
            if len(path) == 1 and any(condition["operator"] == ABSENT for condition in held):
                continue
            if not any(covers_constants(condition, parent.mentioned, work) for condition in held):
                return f"argument {''.join(path)[1:]}"
    return ""


def _action_outside(parent: Record, child: Record) -> str:
    """Return the first action of the child that the parent does not have, or empty."""
    held = parent["actions"]
    if "*" not in held:
        for action in child["actions"]:
            if action not in held:
                return str(action)
    return ""


def _actions_apart(parent: Record, child: Record) -> bool:
    return not ("*" in child["actions"] or set(child["actions"]) & set(parent["actions"]))


# --- resource patterns ---


def _first_apart(a: Sequence[Record], b: Sequence[Record]) -> int:
    """Return the first segment at which no resource can match both patterns, or -1."""
    for i in range(max(len(a), len(b))):
        if (i < len(a) and a[i]["kind"] == REST) or (i < len(b) and b[i]["kind"] == REST):
            return -1
        if i >= len(a) or i >= len(b) or not _segments_meet(a[i], b[i]):
            return i
    return -1


def _first_outside(parent: Sequence[Record], child: Sequence[Record]) -> int:
    """Return the first segment at which the child's pattern is not inside the parent's, or -1."""
    for i in range(max(len(parent), len(child))):
        if i < len(parent) and parent[i]["kind"] == REST:
            return -1
        if i >= len(parent) or i >= len(child) or not _segment_inside(parent[i], child[i]):
            return i
    return -1


def _segments_meet(a: Record, b: Record) -> bool:
    if a == b or ANY in (a["kind"], b["kind"]):
        return True
    if a["kind"] == PREFIX and b["kind"] == PREFIX:
        return bool(a["texts"][0].startswith(b["texts"][0]) or b["texts"][0].startswith(a["texts"][0]))
    if a["kind"] == PREFIX:
        return any(text.startswith(a["texts"][0]) for text in b["texts"])
    if b["kind"] == PREFIX:
        return any(text.startswith(b["texts"][0]) for text in a["texts"])
    return bool(set(a["texts"]) & set(b["texts"]))


def _segment_inside(parent: Record, child: Record) -> bool:
    if parent["kind"] == ANY:
        return bool(child["kind"] != REST)
    if child["kind"] in (ANY, REST):
        return False
    if parent["kind"] == PREFIX:
        return all(text.startswith(parent["texts"][0]) for text in child["texts"])
    return child["kind"] != PREFIX and set(child["texts"]) <= set(parent["texts"])


# --- the closed world ---


def _never_there(scope: _Side, condition: Record, at: Place) -> bool:
    """Return True if a condition holds since a closed scope mentions nothing on the way to its path."""
    source, path = at
    if source != 1 or requires_value(condition) or not scope.closed:
        return False
    return all(mentioned[0] != path[0] for mentioned in scope.mentioned)


def _left_over(scope: _Side, other: _Side) -> str:
    """Return an argument that conditions of the other require and a closed scope forbids; or empty."""
    if not scope.closed:
        return ""
    for condition, (source, path) in other.conditions:
        if source == 1 and requires_value(condition):
            if not any(path[: len(m)] == m or m[: len(path)] == path for m in scope.mentioned):
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
