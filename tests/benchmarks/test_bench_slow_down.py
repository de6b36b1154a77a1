"""The quick form as CI runs it, made slow on purpose: by far more than any machine's noise."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measure import Loop, Plan, Row, measure, slowed
from tests.support.tree import ROOT

ROW = "warm/root"


def _quick(file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", ROW, "--json", str(file), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)


def _missed(answer: subprocess.CompletedProcess[str]) -> list[str]:
    said = [line.split(": ") for line in answer.stderr.splitlines() if line.startswith("budget missed: ")]
    return [row for _, row, *_ in said]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [("--cache-bytes", "0"), ("--slow-down-us", "30")], ids=["no cache", "delay"]
)
def test_a_slow_down_fails_the_quick_form(options: tuple[str, ...], tmp_path: Path) -> None:
    """Without the cache of verified chains, and with 30 us wasted in each call, the run names the budget."""
    file = tmp_path / "result.json"

    answer = _quick(file, *options)

    assert answer.returncode == 1, answer.stderr
    assert ROW in _missed(answer)
    written = json.loads(file.read_text("utf-8"))
    assert {row["name"]: row["verdict"] for row in written["rows"]}[ROW] == "MISSED"
    assert written["options"][options[0].lstrip("-").replace("-", "_")] == int(options[1])


def test_a_row_that_is_slowed_down_makes_its_calls_and_wastes_the_time() -> None:
    """Each call of the subject is made once and takes so much longer; the floor stays as it is."""
    now, made = [0], [0]

    def clock() -> int:
        now[0] += 1
        return now[0]

    def run(items: Sequence[Any]) -> None:
        made[0] += len(items)

    subject = Loop("warm/x", 10, lambda count: [None] * count, run)
    row = Row(subject, subject)
    slow = slowed(row, 5, clock)

    measured = measure(slow.subject, slow.floor, Plan(rounds=7, blocks=1, singles=1), clock)

    assert slowed(row, 0) is row and slow.floor is subject and slow.subject.name == "warm/x"
    assert made[0] == 10 * (2 + 7 * 2) + 1
    assert 5.0 <= measured.middle < 5.1 and max(measured.floor_rounds) < 0.1
