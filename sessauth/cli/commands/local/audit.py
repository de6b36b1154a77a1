"""``sessauth audit`` and ``sessauth decision``: read the audit log, without a server.

- ``audit verify``, ``query``, ``export`` and ``key``: verify the log, search it, hand it on.
- ``audit replay``: decide the recorded decisions again.
- ``audit story``: one session over the logs of all hosts, and the proof that nothing outlived it.
- ``decision show``: why a call was allowed or denied.

Rendering is in ``cli/render/audit.py``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ....errors import UsageError
from ....model.receipt import MAX_TEXT_CHARS, SignedReceipt
from ....scopes.scope import Scope
from ... import context, io, params
from ...context import Settings, with_settings
from ...io import json_bytes, read_bytes, with_options
from ...output import fields, moment, printable, table
from ...params import FILE, Ref, audit_dir_option, audit_dirs_option, examples

if TYPE_CHECKING:
    from ....audit.read.query import DecisionContext
    from ....audit.read.story import AuditHost
    from ....audit.replay import RefusedCall, ReplayFinding, ReplayReport, TrialReport

_MAX_REFUSED = 20
_WORDS = (
    ("confirmed", "confirmed"),
    ("on_trust", "on trust"),
    ("undecided", "undecided"),
    ("undecidable", "undecidable"),
)


@click.group()
def audit() -> None:
    """Verify, search and export the audit log."""


@audit.command(
    "replay", epilog=examples("audit replay", "audit replay --ceiling-file narrower.scopes --purpose deploy")
)
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
    type=FILE,
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
    from ...render import audit as view

    if purpose and not ceiling_file:
        raise UsageError("--purpose: is for --ceiling-file")
    scopes = io.read_scopes(ceiling_file, "--ceiling-file") if ceiling_file else []
    hosts = view.hosts_of(settings, folders)
    paths = [host.folder for host in hosts]
    arguments: dict[str, bytes] | None = None
    if arguments_file is not None:
        # Each host has a key of its own.
        arguments = {}
        for path in paths:
            arguments |= read_arguments(arguments_file, path)
    whole_id = context.logged_session(session_id, *paths)
    try:
        trial = Trial.of(list(map(Scope.parse, scopes)), whole_id, purpose) if scopes else None
    except UsageError as error:
        raise UsageError(f"--ceiling-file: {ceiling_file}: {error}") from None
    decided = count(1)
    with settings.progress("decisions") as progress:
        report = decide_again(
            *paths,
            arguments=arguments,
            session_id=whole_id,
            trial=trial,
            on_decision=lambda recorded, judged: progress(next(decided)),
        )
    refused = report.trial.refused if report.trial is not None else 0
    settings.show(
        {**view.folders_json(hosts), **report.to_dict()},
        _replay_lines(report),
        ok=not (report.found or refused),
    )


def _replay_lines(report: ReplayReport) -> list[str]:
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


@audit.command("story", epilog=examples("audit story 5f0c --dir /copies"))
@click.argument("session_id", type=params.session_id)
@params.audit_dirs_option
@params.bound_option
@click.option(
    "--receipt",
    "receipt_file",
    type=FILE,
    help="File with the session's receipt: each host in it must have a log here.",
)
@with_settings
def story(
    settings: Settings, session_id: Ref, folders: Sequence[Path], bound_ms: int, receipt_file: str | None
) -> None:
    """Show all records of a session by time, and whether any host allowed a call after its end.

    Verifies each log first. Exits with 1 if one is not intact or lost records, if no end is recorded, if a
    host has no log that goes beyond the end, or if a call was allowed too late. The receipt itself is
    verified by 'session verify-closed'.
    """
    from ....audit.read.story import read_story
    from ...render import audit as view

    hosts = view.hosts_of(settings, folders)
    whole_id = context.logged_session(session_id, *(host.folder for host in hosts))
    named: tuple[str, ...] = ()
    if receipt_file is not None:
        text = read_bytes(receipt_file, "receipt", MAX_TEXT_CHARS + 2).decode("ascii", "replace").strip()
        named = tuple(host.name for host in SignedReceipt.from_text(text).unverified.hosts)
    with settings.progress("verifying") as progress:
        verified = view.verify_hosts(hosts, on_progress=progress)
        found = read_story(hosts, whole_id, bound_ms)
    problems = view.problems(found, verified, named, bound_ms)
    settings.show(view.to_json(found, verified, problems), view.to_lines(found, problems), ok=not problems)


@audit.command(
    "verify", epilog=examples("audit verify", "audit verify --dir /copies/host-a --public-key audit.pub")
)
@audit_dirs_option
@click.option(
    "--public-key",
    "key_files",
    type=params.PATH,
    multiple=True,
    help="File with keys that are trusted, as audit.pub. Default: those that the state folder keeps.",
)
@params.heads_option
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
    from ....audit.layout import public_keys
    from ...render import audit as view

    keys: dict[bytes, bytes] = {}
    for file in key_files:
        keys |= public_keys(file)
    hosts = view.hosts_of(settings, folders, state_dir)
    with settings.progress("verifying") as progress:
        verified = view.verify_hosts(
            hosts, keys=keys or None, heads=heads, since_ms=since, on_progress=progress
        )
    intact = all(each.report.intact for each in verified)
    settings.show(view.verified_json(verified), view.verified_lines(verified), ok=intact)


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
        "session": context.logged_session(options["session"], *(host.folder for host in hosts)).hex(),
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


@audit.command("query", epilog=examples("audit query --session 5f0c --answer denied"))
@audit_dirs_option
@_filters
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="The newest so many."
)
@with_settings
def query(settings: Settings, /, folders: Sequence[Path], limit: int, **options: Any) -> None:
    """Show the records that fit all of the options, by time. Nothing is verified."""
    from ....audit.read.query import FolderReader
    from ...render import audit as view

    hosts = view.hosts_of(settings, folders)
    readers = [FolderReader(host.folder, host.name if len(hosts) > 1 else "") for host in hosts]
    entries, count = view.newest(readers, _query(hosts, **options), limit)
    passed_over = sum(reader.passed_over for reader in readers)
    document = {
        **view.folders_json(hosts),
        "records": [view.entry_json(entry) for entry in entries],
        "found": count,
        "passed_over": passed_over,
    }
    settings.show(document, view.entry_lines(entries, count, passed_over))


@audit.command("export", epilog=examples("audit export --since 2026-01-31T00:00:00Z --out events.jsonl"))
@audit_dir_option
@_filters
@click.option("--out", type=params.PATH, help="Write to a new file, mode 0600.")
@with_settings
def export(settings: Settings, /, folder: Path | None, out: Path | None, **options: Any) -> None:
    """Write decisions and changes as OCSF events, one JSON document a line, stream by stream."""
    from ....audit.read.query import FolderReader, find
    from ....audit.read.story import AuditHost
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


@audit.command("key", epilog=examples("audit key"))
@audit_dir_option
@with_settings
def key(settings: Settings, folder: Path | None) -> None:
    """Print the public keys that the log is signed by: keep them where the log is not."""
    from ....audit import layout
    from ....audit.layout import public_keys

    folder = settings.audit_dir(folder)
    found = public_keys(folder / layout.PUBLIC_FILE)
    settings.show(
        {
            "dir": str(folder),
            "keys": [{"key_id": each.hex(), "public_key": key.hex()} for each, key in found.items()],
        },
        [each.hex() for each in found.values()],
    )


@click.group()
def decision() -> None:
    """Explain decisions that were made."""


@decision.command("show", epilog=examples('decision show "$decision"'))
@click.argument("decision_id", type=params.decision_id)
@params.audit_dir_option
@with_settings
def show(settings: Settings, decision_id: bytes, folder: Path | None) -> None:
    """Show why exactly a call was allowed or denied, with its token and its session's changes."""
    from ....audit.read.query import FolderReader, load_context

    context = load_context(FolderReader(settings.audit_dir(folder)), decision_id)
    settings.show(_json(context), _decision_lines(context))


