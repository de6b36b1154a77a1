"""Signals that end a process: however many come at once, it ends."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

from sessauth.server.process.init import initialise
from tests.support.service import ServerProcess, home_folder, wait_until

# Each process waits in a copy of one that has imported all it needs, and ends as Python ends.
WAITS = """
import os, signal, sys, threading, time
from sessauth.server.process.signals import set_on
for _ in sys.stdin:
    pid = os.fork()
    if pid:
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        continue
    stop = threading.Event()
    set_on(stop, signal.SIGTERM, signal.SIGINT)
    print(os.getpid(), flush=True)
    while not stop.wait(0.2):
        pass
    time.sleep(0.02)
    break
"""
# A handler that sets the event itself hangs in one of eight such bursts.
BURSTS = 40


def burst(send: Callable[[int], None]) -> None:
    """Send both signals in turns for some milliseconds."""
    end = time.perf_counter() + 0.004
    numbers = 0
    while time.perf_counter() < end:
        send((signal.SIGTERM, signal.SIGINT)[numbers % 2])
        numbers += 1
        time.sleep(random.random() * 3e-5)


def test_no_burst_of_signals_hangs_a_wait() -> None:
    """Handlers that interrupt the wait, and each other."""
    command = [sys.executable, "-c", WAITS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as copied:
        assert copied.stdin is not None and copied.stdout is not None
        for _ in range(BURSTS):
            copied.stdin.write(b"\n")
            copied.stdin.flush()
            waiting = os.pidfd_open(int(copied.stdout.readline()))
            try:
                with suppress(ProcessLookupError):
                    burst(partial(signal.pidfd_send_signal, waiting))
                assert select.select([waiting], [], [], 20)[0], "it hangs"
            finally:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(waiting, signal.SIGKILL)
                os.close(waiting)
            assert copied.stdout.readline() == b"0\n"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_server_ends_by_a_burst(workers: int) -> None:
    """It drains once, and ends well."""
    with home_folder() as home:
        initialise(home)
        settings = {"SESSAUTH_SERVER_WORKERS": str(workers), "SESSAUTH_LIMITS_DRAIN_MS": "500"}
        server = ServerProcess.start(home, **settings)
        try:
            assert wait_until(lambda: '"event": "serving"' in server.log), server.log
            burst(server.process.send_signal)
            assert server.process.wait(20) == 0, server.log
        finally:
            server.kill()
