"""Results as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.budgets import Judged
from benchmarks.measure import SHARES, Measurement

FORMAT: Final = 2
COLUMNS: Final = (
    "row",
    "min",
    "median",
    "p50 us",
    "p99 us",
    "p99.9 us",
    "floor",
    "ratio",
    "95 % interval",
    "budget",
    "verdict",
)
# The columns of text, by position; the others are figures and stand to the right.
LEFT: Final = (0, 6)
LEGEND: Final = """\
min, median      of rounds, in us where no unit stands: the time for each call, one behind the other;
                 in service/, where many are in flight, the time of a round by the number of its calls
p50, p99, p99.9  of calls that were timed one by one, waiting included: with 64 in flight far above the median
floor            what was measured in turns with the row
ratio            the median of the rounds' ratios to the floor; the verdict judges its whole interval
met              the interval is within the budget
MISSED           the interval is beyond the budget, which fails the run; over: where it gates nothing
too noisy to conclude: neither, since the budget lies within the interval, or rows contradict each other"""
# What the rows of a group have in common, by the first part of their names.
HEADINGS: Final = {
    "floor": "what no check can do without",
    "decode": "a token's bytes to a chain, no signature work",
    "stage": "parts of a check by themselves",
    "warm": "whole checks, the chain verified before",
    "cold": "whole checks, with the signatures that nothing kept",
    "batch": "checks of one batch in process, per check",
    "threads": "threads that share one verifier, per check",
    "refusal": "what a forger can make us spend",
    "service": "calls to a server process, per call or decision",
    "writes": "changes of the state",
    "growth": "the same checks among more sessions, revocations and chains, per check",
    "memory": "what is kept for a verified chain",
    "flood": "a hot set under a flood of one-off tokens",
    "end": "ending a session: one write",
    "instructions": "instructions of a call, counted by callgrind: no time, and no noise",
    "peer": "the nearest equal work of other libraries",
    "ours": "what the peers are compared with",
}


def table(judged: Iterable[Judged]) -> str:
    """Return an aligned table, in groups by the first part of the rows' names.

    The minimum and the median are of rounds; p50, p99 and p99.9 of calls timed one by one.
    """
    groups: dict[str, list[Judged]] = {}
    for entry in judged:
        groups.setdefault(entry.measurement.name.partition("/")[0], []).append(entry)
    body = [(name, [_cells(entry) for entry in entries]) for name, entries in groups.items()]
    cells = [COLUMNS, *(row for _, rows in body for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(COLUMNS) - 1)]
    head = _aligned(COLUMNS, widths)
    lines = [head, "-" * len(head)]
    for name, rows in body:
        heading = f"{name}: {HEADINGS[name]}" if name in HEADINGS else name
        lines += ["", heading, *(_aligned(row, widths) for row in rows)]
    return "\n".join(lines)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    """Return a line; the last column has no width, so that a long verdict widens nothing."""
    cells = [
        cell.ljust(width) if column in LEFT else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=False))
    ]
    return "  ".join([*cells, row[-1]]).rstrip()


def figures(judged: Iterable[Judged]) -> str:
    """Return the further figures of the rows that have any, a line each."""
    judged = list(judged)
    width = max((len(entry.measurement.name) for entry in judged if entry.measurement.extra), default=0)
    return "\n".join(
        f"{entry.measurement.name:{width}}  "
        + ", ".join(f"{name} {_plain(value)}" for name, value in entry.measurement.extra.items())
        for entry in judged
        if entry.measurement.extra
    )


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.4g}"


def _cells(entry: Judged) -> tuple[str, ...]:
    measured = entry.measurement
    ratio = interval = budget = ""
    if measured.missing:
        return (measured.name, *[""] * 5, _floor(measured), *[""] * 3, f"not measured: {measured.missing}")
    if measured.floor:
        ratio = f"{measured.ratio:.3g}"
        interval = "{:.3g} to {:.3g}".format(*measured.interval)
    if entry.budget is not None:
        budget = entry.budget.text
    return (
        measured.name,
        _figure(measured.least, measured.unit),
        _figure(measured.middle, measured.unit),
        _figure(measured.p50_us),
        _figure(measured.p99_us),
        _figure(measured.p999_us),
        _floor(measured),
        ratio,
        interval,
        budget,
        entry.verdict,
    )


def _floor(measured: Measurement) -> str:
    """Return the floor's name, without what the heading of counted rows says already."""
    return measured.floor.removeprefix("instructions/")


def _figure(value: float, unit: str = "us") -> str:
    """Return a figure as text, with its unit if that is not us; nothing for NaN."""
    if math.isnan(value):
        return ""
    if unit == "us":
        return f"{value:.3f}" if value < 1000 else f"{value:,.0f}"
    # The heading of these rows says what is counted.
    return f"{value:,.0f}" if unit == "instructions" else f"{value:,.4g} {unit}"


def document(
    judged: Sequence[Judged], machine: Mapping[str, object], options: Mapping[str, object]
) -> dict[str, object]:
    """Return everything as plain values; rounds in the row's unit, percentiles in us.

    ``shares`` are the shares of the calls that the rows' ``quantiles_us`` belong to. What could not be
    measured is null, and its row says in ``missing`` why.
    """
    return {
        "format": FORMAT,
        "shares": list(SHARES),
        "machine": dict(machine),
        "options": dict(options),
        "rows": [_row(entry) for entry in judged],
    }


def _row(entry: Judged) -> dict[str, object]:
    measured = entry.measurement
    row: dict[str, object] = {
        "name": measured.name,
        "floor": measured.floor,
        "missing": measured.missing,
        "unit": measured.unit,
        "min": measured.least if measured.rounds else None,
        "median": measured.middle if measured.rounds else None,
        "p50_us": _known(measured.p50_us),
        "p99_us": _known(measured.p99_us),
        "p999_us": _known(measured.p999_us),
        "samples": measured.samples,
        "quantiles_us": [float(f"{value:.5g}") for value in measured.quantiles],
        "rounds": list(measured.rounds),
        "floor_rounds": list(measured.floor_rounds),
        "ratio": None,
        "ratio_low": None,
        "ratio_high": None,
        "budget": entry.budget.bound if entry.budget else None,
        "budget_side": ("at_least" if entry.budget.at_least else "at_most") if entry.budget else None,
        "target": (entry.budget.target or entry.budget.bound) if entry.budget else None,
        "reason": entry.budget.reason if entry.budget else "",
        "gates": bool(entry.budget and entry.budget.gates),
        "verdict": entry.verdict,
        "extra": dict(measured.extra),
    }
    if measured.floor and not measured.missing:
        row["ratio"] = measured.ratio
        row["ratio_low"], row["ratio_high"] = measured.interval
    return row


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def write(file: Path, result: Mapping[str, object]) -> None:
    """Write a result as JSON, making its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
