"""Cost against chain length, warm and cold, beside what can't be avoided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from benchmarks.plots import style
from benchmarks.results_file import Written, first_with, floor_median

BLOCKS: Final = (1, 2, 4, 8, 16)


def draw(results: Sequence[Written]) -> tuple[Figure, str] | None:
    """Return the figure and its caption, or None if no result has chains of several lengths."""
    result = first_with(results, "cold/chain-")
    if result is None:
        return None
    made, (warm, cold) = style.figure(3.9, columns=2)
    rows = _rows(result, "warm")
    _line(warm, [(blocks, row["median"]) for blocks, row in rows], "whole check", 0)
    lookup = result.measured("floor/lookup")
    if lookup is not None:
        warm.axhline(
            lookup["median"], color=style.FLOOR, linestyle="--", label="floor: dict look-up and clock"
        )
    warm.set_title("Warm: the chain was verified before")
    rows = _rows(result, "cold")
    _line(cold, [(blocks, row["median"]) for blocks, row in rows], "whole check", 1)
    floors = [(blocks, floor_median(row)) for blocks, row in rows]
    cold.plot(
        *zip(*floors, strict=True), color=style.FLOOR, linestyle="--", label="floor: the bare signatures"
    )
    cold.set_title("Cold: every block's signature")
    for axes in (warm, cold):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(BLOCKS))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([str(blocks) for blocks in BLOCKS])
        axes.set_xlabel("blocks in the chain")
        axes.set_ylabel("time of one check, µs")
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left")
    return made, result.caption


def _rows(result: Written, kind: str) -> list[tuple[int, Any]]:
    found = ((blocks, result.measured(_name(kind, blocks))) for blocks in BLOCKS)
    return [(blocks, row) for blocks, row in found if row is not None]


def _name(kind: str, blocks: int) -> str:
    return f"{kind}/root" if blocks == 1 else f"{kind}/chain-{blocks}"


def _line(axes: Axes, points: Sequence[tuple[float, float]], label: str, number: int) -> None:
    if points:
        axes.plot(
            *zip(*points, strict=True), color=style.COLOURS[number], marker=style.MARKERS[number], label=label
        )
