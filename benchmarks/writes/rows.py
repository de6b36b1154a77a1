"""Durable changes by 1 to 256 callers at once, in this process and over gRPC, against a bare synced write.

A commit is one fdatasync and one synchronous write of a page, however many changes it holds; callers that
wait at once share it. So fewer commits than changes are what more callers should give.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.measure import Measurement, not_measured, singles
from benchmarks.service.processes import PYTHON, Server, running
from benchmarks.service.server_home import Home
from benchmarks.stages.threads import timing, together
from benchmarks.writes.change_kinds import KINDS, Log
from benchmarks.writes.disk import IN_MEMORY, SyncedWrites, file_system
from benchmarks.writes.over_grpc import Service
from benchmarks.writes.rounds import Drive, Rounds
from sessauth.state.writer.state_writer import StateWriter

FLOOR: Final = "floor/synced-write"
CALLERS: Final = (1, 8, 64, 256)
# The number of callers that the budget of fsyncs is stated for.
BUDGETED: Final = 64
ROUNDS: Final = {True: 7, False: 11}
FLOOR_WRITES: Final = 10
# Changes in a round: several for each caller, so that the first and the last group decide little.
CHANGES: Final = {
    True: {1: 10, 8: 40, 64: 256, 256: 512},
    False: {1: 20, 8: 80, 64: 512, 256: 1024},
}
# Over gRPC the short form has fewer rows: there a client in Python is what takes the time.
SERVED_CALLERS: Final = {True: (1, 64), False: CALLERS}


def measurements(folder: Path, *, quick: bool, only: str = "") -> Iterator[Measurement]:
    """Yield the rows whose names hold ``only``."""
    inside = _rows("writes/", CALLERS, only)
    served = _rows("writes/served-", SERVED_CALLERS[quick], only)
    if only not in FLOOR and not inside and not served:
        return
    kind = file_system(folder)
    if kind in IN_MEMORY:
        why = f"the folder is on {kind}, where a write is never synced; set TMPDIR to one on a disk"
        yield from (not_measured(name, floor, why) for name, floor in _names([*inside, *served], only))
        return
    with SyncedWrites(folder / "synced") as floor:
        _in_process(folder / "log", inside, floor, ROUNDS[quick], CHANGES[quick])
        if served:
            _served(folder, served, floor, ROUNDS[quick], CHANGES[quick])
        while len(floor.rounds_us) < ROUNDS[quick]:
            floor.round(FLOOR_WRITES)
    if only in FLOOR:
        yield Measurement(FLOOR, "", tuple(floor.rounds_us), (), **singles(floor.latencies_us))
    for each in (*inside, *served):
        if only in each.name:
            yield each.measurement(FLOOR)
        if each.callers == BUDGETED and only in each.fsyncs_name:
            yield each.fsyncs()


def _rows(prefix: str, callers: Sequence[int], only: str) -> list[Rounds]:
    """Return the rows that are asked for, or whose fsyncs are."""
    rows = [Rounds(f"{prefix}{kind}-{number}", kind, number) for kind in KINDS for number in callers]
    return [each for each in rows if any(True for _ in _names([each], only))]


def _names(rows: Sequence[Rounds], only: str) -> Iterator[tuple[str, str]]:
    """Yield the names that hold ``only``, each with its floor."""
    for each in rows:
        if only in each.name:
            yield each.name, FLOOR
        if each.callers == BUDGETED and only in each.fsyncs_name:
            yield each.fsyncs_name, each.changes_name


def _in_process(
    folder: Path, rows: Sequence[Rounds], floor: SyncedWrites, rounds: int, changes: dict[int, int]
) -> None:
    with StateWriter.open(folder, create=True) as writer:
        log = Log(writer)
        for _ in range(rounds):
            for each in rows:
                each.floor_us.append(floor.round(FLOOR_WRITES))
                items = log.prepare(each.kind, changes[each.callers])
                latencies: list[float] = []
                commits = writer.stats.commits
                ns = together(each.callers, timing(log.work(each.kind), latencies), items)
                commits = writer.stats.commits - commits
                each.drives.append(Drive(len(items), ns / 1000, commits, latencies))


def _served(
    folder: Path, rows: Sequence[Rounds], floor: SyncedWrites, rounds: int, changes: dict[int, int]
) -> None:
    home = Home.make(folder / "home-writes")
    environment = {"SESSAUTH_HOME": str(home.folder), "SESSAUTH_SERVER_LOG_LEVEL": "WARNING"}
    command = [*PYTHON, "-m", "sessauth.cli.main", "serve"]
    with running(command, home.target, folder / "server-writes.log", environment) as server:
        asyncio.run(_served_rounds(home, server, rows, floor, rounds, changes))


async def _served_rounds(
    home: Home,
    server: Server,
    rows: Sequence[Rounds],
    floor: SyncedWrites,
    rounds: int,
    changes: dict[int, int],
) -> None:
    async with Service(home, server) as service:
        for _ in range(rounds):
            for each in rows:
                each.floor_us.append(floor.round(FLOOR_WRITES))
                each.drives.append(await service.round(each.kind, each.callers, changes[each.callers]))


ROWS: Final = {
    FLOOR: "",
    **dict(_names([*_rows("writes/", CALLERS, ""), *_rows("writes/served-", CALLERS, "")], "")),
}
