"""The supervisor's starts of workers, by a clock of the test and processes that do nothing."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from sessauth.server.config import from_dict
from sessauth.server.keys.credentials import WorkerCredential
from sessauth.server.process import supervisor as supervising
from sessauth.server.process.supervisor import SILENT_SECONDS, START_SECONDS, Supervisor
from sessauth.server.rpc.access import WORKER
from sessauth.state.host.processes import cpu_ticks


class SlowMachine:
    """Processes that get as much CPU time as the test gives them, and seconds that it lets pass."""

    def __init__(self) -> None:
        """Begin with no process."""
        self.now = 1000.0
        self.processes: list[IdleProcess] = []
        self.events: list[tuple[str, dict[str, Any]]] = []

    def start(self, *_: object, **__: object) -> IdleProcess:
        """Start a process, in place of ``Popen``."""
        self.processes.append(IdleProcess(len(self.processes)))
        return self.processes[-1]

    def running(self) -> list[int]:
        """The numbers of the processes that were neither killed nor ended."""
        return [process.pid for process in self.processes if process.returncode is None]

    def pass_seconds(
        self, supervisor: Supervisor, seconds: float, *, ticks: int = 0, step: float = 0.5
    ) -> None:
        """Let the supervisor look every ``step`` seconds; each process gets ``ticks`` each time."""
        for _ in range(round(seconds / step)):
            self.now += step
            for process in self.processes:
                process.ticks += ticks
            for _name, task in supervisor._background._tasks:
                task()


class IdleProcess:
    """A process that the test ends, and makes ready."""

    def __init__(self, pid: int) -> None:
        """Run, with ``pid``."""
        self.pid, self.ticks = pid, 0
        self.returncode: int | None = None
        self.stdin = io.StringIO()
        reading, self._writing = os.pipe()
        self.stdout = open(reading, encoding="utf-8")  # noqa: SIM115 - the supervisor closes it
        self._open = True

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        return self.returncode

    def kill(self) -> None:
        """End it, as SIGKILL does."""
        self.returncode = -9
        self.close()

    def wait(self, *_: object) -> int:
        """End it, as one that drained."""
        self.returncode = self.returncode or 0
        self.close()
        return self.returncode

    def write_line(self, line: str) -> None:
        """Write a line on its stdout."""
        os.write(self._writing, f"{line}\n".encode())

    def close(self) -> None:
        """Close its end of the pipe."""
        if self._open:
            self._open = False
            os.close(self._writing)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SlowMachine:
    """A machine in place of the one that the test runs on."""
    made = SlowMachine()
    monkeypatch.setattr(supervising.subprocess, "Popen", made.start)
    monkeypatch.setattr(supervising.time, "monotonic", lambda: made.now)
    monkeypatch.setattr(supervising, "cpu_ticks", lambda pid: made.processes[pid].ticks)
    monkeypatch.setattr(supervising, "event", lambda _, name, **fields: made.events.append((name, fields)))
    return made


def _supervisor(tmp_path: Path, workers: int) -> Supervisor:
    config = from_dict({"home": str(tmp_path), "server": {"workers": workers}})
    supervisor = Supervisor(config, WorkerCredential.make(WORKER))
    for worker in supervisor.workers:
        worker.start()
    return supervisor


def test_a_slow_start_is_waited_for(machine: SlowMachine, tmp_path: Path) -> None:
    """A worker that gets 1 % of a core may start for ten minutes; the log says once that it is slow."""
    supervisor = _supervisor(tmp_path, 1)

    machine.pass_seconds(supervisor, 600, ticks=1, step=1.0)

    assert machine.running() == [0]
    assert [name for name, _ in machine.events] == ["worker_starts_slowly"]
    supervisor.stop()


def test_a_start_without_progress_is_ended_later_each_time(machine: SlowMachine, tmp_path: Path) -> None:
    """A worker without CPU time is killed after a limit that doubles each time, until one was ready."""
    supervisor = _supervisor(tmp_path, 1)

    machine.pass_seconds(supervisor, 2000)

    limits = [fields["seconds"] for name, fields in machine.events if name == "worker_silent"]
    assert limits[:6] == [START_SECONDS * 2**count for count in range(5)] + [
        supervising.LONGEST_START_SECONDS
    ]

    machine.processes[-1].write_line("ready")
    assert supervisor.workers[0].ready.wait(10)
    machine.pass_seconds(supervisor, SILENT_SECONDS + 1.5)
    machine.pass_seconds(supervisor, START_SECONDS + 6)
    limits = [fields["seconds"] for name, fields in machine.events if name == "worker_silent"]
    assert limits[-2:] == [SILENT_SECONDS, START_SECONDS]
    supervisor.stop()


def test_after_a_failed_start_workers_start_one_by_one(machine: SlowMachine, tmp_path: Path) -> None:
    """Once a start failed, the next worker waits until the one that starts is ready or has failed."""
    supervisor = _supervisor(tmp_path, 3)
    assert machine.running() == [0, 1, 2]
    for process in machine.processes:
        process.kill()

    machine.pass_seconds(supervisor, 60, ticks=1)
    assert machine.running() == [3]

    for number in (3, 4, 5):
        machine.processes[number].write_line("ready")
        assert supervisor.workers[number - 3].ready.wait(10)
        machine.pass_seconds(supervisor, 1, ticks=1)
    assert machine.running() == [3, 4, 5]
    supervisor.stop()


def test_a_supervisor_that_did_not_run_kills_nobody(machine: SlowMachine, tmp_path: Path) -> None:
    """A minute in which the control process itself was stopped is no silence of its workers."""
    supervisor = _supervisor(tmp_path, 1)
    machine.processes[0].write_line("ready")
    assert supervisor.workers[0].ready.wait(10)

    machine.pass_seconds(supervisor, 60, step=60.0)
    machine.pass_seconds(supervisor, SILENT_SECONDS - 2)
    assert machine.running() == [0]

    machine.pass_seconds(supervisor, SILENT_SECONDS)
    assert 0 not in machine.running()
    supervisor.stop()


def test_cpu_time_is_that_of_the_process(tmp_path: Path) -> None:
    """The CPU time of a process is its user and system time; of an unknown one 0."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text("7 (a b) c) S 1 7 7 0 -1 4 1 0 0 0 13 29 5 6 20 0 1 0 900 1 1\n")

    assert cpu_ticks(7, tmp_path) == 42
    assert cpu_ticks(8, tmp_path) == 0
