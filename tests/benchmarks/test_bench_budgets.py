"""budgets.toml holds the design's targets, and says why where it can't."""

from __future__ import annotations

import pytest

from benchmarks import budgets, report, tables
from benchmarks.measure import Measurement, not_measured

# The table of targets, by row: the figure, and whether it is the largest or the smallest ratio.
DESIGN = {
    "warm/root": 3.0,
    "warm/chain-4": 1.5,
    "warm/while-writing": 6.0,
    **{f"cold/{chain}": 1.08 for chain in ("root", "chain-2", "chain-4", "chain-8", "chain-16")},
    "cold/child-of-known-parent": 1.08,
    **{f"refusal/{name}": 0.05 for name in ("garbage", "oversized", "unknown-session")},
    "batch/256": 0.6,
    "service/check": 12.0,
    "service/check-tls": 12.0,
    "service/check-cpu": 2.0,
    "service/check-alone": 0.25,
    "service/check-stub": 0.4,
    "service/client-check": 1.3,
    "service/check-per-core": 20.0,
    "service/overload": 0.9,
    "service/workers-2-cpu": 1.1,
    **{
        f"growth/{what}-1000000-{kind}": most
        for what in ("sessions", "revocations", "chains")
        for kind, most in (("warm", 1.15), ("cold", 1.25))
    },
    **{f"memory/chain-{blocks}": 1.0 for blocks in (1, 4, 16)},
    "flood/other-sessions": 0.95,
    **{f"writes/{change}-64-fsyncs": 0.125 for change in ("open-mint", "end", "revoke")},
    "end/with-children": 1.1,
}
AT_LEAST = {
    "flood/other-sessions",
    *(f"service/{name}" for name in ("check", "check-tls", "check-per-core", "overload")),
}


@pytest.mark.parametrize("row", DESIGN)
def test_every_target_of_the_design_has_its_row(row: str) -> None:
    """The bound, or the target beside another bound, is the design's figure and on its side."""
    budget = budgets.load()[row]

    assert (budget.target or budget.bound) == DESIGN[row]
    assert bool(budget.at_least) is (row in AT_LEAST)


def test_the_short_form_gates_what_matters_most() -> None:
    """Warm, cold, refused and batched checks are judged by the short form, in time and in instructions."""
    quick = {budget.row for budget in budgets.load().values() if budget.gates and budget.quick}

    for row in ("warm/root", "cold/root", "refusal/garbage", "batch/256", "service/check-cpu"):
        assert row in quick
    assert {"instructions/warm/root", "instructions/cold/root"} <= quick


def test_a_gate_without_figures_fails_when_all_are_required() -> None:
    """A row that says why it was not measured passes, unless the run is to have every row."""
    table = budgets.parse({"warm/x": {"floor": "floor/x", "at_most": 2.0, "gates": True}})
    judged = budgets.judge([not_measured("warm/x", "floor/x", "no tool")], table)

    assert budgets.failures(judged, table) == []
    assert budgets.failures(judged, table, require_all=True) == ["warm/x: not measured: no tool"]


def test_the_short_form_has_a_wider_bound_only_where_instructions_hold_the_row() -> None:
    """The short form may pass a row that the full form misses; a row without a count has one bound."""
    row = {"floor": "floor/x", "at_most": 3.0, "quick_at_most": 4.0, "gates": True}
    counted = {"instructions": {"warm/x": {"floor": "floor/x", "at_most": 3.0, "margin": 0.1, "gates": True}}}
    table = budgets.parse({"warm/x": row, **counted})
    measured = Measurement("warm/x", "floor/x", (3.5,) * 7, (1.0,) * 7)
    slower = Measurement("warm/x", "floor/x", (4.5,) * 7, (1.0,) * 7)

    assert budgets.judge([measured], table)[0].verdict == budgets.MISSED
    assert budgets.judge([measured], table, quick=True)[0].verdict == budgets.MET
    assert budgets.judge([slower], table, quick=True)[0].verdict == budgets.MISSED
    with pytest.raises(budgets.BudgetError, match="instructions"):
        budgets.parse({"warm/x": row})
    with pytest.raises(budgets.BudgetError, match="above at_most"):
        budgets.parse({"warm/x": row | {"quick_at_most": 2.0}, **counted})


