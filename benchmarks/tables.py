"""Results as tables: for a terminal, and in Markdown for the parts of a document that come from them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from benchmarks.results_file import Written

RESULTS: Final = (
    "row",
    "median",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "floor",
    "ratio (95 %)",
    "budget",
    "verdict",
)
TARGETS: Final = ("row", "floor", "ratio (95 %)", "target", "gate", "verdict", "why the gate is another")
PEERS: Final = ("peer", "form", "median µs", "ours µs", "times ours (95 %)", "budget", "verdict")
INSTRUCTIONS: Final = ("row", "instructions a call", "floor", "ratio", "budget", "verdict")
# Groups of rows that have a table of their own.
ELSEWHERE: Final = ("peer", "instructions")
WIDTH: Final = 120
LEGEND: Final = """\
median           of rounds, in us where no unit stands: the time for each call, one behind the other;
                 in service/ and envoy/, where many are in flight, calls or decisions per second
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
    "stage": "checks that find the state changed",
    "warm": "whole checks, the chain verified before",
    "guard": "warm checks by a guard with a catalogue",
    "proof": "warm checks of bound tokens, each with a proof",
    "audit": "warm checks whose decisions are recorded",
    "cold": "whole checks, with the signatures that nothing kept",
    "worst": "the most expensive calls of at most 64 KB, against a signature",
    "batch": "checks of one batch in process, per check",
    "threads": "threads that share one verifier, per check",
    "refusal": "what a forger can make us spend",
    "service": "calls to a server process",
    "envoy": "requests to an MCP server through Envoy, which asks about each",
    "mcp": "calls of a tool by the MCP SDK's client, one at a time, judged by a guard",
    "writes": "changes of the state",
    "growth": "the same checks among more sessions, revocations and chains, per check",
    "memory": "what is kept for a verified chain",
    "flood": "a hot set under a flood of one-off tokens",
    "end": "ending a session: one write",
    "instructions": "instructions of a call, counted by callgrind: no time, and no noise",
    "peer": "the nearest equal work of other libraries",
}


