"""Recorded sessions, as the judge of suggested grants reads them."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.grants import recorded, tables
from benchmarks.grants.__main__ import main
from benchmarks.grants.measures import measure
from benchmarks.results_file import read


def test_recorded_sessions_are_read_in_both_forms(tmp_path: Path) -> None:
    """Results of tau-bench, and the plain form; each session is judged by the others of its task."""
    calls = [["get_user", {"id": "u1"}], ["send_money", {"to": "ana", "n": 5, "text": "for lunch"}]]
    plain = {"reads": ["get_user"], "sessions": [{"task": "1", "calls": calls}] * 3}
    traj = [
        {
            "tool_calls": [
                {"function": {"name": name, "arguments": json.dumps(given)}} for name, given in calls
            ]
        }
    ]
    (tmp_path / "a.json").write_text(json.dumps(plain))
    (tmp_path / "b.json").write_text(json.dumps([{"task_id": 1, "traj": traj}] * 2))
    found = measure(recorded.cases(tmp_path))[0]
    file = tmp_path / "out" / "r.json"

    assert found["recorded, 2 others of the task", "kinds"].denied == 0
    assert found["recorded, 1 others of the task", "kinds"].attacks_possible(adapted=True) == 0
    assert main(["--recorded", str(tmp_path), "--json", str(file)]) == 0
    assert "| 2 others of the task |" in tables.recorded([read(file)]).replace("recorded, ", "")
