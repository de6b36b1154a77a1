"""Results as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.budgets import Judged

FORMAT: Final = 1
COLUMNS: Final = (
    "row",
    "min us",
    "median us",
    "p99 us",
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
            cell.ljust(width) if column in (0, 4, 8) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    text.insert(1, "-" * max(map(len, text)))
    return "\n".join(text)


def figures(judged: Iterable[Judged]) -> str:
    """Return the further figures of the rows that have any, a line each."""
    return "\n".join(
        f"{entry.measurement.name:24} "
        + ", ".join(f"{name} {value:,.4g}" for name, value in entry.measurement.extra.items())
        for entry in judged
        if entry.measurement.extra
    )


def _cells(entry: Judged) -> tuple[str, ...]:
    measured = entry.measurement
    ratio = interval = budget = ""
    if measured.floor:
        ratio = f"{measured.ratio:.3g}"
        interval = "{:.3g} to {:.3g}".format(*measured.interval)
    if entry.budget is not None:
        budget = f"<= {entry.budget.at_most:.3g}"
    return (
        measured.name,
        f"{measured.min_us:.3f}",
        f"{measured.median_us:.3f}",
        f"{measured.p99_us:.3f}",
        measured.floor,
        ratio,
        interval,
        budget,
        entry.verdict,
    )


def document(
    judged: Sequence[Judged], machine: Mapping[str, object], options: Mapping[str, object]
) -> dict[str, object]:
    """Return everything as plain values; all times in us per call."""
    return {
        "format": FORMAT,
        "machine": dict(machine),
        "options": dict(options),
        "rows": [_row(entry) for entry in judged],
    }


def _row(entry: Judged) -> dict[str, object]:
    measured = entry.measurement
    row: dict[str, object] = {
        "name": measured.name,
        "floor": measured.floor,
        "min_us": measured.min_us,
        "median_us": measured.median_us,
        "p99_us": measured.p99_us,
        "rounds_us": list(measured.rounds),
        "floor_rounds_us": list(measured.floor_rounds),
        "ratio": None,
        "ratio_low": None,
        "ratio_high": None,
        "budget": entry.budget.at_most if entry.budget else None,
        "target": (entry.budget.target or entry.budget.at_most) if entry.budget else None,
        "gates": bool(entry.budget and entry.budget.gates),
        "verdict": entry.verdict,
        "extra": measured.extra,
    }
    if measured.floor:
        row["ratio"] = measured.ratio
        row["ratio_low"], row["ratio_high"] = measured.interval
    return row


def write(file: Path, result: Mapping[str, object]) -> None:
    """Write a result as JSON, making its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
