"""``sessauth audit``: verify the audit log, ask it, hand it on."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ....errors import StateError, StateUnusable, UsageError
from ... import lookup, params
from ...call_options import with_options
from ...context import Settings, with_settings
from ...io import json_bytes
from ...output import Progress, printable
from ...params import audit_dir_option
from .audit_replay import replay

if TYPE_CHECKING:
    from ....audit.stream_register import StreamRegister
    from ....audit.verify.findings import AuditReport


@click.group()
def audit() -> None:
    """Verify the audit log, ask it, hand it on."""


audit.add_command(replay)


@audit.command("verify")
@audit_dir_option
@click.option(
    "--public-key",
    "key_files",
    type=params.PATH,
    multiple=True,
    help="File with keys that are trusted, as audit.pub. Default: those that the state folder keeps.",
)
@click.option(
    "--expect-head",
    "heads",
    type=params.chain,
    multiple=True,
    help="A chain that some line must have, noted before and kept elsewhere. Repeatable.",
)
@click.option(
    "--since", type=params.moment, default=0, help="Don't miss files that were removed from before it."
)
@click.option(
    "--state",
    "state_dir",
    type=params.PATH,
    help="The state folder that knows the log. Default: that of the home folder, without --dir.",
)
@with_settings
def verify(
    settings: Settings,
    folder: Path | None,
    key_files: Sequence[Path],
    heads: Sequence[bytes],
    since: int,
    state_dir: Path | None,
) -> None:
    """Read the whole log and say whether it is what was written. Exits with 1 if not, or if there is none.

    The state folder keeps the keys that sign the log, and how far its newest streams came.
    A state that lacks changes which the log holds is an older one; that is said too.
    """
    from ....audit.keys import public_keys
    from ....audit.verify.verify import verify as check
    from ...render import audit as audit_view

    keys: dict[bytes, bytes] = {}
    for file in key_files:
        keys |= public_keys(file)
    if state_dir is None and folder is None:
        state_dir = settings.config().state_dir
    register, not_compared = _read_register(state_dir)
    folder = settings.audit_dir(folder)
    with Progress("verifying") as progress:
        report = check(
            folder,
            keys=keys or None,
            expected_heads=heads,
            since_ms=since,
            register=register,
            on_progress=progress,
        )
        report, why = _with_missing_changes(report, folder, state_dir)
    document = {
        **audit_view.report_json(folder, report),
        "compared_with_state": register is not None,
        "compared_with_changes": not why,
    }
    settings.show(document, [*not_compared, *why, *audit_view.report_lines(report)], ok=report.intact)


def _read_register(state_dir: Path | None) -> tuple[StreamRegister | None, list[str]]:
    """Return the register of the log's streams in a state folder, or None and a line that says so.

    Raises StateUnusable if its file is damaged.
    """
    from ....audit import stream_register

    why = "none was named; --state names one"
    if state_dir is not None:
        try:
            registered = stream_register.read(state_dir)
        except StateUnusable as error:
            if error.problem != "WRONG_MODE":
                raise
            registered, why = None, str(error)
        else:
            why = f"{state_dir} keeps nothing of a log"
        if registered is not None:
            return registered, []
    return None, [printable(f"not compared with a state folder: {why}")]


def _with_missing_changes(
    report: AuditReport, folder: Path, state_dir: Path | None
) -> tuple[AuditReport, list[str]]:
    """Add the changes that log or state lack to a report; return a line too if the two were not compared.

    A state that can't be read is no finding, unless it is an older one.
    """
    from ....audit.recording.missing_changes import lacking
    from ....audit.verify.findings import FindingKind, VerificationFinding
    from ....state.layout import DATA_FILE
    from ....state.lmdb.feed import LocalFeed
    from ....state.lmdb.reader import StateReader

    if state_dir is None or not (state_dir / DATA_FILE).exists():
        return report, ["not compared with the changes of a state: there is none here"]
    try:
        reader = StateReader.open(state_dir)
        try:
            findings = lacking(folder, LocalFeed(reader))
        finally:
            reader.close()
    except StateError as error:
        if getattr(error, "problem", "") != "ROLLED_BACK":
            return report, [printable(f"not compared with the changes of the state: {error}")]
        findings = [VerificationFinding(FindingKind.ROLLED_BACK, "", 0, -1, str(error))]
    return replace(report, findings=(*report.findings, *findings)), []


_filters = with_options(
    click.option("--session", type=params.session_id, default=b"", help="Of this session."),
    click.option("--decision", "decision", type=params.decision_id, default=b"", help="Of this id."),
    click.option("--block", type=params.block_id, default=b"", help="Whose token has this block."),
    click.option("--reason", default="", help="Decisions of this reason, as OUT_OF_SCOPE."),
    click.option("--stage", default="", help="Decisions of this stage, as scope."),
    click.option("--answer", type=click.Choice(("allowed", "denied")), help="Decisions of this answer."),
    click.option("--action", default="", help="Exact, or a beginning and *."),
    click.option("--resource", default="", help="Exact, or a beginning and *."),
    click.option("--arguments", default="", metavar="JSON|@FILE", help="Calls with these arguments."),
    click.option("--change", default="", help="Changes of this kind, as end_session."),
    click.option("--actor", default="", help="Changes by this principal."),
    click.option("--since", "since_ms", type=params.moment, default=0, help="From this moment on."),
    click.option("--until", "until_ms", type=params.moment, default=0, help="Before this moment."),
)


def _query(folder: Path, *, answer: str | None, **options: Any) -> Any:
    """Return the query for the options of ``_filters``. Raises UsageError, KeyFolderError."""
    from ....audit.read.query import Query, argument_digests
    from ....model.change import ChangeKind
    from ....reasons import Reason, Stage

    digests: frozenset[str] = frozenset()
    if options["arguments"]:
        if not options["arguments"].lstrip().startswith(("{", "@")):
            raise UsageError("--arguments: is no JSON object; a file is given as @FILE")
        digests = argument_digests(folder, json_bytes(options["arguments"], "--arguments"))
    read = {
        "session": lookup.logged_session(folder, options["session"]).hex(),
        "decision": options["decision"].hex(),
        "block": options["block"].hex(),
        "reason": _word(options["reason"], Reason.__members__, "--reason"),
        "stage": _word(options["stage"], Stage.__members__, "--stage"),
        "allowed": None if answer is None else answer == "allowed",
        "arguments": digests,
        "change": _word(options["change"], ChangeKind.__members__, "--change"),
    }
    return Query(**{**options, **read})


def _word(text: str, known: Any, option: str) -> str:
    word = text.upper()
    if word and word not in known:
        raise click.BadParameter(f"{text!r} is none of {', '.join(known)}", param_hint=option)
    return word


@audit.command("query")
@audit_dir_option
@_filters
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="The newest so many."
)
@with_settings
def query(settings: Settings, /, folder: Path | None, limit: int, **options: Any) -> None:
    """Show the records that fit all of the options, by time. Nothing is verified."""
    from ....audit.read.reader import FolderReader
    from ...render import audit as audit_view

    folder = settings.audit_dir(folder)
    reading = FolderReader(folder)
    entries, count = audit_view.newest(reading, _query(folder, **options), limit)
    document = {
        "dir": str(folder),
        "records": [audit_view.entry_json(entry) for entry in entries],
        "found": count,
        "passed_over": reading.passed_over,
    }
    settings.show(document, audit_view.entry_lines(entries, count, reading.passed_over))


@audit.command("export")
@audit_dir_option
@_filters
@click.option("--out", type=params.PATH, help="Write to a new file, mode 0600.")
@with_settings
def export(settings: Settings, /, folder: Path | None, out: Path | None, **options: Any) -> None:
    """Write decisions and changes as OCSF events, one JSON document a line, stream by stream."""
    from ....audit.read.query import find
    from ....audit.read.reader import FolderReader
    from ...render.audit import Events

    folder = settings.audit_dir(folder)
    reading = FolderReader(folder)
    events = Events()
    wanted = _query(folder, **options)
    if out is None:
        for event in events.of(find(reading, wanted)):
            click.echo(json.dumps(event, separators=(",", ":")))
        return
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"--out: can't write {out}: {error.strerror}") from None
    count = 0
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        for event in events.of(find(reading, wanted)):
            file.write(json.dumps(event, separators=(",", ":")) + "\n")
            count += 1
    settings.show({"out": str(out), "events": count}, [f"written  {count} events to {out}"])


@audit.command("key")
@audit_dir_option
@with_settings
def key(settings: Settings, folder: Path | None) -> None:
    """Print the public keys that the log is signed by: keep them where the log is not."""
    from ....audit import layout
    from ....audit.keys import public_keys

    folder = settings.audit_dir(folder)
    found = public_keys(folder / layout.PUBLIC_FILE)
    settings.show(
        {
            "dir": str(folder),
            "keys": [{"key_id": each.hex(), "public_key": key.hex()} for each, key in found.items()],
        },
        [each.hex() for each in found.values()],
    )
