"""Growth: what a check costs among more, against what it costs among the fewest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.plots import style
from benchmarks.results_file import Written, first_with

# A row is named by what grew, by how many there were, and by the kind of check; so is its floor, the fewest.
ROW: Final = re.compile(r"growth/(?P<what>.+)-(?P<many>\d+)-(?P<kind>warm|cold)")
FEWEST: Final = {"ratio": 1.0, "ratio_low": 1.0, "ratio_high": 1.0, "budget": None}


def draw(results: Sequence[Written]) -> tuple[Figure, str] | None:
    """Return the figure and its caption, or None if no result has growth in at least two sizes."""
    result = first_with(results, "growth/")
    if result is None:
        return None
    lines = series(result)
    if not lines:
        return None
    kinds = sorted({kind for kind, _ in lines}, reverse=True)
    made, panels = style.figure(4.2, columns=len(kinds), sharey=True)
    for axes, kind in zip(panels, kinds, strict=True):
        chosen = {what: points for (of, what), points in lines.items() if of == kind}
        for number, (what, points) in enumerate(sorted(chosen.items())):
            _draw(axes, what, points, number, len(chosen))
        budget = max((row["budget"] or 0 for points in chosen.values() for _, row in points), default=0)
        if budget:
            axes.axhline(budget, color=style.FLOOR, linestyle=":", label=f"budget {budget:g}")
        axes.axhline(1.0, color=style.FLOOR, linestyle="--", label="the fewest")
        axes.set_xscale("log")
        style.plain(axes.xaxis, thousands=True)
        axes.set_xlabel("how many there are (log)")
        axes.set_title(f"{kind.capitalize()} checks")
        axes.legend(loc="upper left", fontsize=9)
    shown = [row["ratio_high"] for points in lines.values() for _, row in points]
    panels[0].set_ylim(0.7, max(1.6, 1.25 * max(shown)))
    panels[0].set_ylabel("time of a check, relative to\nthat among the fewest (95 % interval)")
    return made, result.caption


def _draw(axes: Axes, what: str, points: Sequence[tuple[int, Any]], number: int, lines: int) -> None:
    """Draw a line with its intervals, moved a little to the side, lest equal ones hide each other."""
    aside = 1.06 ** (2 * number - lines + 1)
    ratios = [row["ratio"] for _, row in points]
    low = [row["ratio"] - row["ratio_low"] for _, row in points]
    high = [row["ratio_high"] - row["ratio"] for _, row in points]
    axes.errorbar(
        [many * aside for many, _ in points],
        ratios,
        yerr=(low, high),
        capsize=3,
        color=style.COLOURS[number % len(style.COLOURS)],
        marker=style.MARKERS[number % len(style.MARKERS)],
        label=what.replace("-", " "),
    )


def series(result: Written) -> dict[tuple[str, str], list[tuple[int, Any]]]:
    """Return the rows with a ratio of time, by kind of check and what grew, in order of size."""
    lines: dict[tuple[str, str], list[tuple[int, Any]]] = {}
    for row in result.figured():
        match = ROW.fullmatch(row["name"])
        fewest = ROW.fullmatch(row["floor"])
        if match and fewest and row["ratio"] is not None:
            points = lines.setdefault((match["kind"], match["what"]), [(int(fewest["many"]), FEWEST)])
            points.append((int(match["many"]), row))
    return {key: sorted(points, key=lambda point: point[0]) for key, points in lines.items()}
