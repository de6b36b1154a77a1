"""``sessauth audit replay``: decide the recorded decisions of the audit log again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ....errors import UsageError
from ....scopes.scope import Scope
from ... import lookup, params, scope_files
from ...context import Settings, with_settings
from ...output import Progress, moment, printable, table
from ...params import Ref

if TYPE_CHECKING:
    from ....audit.replay import RefusedCall, ReplayFinding, ReplayReport, TrialReport

_MAX_REFUSED = 20
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
@click.option(
    "--ceiling-file",
    default="",
    metavar="FILE",
    help="Scopes, one a line; - for stdin. Also check allowed calls as if sessions had this ceiling.",
)
@click.option("--purpose", default="", help="With --ceiling-file: only sessions with this purpose have it.")
@with_settings
def replay(
    settings: Settings,
    folders: Sequence[Path],
    arguments_file: Path | None,
    session_id: Ref,
    ceiling_file: str,
    purpose: str,
) -> None:
    """Decide recorded decisions again. Exits with 1 if one can't have been made.

    The replay uses the recorded changes and the recorded blocks of the tokens, of several hosts those of
    all. Run 'audit verify' first: it tells whether the log was altered. With --ceiling-file it
    exits with 1 too if the ceiling refuses a call that was allowed.
    """
    from ....audit.replay import Trial, read_arguments
    from ....audit.replay import replay as decide_again
    from ...render.audit import folders_json
    from .audit_folders import hosts_of

    if purpose and not ceiling_file:
        raise UsageError("--purpose: is for --ceiling-file")
    scopes = scope_files.read_scopes(ceiling_file, "--ceiling-file") if ceiling_file else []
    hosts = hosts_of(settings, folders)
    paths = [host.folder for host in hosts]
    arguments: dict[str, bytes] | None = None
    if arguments_file is not None:
        # Each host has a key of its own.
        arguments = {}
        for path in paths:
            arguments |= read_arguments(arguments_file, path)
    whole_id = lookup.logged_session(session_id, *paths)
    try:
        trial = Trial.of(list(map(Scope.parse, scopes)), whole_id, purpose) if scopes else None
    except UsageError as error:
        raise UsageError(f"--ceiling-file: {ceiling_file}: {error}") from None
    decided = count(1)
    with Progress("decisions") as progress:
        report = decide_again(
            *paths,
            arguments=arguments,
            session_id=whole_id,
            trial=trial,
            on_decision=lambda recorded, judged: progress(next(decided)),
        )
    refused = report.trial.refused if report.trial is not None else 0
    settings.show(
        {**folders_json(hosts), **report.to_dict()}, _lines(report), ok=not (report.found or refused)
    )


def _lines(report: ReplayReport) -> list[str]:
    counts = report.to_dict()
    lines = [f"{report.decisions} decisions, {report.changes} changes, {report.chains} chains"]
    for name, word in _WORDS:
        by = counts.get(f"{name}_by") or {}
        why = ", ".join(f"{count} {what}" for what, count in by.items())
        lines.append(f"{counts[name]:>8} {word}" + (f": {why}" if why else ""))
    if report.begun_later:
        lines.append("the log lacks changes: the state before is not known, and issuer keys are trusted")
    if report.unreadable:
        lines.append(f"{report.unreadable:>8} lines are no records; see 'sessauth audit verify'")
    for finding in report.findings:
        lines += _finding_lines(finding)
    if report.found > len(report.findings):
        lines.append(f"the first {len(report.findings)} of {report.found} are shown")
    lines.append(f"FOUND: {report.found}" if report.found else "nothing was found")
    return [*lines, *([] if report.trial is None else _trial_lines(report.trial))]


def _trial_lines(trial: TrialReport) -> list[str]:
    """Return the lines on another ceiling."""
    unclear = ", ".join(f"{calls} {what}" for what, calls in sorted(trial.undecided.items()))
    lines = [
        f"by the ceiling, of the allowed calls of {len(trial.sessions)} session(s):",
        f"{trial.admitted:>8} admitted",
        f"{trial.refused:>8} refused",
        f"{trial.undecided.total():>8} undecided" + (f": {unclear}" if unclear else ""),
    ]
    if trial.unknown:
        lines.append(f"{trial.unknown:>8} of sessions that the log does not have")
    rows = sorted(trial.rows.items(), key=lambda item: (-item[1], item[0]))[:_MAX_REFUSED]
    if rows:
        cells = [(calls, row.action, row.resource, _why(row)) for row, calls in rows]
        lines += [f"  {line}" for line in table(("CALLS", "ACTION", "RESOURCE", "REFUSED"), cells)]
    more = len(trial.rows) - len(rows)
    return [*lines, f"  … and {more} more; --json has them"] if more else lines


def _why(row: RefusedCall) -> str:
    place = f" by scope {row.scope}" if row.scope >= 0 else ""
    place += f", condition {row.clause}" if row.clause >= 0 else ""
    return f"{row.reason}{place}" + (f", argument {row.argument}" if row.argument else "")


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
