"""The quick form as CI runs it, made slow on purpose: by far more than any machine's noise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
