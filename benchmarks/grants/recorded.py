"""Recorded sessions in place of generated ones: each is learnt by the others of its task.

    python -m benchmarks.grants --recorded FOLDER

Each file of the folder is one server, named as the file, in one of two forms: results of tau-bench (a list of
runs with ``task_id`` and ``traj``), or

    {"reads": ["get_user"], "sessions": [{"task": "7", "facts": {}, "calls": [["get_user", {"id": "a"}]]}]}

Without ``reads`` a tool reads if its name begins with a word of reading.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from benchmarks.grants.attacks import calls_of_others, mutations
from benchmarks.grants.calls import Argument, Call, Server, Session, ToolShape
from benchmarks.grants.measures import Case
from benchmarks.grants.servers import SERVERS
from benchmarks.grants.traffic import tasks
from benchmarks.grants.value_kinds import kind_of

RECORDED: Final = "recorded"
_READING: Final = ("get_", "search_", "list_", "find_", "read_", "calculate", "think")


@dataclass(frozen=True)
class RecordedTask:
    """A task of recorded sessions: an attacker's plain calls are those of other tasks."""

    name: str
    calls: Mapping[str, Sequence[Call]] = field(default_factory=dict)

    def plain(self, tool: ToolShape, source: random.Random) -> Call:
        """Return a call of a tool that any session made."""
        return source.choice(self.calls[tool.name])


def cases(folder: Path) -> Iterator[Case]:
    """Yield a case for each session: learnt from the others of its task; and halves of each purpose."""
    for file in sorted(folder.glob("*.json")):
        server, sessions = read(file)
        by_tool: dict[str, list[Call]] = {}
        for call in (call for session in sessions for call in session.calls):
            by_tool.setdefault(call.tool, []).append(call)
        task = RecordedTask(server.name, by_tool)
        yield from _by_task(server, task, sessions)


def _by_task(server: Server, task: RecordedTask, sessions: Sequence[Session]) -> Iterator[Case]:
    by_task: dict[str, list[Session]] = {}
    for session in sessions:
        by_task.setdefault(session.task, []).append(session)
    for name, own in by_task.items():
        others = [each for other, of_task in by_task.items() if other != name for each in of_task[:1]]
        for index, test in enumerate(own if len(own) > 1 else ()):
            learnt = [*own[:index], *own[index + 1 :]]
            if not any(session.calls for session in learnt):
                continue
            attacks = [
                *mutations(server, task, learnt, [test]),
                *calls_of_others(server, own, others, 10),
            ]
            yield Case(f"{RECORDED}, {len(learnt)} others of the task", server, learnt, [test], attacks)
    half = [s for index, s in enumerate(sessions) if index % 4]
    tests = [s for index, s in enumerate(sessions) if not index % 4]
    attacks = list(mutations(server, task, half, tests))
    yield Case(f"{RECORDED}, purpose of {len(half)}", server, half, tests, attacks)


def read(file: Path) -> tuple[Server, list[Session]]:
    """Return the server and the sessions in a file."""
    data = json.loads(file.read_text("utf-8"))
    if isinstance(data, list):
        data = {"sessions": [_run(run) for run in data]}
    sessions = [
        Session(str(each["task"]), [Call(*call) for call in each["calls"]], each.get("facts", {}))
        for each in data["sessions"]
    ]
    return _server(file.stem, sessions, data.get("reads")), sessions


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    functions = [call["function"] for message in run["traj"] for call in message.get("tool_calls") or ()]
    return {"task": run["task_id"], "calls": [[f["name"], json.loads(f["arguments"])] for f in functions]}


def _server(name: str, sessions: Iterable[Session], reads: Sequence[str] | None) -> Server:
    values: dict[str, dict[str, list[Any]]] = {}
    for call in (call for session in sessions for call in session.calls):
        arguments = values.setdefault(call.tool, {})
        for argument, value in call.arguments.items():
            arguments.setdefault(argument, []).append(value)
    tools = {
        tool: ToolShape(
            tool,
            tool in reads if reads is not None else tool.startswith(_READING),
            {argument: Argument(_kind(found)) for argument, found in arguments.items()},
        )
        for tool, arguments in values.items()
    }
    return Server(name, tools)


def _kind(values: Sequence[Any]) -> str:
    """Return the kind of an argument that most of its values have."""
    return Counter(map(kind_of, values)).most_common(1)[0][0]


@dataclass(frozen=True)
class Statistics:
    """Shapes of sessions, to compare generated ones with recorded ones."""

    calls: float
    reads: float
    changing: float
    new_tools: float
    new_values: float


def statistics(server: Server, by_task: Mapping[str, Sequence[Session]]) -> Statistics:
    """Return the shapes of sessions; what is new is new against three other sessions of the task."""
    counts: Counter[str] = Counter()
    for sessions in by_task.values():
        for index, session in enumerate(sessions):
            others = [*sessions[:index], *sessions[index + 1 :]][:3]
            counts["sessions"] += 1
            known = {call.tool for other in others for call in other.calls}
            values = {
                (call.tool, name, json.dumps(value, sort_keys=True))
                for other in others
                for call in other.calls
                for name, value in call.arguments.items()
            }
            for call in session.calls:
                counts["calls"] += 1
                shape = server.tools[call.tool]
                if shape.reads:
                    counts["reads"] += 1
                    continue
                counts["changing"] += 1
                counts["new tool"] += call.tool not in known
                named = [
                    n
                    for n in call.arguments
                    if shape.arguments[n].kind not in ("prose", "label", "date", "objects", "rows")
                ]
                counts["new value"] += call.tool in known and any(
                    (call.tool, n, json.dumps(call.arguments[n], sort_keys=True)) not in values for n in named
                )
    calls = counts["calls"] or 1
    return Statistics(
        calls=counts["calls"] / (counts["sessions"] or 1),
        reads=100 * counts["reads"] / calls,
        changing=counts["changing"] / (counts["sessions"] or 1),
        new_tools=100 * counts["new tool"] / calls,
        new_values=100 * counts["new value"] / calls,
    )


def shapes(folder: Path) -> list[dict[str, Any]]:
    """Return the shapes of the recorded sessions in a folder, a row for each file."""
    found = []
    for file in sorted(folder.glob("*.json")):
        server, sessions = read(file)
        by_task: dict[str, list[Session]] = {}
        for session in sessions:
            by_task.setdefault(session.task, []).append(session)
        found.append(_row(f"recorded: {file.stem}", statistics(server, by_task)))
    return found


def generated_shapes() -> list[dict[str, Any]]:
    """Return the shapes of generated sessions, four of each task of all servers."""
    found = [
        statistics(server, {task.name: [task.session(n) for n in range(4)] for task in tasks(server)})
        for server in SERVERS.values()
    ]
    names = [each.name for each in fields(Statistics)]
    means = {name: sum(getattr(each, name) for each in found) / len(found) for name in names}
    return [_row("generated", Statistics(**means))]


def _row(name: str, shape: Statistics) -> dict[str, Any]:
    return {
        "name": f"shapes/{name}",
        "of": name,
        "mean_calls": shape.calls,
        **{key: getattr(shape, key) for key in ("reads", "changing", "new_tools", "new_values")},
    }
