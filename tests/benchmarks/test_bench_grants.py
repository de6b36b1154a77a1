"""The judge of suggested grants: deterministic, honest about floors, and it notices a fit that is worse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.grants import cases, recorded, tables
from benchmarks.grants.__main__ import main
from benchmarks.grants.measures import Counts, measure
from benchmarks.grants.targets import TARGETS, missed
from benchmarks.results_file import read

SMALL = cases.Size(
    tasks=1, tests=4, purpose_tests=10, others=4, hijacked_tasks=1, hijacked_purposes=2, goals=6
)


@pytest.fixture(scope="module")
def counts() -> dict[tuple[str, str], Counts]:
    """Counts of a very short run."""
    return measure(cases.cases(SMALL))[0]


# Its counts take five seconds of CPU.
@pytest.mark.slow
def test_the_floor_and_the_grant_are_what_they_are(counts: dict[tuple[str, str], Counts]) -> None:
    """The grant denies nothing and stops nothing; names of tools stop no changed argument."""
    grant = counts["3", "grant"]
    assert (grant.denied, grant.attacks_possible(adapted=True)) == (0, 100)
    assert counts["3", "names"].attacks_possible(adapted=True) > 50
    kinds = counts["3", "kinds"]
    assert kinds.attacks_possible(adapted=True) < 3 and kinds.denied < counts["3", "exact"].denied
    assert sum(counts["hijacked", "kinds"].possible.values()) == 0
    assert counts["hijacked", "loose"].attacks_possible(adapted=True) == 100
    assert sum(counts["hijacked purpose", "kinds"].possible.values()) == 0
    assert counts["hijacked purpose", "kinds, one session"].attacks_possible(adapted=True) == 100


# Its counts take five seconds of CPU.
@pytest.mark.slow
def test_a_worse_fit_misses_the_targets(counts: dict[tuple[str, str], Counts]) -> None:
    """Each figure can fail a run, and so does one that nothing was measured for."""
    for other in ("exact", "loose", "names"):
        worse = counts | {(setting, "kinds"): counts[setting, other] for setting in TARGETS}
        assert missed(worse), other
    assert len(missed({})) == len(TARGETS)
    assert len(missed({(setting, "kinds"): Counts() for setting in TARGETS})) >= len(TARGETS)


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
