"""The harness by synthetic timings: no test here depends on how fast anything is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as entry
from benchmarks import budgets
from benchmarks.budgets import Budget, BudgetError
from benchmarks.measure import Measurement, Plan, measure

PLAN = Plan(rounds=7, blocks=4, singles=1000)
BUDGET = {"warm/x": Budget("warm/x", "floor/x", at_most=10.0, gates=True)}


class Ticks:
    """A clock that moves only when a subject says so, in ns."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        """The time."""
        return self.now


class Takes:
    """A subject each of whose calls takes so many ns."""

    def __init__(self, name: str, clock: Ticks, ns: int) -> None:
        self.name = name
        self.calls = 10
        self._clock = clock
        self._ns = ns

    def prepare(self, count: int) -> Sequence[None]:
        """Inputs."""
        return [None] * count

    def run(self, items: Sequence[Any]) -> None:
        """Let time pass."""
        self._clock.now += self._ns * len(items)


def _judged(ours_ns: int) -> list[budgets.Judged]:
    clock = Ticks()
    ours = Takes("warm/x", clock, ours_ns)
    measured = measure(ours, Takes("floor/x", clock, 140), PLAN, clock)
    return budgets.judge([measured], BUDGET)


def test_a_deliberate_slow_down_fails_and_names_the_budget() -> None:
    """The same row with 200 ns more in each call misses the budget, and the line says which and by what."""
    judged = _judged(1330 + 200)

    (line,) = budgets.failures(judged, BUDGET)
    assert judged[0].verdict == budgets.MISSED
    assert line.startswith("warm/x: 10.9 x floor/x") and line.endswith("budget 10")


def test_a_row_that_does_not_gate_never_fails() -> None:
    """A row with gates = false that is over its budget is listed as that, and fails nothing."""
    budget = {"warm/x": Budget("warm/x", "floor/x", at_most=10.0, gates=False)}
    measured = Measurement("warm/x", "floor/x", (99.0,) * 7, (1.0,) * 7, 0.0)

    judged = budgets.judge([measured], budget)

    assert judged[0].verdict == budgets.OVER
    assert budgets.failures(judged, budget) == []


def test_the_short_form_judges_only_what_it_can() -> None:
    """A row with quick = false is listed by the short form, and neither missed nor missed out there."""
    budget = {"warm/x": Budget("warm/x", "floor/x", at_most=10.0, gates=True, quick=False)}
    measured = Measurement("warm/x", "floor/x", (99.0,) * 7, (1.0,) * 7, 0.0)

    (short,) = budgets.judge([measured], budget, quick=True)
    (full,) = budgets.judge([measured], budget)

    assert (short.verdict, full.verdict) == (budgets.INFO, budgets.MISSED)
    assert budgets.failures([short], budget, quick=True) == budgets.failures([], budget, quick=True) == []
    assert len(budgets.failures([], budget)) == 1


def test_a_gate_that_was_not_measured_fails_a_whole_run() -> None:
    """Dropping a row does not drop its gate; a run of some rows only is told apart."""
    assert budgets.failures([], BUDGET) == ["warm/x: has a budget and was not measured"]
    assert budgets.failures([], BUDGET, whole=False) == []


def test_fewer_than_seven_rounds_are_refused() -> None:
    """No interval is taken of less than seven rounds."""
    with pytest.raises(ValueError, match="seven"):
        Plan(rounds=6, blocks=4, singles=20)


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({"floor": "f", "at_most": 1.0, "gates": True, "limit": 2}, "limit"),
        ({"floor": "f", "gates": True}, "at_most"),
        ({"floor": "f", "at_most": 0, "gates": True}, "at_most"),
        ({"floor": "f", "at_least": 45.0, "at_most": 1.0, "gates": True}, "at_most"),
        ({"floor": "f", "at_least": 0, "gates": True}, "at_least"),
        ({"floor": "f", "at_least": "45", "gates": True}, "at_least"),
        ({"floor": "f", "at_most": 1.0, "gates": "yes"}, "gates"),
        ({"floor": "f", "at_most": 1.0, "gates": True, "quick": 1}, "quick"),
        ({"floor": "f", "at_most": 2.0, "target": 1.0, "gates": True}, "reason"),
        ({"floor": "f", "at_most": 2.0, "target": 1.0, "gates": True, "reason": " "}, "reason"),
        ({"floor": "f", "at_most": 2.0, "target": 2.0, "gates": True, "reason": "none"}, "reason"),
        (3, "table"),
    ],
)
def test_a_budget_that_can_not_be_is_refused(entry: object, word: str) -> None:
    """A budgets file with a misspelt, missing or impossible entry stops the run and says which."""
    with pytest.raises(BudgetError, match=word) as refused:
        budgets.parse({"warm/x": entry})

    assert "warm/x" in str(refused.value)


def test_a_budget_against_another_floor_is_refused() -> None:
    """A row that was measured against another floor than its budget states is not judged by it."""
    measured = Measurement("warm/x", "floor/other", (1.0,) * 7, (1.0,) * 7, 0.0)

    with pytest.raises(BudgetError, match="floor/other"):
        budgets.judge([measured], BUDGET)


def _run(monkeypatch: pytest.MonkeyPatch, file: Path, ratio: float) -> tuple[int, dict[str, Any]]:
    """Run the command with synthetic measurements: each row ``ratio`` times as bad as its budget."""
    rows = [
        Measurement(b.row, b.floor, (bound,) * 7, (1.0,) * 7, 0.1, {"calls/s": 1.0})
        for b in budgets.load().values()
        for bound in [b.at_least / ratio if b.at_least else b.at_most * ratio]
    ]
    monkeypatch.setattr(entry, "_measurements", lambda options, plan, progress: (row for row in rows))
    status = entry.main(["--json", str(file)])
    return status, json.loads(file.read_text("utf-8"))


def test_the_command_exits_with_one_when_a_gate_is_missed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All rows at half their budgets pass; at twice their budgets every gate is named and the exit is 1."""
    gates = [budget.row for budget in budgets.load().values() if budget.gates]

    assert _run(monkeypatch, tmp_path / "met.json", 0.5)[0] == 0
    capsys.readouterr()
    assert _run(monkeypatch, tmp_path / "missed.json", 2.0)[0] == 1

    lines = capsys.readouterr().err.splitlines()
    assert len(gates) >= 3
    assert [line.split(": ")[1] for line in lines if line.startswith("budget missed")] == gates
