"""Starts the check workers and replaces those that die or hang.

A worker is started with exec, never forked from a process that runs gRPC. It drains when its pipe on stdin
closes, also when this process is killed. Its lines on stdout are its heartbeat; one that is silent too long
is killed and replaced. While a worker starts, the CPU time that it gets is its sign of life: a slow machine
delays a start and does not end it. A worker that fails again and again is started less and less often.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import sessauth

from ...state.host.processes import cpu_ticks
from ..config import Config
from ..keys.credentials import WorkerCredential
from ..log import event
from ..periodic import Background

# Without CPU time, of a worker that starts; twice as long after each start that failed.
START_SECONDS: Final = 20.0
LONGEST_START_SECONDS: Final = 320.0
SILENT_SECONDS: Final = 5.0
# A supervisor that did not run itself has not seen that a worker was silent.
LONGEST_POLL_SECONDS: Final = 1.0
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.1
# A worker that lived this long has not failed at starting: the next pause is the first one again.
SETTLED_SECONDS: Final = 10.0
# The heartbeat in place of "alive" while decisions can't be recorded.
UNRECORDED: Final = "unrecorded\n"


def with_package(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which a child process finds the very package that runs here."""
    root = str(Path(sessauth.__file__).resolve().parents[1])
    if root in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return dict(environ)
    paths = [root, *filter(None, [environ.get("PYTHONPATH")])]
    return {**environ, "PYTHONPATH": os.pathsep.join(paths)}


class Starts:
    """The starts of the workers of one supervisor. After one that failed they come one after the other."""

    def __init__(self) -> None:
        # How long a worker that starts may get no CPU time.
        self.seconds = START_SECONDS
        self._starting: set[int] = set()
        self._failed: set[int] = set()

    def may_start(self) -> bool:
        """Return True if another worker may start now."""
        return not (self._failed and self._starting)

    def started(self, index: int) -> None:
        """Note that the process of place ``index`` starts."""
        self._starting.add(index)

    def ready(self, index: int) -> None:
        """Note that worker ``index`` is ready. Once no place is left that failed, the first limits hold."""
        self._starting.discard(index)
        self._failed.discard(index)
        if not self._failed:
            self.seconds = START_SECONDS

    def ended(self, index: int) -> None:
        """Note that the process of place ``index`` ended; before it was ready, its start failed."""
        if index in self._starting:
            self._starting.discard(index)
            self._failed.add(index)
            self.seconds = min(2 * self.seconds, LONGEST_START_SECONDS)


