"""Results as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.budgets import Judged
from benchmarks.measure import SHARES

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


def table(judged: Iterable[Judged]) -> str:
    """Return an aligned table. The minimum and the median are of rounds, p99 of calls timed one by one."""
    lines = [COLUMNS, *(_cells(entry) for entry in judged)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    text = []
    for line in lines:
        cells = [
            cell.ljust(width) if column in (0, 6, 10) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    text.insert(1, "-" * max(map(len, text)))
    return "\n".join(text)


def figures(judged: Iterable[Judged]) -> str:
    """Return the further figures of the rows that have any, a line each."""
    return "\n".join(
        f"{entry.measurement.name:24} "
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
        return (measured.name, *[""] * 5, measured.floor, *[""] * 3, f"not measured: {measured.missing}")
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
        measured.floor,
        ratio,
        interval,
        budget,
        entry.verdict,
    )


def _figure(value: float, unit: str = "us") -> str:
    """Return a figure as text, with its unit if that is not us; nothing for NaN."""
    if math.isnan(value):
        return ""
    return f"{value:.3f}" if unit == "us" else f"{value:,.4g} {unit}"


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
