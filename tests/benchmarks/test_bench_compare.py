"""The stages by pytest-benchmark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("benchmarks.measure", reason="the benchmarks are not part of the installed package")
pytest.importorskip("pytest_benchmark", reason="dependency group `bench`")

from tests.support.tree import ROOT


def test_a_stage_is_timed_and_saved(tmp_path: Path) -> None:
    """A row becomes a benchmark with group, floor and number of calls, in the file that is compared."""
    file = tmp_path / "saved.json"
    command = [sys.executable, "-m", "pytest", "benchmarks/test_stages.py", "-q", "-k", "decode/root"]
    plugins = ["-p", "no:xdist", "-p", "no:cacheprovider", f"--benchmark-json={file}"]

    # Else it takes itself for a worker of the run that this test is in, and times nothing.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}

    answer = subprocess.run(
        [*command, *plugins], cwd=ROOT, env=alone, capture_output=True, text=True, timeout=110
    )

    assert answer.returncode == 0, answer.stdout + answer.stderr
    (row,) = json.loads(file.read_text("utf-8"))["benchmarks"]
    assert (row["group"], row["name"]) == ("decode", "test_stage[decode/root x200]")
    assert row["extra_info"] == {"floor": "floor/lookup"} and row["stats"]["min"] > 0
