"""Results as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.budgets import Judged

FORMAT: Final = 2


def document(
    judged: Sequence[Judged], machine: Mapping[str, object], options: Mapping[str, object]
) -> dict[str, Any]:
    """Return everything as plain values; rounds in the row's unit, percentiles in us.

    A figure that could not be measured is null, and its row says in ``missing`` why.
    """
    return {
        "format": FORMAT,
        "machine": dict(machine),
        "options": dict(options),
        "rows": rows(judged),
    }


def rows(judged: Iterable[Judged]) -> list[dict[str, Any]]:
    """Return the rows of a document."""
    return [_row(entry) for entry in judged]


def _row(entry: Judged) -> dict[str, Any]:
    measured = entry.measurement
    row: dict[str, Any] = {
        "name": measured.name,
        "floor": measured.floor,
        "missing": measured.missing,
        "unit": measured.unit,
        "median": measured.middle if measured.rounds else None,
        "p50_us": _known(measured.p50_us),
        "p99_us": _known(measured.p99_us),
        "p999_us": _known(measured.p999_us),
        "samples": measured.samples,
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
