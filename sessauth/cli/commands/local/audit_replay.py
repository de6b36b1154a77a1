"""``sessauth audit replay``: decide again what the audit log says was decided."""

from __future__ import annotations

from collections.abc import Sequence
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
@params.audit_dirs_option
@click.option(
    "--arguments",
    "arguments_file",
    type=params.PATH,
    help="File with the arguments of calls, one JSON document a line; they are found by their digests.",
)
@click.option("--session", "session_id", type=params.session_id, default=b"", help="Of this session only.")
@with_settings
def replay(settings: Settings, folders: Sequence[Path], arguments_file: Path | None, session_id: Ref) -> None:
    """Decide again what was decided. Exits with 1 if something can't have been so.

    It is judged by the recorded changes and the recorded blocks of the tokens, of several hosts by those of
    all. Whether the log is what was written tells 'audit verify', which comes first.
    """
    from ....audit.replay import read_arguments
    from ....audit.replay import replay as decide_again
    from ...render.audit import folders_json
    from .audit_folders import hosts_of

    hosts = hosts_of(settings, folders)
    paths = [host.folder for host in hosts]
    arguments: dict[str, bytes] | None = None
    if arguments_file is not None:
        # Each host has a key of its own.
        arguments = {}
        for path in paths:
            arguments |= read_arguments(arguments_file, path)
    whole_id = lookup.logged_session(session_id, *paths)
    decided = count(1)
    with Progress("decisions") as progress:
        report = decide_again(
            *paths,
            arguments=arguments,
            session_id=whole_id,
            on_decision=lambda recorded, judged: progress(next(decided)),
        )
    settings.show({**folders_json(hosts), **report.to_dict()}, _lines(report), ok=not report.found)


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
