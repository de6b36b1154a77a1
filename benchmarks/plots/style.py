"""How all pictures look: colours that everyone tells apart, and the same file for the same result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

mpl.use("agg")

# Okabe and Ito's colours, without the yellow, which is too light on white.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Beside colours, since many print in grey.
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
FLOOR: Final = "#767676"
WIDTH_INCHES: Final = 8.0
PNG_DPI: Final = 110
mpl.rcParams.update(
    {
        "figure.constrained_layout.use": True,
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": "#e3e3e3",
        "grid.linewidth": 0.8,
        "lines.linewidth": 1.8,
        "lines.markersize": 5.5,
        "legend.frameon": False,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        # Names of clip paths and glyphs are drawn from this, not from chance.
        "svg.hashsalt": "sessauth",
    }
)


def figure(
    height_inches: float, rows: int = 1, columns: int = 1, **layout: Any
) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure and its panels, row by row."""
    made = Figure(figsize=(WIDTH_INCHES, height_inches))
    return made, list(made.subplots(rows, columns, squeeze=False, **layout).flat)


def plain(axis: Axis, *, thousands: bool = False) -> None:
    """Write the figures of a log axis out: 1,000, or with ``thousands`` 1 k, instead of a power of ten."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value) if thousands else f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def short(value: float) -> str:
    """Return a number in thousands or millions, where it has them."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


def save(made: Figure, file: Path, caption: str, *, png: bool = False) -> list[Path]:
    """Write the figure as SVG, with ``png`` beside it as PNG too; returns the files."""
    made.supxlabel(caption, fontsize=7.5, color="#555555", x=0.01, ha="left")
    file.parent.mkdir(parents=True, exist_ok=True)
    written = [file.with_suffix(".svg")]
    made.savefig(written[0], metadata={"Date": None, "Creator": None})
    if png:
        written.append(file.with_suffix(".png"))
        made.savefig(written[1], dpi=PNG_DPI)
    return written