@pytest.mark.parametrize(
    ("side", "rounds", "verdict"),
    [
        ({"at_most": 10.0}, (9.0,) * 7, budgets.MET),
        ({"at_most": 10.0}, (9.0, 9.1, 9.2, 9.3, 10.5, 11.0, 11.5), budgets.TOO_NOISY),
        ({"at_most": 10.0}, (9.0, 9.2, 9.4, 11.0, 11.2, 11.4, 11.6), budgets.TOO_NOISY),
        ({"at_most": 10.0}, (11.0,) * 7, budgets.MISSED),
        ({"at_least": 45.0}, (50.0,) * 7, budgets.MET),
        ({"at_least": 45.0}, (46.0, 46.0, 46.0, 44.0, 44.0, 44.0, 44.0), budgets.TOO_NOISY),
        ({"at_least": 45.0}, (40.0,) * 7, budgets.MISSED),
    ],
)
def test_a_budget_is_judged_by_the_whole_interval(
    side: dict[str, float], rounds: tuple[float, ...], verdict: str
) -> None:
    """The interval's worse end meets a budget and its better end misses it; between them nothing fails."""
    table = budgets.parse({"warm/x": {"floor": "floor/x", "gates": True, **side}})
    judged = budgets.judge([Measurement("warm/x", "floor/x", rounds, (1.0,) * 7)], table)

    assert judged[0].verdict == verdict
    assert bool(budgets.failures(judged, table)) is (verdict == budgets.MISSED)


def test_a_missed_least_is_named_with_its_side() -> None:
    """The line of the failure, the table and the JSON say that the bound is from below."""
    table = budgets.parse({"peer/x/kept": {"floor": "ours/warm", "at_least": 45.0, "gates": True}})
    judged = budgets.judge([Measurement("peer/x/kept", "ours/warm", (40.0,) * 7, (1.0,) * 7)], table)

    (line,) = budgets.failures(judged, table)
    assert line.startswith("peer/x/kept: 40 x ours/warm") and line.endswith("budget at least 45")
    (row,) = report.document(judged, {}, {})["rows"]
    assert (row["budget"], row["budget_side"]) == (45.0, "at_least")
    assert "≥ 45" in tables.terminal([row])


def test_rows_that_contradict_each_other_about_a_floor_meet_nothing() -> None:
    """One floor that cost twice as much in another row leaves both too noisy; a miss stays one."""
    table = budgets.parse(
        {f"warm/{row}": {"floor": "floor/x", "at_most": 10.0, "gates": True} for row in ("a", "b", "c")}
    )
    measured = [
        Measurement("warm/a", "floor/x", (9.0,) * 7, (1.0,) * 7),
        Measurement("warm/b", "floor/x", (18.0,) * 7, (2.0,) * 7),
        Measurement("warm/c", "floor/x", (11.0,) * 7, (1.0,) * 7),
    ]
    judged = budgets.judge(measured, table)

    assert [each.verdict for each in judged] == [budgets.TOO_NOISY, budgets.TOO_NOISY, budgets.MISSED]
    assert budgets.contradicted(measured) == {"floor/x": (1.0, 2.0)}
    assert budgets.contradicted(measured[::2]) == {}


def test_sizes_contradict_nothing() -> None:
    """A floor in bytes differs by row: each has the size of its own chain."""
    measured = [
        Measurement("memory/a", "3 x bytes", (2000.0,) * 7, (2500.0,) * 7, unit="bytes"),
        Measurement("memory/b", "3 x bytes", (8000.0,) * 7, (8800.0,) * 7, unit="bytes"),
    ]

    assert budgets.contradicted(measured) == {}


def test_a_run_that_could_not_tell_does_not_say_that_gates_were_met() -> None:
    """The last line names the gates that are too noisy, and says that all were met only where they were."""
    table = budgets.parse({"warm/x": {"floor": "floor/x", "at_most": 10.0, "gates": True}})
    noisy = budgets.judge(
        [Measurement("warm/x", "floor/x", (9.0, 9.0, 9.0, 9.5, 11.0, 11.0, 11.0), (1.0,) * 7)], table
    )
    quiet = budgets.judge([Measurement("warm/x", "floor/x", (9.0,) * 7, (1.0,) * 7)], table)

    assert budgets.conclusion(noisy).startswith("no gate missed; too noisy to conclude, so not met: warm/x.")
    assert budgets.conclusion(quiet) == "every gate met"
