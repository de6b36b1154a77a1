"""Results as tables, for a terminal and for a document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from benchmarks.grants.attacks import LISTS, WORDS
from benchmarks.grants.cases import CUSTOMERS, HIJACKED, HIJACKED_PURPOSE, LARGE, PURPOSE
from benchmarks.grants.subjects import KINDS, ONCE
from benchmarks.grants.targets import TARGETS
from benchmarks.grants.traffic import SEED
from benchmarks.results_file import Written

Row = Mapping[str, Any]
SETTINGS: Final = {
    "1": "1 session of the task",
    "3": "3 sessions of the task",
    "15": "15 sessions of the task",
    PURPOSE: "100 sessions of the purpose",
    LARGE: "300 sessions of the purpose",
    CUSTOMERS: "100 sessions, each of another customer",
    HIJACKED: "15 sessions, one of them hijacked",
}
SUBJECTS: Final = {
    "grant": "the grant itself",
    "names": "names of tools only",
    "loose": "`loose`",
    "exact": "`exact`",
    "kinds": "**`kinds`**",
}


def terminal(rows: Iterable[Row]) -> str:
    """Return a line for each setting and subject."""
    lines = [
        f"{'learnt from':42} {'fit':7} {'calls':>7} {'sessions':>9} {'plain':>7} {'adapted':>8} {'asked':>6}"
    ]
    for row in rows:
        if "subject" in row:
            name = SETTINGS.get(row["setting"], row["setting"])
            honest = (
                f"{row['calls_denied']:6.1f}% {row['sessions_hit']:8.1f}%" if row["calls"] else f"{'':17}"
            )
            lines.append(
                f"{name:42} {row['subject']:7} {honest} {row['plain_possible']:6.1f}% "
                f"{row['adapted_possible']:7.1f}% {row['questions']:6.2f}"
            )
    return "\n".join(lines)


def grants(results: Sequence[Written]) -> str:
    """Return the table of a document: honest calls denied, sessions with a denial, attacks possible."""
    rows = _rows(results, recorded=False)
    return _table(rows, SETTINGS) if rows else ""


def recorded(results: Sequence[Written]) -> str:
    """Return the same table of recorded sessions."""
    rows = _rows(results, recorded=True)
    return _table(rows, {row["setting"]: row["setting"] for row in rows}) if rows else ""


def shapes(results: Sequence[Written]) -> str:
    """Return the shapes of generated sessions beside those of recorded ones."""
    found = [
        row
        for written in results
        if written.options.get("seed", SEED) == SEED
        for name, row in written.rows.items()
        if name.startswith("shapes/")
    ]
    if not found:
        return ""
    head = "| sessions | calls a session | that read | changing calls a session | by a tool that is new "
    head += "| with a name that is new |\n| --- | --- | --- | --- | --- | --- |\n"
    return head + "\n".join(
        f"| {row['of']} | {row['mean_calls']:.1f} | {row['reads']:.0f} % | {row['changing']:.1f} "
        f"| {row['new_tools']:.1f} % | {row['new_values']:.1f} % |"
        for row in found
    )


def seeds(results: Sequence[Written]) -> str:
    """Return the default fit's figures with other seeds, from the least to the most."""
    found: dict[str, list[Row]] = {}
    for row in _rows(results, recorded=False, default=False):
        if row["subject"] == "kinds":
            found.setdefault(row["setting"], []).append(row)
    lines = []
    for setting, words in SETTINGS.items():
        rows = found.get(setting, [])
        honest = [
            _range([row[name] for row in rows if row["calls"]]) for name in ("calls_denied", "sessions_hit")
        ]
        if rows:
            attacks = _range([row["adapted_possible"] for row in rows])
            lines.append(f"| {words} | {honest[0]} | {honest[1]} | {attacks} |")
    head = (
        "| learnt from | honest calls denied | honest sessions with a denial | attacks possible, adapted |\n"
    )
    return head + "| --- | --- | --- | --- |\n" + "\n".join(lines) if lines else ""


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f} %" if values else ""


def apart(results: Sequence[Written]) -> str:
    """Return attacks of two kinds by themselves; words are not counted above."""
    rows = {row["setting"]: row for row in _rows(results, recorded=False) if row["subject"] == "kinds"}
    lines = []
    for kind in (WORDS, LISTS):
        for setting in ("15", PURPOSE):
            found = (
                next((a for a in rows[setting]["attacks"] if a["kind"] == kind and a["adapted"]), None)
                if setting in rows
                else None
            )
            if found:
                lines.append(f"| {kind} | {SETTINGS[setting]} | {found['possible']} of {found['tried']} |")
    head = "| what the attacker changes | learnt from | possible, adapted |\n| --- | --- | --- |\n"
    return head + "\n".join(lines) if lines else ""


def once(results: Sequence[Written]) -> str:
    """Return what the rule costs that one session alone frees nothing, and what it holds."""
    rows = {(row["setting"], row["subject"]): row for row in _rows(results, recorded=False)}
    lines = []
    for setting, hijacked in ((PURPOSE, HIJACKED_PURPOSE), (LARGE, "")):
        for words, subject in (("two sessions (`kinds`)", KINDS), ("one session", ONCE)):
            row = rows.get((setting, subject))
            if row is not None:
                after = rows.get((hijacked, subject))
                honest = f"{row['calls_denied']:.1f} % | {row['sessions_hit']:.1f} %"
                opened = f"{after['adapted_possible']:.1f} %" if after else ""
                attacks = f"{row['adapted_possible']:.1f} % | {opened}"
                lines.append(f"| {SETTINGS[setting]} | {words} | {honest} | {attacks} |")
    head = (
        "| learnt from | free is what was brought by | honest calls denied | honest sessions with a denial "
        "| attacks possible, adapted | the same, one session hijacked |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
    )
    return head + "\n".join(lines) if lines else ""


def _rows(results: Sequence[Written], *, recorded: bool, default: bool = True) -> list[Row]:
    return [
        row
        for written in results
        if written.options.get("recorded") is recorded
        and (written.options.get("seed", SEED) == SEED) is default
        for name, row in written.rows.items()
        if name.startswith("grants/")
    ]


def _table(rows: Sequence[Row], settings: Mapping[str, str]) -> str:
    lines = [
        "| learnt from | fit | honest calls denied | honest sessions with a denial | attacks possible, plain "
        "| adapted | questions a session |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for setting, words in settings.items():
        for subject, label in SUBJECTS.items():
            row = next((r for r in rows if (r["setting"], r["subject"]) == (setting, subject)), None)
            if row is not None:
                lines.append(f"| {words} | {label} | {_cells(row)} |")
        target = TARGETS.get(setting)
        if target is not None and settings is SETTINGS:
            bounds = (target.calls, target.sessions, 0, target.attacks, target.questions)
            units = (" %", " %", " %", " %", "")
            cells = [f"≤ {bound:g}{unit}" if bound else "" for bound, unit in zip(bounds, units, strict=True)]
            lines.append(f"| | *target* | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(row: Row) -> str:
    if row["calls"]:
        honest = f"{row['calls_denied']:.1f} % | {row['sessions_hit']:.1f} %"
        asked = f"{row['questions']:.2f}"
    else:
        honest, asked = " | ", ""
    tried = any(not attack["adapted"] for attack in row["attacks"])
    plain = f"{row['plain_possible']:.1f} %" if tried else ""
    return f"{honest} | {plain} | {row['adapted_possible']:.1f} % | {asked}"
