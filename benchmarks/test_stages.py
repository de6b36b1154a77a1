"""The stages of this process by pytest-benchmark, so that two runs of one machine can be compared.

    pytest benchmarks/test_stages.py --benchmark-autosave
    pytest-benchmark compare --group-by name --columns min,median,iqr

Not collected by ``make test``. A figure is the time of one block, whose number of calls stands in the name.
Decisions are asserted when the rows are made; what is not comparable across machines is better measured by
``python -m benchmarks``, which takes ratios to floors of the same run.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks import floors, state_setup
from benchmarks.measure import Row

pytest_benchmark = pytest.importorskip("pytest_benchmark", reason="dependency group `bench`")

MODULES: Final = ("breakdown", "warm", "cold", "denials", "proofs", "batch")
ROUNDS: Final = 60
WARMUP_ROUNDS: Final = 3


@functools.cache
def rows() -> dict[str, Row]:
    """Make the rows, once; their state folder is removed when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="sa-bench-")
    atexit.register(folder.cleanup)
    path = Path(folder.name)
    module, made = floors.build(path), state_setup.build(path)
    found = [
        row
        for name in MODULES
        for row in importlib.import_module(f"benchmarks.stages.{name}").rows(made, module)
    ]
    return {f"{row.subject.name} x{len(row.subject.prepare(row.subject.calls))}": row for row in found}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each row."""
    metafunc.parametrize("row", rows().values(), ids=list(rows()))


@pytest.mark.benchmark(disable_gc=True)
def test_stage(benchmark: Any, row: Row) -> None:
    """Time blocks of calls, each with fresh inputs."""
    subject = row.subject
    benchmark.group = subject.name.partition("/")[0]
    benchmark.extra_info["floor"] = row.floor.name if row.floor else ""
    benchmark.pedantic(
        subject.run,
        setup=lambda: ((subject.prepare(subject.calls),), {}),
        rounds=ROUNDS,
        warmup_rounds=WARMUP_ROUNDS,
    )
