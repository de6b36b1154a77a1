"""``sessauth audit``: verify, search and export the audit log."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ....errors import UsageError
from ... import lookup, params
from ...call_options import with_options
from ...context import Settings, with_settings
from ...io import json_bytes
from ...output import Progress
from ...params import audit_dir_option, audit_dirs_option
from .audit_replay import replay
from .audit_story import story

if TYPE_CHECKING:
    from ....audit.read.hosts import AuditHost


@click.group()
def audit() -> None:
    """Verify, search and export the audit log."""


audit.add_command(replay)
audit.add_command(story)


@audit.command("verify")
@audit_dirs_option
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
    help="The state folder that knows the log, of one folder. Default: the one beside it in a home.",
)
@with_settings
def verify(
    settings: Settings,
    folders: Sequence[Path],
    key_files: Sequence[Path],
    heads: Sequence[bytes],
    since: int,
    state_dir: Path | None,
) -> None:
    """Read the whole log and verify it. Exits with 1 if it was altered, or if there is none.

    The state folder keeps the keys that sign the log, and how far its newest streams came.
    A state that lacks changes which the log holds is an older one; that is said too. Of several hosts each
    log is verified for itself.
    """
    from ....audit.keys import public_keys
    from ...render import audit as audit_view
    from .audit_folders import hosts_of, verify_hosts

    keys: dict[bytes, bytes] = {}
    for file in key_files:
        keys |= public_keys(file)
    hosts = hosts_of(settings, folders, state_dir)
    with Progress("verifying") as progress:
        verified = verify_hosts(hosts, keys=keys or None, heads=heads, since_ms=since, on_progress=progress)
    intact = all(each.report.intact for each in verified)
    settings.show(audit_view.verified_json(verified), audit_view.verified_lines(verified), ok=intact)


# `observed`: allowed, by observe mode alone.
_ANSWERS: Final = ("allowed", "denied", "observed")
_filters = with_options(
    click.option("--session", type=params.session_id, default=b"", help="Of this session."),
    click.option("--decision", "decision", type=params.decision_id, default=b"", help="Of this id."),
    click.option("--block", type=params.block_id, default=b"", help="Whose token has this block."),
    click.option("--reason", default="", help="Decisions of this reason, as OUT_OF_SCOPE."),
    click.option("--stage", default="", help="Decisions of this stage, as scope."),
    click.option("--answer", type=click.Choice(_ANSWERS), help="Decisions of this answer."),
    click.option("--action", default="", help="Exact, or a beginning and *."),
    click.option("--resource", default="", help="Exact, or a beginning and *."),
    click.option("--arguments", default="", metavar="JSON|@FILE", help="Calls with these arguments."),
    click.option("--change", default="", help="Changes of this kind, as end_session."),
    click.option("--actor", default="", help="Changes by this principal."),
    click.option("--since", "since_ms", type=params.moment, default=0, help="From this moment on."),
    click.option("--until", "until_ms", type=params.moment, default=0, help="Before this moment."),
)


def _query(hosts: Sequence[AuditHost], *, answer: str | None, **options: Any) -> Any:
    """Return the query for the options of ``_filters``. Raises UsageError, KeyFolderError."""
    from ....audit.read.query import Query, argument_digests
    from ....model.change import ChangeKind
    from ....reasons import Reason, Stage

    digests: frozenset[str] = frozenset()
    if options["arguments"]:
        if not options["arguments"].lstrip().startswith(("{", "@")):
            raise UsageError("--arguments: is no JSON object; a file is given as @FILE")
        arguments = json_bytes(options["arguments"], "--arguments")
        # Each host has a key of its own.
        digests = frozenset().union(*(argument_digests(host.folder, arguments) for host in hosts))
    read = {
        "session": lookup.logged_session(options["session"], *(host.folder for host in hosts)).hex(),
        "decision": options["decision"].hex(),
        "block": options["block"].hex(),
        "reason": _word(options["reason"], Reason.__members__, "--reason"),
        "stage": _word(options["stage"], Stage.__members__, "--stage"),
        "allowed": None if answer is None else answer != "denied",
        "observed": answer == "observed",
        "arguments": digests,
        "change": _word(options["change"], ChangeKind.__members__, "--change"),
    }
    return Query(**{**options, **read})


def _word(text: str, known: Any, option: str) -> str:
    word = text.upper()
    if word and word not in known:
        raise click.BadParameter(f"{text!r} is not one of {', '.join(known)}", param_hint=option)
    return word


@audit.command("query")
@audit_dirs_option
@_filters
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="The newest so many."
)
@with_settings
def query(settings: Settings, /, folders: Sequence[Path], limit: int, **options: Any) -> None:
    """Show the records that fit all of the options, by time. Nothing is verified."""
    from ....audit.read.reader import FolderReader
    from ...render import audit as audit_view
    from .audit_folders import hosts_of

    hosts = hosts_of(settings, folders)
    readers = [FolderReader(host.folder, host.name if len(hosts) > 1 else "") for host in hosts]
    entries, count = audit_view.newest(readers, _query(hosts, **options), limit)
    passed_over = sum(reader.passed_over for reader in readers)
    document = {
        **audit_view.folders_json(hosts),
        "records": [audit_view.entry_json(entry) for entry in entries],
        "found": count,
        "passed_over": passed_over,
    }
    settings.show(document, audit_view.entry_lines(entries, count, passed_over))


@audit.command("export")
@audit_dir_option
@_filters
@click.option("--out", type=params.PATH, help="Write to a new file, mode 0600.")
@with_settings
def export(settings: Settings, /, folder: Path | None, out: Path | None, **options: Any) -> None:
    """Write decisions and changes as OCSF events, one JSON document a line, stream by stream."""
    from ....audit.read.hosts import AuditHost
    from ....audit.read.query import find
    from ....audit.read.reader import FolderReader
    from ...render.audit import Events

    folder = settings.audit_dir(folder)
    reading = FolderReader(folder)
    events = Events()
    wanted = _query([AuditHost("", folder)], **options)
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
