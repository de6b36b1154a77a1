"""Signals that end a process: however many come at once, it ends."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from sessauth.server.process.init import initialise
from tests.support.service import ServerProcess, home_folder, wait_until

WAITS = """
import signal, threading, time
from sessauth.server.process.signals import set_on
stop = threading.Event()
set_on(stop, signal.SIGTERM, signal.SIGINT)
print(flush=True)
while not stop.wait(0.2):
    pass
time.sleep(0.02)
"""
# A handler that sets the event itself hangs in one of eight such bursts.
BURSTS = 40


def burst(process: subprocess.Popen[bytes]) -> None:
    """Send both signals in turns for some milliseconds."""
    end = time.perf_counter() + 0.004
    numbers = 0
    while time.perf_counter() < end and process.poll() is None:
        process.send_signal((signal.SIGTERM, signal.SIGINT)[numbers % 2])
        numbers += 1
        time.sleep(random.random() * 3e-5)


def test_no_burst_of_signals_hangs_a_wait() -> None:
    """Handlers that interrupt the wait, and each other."""
    for _ in range(BURSTS):
        with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            burst(process)
            try:
                assert process.wait(20) == 0
            except subprocess.TimeoutExpired:
                process.kill()
                pytest.fail("it hangs")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_server_ends_by_a_burst(workers: int) -> None:
    """It drains once, and ends well."""
    with home_folder() as home:
        initialise(home)
        settings = {"SESSAUTH_SERVER_WORKERS": str(workers), "SESSAUTH_LIMITS_DRAIN_MS": "500"}
        server = ServerProcess.start(home, **settings)
        try:
            assert wait_until(lambda: '"event": "serving"' in server.log), server.log
            burst(server.process)
            assert server.process.wait(20) == 0, server.log
        finally:
            server.kill()
