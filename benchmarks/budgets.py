"""The latency budget: ``budgets.toml``, and the verdict on what was measured."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.measure import Measurement

FILE: Final = Path(__file__).with_name("budgets.toml")

MET: Final = "met"
UNSURE: Final = "unsure"
MISSED: Final = "MISSED"
INFO: Final = "info"
NOT_MEASURED: Final = "not measured"


class BudgetError(ValueError):
    """budgets.toml says something that can't be; the message names the row and the key."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The most, or the least, that a row's ratio to its floor may be.

    One of ``at_most`` and ``at_least`` is above 0. ``gates`` says whether missing it fails the run.
    ``target`` is where it is to go; 0 if it is there.
    """

    row: str
    floor: str
    at_most: float
    gates: bool
    target: float = 0.0
    at_least: float = 0.0

    @property
    def bound(self) -> float:
        """The ratio that decides."""
        return self.at_least or self.at_most

    @property
    def text(self) -> str:
        """The bound with its side, for a table."""
        return f"{'>=' if self.at_least else '<='} {self.bound:.3g}"

    @property
    def word(self) -> str:
        """The bound in a sentence."""
        return f"{'at least ' if self.at_least else ''}{self.bound:.3g}"

    def verdict(self, interval: tuple[float, float], middle: float) -> str:
        """Judge the better end of a ratio's interval, so that noise alone misses nothing."""
        if not self.gates:
            return INFO
        if self.at_least:
            missed, met = interval[1] < self.at_least, middle >= self.at_least
        else:
            missed, met = interval[0] > self.at_most, middle <= self.at_most
        if missed:
            return MISSED
        return MET if met else UNSURE


def load(file: Path = FILE) -> dict[str, Budget]:
    """Read budgets by row. Raises BudgetError."""
    return parse(tomllib.loads(file.read_text("utf-8")))


def parse(table: Mapping[str, object]) -> dict[str, Budget]:
    """Read the table of a budgets file. Raises BudgetError that names the row and what is wrong."""
    budgets = {}
    for row, entry in table.items():
        if not isinstance(entry, Mapping):
            raise BudgetError(f"{row}: must be a table")
        side = "at_least" if "at_least" in entry else "at_most"
        unknown = set(entry) - {"floor", side, "gates", "target"}
        missing = {"floor", side, "gates"} - set(entry)
        if unknown or missing:
            raise BudgetError(f"{row}: {', '.join(sorted(unknown | missing))}: unknown or missing")
        bound, target = entry[side], entry.get("target", 0.0)
        if not isinstance(bound, int | float) or not isinstance(target, int | float) or bound <= 0:
            raise BudgetError(f"{row}: {side} and target are ratios above 0")
        if not isinstance(entry["gates"], bool) or not isinstance(entry["floor"], str):
            raise BudgetError(f"{row}: gates is true or false, floor the name of one")
        bounds = {"at_most": 0.0, "at_least": 0.0, side: float(bound)}
        budgets[row] = Budget(row, entry["floor"], gates=entry["gates"], target=float(target), **bounds)
    return budgets


@dataclass(frozen=True, slots=True)
class Judged:
    """A measurement with its budget, if it has one, and the verdict."""

    measurement: Measurement
    budget: Budget | None
    verdict: str


def judge(measurements: Iterable[Measurement], budgets: Mapping[str, Budget]) -> list[Judged]:
    """Put a verdict on each measurement; raises BudgetError if a budget is stated against another floor."""
    judged = []
    for measurement in measurements:
        budget = budgets.get(measurement.name)
        verdict = INFO if measurement.floor else ""
        if measurement.missing:
            verdict = NOT_MEASURED
        elif budget is not None:
            if budget.floor != measurement.floor:
                raise BudgetError(f"{budget.row}: floor is {measurement.floor!r} here, not {budget.floor!r}")
            verdict = budget.verdict(measurement.interval, measurement.ratio)
        judged.append(Judged(measurement, budget, verdict))
    return judged


def failures(judged: Iterable[Judged], budgets: Mapping[str, Budget], *, whole: bool = True) -> list[str]:
    """Say in a line each which budgets were missed; with ``whole`` also which gates were not measured."""
    judged = list(judged)
    lines = []
    for entry in judged:
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
            if budget.gates and budget.row not in measured
        ]
    return lines
