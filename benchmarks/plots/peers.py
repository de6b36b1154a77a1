"""Peers: the nearest equal work of each, beside ours of the same run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from benchmarks.plots import style
from benchmarks.results_file import Written, first_with, floor_median

OURS = "sessauth"


def draw(results: Sequence[Written]) -> tuple[Figure, str] | None:
    """Return the figure and its caption, or None if no result has peers."""
    result = first_with(results, "peer/")
    if result is None:
        return None
    forms = by_form(result)
    heights = [len(rows) + 1 for rows in forms.values()]
    made, panels = style.figure(
        0.8 + 0.27 * sum(heights) + 0.4 * len(forms), rows=len(forms), sharex=True, height_ratios=heights
    )
    shown = [us for rows in forms.values() for _, row in rows for us in (row["median"], floor_median(row))]
    for axes, (form, rows) in zip(panels, forms.items(), strict=True):
        ours = floor_median(rows[0][1])
        bars = [
            (OURS, ours, ""),
            *((name, row["median"], f"  ({row['ratio']:,.3g} ×)") for name, row in rows),
        ]
        for place, (name, us, ratio) in enumerate(bars):
            axes.barh(place, us, height=0.7, color=style.COLOURS[0 if name == OURS else 1])
            axes.text(us, place, f" {us:,.3g} µs{ratio}", va="center", fontsize=8.5)
        axes.set_yticks(range(len(bars)), [name for name, _, _ in bars])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_title(form.replace("-", " "))
        axes.set_xscale("log")
    panels[-1].set_xlim(min(shown) / 2, max(shown) * 6)
    style.plain(panels[-1].xaxis)
    panels[-1].set_xlabel(
        "time of one verified and authorised call, µs (log); in brackets, as a multiple of ours"
    )
    return made, result.caption


def by_form(result: Written) -> dict[str, list[tuple[str, Any]]]:
    """Return the peers' rows by form of use, the fastest first: ``peer/<name>/<form>``."""
    forms: dict[str, list[tuple[str, Any]]] = {}
    for row in result.figured():
        kind, _, rest = row["name"].partition("/")
        name, _, form = rest.partition("/")
        if kind == "peer" and form and row["floor_rounds"]:
            forms.setdefault(form, []).append((name, row))
    order = sorted(forms, key=lambda form: (form.startswith("chain"), form))
    return {form: sorted(forms[form], key=lambda entry: entry[1]["median"]) for form in order}
