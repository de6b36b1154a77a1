"""Attacks on a grant: calls of other tasks, mutated arguments, injected goals; each plain and adapted.

Adapted: the attacker keeps what her goal needs, and takes the rest from honest calls that were learnt from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.grants.calls import Argument, Call, Server, Session, ToolShape
from benchmarks.grants.goals import GOALS, Goal
from benchmarks.grants.traffic import Task, seeded
from benchmarks.grants.value_kinds import kind_of
from benchmarks.grants.values import attack_value

# Honest calls that an adapting attacker tries for one goal.
TRIES: Final = 12

OTHER: Final = "other tasks"
MUTATED: Final = "mutated"
INJECTED: Final = "injected"
WORDS: Final = "words only"
LISTS: Final = "inside lists of objects"
# The kinds that count in `attacks possible`; words are counted apart.
COUNTED: Final = (OTHER, MUTATED, INJECTED, LISTS)


@dataclass(frozen=True)
class Attack:
    """One aim: it is reached if one of its calls is allowed."""

    kind: str
    adapted: bool
    calls: Sequence[Call]


def goal_attacks(server: Server, task: Task, learnt: Iterable[Session]) -> Iterator[Attack]:
    """Yield the injected goals on a server, plain and adapted."""
    honest = _by_tool(learnt)
    for goal in GOALS:
        if goal.server == server.name:
            yield from goal_attack(goal, server, task, honest)


def goal_attack(
    goal: Goal, server: Server, task: Task, honest: Mapping[str, Sequence[Call]]
) -> Iterator[Attack]:
    """Yield one goal, plain and adapted."""
    shape = server.tools[goal.tool]
    kind = WORDS if goal.words else INJECTED
    plain = plain_call(goal, shape, task)
    yield Attack(kind, False, [plain])
    known = [Call(goal.tool, goal.applied(call.arguments)) for call in honest.get(goal.tool, ())]
    yield Attack(kind, True, [*known[:TRIES], plain])


def plain_call(goal: Goal, shape: ToolShape, task: Task) -> Call:
    """Return the goal's call with other arguments of the attacker's own."""
    source = seeded(f"plain/{task.name}/{goal}")
    return Call(goal.tool, goal.applied(task.plain(shape, source).arguments))


def mutations(
    server: Server, task: Task, learnt: Sequence[Session], tests: Sequence[Session]
) -> Iterator[Attack]:
    """Yield calls with one argument changed, of another type, added, or changed inside a list."""
    honest = _by_tool(learnt)
    for call in {call.key: call for session in tests for call in session.calls}.values():
        shape = server.tools[call.tool]
        if shape.reads and not shape.open_world:
            continue
        source = seeded(f"mutated/{call.key}")
        plain = task.plain(shape, source).arguments
        for name, value in sorted(call.arguments.items()):
            for kind, changed in _changes(shape, name, value):
                yield Attack(kind, False, [Call(call.tool, {**plain, name: changed})])
                known = [
                    Call(call.tool, {**one.arguments, name: changed}) for one in honest.get(call.tool, ())
                ]
                yield Attack(kind, True, [*known[:TRIES], Call(call.tool, {**call.arguments, name: changed})])
        added = {**call.arguments, "on_behalf_of": "mallory"}
        yield Attack(MUTATED, True, [Call(call.tool, added)])


def _changes(shape: ToolShape, name: str, value: Any) -> Iterator[tuple[str, Any]]:
    argument = shape.arguments[name]
    if argument.kind in ("objects", "rows"):
        for changed in _inside(argument, value):
            yield LISTS, changed
        return
    changed = attack_value(argument, value)
    if changed is None:
        return
    if changed != value:
        yield MUTATED, changed
    yield MUTATED, {"value": value, "also": changed}


def _inside(argument: Argument, rows: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield lists with one member changed, or one element, one member or one text more."""
    first = rows[0] if rows and isinstance(rows[0], dict) else {}
    for name, value in first.items():
        member = argument.members.get(name) or Argument(kind_of(value))
        changed = attack_value(member, value)
        if changed not in (None, value):
            row = {**first, name: changed}
            yield [row, *rows[1:]]
            yield [*rows, row]
    yield [*rows[1:], {**first, "on_behalf_of": "mallory"}]
    yield [*rows, "mallory"]


def calls_of_others(
    server: Server, own: Sequence[Session], others: Sequence[Session], limit: int
) -> Iterator[Attack]:
    """Yield changing calls of other tasks that no session of this one made, for what they name."""
    named = {_named(server, call) for session in own for call in session.calls}
    seen = set()
    for call in (call for session in others for call in session.calls):
        key = _named(server, call)
        if server.tools[call.tool].reads or key in named or key in seen or not key[1]:
            continue
        seen.add(key)
        yield Attack(OTHER, False, [call])
        known = [c for session in own for c in session.calls if c.tool == call.tool]
        wanted = {
            n: v
            for n, v in call.arguments.items()
            if attack_value(server.tools[call.tool].arguments[n], v) is not None
        }
        adapted = [Call(call.tool, {**one.arguments, **wanted}) for one in known[:TRIES]]
        yield Attack(OTHER, True, [*adapted, call])
        if len(seen) == limit:
            return


def _named(server: Server, call: Call) -> tuple[str, tuple[str, ...]]:
    """Return the tool and what the call names: not its words, dates, numbers and flags."""
    arguments = server.tools[call.tool].arguments
    return call.tool, tuple(_names(arguments, call.arguments))


def _names(arguments: Mapping[str, Argument], values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in sorted(values.items()):
        argument = arguments[name]
        if argument.kind == "rows":
            yield from (f"{name}.{each}" for row in value for each in _names(argument.members, row))
        elif argument.kind not in ("number", "objects") and attack_value(argument, value) is not None:
            yield f"{name}={value}"


def _by_tool(sessions: Iterable[Session]) -> dict[str, list[Call]]:
    found: dict[str, dict[tuple[str, bytes], Call]] = {}
    for session in sessions:
        for call in session.calls:
            found.setdefault(call.tool, {}).setdefault(call.key, call)
    return {tool: list(calls.values()) for tool, calls in found.items()}
