"""Latency distributions: what share of the calls took at most so long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from benchmarks.plots import style
from benchmarks.results_file import Written

# Rows with their words for people; those that a result lacks are left out.
ROWS: Final = (
    ("warm/root", "warm check, in process"),
    ("cold/child-of-known-parent", "new child of a known parent"),
    ("cold/root", "cold check, one signature"),
    ("cold/chain-4", "cold check, four signatures"),
    ("service/check-alone", "unary Check, one call at a time"),
    ("service/check", "unary Check, 64 calls in flight"),
    ("service/check-open-50", "unary Check on a schedule, half of peak"),
)
TICKS: Final = (0.0, 0.5, 0.9, 0.99, 0.999)


def draw(results: Sequence[Written]) -> tuple[Figure, str] | None:
    """Return the figure and its caption, or None if no result has distributions."""
    found = [
        (label, each, row["quantiles_us"])
        for name, label in ROWS
        for each in results
        if (row := each.measured(name)) is not None and row["quantiles_us"]
    ]
    if not found:
        return None
    made, (axes,) = style.figure(4.6)
    marked = {_nines(share) for share in TICKS}
    last = 0.0
    for number, (label, result, quantiles) in enumerate(found):
        # Nothing is drawn behind the largest share below 1: of the slowest call there is only one.
        points = [
            (_nines(share), value)
            for share, value in zip(result.shares, quantiles, strict=True)
            if share < 1 and value > 0
        ]
        last = max(last, *(x for x, _ in points))
        axes.plot(
            *zip(*points, strict=True),
            color=style.COLOURS[number % len(style.COLOURS)],
            marker=style.MARKERS[number % len(style.MARKERS)],
            markevery=[index for index, (x, _) in enumerate(points) if x in marked],
            label=label,
        )
    axes.set_yscale("log")
    axes.set_xlim(0, last * 1.02)
    axes.xaxis.set_major_locator(FixedLocator([_nines(share) for share in TICKS]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{share * 100:g} %" for share in TICKS])
    axes.set_xlabel("share of calls that took at most so long")
    axes.set_ylabel("time of one call, µs (log)")
    style.plain(axes.yaxis)
    axes.set_title("Calls timed one by one: percentiles")
    made.legend(loc="outside upper left", ncols=2)
    return made, found[0][1].caption


def _nines(share: float) -> float:
    """Return how many nines a share has, so that the tail has room."""
    return -math.log10(1 - share)
