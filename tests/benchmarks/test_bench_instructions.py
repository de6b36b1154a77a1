"""Counting instructions: the arithmetic without valgrind, the real thing where it is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import budgets
from benchmarks.budgets import BudgetError
from benchmarks.instructions import rows
from benchmarks.instructions.cases import Case
from benchmarks.workloads import Workload

NOTHING = Workload("nothing", ())
ENTRY = {"floor": "floor/lookup", "at_most": 8.0, "margin": 0.05, "gates": True}


def _cases() -> list[Case]:
    return [Case("floor/lookup", "lookup", NOTHING, 10, 30), Case("warm/root", "warm", NOTHING, 100, 300)]


def _measured(per_warm_call: int) -> list[budgets.Judged]:
    """Two processes in which a look-up takes 200 instructions, and each run 5,000 and 7,000 besides."""
    counted = [
        [start + 10 * 200, start + 30 * 200, start + 100 * per_warm_call, start + 300 * per_warm_call]
        for start in (5000, 7000)
    ]
    table = budgets.parse({"instructions": {"warm/root": ENTRY}})
    return budgets.judge(rows.rows(_cases(), counted), table)


def test_what_starting_takes_is_not_counted() -> None:
    """A call costs the difference between many and few, divided by the calls between."""
    floor, warm = _measured(1600)

    assert floor.measurement.rounds == (200.0, 200.0) and warm.measurement.rounds == (1600.0, 1600.0)
    assert warm.measurement.ratio == 8.0 and warm.measurement.unit == "instructions"
    assert warm.verdict == budgets.MET


def test_a_few_percent_more_than_the_margin_are_missed() -> None:
    """Within 5 % of the budget is met, 6 % above it fails and names the row."""
    table = budgets.parse({"instructions": {"warm/root": ENTRY}})

    assert budgets.failures(_measured(1679), table) == []
    (line,) = budgets.failures(_measured(1696), table)
    assert line.startswith("instructions/warm/root: 8.48 x instructions/floor/lookup")


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({key: value for key, value in ENTRY.items() if key != "margin"}, "margin"),
        (ENTRY | {"margin": 0}, "margin"),
        (ENTRY | {"target": 1.0}, "target"),
        (ENTRY | {"gates": 1}, "gates"),
        (3, "table"),
    ],
)
def test_a_counted_budget_states_its_margin(entry: object, word: str) -> None:
    """A counted budget without margin, or with what only a timed one has, stops the run and says which."""
    with pytest.raises(BudgetError, match=word) as refused:
        budgets.parse({"instructions": {"warm/root": entry}})

    assert "instructions/warm/root" in str(refused.value)


def test_without_valgrind_the_rows_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No valgrind: every row stands in the report with the reason and the package, and nothing is missed."""
    monkeypatch.setattr(shutil, "which", lambda name: None)

    measured = list(rows.measurements(tmp_path, quick=True))
    judged = budgets.judge(measured, budgets.load())

    assert {each.missing for each in measured} == {rows.MISSING}
    assert {each.name for each in measured} <= set(rows.ROWS) and "instructions/warm/root" in {
        each.name for each in measured
    }
    assert not any("instructions/" in line for line in budgets.failures(judged, budgets.load(), whole=False))


def test_a_file_of_callgrind_has_its_total() -> None:
    """The total is read from its line; a file without one is an error, not zero."""
    assert rows.total("summary: 5\n\ntotals: 1234\n") == 1234
    with pytest.raises(RuntimeError):
        rows.total("version: 1\n")
