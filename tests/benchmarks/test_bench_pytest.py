"""Rows under pytest-benchmark: no test here depends on how fast anything is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measure import Loop, Row
from benchmarks.turns import TIMER, Turns
from tests.support.tree import ROOT

ROWS = """
from benchmarks.measure import Loop, Row

def take(items):
    for _ in items:
        pass

ROW = Row(Loop("own", 10, range, take), Loop("floor/same", 10, range, take))

def test_met(timed):
    timed(ROW, 1e9)

def test_missed(timed):
    timed(ROW, 1e-9)
"""


def _pytest(*options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--benchmark-max-time=0.01",
        *options,
    ]
    # The plug-in times nothing in a process that says it is one of several workers.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    return subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=110)


def _rows(file: Path) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(file.read_text("utf-8"))["benchmarks"]}


def test_a_row_has_its_ratio_and_its_floor_in_the_results(tmp_path: Path) -> None:
    """An allowed check and a denial are timed per call, with ratio, floor and the largest ratio beside it."""
    pytest.importorskip("pytest_benchmark")
    file = tmp_path / "result.json"

    answer = _pytest(
        "benchmarks", "--benchmark-only", "-k", "warm/root or ended-session", f"--benchmark-json={file}"
    )

    rows = _rows(file)
    assert rows.keys() == {"test_check[warm/root]", "test_check[refusal/ended-session]"}, answer.stdout
    assert [row["extra_info"]["floor"] for row in rows.values()] == ["floor/lookup", "floor/signatures-1"]
    for row in rows.values():
        assert row["extra_info"]["ratio"] > 0 and row["extra_info"]["at_most"] > 0
        assert row["stats"]["rounds"] >= 5


def test_a_missed_ratio_fails_and_names_the_figure(tmp_path: Path) -> None:
    """A row within its bound prints its figure when measured; one beyond it fails with figure and bound."""
    pytest.importorskip("pytest_benchmark")
    file = tmp_path / "test_rows.py"
    file.write_text(ROWS, "utf-8")

    answer = _pytest("-c", "pyproject.toml", "-p", "benchmarks.conftest", file)

    assert answer.returncode == 1, answer.stdout + answer.stderr
    figures = [line for line in answer.stdout.splitlines() if line.startswith("own: ")]
    assert [figure.partition("floor/same")[2][:17] for figure in figures] == [
        " (at most 1e+09)F",
        ", at most 1e-09",
    ]
    assert "1 failed, 1 passed" in answer.stdout


def test_row_and_floor_take_turns_and_a_block_is_timed_per_call() -> None:
    """Each block of the row comes after one of the floor; the timer divides by the calls of the block."""
    ran: list[str] = []

    def subject(name: str, calls: int) -> Loop:
        return Loop(name, calls, lambda count: [None] * count, lambda items: ran.append(name))

    def below(run: Any, items: Sequence[Any], depth: int) -> Any:
        return run(items)

    turns = Turns(Row(subject("row", 7), subject("floor", 3)), below)
    turns.warm_up()
    for _ in range(2):
        arguments, keywords = turns.next()
        below(*arguments, **keywords)

    assert ran == ["floor", "row"] * 3
    assert (TIMER.calls, len(turns.floor_us)) == (7, 2)
