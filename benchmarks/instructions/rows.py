"""The rows that are counted in instructions, and their budgets.

Everything is run with few calls and with many, and the difference divided by the calls between, so that
neither the start nor the loop counts. Two processes count, since addresses that chance decides can add to
one; as everywhere, the better end of the interval is judged.
"""

from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Final

from benchmarks import floors, state_setup
from benchmarks.host_info import ROOT
from benchmarks.instructions.cases import FLOORS, Case, cases
from benchmarks.instructions.driver import CASES
from benchmarks.measure import Measurement, not_measured

PREFIX: Final = "instructions/"
ROWS: Final = {PREFIX + name: PREFIX + floor if floor else "" for name, floor in FLOORS.items()}
UNIT: Final = "instructions"
# The compiled function of the floors that everything counted runs below.
COUNTED: Final = "sessauth_call_below"
MISSING: Final = "valgrind is not installed (Debian: valgrind)"
SECONDS: Final = 300
PROCESSES: Final = 2
VALGRIND: Final = (
    "valgrind",
    "--quiet",
    "--tool=callgrind",
    f"--toggle-collect={COUNTED}",
    f"--dump-after={COUNTED}",
)
DRIVER: Final = (sys.executable, "-m", "benchmarks.instructions.driver")


def measurements(folder: Path, *, quick: bool, only: str = "") -> Iterator[Measurement]:
    """Yield the counted rows; ``only`` must begin like their names, since counting takes all of them."""
    if only and not only.startswith(PREFIX.rstrip("/")):
        return
    below = folder / "instructions"
    below.mkdir(mode=0o700)
    measured = state_setup.build(below)
    try:
        chosen = cases(measured)
    finally:
        measured.close()
    if shutil.which("valgrind") is None:
        yield from (not_measured(PREFIX + case.name, ROWS[PREFIX + case.name], MISSING) for case in chosen)
        return
    yield from (each for each in rows(chosen, count(below, chosen)) if only in each.name)


def rows(chosen: Sequence[Case], counted: Sequence[Sequence[int]]) -> Iterator[Measurement]:
    """Yield a row for each case. Each process gave two counts a case, with few calls and with many."""
    per_call: dict[str, tuple[float, ...]] = {}
    for place, case in enumerate(chosen):
        between = case.many - case.few
        per_call[case.name] = tuple((each[2 * place + 1] - each[2 * place]) / between for each in counted)
        floor = per_call[case.floor] if case.floor else ()
        yield Measurement(PREFIX + case.name, ROWS[PREFIX + case.name], per_call[case.name], floor, unit=UNIT)


def count(folder: Path, chosen: Sequence[Case]) -> list[list[int]]:
    """Return how many instructions each run of each case took, in each process.

    Raises RuntimeError with what went wrong.
    """
    floors.build(folder)
    (folder / CASES).write_bytes(pickle.dumps(list(chosen)))
    steady = steady_addresses()
    runs = []
    for number in range(PROCESSES):
        command = [
            *steady,
            *VALGRIND,
            f"--callgrind-out-file={folder / f'counted-{number}'}",
            *DRIVER,
            str(folder),
        ]
        runs.append(
            subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=PIPE, stderr=STDOUT, text=True)
        )
    try:
        ended = [(run.communicate(timeout=SECONDS)[0], run.returncode) for run in runs]
    finally:
        for run in runs:
            run.kill()
            run.wait()
    counted = []
    for number, (said, status) in enumerate(ended):
        files = sorted(folder.glob(f"counted-{number}.*"), key=lambda file: int(file.suffix[1:]))
        if status != 0 or len(files) != 2 * len(chosen):
            raise RuntimeError(f"{len(files)} of {2 * len(chosen)} counts were made:\n{said}")
        counted.append([total(file.read_text("utf-8", "replace")) for file in files])
    return counted


def steady_addresses() -> list[str]:
    """Return the command that keeps addresses the same in each process, or nothing where it may not.

    Python looks attributes up in a table by addresses; where two share a place, each look-up takes hundreds
    of instructions more.
    """
    command = ["setarch", "-R"]
    if shutil.which(command[0]) is None:
        return []
    tried = subprocess.run([*command, "true"], stdout=DEVNULL, stderr=DEVNULL)
    return command if tried.returncode == 0 else []


def environment() -> dict[str, str]:
    """Return what a counted process is given: as little as it needs, and a fixed hash seed."""
    kept = {
        name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ
    }
    return {**kept, "PYTHONHASHSEED": "0"}


def total(text: str) -> int:
    """Return the total of a file that callgrind wrote; raises RuntimeError if it has none."""
    found = re.search(r"^totals: (\d+)$", text, re.M)
    if found is None:
        raise RuntimeError("callgrind wrote no total")
    return int(found[1])
