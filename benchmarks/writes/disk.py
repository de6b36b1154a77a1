"""The floor of a durable write, and whether the disk is one."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final, Self

from benchmarks.measure import NS_PER_US
from sessauth.state.lmdb.environment import open_environment

# About what a change takes in the log.
ROW_BYTES: Final = 300
IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})


def file_system(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the type of the file system that holds ``folder``, empty if it can't be told."""
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split()
        # Behind the dash, which follows a varying number of fields, stands the type.
        if fields[2] == wanted and "-" in fields:
            return fields[fields.index("-") + 1]
    return ""


class SyncedWrites:
    """Bare writes of LMDB, opened as the log opens it: one row, one commit, durable when it returns."""

    def __init__(self, folder: Path) -> None:
        """Make an environment in ``folder``."""
        folder.mkdir()
        self._env = open_environment(folder, readonly=False, map_size=1 << 28)
        self._next = 0
        self.latencies_us: list[float] = []
        self.rounds_us: list[float] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._env.close()

    def round(self, count: int) -> float:
        """Write so many rows one after the other; returns the us of each on average."""
        row = os.urandom(ROW_BYTES)
        begun = time.perf_counter_ns()
        for _ in range(count):
            started = time.perf_counter_ns()
            with self._env.begin(write=True) as txn:
                txn.put(self._next.to_bytes(8, "big"), row)
            self._next += 1
            self.latencies_us.append((time.perf_counter_ns() - started) / NS_PER_US)
        self.rounds_us.append((time.perf_counter_ns() - begun) / NS_PER_US / count)
        return self.rounds_us[-1]