def _json(context: DecisionContext) -> dict[str, Any]:
    return {
        "decision": context.entry.record,
        "stream": context.entry.stream.hex(),
        "file": context.entry.path.name,
        "line": context.entry.line,
        "meaning": context.meaning,
        "explanation": context.explanation,
        "blocks": [block.to_dict() for block in context.blocks],
        "ceilings": [[str(scope) for scope in layer] for layer in context.ceilings],
        "changes": [entry.record for entry in context.changes],
    }


def _call(record: Mapping[str, Any]) -> str:
    if record.get("token_only") is True:
        return "none: the token alone was checked"
    return f"{record.get('action', '')} {record.get('resource', '')}"


def _decision_lines(context: DecisionContext) -> list[str]:
    record, decision = context.entry.record, context.decision
    allowed = "ALLOWED by observe mode alone" if decision.observed else "ALLOWED"
    word = allowed if decision else f"DENIED at stage {decision.stage.name.lower()}: {decision.reason.name}"
    explained = context.explanation.removeprefix("ALLOWED").removeprefix(f"{decision.reason.name}: ").strip()
    lines = [
        word,
        f"  means: {context.meaning}",
        *([f"  {printable(explained)}"] if explained not in ("", context.meaning) else []),
        *fields(
            [
                ("time", moment(context.entry.at_ms)),
                ("call", _call(record)),
                ("arguments", "digest " + str(record["arguments"]) if record.get("arguments") else ""),
                ("audience", record.get("audience", "")),
                ("source", record.get("source", "")),
                ("session", decision.session_id.hex()),
                ("claimed session", record.get("claimed", "")),
                ("epoch", decision.epoch or ""),
                ("revision", decision.revision or ""),
                ("recorded", f"{context.entry.path.name}:{context.entry.line}"),
            ]
        ),
    ]
    if context.blocks:
        lines.append("token:")
    for block in context.blocks:
        lines.append(f"  {block.name}, {block.block_id.hex()}")
        lines += [f"    {printable(str(scope))}" for scope in block.scopes]
    if context.changes:
        lines.append("changes of the session:")
        lines += table(
            ("TIME", "REVISION", "CHANGE", "OUTCOME", "BY", ""),
            [
                [
                    moment(entry.at_ms),
                    entry.record.get("revision", ""),
                    entry.record.get("change", ""),
                    entry.record.get("outcome", ""),
                    entry.record.get("actor", ""),
                    "" if entry.record.get("revision", 0) <= decision.revision else "after the decision",
                ]
                for entry in context.changes
            ],
        )
    return lines
