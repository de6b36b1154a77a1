"""The settings that are measured: after some sessions of a task, of a purpose, and after a hijacked one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.grants.attacks import (
    INJECTED,
    Attack,
    calls_of_others,
    goal_attack,
    goal_attacks,
    mutations,
    plain_call,
)
from benchmarks.grants.calls import Server, Session
from benchmarks.grants.goals import GOALS, Goal
from benchmarks.grants.measures import Case
from benchmarks.grants.servers import SERVERS
from benchmarks.grants.subjects import GRANT, KINDS, ONCE, SUBJECTS
from benchmarks.grants.traffic import Task, purpose, seeded, tasks

AFTER: Final = (1, 3, 15)
PURPOSE: Final = "purpose"
LARGE: Final = "purpose of 300"
CUSTOMERS: Final = "customers"
HIJACKED: Final = "hijacked"
HIJACKED_PURPOSE: Final = "hijacked purpose"
FIFTEEN: Final = 15
HUNDRED: Final = 100
THREE_HUNDRED: Final = 300
# The first session that no fit sees.
UNSEEN: Final = 1000


@dataclass(frozen=True)
class Size:
    """Numbers of tasks, sessions and attacks."""

    tasks: int
    tests: int
    purpose_tests: int
    others: int
    hijacked_tasks: int
    hijacked_purposes: int
    goals: int = 1000


QUICK: Final = Size(tasks=4, tests=8, purpose_tests=40, others=10, hijacked_tasks=1, hijacked_purposes=4)
FULL: Final = Size(tasks=16, tests=20, purpose_tests=150, others=20, hijacked_tasks=4, hijacked_purposes=1000)


def cases(size: Size) -> Iterator[Case]:
    """Yield all cases of a size."""
    for server in SERVERS.values():
        known = tasks(server)
        for task in known[: size.tasks]:
            yield from _of_task(server, task, known, size)
        yield _of_purpose(CUSTOMERS if server.customers else PURPOSE, server, HUNDRED, size)
        if not server.customers:
            yield _of_purpose(LARGE, server, THREE_HUNDRED, size)
    yield from _hijacked(size)
    yield from _hijacked_purposes(size)


def _of_task(server: Server, task: Task, known: Sequence[Task], size: Size) -> Iterator[Case]:
    tests = [task.session(UNSEEN + number) for number in range(size.tests)]
    others = [other.session(0) for other in known if other is not task]
    for count in AFTER:
        learnt = [task.session(number) for number in range(count)]
        attacks: list[Attack] = [
            *goal_attacks(server, task, learnt),
            *mutations(server, task, learnt, tests),
            *calls_of_others(server, [*learnt, *tests], others, size.others),
        ]
        yield Case(str(count), server, learnt, tests, attacks)


def _of_purpose(setting: str, server: Server, count: int, size: Size) -> Case:
    learnt, task = purpose(server, count), tasks(server)[0]
    tests = purpose(server, size.purpose_tests, first=UNSEEN)
    attacks = [*goal_attacks(server, task, learnt), *mutations(server, task, learnt, tests[:20])]
    return Case(setting, server, learnt, tests, attacks, SUBJECTS if server.customers else (*SUBJECTS, ONCE))


def _hijacked(size: Size) -> Iterator[Case]:
    """Yield cases of fifteen sessions, one of which reached the goal while it was observed."""
    for goal in [goal for goal in GOALS if not goal.words][: size.goals]:
        server = SERVERS[goal.server]
        source = seeded(f"hijacked/{goal}")
        for task in source.sample(tasks(server), size.hijacked_tasks):
            sessions = [task.session(number) for number in range(FIFTEEN)]
            subjects = [subject for subject in SUBJECTS if subject != GRANT]
            yield _with_one_hijacked(HIJACKED, goal, task, sessions, source, subjects)


def _hijacked_purposes(size: Size) -> Iterator[Case]:
    """Yield cases of a hundred sessions of a purpose, one of which reached the goal."""
    for goal in [goal for goal in GOALS if not goal.words][: size.goals][: size.hijacked_purposes]:
        server = SERVERS[goal.server]
        if not server.customers:
            source, task = seeded(f"hijacked purpose/{goal}"), tasks(server)[0]
            sessions = purpose(server, HUNDRED, seed=str(goal))
            yield _with_one_hijacked(HIJACKED_PURPOSE, goal, task, sessions, source, (KINDS, ONCE))


def _with_one_hijacked(
    setting: str,
    goal: Goal,
    task: Task,
    sessions: list[Session],
    source: random.Random,
    subjects: Sequence[str],
) -> Case:
    server = task.server
    honest = {call.key: call for s in sessions[1:] for call in s.calls if call.tool == goal.tool}
    call = next(iter(honest.values()), None)
    bad = plain_call(goal, server.tools[goal.tool], task)
    if call is not None:
        bad = type(bad)(goal.tool, goal.applied(call.arguments))
    at = source.randrange(len(sessions))
    sessions[at] = Session(task.name, [*sessions[at].calls, bad], sessions[at].facts)
    known = {goal.tool: [bad, *honest.values()]}
    attacks = [a for a in goal_attack(goal, server, task, known) if a.adapted]
    return Case(setting, server, sessions, [], attacks, subjects)


__all__ = ["FULL", "INJECTED", "QUICK", "Size", "cases"]
