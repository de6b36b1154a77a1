"""Budgets that are stated from below: a peer's cost over ours must be at least so much."""

from __future__ import annotations

import pytest

pytest.importorskip("benchmarks.measure", reason="the benchmarks are not part of the installed package")

from benchmarks import budgets, report
from benchmarks.budgets import BudgetError
from benchmarks.measure import Measurement

ENTRY = {"floor": "ours/warm", "at_least": 45.0, "gates": True}
BUDGET = budgets.parse({"peer/x/kept": ENTRY})


def _judged(*ratios: float) -> list[budgets.Judged]:
    measured = Measurement("peer/x/kept", "ours/warm", ratios, (1.0,) * len(ratios), 0.0)
    return budgets.judge([measured], BUDGET)


def test_a_ratio_above_its_least_is_met() -> None:
    """A peer that costs 50 times as much as we do meets a budget of at least 45."""
    judged = _judged(*(50.0,) * 7)

    assert judged[0].verdict == budgets.MET
    assert budgets.failures(judged, BUDGET) == []


def test_a_ratio_below_its_least_is_missed_and_named() -> None:
    """A peer that costs 40 times as much misses it, and the line says that the bound is from below."""
    judged = _judged(*(40.0,) * 7)

    (line,) = budgets.failures(judged, BUDGET)
    assert judged[0].verdict == budgets.MISSED
    assert line.startswith("peer/x/kept: 40 x ours/warm") and line.endswith("budget at least 45")


def test_only_the_upper_bound_misses_a_least() -> None:
    """A ratio below its least whose interval reaches above it is neither met nor missed."""
    judged = _judged(46.0, 46.0, 46.0, 44.0, 44.0, 44.0, 44.0)

    assert judged[0].measurement.ratio == 44.0 and judged[0].measurement.interval[1] >= 45.0
    assert judged[0].verdict == budgets.TOO_NOISY
    assert budgets.failures(judged, BUDGET) == []


def test_the_table_and_the_json_say_which_side_a_bound_is_on() -> None:
    """A least is shown as >= and written with its side."""
    judged = _judged(*(50.0,) * 7)

    assert ">= 45" in report.table(judged)
    (row,) = report.document(judged, {}, {})["rows"]  # type: ignore[misc]
    assert row["budget"] == 45.0 and row["budget_side"] == "at_least"


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        (ENTRY | {"at_most": 1.0}, "at_most"),
        (ENTRY | {"at_least": 0}, "at_least"),
        (ENTRY | {"at_least": "45"}, "at_least"),
    ],
)
def test_one_side_is_stated_and_it_is_a_ratio(entry: object, word: str) -> None:
    """Both sides at once, zero and text are refused with the row's name."""
    with pytest.raises(BudgetError, match=word) as refused:
        budgets.parse({"peer/x/kept": entry})

    assert "peer/x/kept" in str(refused.value)
