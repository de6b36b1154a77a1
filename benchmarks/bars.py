"""The first picture of the performance page: checks per second and core over gRPC, as bars of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.results_file import Written

# Labels and rows, in the order of the picture; each row has its server's CPU time a call.
BARS: Final = (
    ("check, native worker", "service/check"),
    ("the same with TLS and client certificates", "service/check-tls"),
    ("in a CheckBatch of 256, per decision", "service/batch-256"),
    ("request that Envoy asks about", "envoy/check"),
    ("empty echo, native server", "floor/native-echo"),
    ("check, control process", "service/control-check"),
    ("empty echo, grpcio", "floor/echo"),
    ("empty echo, grpcio, TLS", "floor/echo-tls"),
    ("policy service in Go (Cerbos)", "floor/cerbos"),
)
CPU: Final = "server CPU us"
# Bars are drawn to the first row; a longer one ends in an arrow.
WIDTH: Final = 40
# Eighths of a cell.
PARTS: Final = " ▏▎▍▌▋▊▉"


def per_core(results: Sequence[Written]) -> str:
    """Return the picture in a block of text; empty if its first row was not measured."""
    rows: dict[str, Mapping[str, Any]] = {}
    for each in results:
        rows |= each.rows
    measured = [
        (label, 1e6 / rows[name]["extra"][CPU])
        for label, name in BARS
        if name in rows and rows[name]["extra"].get(CPU)
    ]
    if not measured or measured[0][0] != BARS[0][0]:
        return ""
    full = measured[0][1]
    space = max(len(label) for label, _ in measured)
    lines = [f"{label:<{space}}  {_bar(rate / full)} {rate:,.0f}" for label, rate in measured]
    return "\n".join(
        ["```text", "checks (calls, decisions) per second and core, over gRPC", "", *lines, "```"]
    )


def _bar(share: float) -> str:
    if share > 1.0:
        return "█" * (WIDTH - 1) + "▶"
    cells, eighths = divmod(round(share * WIDTH * 8), 8)
    return ("█" * cells + PARTS[eighths]).rstrip() or PARTS[1]
