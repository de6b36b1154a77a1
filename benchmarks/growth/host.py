"""One host with many living sessions: its file, start, memory, ends by subject, lists and backup.

``python -m benchmarks.growth.host 1000000`` prints the table of docs/how-to/capacity.md, in some five minutes
for a million. The folder is in the temporary place, so ``TMPDIR`` decides which disk commits wait for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from benchmarks.service.processes import PYTHON, running
from benchmarks.service.server_home import Home
from benchmarks.stats import percentile
from benchmarks.tokens import HOUR_MS
from sessauth.client import Client
from sessauth.model.change import Change, open_session
from sessauth.scopes.scope import Scope
from sessauth.state.writer.state_writer import StateWriter

# Subjects of ten sessions each, which are ended one after another.
TENS: Final = 280
LISTS: Final = 20
_CEILING: Final = ("read,write:mcp/** free *",)
_MAP_BYTES: Final = 8 << 30
# Changes that wait for a commit at once, as many as share one four times over.
_WAITING: Final = 1_024
_SERVE: Final = (*PYTHON, "-m", "sessauth.cli.main")


def table(sessions: int) -> Iterator[str]:
    """Yield the rows of the table as they are measured; raises RuntimeError if the server does not start."""
    with tempfile.TemporaryDirectory(prefix="sa-bench-") as place:
        home = Home.make(Path(place, "home"))
        state = home.folder / "state"
        yield row(
            "opened", f"{sessions / seconds(lambda: fill(state, sessions)):,.0f} a second, by 1,024 at once"
        )
        yield row("file", f"{(state / 'data.mdb').stat().st_blocks * 512 / 1e6:,.0f} MB")
        environment = {"SESSAUTH_HOME": str(home.folder), "SESSAUTH_SERVER_LOG_LEVEL": "ERROR"}
        begin = time.perf_counter()
        with running([*_SERVE, "serve"], home.target, Path(place, "log"), environment) as server:
            yield row("start", f"{time.perf_counter() - begin:.1f} s")
            with Client(home.target, credential=home.operators[0]) as client:
                yield from _asked(client)
            yield row("memory", _memory(server.pids[0]))
            backup = [*_SERVE, "state", "backup", str(Path(place, "backup"))]
            taken = seconds(
                lambda: subprocess.run(backup, env=os.environ | environment, check=True, capture_output=True)
            )
            yield row("backup", f"{taken:.0f} s")


def _asked(client: Client) -> Iterator[str]:
    ends = [1e3 * seconds(lambda k=k: _end_ten(client, k)) for k in range(TENS)]
    yield row(
        "ten ended by subject", f"p50 {percentile(ends, 0.5):.1f} ms, p99 {percentile(ends, 0.99):.1f} ms"
    )
    for words, terms in (
        ("all", {}),
        ("of a subject", {"subject": "user-7"}),
        ("of an owner", {"owner": "fleet-3"}),
    ):
        lists = [1e3 * seconds(lambda terms=terms: client.list_sessions(**terms)) for _ in range(LISTS)]
        yield row(
            f"a page of a list, {words}", f"p50 {percentile(lists, 0.5):.0f} ms, slowest {max(lists):.0f} ms"
        )


def _end_ten(client: Client, number: int) -> None:
    ended = client.end_sessions(subject=f"ten-{number}", reason="measured").ended
    if ended != 10:
        raise RuntimeError(f"{ended} sessions ended, not 10")


def fill(state: Path, sessions: int) -> None:
    """Open so many sessions, and those of subjects of ten."""
    scopes = [dict(Scope.parse(text).to_record()) for text in _CEILING]
    waiting: deque[Future[Any]] = deque()
    with StateWriter.open(state, map_size=_MAP_BYTES) as writer:
        for change in _openings(sessions, scopes):
            waiting.append(writer.submit(change))
            if len(waiting) == _WAITING:
                waiting.popleft().result().raise_if_rejected()
        for each in waiting:
            each.result().raise_if_rejected()


def _openings(sessions: int, scopes: list[dict[str, object]]) -> Iterator[Change]:
    terms: dict[str, Any] = {"purpose": "measured", "ttl_ms": 6 * HOUR_MS, "actor": "bench"}
    for number in range(sessions):
        who = {"subject": f"user-{number % 5000}", "owner": f"fleet-{number % 20}"}
        yield open_session(f"open-{number}", os.urandom(16), scopes, **who, **terms)
    for number in range(10 * TENS):
        who = {"subject": f"ten-{number // 10}", "owner": "fleet-0"}
        yield open_session(f"ten-{number}", os.urandom(16), scopes, **who, **terms)


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _memory(pid: int) -> str:
    """Return the memory of a process: its own, and the pages of the file that it shares."""
    fields = dict(line.split(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    own, mapped = (int(fields[name].split()[0]) / 1e3 for name in ("RssAnon", "RssFile"))
    return f"{own:,.0f} MB of its own, {mapped:,.0f} MB of files"


def row(name: str, value: str) -> str:
    """Return a row of a table in Markdown."""
    return f"| {name} | {value} |"


if __name__ == "__main__":
    for line in table(int(sys.argv[1])):
        print(line, flush=True)