class Worker:
    """One place for a worker, and the process that fills it now."""

    def __init__(
        self,
        config: Config,
        index: int,
        credential: WorkerCredential,
        metrics: int = -1,
        starts: Starts | None = None,
    ) -> None:
        """Prepare place ``index``; :meth:`start` fills it with a process with ``credential``.

        ``metrics`` is the descriptor of the process's page, -1 for none. ``starts`` are those of all places.
        """
        self._config = config
        self._credential = credential
        self._metrics = metrics
        self._starts = starts or Starts()
        self.index = index
        self.ready = threading.Event()
        self.records = True
        self.restarts = 0
        self._process: subprocess.Popen[str] | None = None
        # The settings are the first line of a process's stdin.
        self._writing = threading.Lock()
        self._started = 0.0
        self._reported_slow = False
        self._lines = 0
        # Lines and CPU time at the last poll, when that was, and since how many seconds they are the same.
        self._signs = (0, 0)
        self._polled_at = 0.0
        self._silent_seconds = 0.0
        self._pause = FIRST_PAUSE_SECONDS
        self._start_at = 0.0

    @property
    def pid(self) -> int:
        """The process id, 0 while there is no process."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start a process and give it its settings."""
        with self._writing:
            self._start()

    def _start(self) -> None:
        self.ready.clear()
        process = subprocess.Popen(
            # -P: nothing is imported from the folder that the server is started in.
            [sys.executable, "-P", "-m", "sessauth.server.process.worker"],
            env=with_package(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=() if self._metrics < 0 else (self._metrics,),
            # A Ctrl-C is for the control process, which drains its workers in order.
            start_new_session=True,
        )
        self._process = process
        self._starts.started(self.index)
        self._started = self._polled_at = time.monotonic()
        self._silent_seconds = 0.0
        self._reported_slow = False
        threading.Thread(
            target=self._listen, args=(process,), name=f"sessauth-worker-{self.index}", daemon=True
        ).start()
        settings = json.dumps(
            {
                "config": self._config.to_dict(),
                "index": self.index,
                "credential": self._credential.text,
                "metrics": self._metrics,
                "start_seconds": self._starts.seconds,
            }
        )
        try:
            self._write_line(process, settings)
        except BrokenPipeError:
            event(logging.ERROR, "worker_died_at_start", index=self.index)

    def set_log_level(self, level: str) -> None:
        """Set the level of the process's log, and of those that replace it."""
        with self._writing:
            server = replace(self._config.server, log_level=level)
            self._config = replace(self._config, server=server)
            # One that ended, or whose pipe was closed, is replaced.
            with suppress(OSError, ValueError):
                if self._process is not None:
                    self._write_line(self._process, json.dumps({"log_level": level}))

    def supervise(self) -> None:
        """Kill a process that is silent, and start another if none runs."""
        now = time.monotonic()
        process = self._process
        if process is not None and process.poll() is None:
            self._look(process, now)
            return
        if process is not None:
            self.ready.clear()
            self._starts.ended(self.index)
            event(logging.ERROR, "worker_died", index=self.index, pid=process.pid, status=process.returncode)
            self._close_pipes(process)
            self._process = None
            if now - self._started > SETTLED_SECONDS:
                self._pause = FIRST_PAUSE_SECONDS
            self._start_at = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        if now >= self._start_at and self._starts.may_start():
            # If no process can be started the next attempt waits too.
            self._start_at = now + self._pause
            self.restarts += 1
            self.start()

    def _look(self, process: subprocess.Popen[str], now: float) -> None:
        """Kill a process without a sign of life for too long."""
        ready = self.ready.is_set()
        if ready:
            self._starts.ready(self.index)
        signs = (self._lines, 0 if ready else cpu_ticks(process.pid))
        if signs == self._signs:
            self._silent_seconds += min(now - self._polled_at, LONGEST_POLL_SECONDS)
        else:
            self._silent_seconds = 0.0
        self._signs, self._polled_at = signs, now
        limit = SILENT_SECONDS if ready else self._starts.seconds
        if self._silent_seconds > limit:
            process.kill()
            fields = {"ready": ready, "seconds": limit}
            event(logging.ERROR, "worker_silent", index=self.index, pid=process.pid, **fields)
        elif not ready and not self._reported_slow and now - self._started > START_SECONDS:
            self._reported_slow = True
            event(logging.WARNING, "worker_starts_slowly", index=self.index, pid=process.pid)

    def stop(self, within_seconds: float) -> None:
        """Let the process drain; kill it if it takes longer than ``within_seconds``."""
        process = self._process
        if process is None:
            return
        try:
            if process.stdin is not None:
                process.stdin.close()
        except BrokenPipeError:
            event(logging.INFO, "worker_gone", index=self.index)
        try:
            process.wait(within_seconds)
        except subprocess.TimeoutExpired:
            event(logging.ERROR, "worker_did_not_drain", index=self.index, pid=process.pid)
            process.kill()
            process.wait()
        self._close_pipes(process)
        self._process = None

    def _listen(self, process: subprocess.Popen[str]) -> None:
        if process.stdout is None:
            return
        try:
            for line in process.stdout:
                if process is self._process:
                    self._lines += 1
                    if line == "ready\n":
                        self.ready.set()
                    else:
                        self.records = line != UNRECORDED
        except ValueError:
            # The pipe was closed under us: the process is gone.
            return

    @staticmethod
    def _write_line(process: subprocess.Popen[str], line: str) -> None:
        if process.stdin is not None:
            process.stdin.write(line + "\n")
            process.stdin.flush()

    @staticmethod
    def _close_pipes(process: subprocess.Popen[str]) -> None:
        for pipe in (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except BrokenPipeError:
                continue


class Supervisor:
    """The workers of a control process."""

    def __init__(self, config: Config, credential: WorkerCredential, metrics: Sequence[int] = ()) -> None:
        """Prepare ``server.workers`` places, for processes with ``credential``.

        ``metrics`` holds the descriptor of each one's page; empty: no pages.
        """
        self._config = config
        starts = Starts()
        self.workers = [
            Worker(config, index, credential, metrics[index] if metrics else -1, starts)
            for index in range(config.server.workers)
        ]
        tasks = [(f"worker {worker.index}", worker.supervise) for worker in self.workers]
        self._background = Background(tasks, "sessauth-supervisor", POLL_SECONDS)

    @property
    def restarts(self) -> int:
        """The number of workers started in place of one that ended."""
        return sum(worker.restarts for worker in self.workers)

    def set_log_level(self, level: str) -> None:
        """Set the level of the log of all workers."""
        for worker in self.workers:
            worker.set_log_level(level)

    def start(self) -> None:
        """Start all workers and begin to supervise them."""
        for worker in self.workers:
            worker.start()
        if self.workers:
            self._background.start()

    def wait_ready(self, timeout: float) -> bool:
        """Wait until every worker is ready; False if that takes longer than ``timeout`` seconds."""
        until = time.monotonic() + timeout
        return all(worker.ready.wait(max(0.0, until - time.monotonic())) for worker in self.workers)

    def all_record(self) -> bool:
        """Return True unless a worker's last heartbeat reported unrecorded decisions."""
        return all(worker.records for worker in self.workers)

    def stop(self) -> None:
        """Drain all workers."""
        self._background.stop()
        grace = self._config.limits.drain_ms / 1000 + 2.0
        stoppers = [threading.Thread(target=worker.stop, args=(grace,)) for worker in self.workers]
        for thread in stoppers:
            thread.start()
        for thread in stoppers:
            thread.join()
