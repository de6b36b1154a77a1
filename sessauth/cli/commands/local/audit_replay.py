"""``sessauth audit replay``: decide again what the audit log says was decided."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ... import lookup, params
from ...context import Settings, with_settings
from ...output import Progress, moment, printable
from ...params import Ref

if TYPE_CHECKING:
    from ....audit.replay import ReplayFinding, ReplayReport

_WORDS = (
    ("confirmed", "confirmed"),
    ("on_trust", "on trust"),
    ("undecided", "undecided"),
    ("undecidable", "undecidable"),
)


@click.command("replay")
@params.audit_dir_option
@click.option(
    "--arguments",
    "arguments_file",
    type=params.PATH,
    help="File with the arguments of calls, one JSON document a line; they are found by their digests.",
)
@click.option("--session", "session_id", type=params.session_id, default=b"", help="Of this session only.")
@with_settings
def replay(settings: Settings, folder: Path | None, arguments_file: Path | None, session_id: Ref) -> None:
    """Decide again what was decided. Exits with 1 if something can't have been so.

    It is judged by the recorded changes and the recorded blocks of the tokens. Whether the log is what was
    written tells 'audit verify', which comes first.
    """
    from ....audit.replay import read_arguments
    from ....audit.replay import replay as decide_again

    folder = settings.audit_dir(folder)
    arguments = None if arguments_file is None else read_arguments(arguments_file, folder)
    whole_id = lookup.logged_session(folder, session_id)
    decided = count(1)
    with Progress("decisions") as progress:
        report = decide_again(
            folder,
            arguments=arguments,
            session_id=whole_id,
            on_decision=lambda recorded, judged: progress(next(decided)),
        )
    settings.show({"dir": str(folder), **report.to_dict()}, _lines(report), ok=not report.found)


def _lines(report: ReplayReport) -> list[str]:
    counts = report.to_dict()
    lines = [f"{report.decisions} decisions, {report.changes} changes, {report.chains} chains"]
    for name, word in _WORDS:
        by = counts.get(f"{name}_by") or {}
        why = ", ".join(f"{count} {what}" for what, count in by.items())
        lines.append(f"{counts[name]:>8} {word}" + (f": {why}" if why else ""))
    if report.begun_later:
        lines.append("the log lacks changes: what was before is not known, and issuer keys are trusted")
    if report.unreadable:
        lines.append(f"{report.unreadable:>8} lines are no records; 'sessauth audit verify' says what of it")
    for finding in report.findings:
        lines += _finding_lines(finding)
    if report.found > len(report.findings):
        lines.append(f"the first {len(report.findings)} of {report.found} are shown")
    return [*lines, f"FOUND: {report.found}" if report.found else "nothing was found"]


def _finding_lines(finding: ReplayFinding) -> list[str]:
    lines = [f"{finding.kind.name} {finding.file}:{finding.line} (n {finding.n}): {finding.why}"]
    facts = (
        ("id", finding.id),
        ("at", moment(finding.at_ms)),
        ("session", finding.session),
        ("recorded", finding.recorded),
        ("comes out", finding.comes_out),
    )
    lines += [f"  {name:<10} {value}" for name, value in facts if value]
    return [printable(line) for line in lines]
