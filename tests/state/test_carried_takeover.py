"""A leader that dies, or whose disk fails, at each point of a commit: one effect once it is asked again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any

import lmdb
import pytest

from sessauth.clock import FixedClock
from sessauth.errors import StateFull
from sessauth.state.integrity.verify import verify
from sessauth.state.replication import carried_log
from tests.support import fault_disk
from tests.support.carried import Member, OneEngine, begin_cluster
from tests.support.changes import NOW, opening
from tests.support.costs import BLOCK
from tests.support.procs.carried_leader import KEY, SESSION, spend


class Points:
    """The engine's side of a leader in a process, which is killed at a point of the commit that spends."""

    def __init__(self, engine: OneEngine, point: str) -> None:
        """Kill at ``point``: before, appended, committed; or never."""
        self.engine, self.point, self.result = engine, point, ()
        self._spends = False

    def answer(self, process: subprocess.Popen[bytes], name: str, arguments: tuple[Any, ...]) -> Any:
        """Return the answer to one request; kills the process instead at the point."""
        if name == "spend_next":
            self._spends = True
        elif name == "is_spending":
            return self._spends
        elif name == "result":
            self.result = arguments
        elif name == "committed":
            self._kill_at("committed", process)
        else:
            if self._spends:
                self._kill_at("before", process)
            found = getattr(self.engine, name)(*arguments)
            if self._spends:
                self._kill_at("appended", process)
            return found
        return None

    def _kill_at(self, point: str, process: subprocess.Popen[bytes]) -> None:
        if self.point == point:
            process.kill()
            process.wait(30)
            raise EOFError


def run_leader(folder: Path, points: Points, environment: dict[str, str] | None = None) -> None:
    """Have a leader in a process run until it ends or is killed."""
    address = str(folder.parent / "s")
    command = [sys.executable, "-m", "tests.support.procs.carried_leader", str(folder), address]
    with (
        Listener(address, family="AF_UNIX") as listener,
        subprocess.Popen(command, env=environment or dict(os.environ)) as process,
    ):
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        try:
            with listener.accept() as connection:
                while True:
                    name, arguments = connection.recv()
                    connection.send(points.answer(process, name, arguments))
        except (EOFError, ConnectionError):
            process.wait(30)
        finally:
            watchdog.cancel()


def uses(member: Member) -> int:
    """Return how often the call was counted."""
    return member.writer.run(lambda group: group.rows.uses(SESSION, BLOCK, 0))


def begin(folder: Path) -> tuple[OneEngine, Member, Member]:
    """Begin with a session; the first server's folder is closed, for a process to open it."""
    engine, (one, two) = begin_cluster(folder, FixedClock(NOW), ("one", "two"))
    one.writer.submit(opening("open", SESSION)).result().raise_if_rejected()
    one.writer.close()
    engine.leading = None
    return engine, one, two


def ask_again(engine: OneEngine, one: Member, two: Member) -> None:
    """Ask the second server, which takes over; the first one comes back and follows. One effect at both."""
    engine.leading = None
    two.lead()
    outcome = two.writer.run(lambda group: group.submit(spend()))
    assert outcome.applied and uses(two) == 1
    assert two.writer.run(lambda group: group.submit(spend())) == outcome
    one.restart()
    assert not one.writer.braked
    one.follow()
    assert uses(one) == 1 and one.tables() == two.tables()
    for member in (one, two):
        member.writer.run(lambda group: verify(group.rows))
        member.writer.close()


@pytest.mark.parametrize(
    ("point", "carried", "held"), [("before", 0, 0), ("appended", 1, 0), ("committed", 1, 1)]
)
def test_a_leader_that_is_killed(tmp_path: Path, point: str, carried: int, held: int) -> None:
    """Nobody got an answer, so the caller asks the new leader."""
    engine, one, two = begin(tmp_path)
    points = Points(engine, point)
    run_leader(tmp_path / "one", points)
    assert not points.result
    one.restart()
    assert uses(one) == held
    # Of the record of the term and the one that spends, the folder has what was committed.
    assert engine.head.number - one.number == carried - held
    ask_again(engine, one, two)


def test_a_leader_whose_disk_fails_behind_the_append(tmp_path: Path) -> None:
    """It engages its brake, leads no more, and follows its own record once its disk is well."""
    engine, one, two = begin(tmp_path)
    points, library = Points(engine, ""), fault_disk.built(tmp_path)
    environment = fault_disk.environment(
        library, **{fault_disk.FAILS: tmp_path / "fails", fault_disk.JOURNAL: tmp_path / "journal"}
    )
    run_leader(tmp_path / "one", points, environment)
    assert points.result == ("OutcomeUnknown", True, False)
    one.restart()
    assert uses(one) == 0 and engine.head.number == one.number + 1
    ask_again(engine, one, two)


def test_a_map_that_is_full_once_the_place_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller hears a definite no, so the engine must not have the record."""
    engine, (one, two) = begin_cluster(tmp_path, FixedClock(NOW), ("one", "two"))
    head, write = engine.head, carried_log.write_position

    def full(*_: object) -> None:
        raise lmdb.MapFullError("full")

    monkeypatch.setattr(carried_log, "write_position", full)
    with pytest.raises(StateFull):
        one.writer.submit(opening("open", SESSION)).result()
    assert engine.head == head and one.carried.leader is not None
    monkeypatch.setattr(carried_log, "write_position", write)
    assert one.writer.submit(opening("open", SESSION)).result().applied
    two.follow()
    assert one.tables() == two.tables()
    for member in (one, two):
        member.writer.close()


def test_the_process_signs_with_the_members_key(tmp_path: Path) -> None:
    """The name of the first server and its key are those of the support."""
    _, (one,) = begin_cluster(tmp_path, FixedClock(NOW), ("one",))
    assert one.key.public_key == KEY.public_key
    one.writer.close()
