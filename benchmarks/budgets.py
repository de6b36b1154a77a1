"""The latency budget: ``budgets.toml``, and the verdict on what was measured."""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import Measurement

FILE: Final = Path(__file__).with_name("budgets.toml")

MET: Final = "met"
TOO_NOISY: Final = "too noisy to conclude"
MISSED: Final = "MISSED"
# As MISSED, where missing the budget does not fail the run.
OVER: Final = "over"
INFO: Final = "info"
NOT_MEASURED: Final = "not measured"
# Rows with one floor contradict each other where it cost this many times as much in one as in another.
SAME_FLOOR: Final = 2.0
# The table of the file whose budgets are counted in instructions instead: see instructions/rows.py.
INSTRUCTIONS: Final = "instructions"
# The keys of an entry that are no ratios.
KINDS: Final = {"floor": str, "reason": str, "gates": bool, "quick": bool}


class BudgetError(ValueError):
    """budgets.toml says something that can't be; the message names the row and the key."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The most, or the least, that a row's ratio to its floor may be.

    One of ``at_most`` and ``at_least`` is above 0. ``gates`` says whether missing it fails the run, and
    ``quick`` whether the short form can judge it. ``quick_at_most`` is the short form's own bound where it
    is wider, else 0: for rows that instructions hold too. ``target`` is the figure of the design where that
    is another one, else 0; then ``reason`` says why the bound differs.
    """

    row: str
    floor: str
    at_most: float
    gates: bool
    target: float = 0.0
    at_least: float = 0.0
    quick: bool = True
    reason: str = ""
    quick_at_most: float = 0.0

    def in_short_form(self) -> Budget:
        """The budget that the short form judges by."""
        return replace(self, at_most=self.quick_at_most) if self.quick_at_most else self

    @property
    def bound(self) -> float:
        """The ratio that decides."""
        return self.at_least or self.at_most

    @property
    def word(self) -> str:
        """The bound in a sentence."""
        return f"{'at least ' if self.at_least else ''}{self.bound:.3g}"

    def verdict(self, interval: tuple[float, float]) -> str:
        """Judge a ratio by its whole interval, so that noise alone neither misses a budget nor meets it."""
        low, high = interval
        if self.at_least:
            missed, met = high < self.at_least, low >= self.at_least
        else:
            missed, met = low > self.at_most, high <= self.at_most
        if missed:
            return MISSED if self.gates else OVER
        return MET if met else TOO_NOISY


def load(file: Path = FILE) -> dict[str, Budget]:
    """Read budgets by row. Raises BudgetError."""
    return parse(tomllib.loads(file.read_text("utf-8")))


def parse(table: Mapping[str, object]) -> dict[str, Budget]:
    """Read the table of a budgets file. Raises BudgetError that names the row and what is wrong."""
    budgets = {row: _budget(row, entry) for row, entry in table.items() if row != INSTRUCTIONS}
    counted = table.get(INSTRUCTIONS, {})
    if not isinstance(counted, Mapping):
        raise BudgetError(f"{INSTRUCTIONS}: must be a table")
    for row, budget in budgets.items():
        if budget.quick_at_most and row not in counted:
            raise BudgetError(f"{row}: quick_at_most is for rows that [{INSTRUCTIONS}] holds too")
    return budgets | {f"{INSTRUCTIONS}/{row}": _counted(row, entry) for row, entry in counted.items()}


def _counted(name: str, entry: object) -> Budget:
    """Read a budget that is counted: its margin is for other compilers, libraries and addresses."""
    row = f"{INSTRUCTIONS}/{name}"
    stated = _entry(row, entry, {"floor", "at_most", "margin"}, {"gates"})
    bound = _ratio(row, stated, "at_most") * (1 + _ratio(row, stated, "margin"))
    return Budget(row, f"{INSTRUCTIONS}/{stated['floor']}", bound, gates=stated["gates"])


def _budget(row: str, entry: object) -> Budget:
    side = "at_least" if isinstance(entry, Mapping) and "at_least" in entry else "at_most"
    stated = _entry(row, entry, {"floor", side}, {"gates", "target", "quick", "reason", "quick_at_most"})
    ratios = {key: _ratio(row, stated, key) for key in (side, "target", "quick_at_most") if key in stated}
    budget = Budget(**{"row": row, "at_most": 0.0, **stated, **ratios})
    if (budget.target not in (0.0, budget.bound)) != bool(budget.reason.strip()):
        raise BudgetError(f"{row}: a reason stands where {side} differs from target, and only there")
    if budget.quick_at_most and (side != "at_most" or budget.quick_at_most <= budget.bound):
        raise BudgetError(f"{row}: quick_at_most is a ratio above at_most")
    return budget


