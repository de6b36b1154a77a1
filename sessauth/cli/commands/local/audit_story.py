"""``sessauth audit story``: one session over the logs of all hosts, and proof that nothing outlived it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ....model.receipt import MAX_TEXT_CHARS, SignedReceipt
from ... import lookup, params
from ...context import Settings, with_settings
from ...io import read_bytes
from ...output import Progress
from ...params import Ref


@click.command("story")
@click.argument("session_id", type=params.session_id)
@params.audit_dirs_option
@params.bound_option
@click.option(
    "--receipt", "receipt_file", help="File with the session's receipt: each host in it must have a log here."
)
@with_settings
def story(
    settings: Settings,
    session_id: Ref,
    folders: Sequence[Path],
    bound_ms: int,
    receipt_file: str | None,
) -> None:
    """Show all records of a session by time, and whether any host allowed a call after its end.

    Verifies each log first. Exits with 1 if one is not intact or lost records, if no end is recorded, if a
    host has no log that goes beyond the end, or if a call was allowed too late. The receipt itself is
    verified by 'session verify-closed'.
    """
    from ....audit.read.story import read_story
    from ...render import host_story as story_view
    from .audit_folders import hosts_of, verify_hosts

    hosts = hosts_of(settings, folders)
    whole_id = lookup.logged_session(session_id, *(host.folder for host in hosts))
    named: tuple[str, ...] = ()
    if receipt_file is not None:
        text = read_bytes(receipt_file, "receipt", MAX_TEXT_CHARS + 2).decode("ascii", "replace").strip()
        named = tuple(host.name for host in SignedReceipt.from_text(text).unverified.hosts)
    with Progress("verifying") as progress:
        verified = verify_hosts(hosts, on_progress=progress)
    found = read_story(hosts, whole_id, bound_ms)
    problems = story_view.problems(found, verified, named, bound_ms)
    settings.show(
        story_view.to_json(found, verified, problems),
        story_view.to_lines(found, problems),
        ok=not problems,
    )
