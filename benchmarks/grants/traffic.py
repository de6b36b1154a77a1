"""Honest sessions, from a seed: tasks of a server, and sessions that vary as recorded ones do."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.grants.calls import Call, Server, Session, ToolShape
from benchmarks.grants.values import session_value, task_value

SEED: Final = 20_261_127
TASKS: Final = 16
# How often a session makes each step of its task; a step that only some sessions need; any other change.
STEADY: Final = 0.9
SOMETIMES: Final = 0.3
STRAY: Final = 0.05
# How often a session gives an optional argument that its task does not, or leaves it.
OTHERWISE: Final = 0.02
# Reading calls for each session, beside those of the task.
EXTRA_READS: Final = 0.9

Values = Mapping[str, object]
_seed = [SEED]


def use_seed(seed: int) -> None:
    """Make all tasks, sessions and attacks from another seed."""
    _seed[0] = seed


def seeded(name: str) -> random.Random:
    """Return a source of random numbers of its own for each name."""
    return random.Random(f"{_seed[0]}/{name}")


@dataclass(frozen=True)
class Step:
    """A call that a task asks for, with how often sessions make it."""

    tool: ToolShape
    values: Values
    often: float


@dataclass(frozen=True)
class Task:
    """A task: its sessions share steps. ``weight``: how often the purpose has it."""

    name: str
    server: Server
    steps: tuple[Step, ...]
    customer: Mapping[str, str]
    weight: float

    def session(self, number: int) -> Session:
        """Return one of its sessions; the same number gives the same session."""
        source = seeded(f"{self.name}/{number}")
        calls = []
        for step in self.steps:
            if source.random() < step.often:
                calls.append(self._call(step.tool, step.values, source))
        server = self.server
        while source.random() < EXTRA_READS / (1 + EXTRA_READS):
            tool = source.choice(server.reading)
            calls.insert(source.randint(0, len(calls)), self._call(tool, self._values(tool, source), source))
        if source.random() < STRAY:
            tool = source.choice(server.changing)
            calls.append(self._call(tool, self._values(tool, source), source))
        return Session(self.name, calls, self.customer)

    def plain(self, tool: ToolShape, source: random.Random) -> Call:
        """Return a call of a tool with values of no task."""
        return self._call(
            tool,
            {n: task_value(a, source, self.customer) for n, a in tool.arguments.items()},
            source,
            given=True,
        )

    def _values(self, tool: ToolShape, source: random.Random) -> Values:
        return _given(tool, source, self.customer)

    def _call(self, tool: ToolShape, values: Values, source: random.Random, *, given: bool = False) -> Call:
        arguments = {}
        for name, arg in tool.arguments.items():
            # An optional argument belongs to the task; a session now and then gives or leaves it otherwise.
            other = arg.given < 1 and not given and source.random() < OTHERWISE
            if (name in values) != other:
                value = values.get(name) or task_value(arg, source, self.customer)
                arguments[name] = session_value(arg, value, source, self.customer)
        return Call(tool.name, arguments)


def tasks(server: Server, count: int = TASKS) -> list[Task]:
    """Return the tasks of a server."""
    return [_task(server, number) for number in range(count)]


def _task(server: Server, number: int) -> Task:
    name = f"{server.name}-{number}"
    source = seeded(f"{name}")
    customer = _customer(source) if server.customers else {}

    def step(tool: ToolShape, often: float) -> Step:
        return Step(tool, _given(tool, source, customer), often)

    steps = [step(tool, STEADY) for tool in source.choices(server.reading, k=source.randint(2, 4))]
    changing = source.choices(server.changing, k=source.choice((0, 0, 1, 1, 1, 2, 2)))
    steps += [step(tool, STEADY) for tool in changing]
    steps += [
        step(tool, SOMETIMES) for tool in source.choices(server.changing, k=source.choice((1, 1, 2, 2)))
    ]
    return Task(name, server, tuple(steps), customer, 1 / (1 + number / 6))


def _given(tool: ToolShape, source: random.Random, customer: Mapping[str, str]) -> Values:
    arguments = tool.arguments.items()
    return {name: task_value(arg, source, customer) for name, arg in arguments if source.random() < arg.given}


def _customer(source: random.Random) -> dict[str, str]:
    name = f"{source.choice(('mei', 'omar', 'ivan', 'noah', 'sofia'))}_{source.randrange(1000, 9999)}"
    return {"user_id": name, "email": f"{name}@mail.example"}


def purpose(server: Server, count: int, *, first: int = 0, seed: str = "") -> list[Session]:
    """Return sessions of a purpose: of all its tasks, the frequent ones more often.

    Of a server with customers each session is of a person of its own.
    """
    source = seeded(f"purpose/{server.name}/{first}/{seed}")
    known = tasks(server)
    sessions = []
    for number in range(first, first + count):
        if server.customers:
            sessions.append(_task(server, 1000 + number).session(number))
        else:
            task = source.choices(known, [task.weight for task in known])[0]
            sessions.append(task.session(10_000 + number))
    return sessions
