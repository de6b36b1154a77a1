"""The replay table between threads and processes: one of any number wins, also when some of them die."""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sessauth._fast._check import ReplayTable
from sessauth.reasons import Reason
from tests.support.procs.nonce_consumer import NOW, SIGNATURE, nonces
from tests.support.tree import ROOT

# The smallest table: 16 buckets, each with its lock in the first of 16 words.
SLOTS, BUCKETS, BUCKET_BYTES, FIRST = 256, 16, 128, 4096 + 16 * 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a test's table."""
    return tmp_path / "replay"


@contextmanager
def taker(order: str) -> Iterator[subprocess.Popen[str]]:
    """A process that takes nonces as ordered."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.procs.nonce_consumer"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        tell(process, order)
        yield process
    finally:
        process.kill()
        process.communicate()


def tell(process: subprocess.Popen[str], line: str) -> None:
    """Write a line to a process."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> Any:
    """Return the next line of a process."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def heard_ready(process: subprocess.Popen[str]) -> bool:
    """Return True once the process reports that it is ready."""
    assert process.stdout is not None
    return process.stdout.readline() == "ready\n"


def winners(found: list[list[int]]) -> list[list[Reason]]:
    """Return each process's result for each nonce."""
    return [sorted(map(Reason, each)) for each in zip(*found, strict=True)]


def test_of_many_processes_one_wins(path: Path) -> None:
    """Four processes take the same 5,000 nonces in the same order: each is allowed once."""
    ReplayTable.create(path, 1 << 16, NOW)
    orders = [f"race {path} 7 5000"] * 4
    with taker(orders[0]) as a, taker(orders[1]) as b, taker(orders[2]) as c, taker(orders[3]) as d:
        takers = (a, b, c, d)
        assert all(map(heard_ready, takers))
        for each in takers:
            tell(each, "go")
        found = [hear(each) for each in takers]

    assert winners(found) == [[Reason.ALLOWED, *[Reason.REPLAYED] * 3]] * 5000


def test_of_many_threads_one_wins(path: Path) -> None:
    """Eight threads, each with an opening of its own, take the same nonces: each is allowed once."""
    ReplayTable.create(path, 1 << 16, NOW)
    wanted, found = nonces(8, 3000), [[0] * 3000 for _ in range(8)]
    start = threading.Barrier(8)

    def run(at: int) -> None:
        table = ReplayTable.open(path)
        start.wait()
        found[at] = [table.insert(SIGNATURE, once, bytes([once[0]]) * 32, NOW, NOW) for once in wanted]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))

    assert winners(found) == [[Reason.ALLOWED, *[Reason.REPLAYED] * 7]] * 3000


def test_a_lock_that_a_dead_process_held_is_taken_away(path: Path) -> None:
    """Every bucket with a dead lock is free again after one wait."""
    table = ReplayTable.create(path, SLOTS, NOW)
    with path.open("r+b") as file:
        for bucket in range(BUCKETS):
            file.seek(FIRST + bucket * BUCKET_BYTES)
            file.write(b"\x05" * 8)
    found = [Reason(table.insert(SIGNATURE, once, once * 2, NOW, NOW)) for once in nonces(1, 600)]

    # So small a table has few counters, so strangers share theirs.
    assert found[:8] == [Reason.ALLOWED] * 8
    assert set(found) <= {Reason.ALLOWED, Reason.PROOF_UNAVAILABLE}
    with path.open("rb") as file:
        data = file.read()
    locks = [data[FIRST + at * BUCKET_BYTES :][:8] for at in range(BUCKETS)]
    assert set(locks) == {bytes(8)}


def test_a_killed_process_leaves_a_table_that_works(path: Path) -> None:
    """A killed process's nonces stay consumed, and other processes continue."""
    table = ReplayTable.create(path, SLOTS, NOW)
    for _ in range(5):
        with taker(f"again {path} 60") as process:
            hear(process)
            time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert Reason(table.insert(SIGNATURE, bytes(16), bytes(32), NOW, NOW)) is Reason.REPLAYED
    assert Reason(table.insert(SIGNATURE, b"n" * 16, bytes(32), NOW, NOW)) is Reason.ALLOWED


def _stopped_with_a_lock(process: subprocess.Popen[str], page: mmap.mmap) -> bool:
    """Stop the process where it holds a lock; False if that was not met."""
    for _ in range(2000):
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        if any(page[FIRST + at * BUCKET_BYTES :][:8] != bytes(8) for at in range(BUCKETS)):
            return True
        process.send_signal(signal.SIGCONT)
        time.sleep(0.001)
    return False


def test_who_lost_its_lock_is_denied(path: Path) -> None:
    """A process that was stopped while it held a lock, and comes back when it was taken away, gets no yes."""
    table = ReplayTable.create(path, SLOTS, NOW)
    with taker(f"again {path} 60") as process, path.open("rb") as file:
        assert Reason(hear(process)) is Reason.ALLOWED
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as page:
            assert _stopped_with_a_lock(process, page)
        # The same nonce, so the same bucket.
        assert Reason(table.insert(SIGNATURE, bytes(16), bytes(32), NOW, NOW)) is Reason.REPLAYED
        process.send_signal(signal.SIGCONT)
        tell(process, "stop")
        found = {Reason(int(reason)): count for reason, count in hear(process).items()}

    assert set(found) == {Reason.REPLAYED, Reason.PROOF_UNAVAILABLE}
    assert found[Reason.PROOF_UNAVAILABLE] == 1


def test_a_forked_child_is_another_taker(path: Path) -> None:
    """Parent and child race on the same nonces through one opening: each is allowed once."""
    ReplayTable.create(path, 1 << 16, NOW)
    with taker(f"fork {path} 9 2000") as process:
        found = hear(process)

    assert winners(found) == [[Reason.ALLOWED, Reason.REPLAYED]] * 2000
