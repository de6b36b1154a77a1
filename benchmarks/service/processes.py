"""Server processes under measurement: the real one and the echo, and the CPU time that they used."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from benchmarks.machine import ROOT

READY_SECONDS = 30.0
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Server:
    """A running server process: where it listens, and its process id."""

    target: str
    pid: int

    def cpu_us(self) -> float:
        """Return the CPU time of all its threads so far, in us."""
        total = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except FileNotFoundError:
                continue
        return total / 1000


@contextmanager
def running(
    arguments: Sequence[str], target: str, log: Path, environment: dict[str, str] | None = None
) -> Iterator[Server]:
    """Run ``python arguments`` until the block is left; it is ready when ``target`` can be connected to.

    Raises RuntimeError with the end of its log if it does not get ready.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
        try:
            _wait_until_ready(process, target, log)
            yield Server(target, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], target: str, log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with grpc.insecure_channel(target, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=0.5)
            except grpc.FutureTimeoutError:
                continue
            return
    raise RuntimeError(f"{target} did not get ready:\n{log.read_text('utf-8', 'replace')[-2000:]}")
