"""Server processes under measurement: the real one and the echo, and the CPU time that they used."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

from benchmarks.host_info import ROOT

PYTHON = (sys.executable,)
READY_SECONDS = 30.0
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Server:
    """A running server process, or several of one server: where it listens, and the process ids."""

    target: str
    pids: tuple[int, ...]

    def cpu_us(self) -> float:
        """Return the CPU time of all threads of its processes so far, in us."""
        total = 0
        for pid in self.pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                try:
                    total += int((task / "schedstat").read_text().split()[0])
                except FileNotFoundError:
                    continue
        return total / 1000


@contextmanager
def on_cores(cores: Collection[int]) -> Iterator[None]:
    """Run this thread, and all that it starts, on ``cores`` alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def on_any_core(pids: Iterable[int]) -> Iterator[None]:
    """Let all threads of these processes run on every core."""
    before: dict[int, set[int]] = {}
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                before[int(task.name)] = os.sched_getaffinity(int(task.name))
                os.sched_setaffinity(int(task.name), range(os.cpu_count() or 1))
    try:
        yield
    finally:
        for thread, cores in before.items():
            # It may have ended.
            with suppress(OSError):
                os.sched_setaffinity(thread, cores)


@contextmanager
def running(
    command: Sequence[str],
    target: str,
    log: Path,
    environment: dict[str, str] | None = None,
    *,
    cores: Collection[int] = (),
) -> Iterator[Server]:
    """Run a command until the block is left; it is ready when ``target`` can be connected to.

    With ``cores`` all of its threads run on those alone.

    Raises RuntimeError with the end of its log if it does not get ready.
    """
    with log.open("wb") as stream:
        with on_cores(cores or os.sched_getaffinity(0)):
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        try:
            _wait_until_ready(process, target, log)
            yield Server(target, (process.pid,))
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def workers(server: Server, sockets: Sequence[Path]) -> Server:
    """Return the workers of a running server once each listens on its socket, as one server.

    Raises RuntimeError if they do not get ready, or are not as many as their sockets.
    """
    until = time.monotonic() + READY_SECONDS
    for socket in sockets:
        while not _answers(f"unix:{socket}"):
            if time.monotonic() > until:
                raise RuntimeError(f"{socket}: its worker did not get ready")
    found = tuple(child for pid in server.pids for child in children(pid))
    if len(found) != len(sockets):
        raise RuntimeError(f"{len(sockets)} workers expected, {len(found)} found")
    return Server(f"unix:{sockets[0]}", found)


def children(pid: int) -> list[int]:
    """Return the processes whose parent is ``pid``, in ascending order."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text("utf-8", "replace")
            except OSError:
                continue
            # The name in brackets may hold anything; behind it come the state and the parent.
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return sorted(found)


def _wait_until_ready(process: subprocess.Popen[bytes], target: str, log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until and process.poll() is None:
        if _answers(target):
            return
    raise RuntimeError(f"{target} did not get ready:\n{log.read_text('utf-8', 'replace')[-2000:]}")


def _answers(target: str) -> bool:
    """Return True if a connection is ready within half a second."""
    with grpc.insecure_channel(target, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=0.5)
        except grpc.FutureTimeoutError:
            return False
        return True