def _entry(row: str, entry: object, needed: set[str], optional: set[str]) -> dict[str, Any]:
    """Return an entry with its texts and truths checked. Raises BudgetError that names the wrong keys."""
    if not isinstance(entry, Mapping):
        raise BudgetError(f"{row}: must be a table")
    wrong = (set(entry) - needed - optional) | (needed - set(entry))
    if wrong:
        raise BudgetError(f"{row}: {', '.join(sorted(wrong))}: unknown or missing")
    stated = {"gates": True, **entry}
    for key, kind in KINDS.items():
        if not isinstance(stated.get(key, kind()), kind):
            raise BudgetError(f"{row}: {key} must be {'true or false' if kind is bool else 'a text'}")
    return stated


def _ratio(row: str, entry: Mapping[str, object], key: str) -> float:
    """Return a ratio above 0; raises BudgetError."""
    value = entry[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise BudgetError(f"{row}: {key} is a ratio above 0")
    return float(value)


@dataclass(frozen=True, slots=True)
class Judged:
    """A measurement with its budget, if it has one, and the verdict."""

    measurement: Measurement
    budget: Budget | None
    verdict: str


def judge(
    measurements: Iterable[Measurement], budgets: Mapping[str, Budget], *, quick: bool = False
) -> list[Judged]:
    """Put a verdict on each measurement; the short form judges no more than what it can.

    Where rows contradict each other about their floor, none of them meets its budget. Raises BudgetError if
    a budget is stated against another floor.
    """
    if quick:
        budgets = {row: budget.in_short_form() for row, budget in budgets.items()}
    measurements = list(measurements)
    doubtful = contradicted(measurements)
    judged = []
    for measurement in measurements:
        budget = budgets.get(measurement.name)
        verdict = INFO if measurement.floor else ""
        if budget is not None and budget.floor != measurement.floor:
            raise BudgetError(f"{budget.row}: floor is {measurement.floor!r} here, not {budget.floor!r}")
        if measurement.missing:
            verdict = NOT_MEASURED
        elif budget is not None and (budget.quick or not quick):
            verdict = budget.verdict(measurement.interval)
            if verdict == MET and measurement.floor in doubtful:
                verdict = TOO_NOISY
        judged.append(Judged(measurement, budget, verdict))
    return judged


def contradicted(measurements: Iterable[Measurement]) -> dict[str, tuple[float, float]]:
    """Return the floors that cost ``SAME_FLOOR`` times as much in one row as in another: least and most."""
    costs: dict[str, list[float]] = {}
    for measurement in measurements:
        # Sizes are counted, not timed: they differ by row, and two runs of one agree.
        if measurement.floor and not measurement.missing and measurement.unit == "us":
            costs.setdefault(measurement.floor, []).append(statistics.median(measurement.floor_rounds))
    return {
        floor: (min(found), max(found))
        for floor, found in costs.items()
        if max(found) >= SAME_FLOOR * min(found)
    }


def conclusion(judged: Iterable[Judged]) -> str:
    """Return the last line of a run that missed no gate: all were met, or which could not be told."""
    gates = [each for each in judged if each.budget is not None and each.budget.gates]
    noisy = [each.measurement.name for each in gates if each.verdict == TOO_NOISY]
    if not noisy:
        return "every gate met"
    return (
        f"no gate missed; too noisy to conclude, so not met: {', '.join(noisy)}. "
        "Measure again with nothing else running"
    )


def failures(
    judged: Iterable[Judged],
    budgets: Mapping[str, Budget],
    *,
    whole: bool = True,
    quick: bool = False,
    require_all: bool = False,
) -> list[str]:
    """Say in a line each which budgets were missed; with ``whole`` also which gates have no row at all.

    A row that says why it was not measured is a failure only with ``require_all``: the table shows it.
    """
    judged = list(judged)
    lines = []
    for entry in judged:
        if require_all and entry.verdict == NOT_MEASURED and entry.budget is not None and entry.budget.gates:
            lines.append(f"{entry.budget.row}: not measured: {entry.measurement.missing}")
        if entry.verdict == MISSED and entry.budget is not None:
            low, high = entry.measurement.interval
            lines.append(
                f"{entry.budget.row}: {entry.measurement.ratio:.3g} x {entry.budget.floor} "
                f"(95 % between {low:.3g} and {high:.3g}), budget {entry.budget.word}"
            )
    if whole:
        measured = {entry.measurement.name for entry in judged}
        lines += [
            f"{budget.row}: has a budget and was not measured"
            for budget in budgets.values()
            if budget.gates and (budget.quick or not quick) and budget.row not in measured
        ]
    return lines