def terminal(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return an aligned table of the rows in groups, and behind it their further figures."""
    body = [(group, [_result(row) for row in members]) for group, members in _groups(rows)]
    cells = [RESULTS, *(row for _, members in body for row in members)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(RESULTS) - 1)]
    lines = [_aligned(RESULTS, widths)]
    for group, members in body:
        lines += ["", f"{group}: {HEADINGS[group]}", *(_aligned(row, widths) for row in members)]
    further = [f"{name}: {text}" for name, text in _figures(rows)]
    return "\n".join([*lines, "", *further] if further else lines)


def line(row: Mapping[str, Any]) -> str:
    """Return a row in one line without a table: name, median, ratio to its floor, budget and verdict."""
    name, middle, *_, floor, ratio, budget, verdict = _result(row)
    ratio = f"{ratio} x {floor}" if ratio else ""
    budget = f"budget {budget}" if budget else ""
    return f"{name}: {', '.join(filter(None, (middle, ratio, budget, verdict)))}"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    """Return a line; the last column has no width, so that a long verdict widens nothing."""
    return "  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip()


def machine(results: Sequence[Written]) -> str:
    """Return a line for each result: commit, processor, load, versions, date."""
    lines = []
    for each in results:
        versions = ", ".join(
            f"{name} {version}" for name, version in each.machine["versions"].items() if version
        )
        load = " and ".join(
            f"{each.machine[key]} {word}"
            for key, word in (("load_before", "before"), ("load_after", "after"))
            if each.machine.get(key) is not None
        )
        form = "short form" if each.options.get("quick") else "full form"
        lines.append(f"- {each.caption} · {form} · load {load} · {each.machine['system']} · {versions}")
    return "\n".join(lines)


def targets(results: Sequence[Written]) -> str:
    """Return the rows whose bound is not the design's target: the ratio, both, and the reason."""
    rows = [row for each in results for row in each.rows.values() if row["reason"]]
    cells = (
        (
            row["name"],
            row["floor"],
            _ratio(row),
            f"{_side(row)} {row['target']:.3g}",
            _budget(row) if row["gates"] else "",
            _verdict(row),
            row["reason"],
        )
        for row in rows
        if _group(row) != "instructions"
    )
    return _table(TARGETS, cells) if rows else ""


def results(results: Sequence[Written]) -> str:
    """Return a table for each group of rows, peers and counted ones apart."""
    rows = [row for each in results for row in each.rows.values() if _group(row) not in ELSEWHERE]
    return "\n\n".join(
        f"**{group}**: {HEADINGS[group]}\n\n{_table(RESULTS, [_result(row) for row in members])}"
        for group, members in _groups(rows)
    )


def instructions(results: Sequence[Written]) -> str:
    """Return the table of the rows that are counted in instructions."""
    rows = [row for each in results for row in each.rows.values() if _group(row) == "instructions"]
    cells = (
        (
            row["name"],
            _number(row["median"]),
            row["floor"],
            _number(row["ratio"]),
            _budget(row),
            _verdict(row),
        )
        for row in rows
    )
    return _table(INSTRUCTIONS, cells) if rows else ""


def peers(results: Sequence[Written]) -> str:
    """Return the table of the peers, and for each the paragraph on what is not equal."""
    parts = []
    for each in results:
        rows = [row for row in each.rows.values() if row["name"].startswith("peer/")]
        if rows:
            parts.append(_table(PEERS, (_peer(row) for row in rows)))
            notes = (f"**{name}**: {' '.join(note.split())}" for name, note in each.notes.items())
            parts += [
                textwrap.fill(note, WIDTH, break_long_words=False, break_on_hyphens=False) for note in notes
            ]
    return "\n\n".join(parts)


def _group(row: Mapping[str, Any]) -> str:
    return str(row["name"].partition("/")[0])


def _groups(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Yield the groups in the order in which they first come, each with its rows."""
    for group in dict.fromkeys(map(_group, rows)):
        yield group, [row for row in rows if _group(row) == group]


def _figures(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the further figures of the rows that have any, in words."""
    return [
        (row["name"], ", ".join(f"{name} {_plain(value)}" for name, value in row["extra"].items()))
        for row in rows
        if row["extra"]
    ]


def _result(row: Mapping[str, Any]) -> tuple[str, ...]:
    unit = "µs" if row["unit"] == "us" else row["unit"]
    return (
        row["name"],
        f"{_number(row['median'])} {unit}" if row["median"] is not None else "",
        *(_number(row[key]) for key in ("p50_us", "p99_us", "p999_us")),
        row["floor"],
        _ratio(row),
        _budget(row),
        _verdict(row),
    )


def _peer(row: Mapping[str, Any]) -> tuple[str, ...]:
    _, name, form = row["name"].split("/", 2)
    ours = row["median"] / row["ratio"] if row["median"] is not None and row["ratio"] else None
    return (name, form, _number(row["median"]), _number(ours), _ratio(row), _budget(row), _verdict(row))


def _ratio(row: Mapping[str, Any]) -> str:
    if row["ratio"] is None:
        return ""
    return f"{_number(row['ratio'])} ({_number(row['ratio_low'])} to {_number(row['ratio_high'])})"


def _budget(row: Mapping[str, Any]) -> str:
    if row["budget"] is None:
        return ""
    return f"{_side(row)} {row['budget']:.3g}"


def _side(row: Mapping[str, Any]) -> str:
    return "≥" if row["budget_side"] == "at_least" else "≤"


def _verdict(row: Mapping[str, Any]) -> str:
    return f"not measured: {row['missing']}" if row["missing"] else str(row["verdict"])


def _number(value: float | None) -> str:
    """Return three significant digits, and all those before the point."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else _number(value)


def _table(columns: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> str:
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)
