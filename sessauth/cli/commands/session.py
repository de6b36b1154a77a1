"""``sessauth session``: open, change and end sessions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...errors import UsageError
from ...model.session import Session
from .. import lookup, params, scope_files
from ..context import Settings, with_settings
from ..output import moment_and_distance, warn
from ..params import Ref
from ..render import session as session_view
from ..render import session_list
from .cut_off.sessions import bans, end, lift_ban
from .session_receipt import receipt, verify_closed
from .session_usage import census, report
from .session_watch import watch

if TYPE_CHECKING:
    from ...client import Client


@click.group()
def session() -> None:
    """Open, change and end sessions, and see how they were used."""


session.add_command(report)
session.add_command(census)


def _show(settings: Settings, shown: Session) -> None:
    settings.show(session_view.to_json(shown), session_view.to_lines(shown, settings.clock.now_ms()))


_expected_epoch = click.option(
    "--expected-epoch", type=click.IntRange(0), default=0, help="Refuse if the session has moved on."
)
_facts = click.option("--fact", "facts", type=params.fact, multiple=True, help="name=text, or name:=JSON.")
_visible = click.option(
    "--visible-fact",
    "visible_facts",
    type=params.fact,
    multiple=True,
    help="A fact that holders' blocks may test.",
)


def _facts_of(facts: Sequence[tuple[str, Any]], visible: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return the client's parameters for ``--fact`` and ``--visible-fact``."""
    return {"facts": dict([*facts, *visible]), "visible_facts": {name for name, _ in visible}}


def _opening(
    client: Client,
    facts: Sequence[tuple[str, Any]],
    visible_facts: Sequence[tuple[str, Any]],
    labels: Sequence[tuple[str, str]],
    parent_id: Ref,
    issuer_key_ids: Sequence[Ref],
    **options: Any,
) -> dict[str, Any]:
    """Return the options of ``session open`` as parameters of ``Client.open_session``."""
    return {
        **options,
        **_facts_of(facts, visible_facts),
        "labels": dict(labels),
        "parent_id": lookup.session(client, parent_id),
        "issuer_key_ids": [lookup.key(client, key) for key in issuer_key_ids],
    }


def _ceiling_of(scopes: Sequence[str], file: str, folder: Path | None, purpose: str) -> list[str]:
    """Return the scopes of options and file; without either, of the purpose's file in the folder.

    Raises UsageError if there is none.
    """
    if scopes or file:
        return [*scopes, *(scope_files.read_scopes(file, "--ceiling-file") if file else ())]
    if folder is None:
        raise UsageError("give --ceiling, --ceiling-file, or --ceilings with the purpose's file")
    return scope_files.read_scopes(scope_files.purpose_file(folder, purpose, "--ceilings"), "--ceilings")


@session.command("open")
@click.option("--subject", required=True, help="Who acts.")
@click.option("--purpose", default="", help="What for.")
@click.option("--ceiling", multiple=True, help="A scope; no call may ever go beyond them.")
@click.option("--ceiling-file", default="", metavar="FILE", help="Scopes, one a line; - for stdin.")
@click.option(
    "--ceilings",
    type=params.PATH,
    envvar="SESSAUTH_CEILINGS",
    help="A folder of ceilings: the scopes are those of PURPOSE.scopes.",
)
@_facts
@_visible
@click.option("--label", "labels", type=params.label, multiple=True, help="name=value, to find it by.")
@click.option(
    "--ttl", "ttl_ms", type=params.duration, default=0, help="Longest life, as 1h. Default: the server's."
)
@click.option(
    "--lease", "lease_ms", type=params.duration, default=0, help="It ends unless kept alive this often."
)
@click.option(
    "--parent", "parent_id", type=params.session_id, default=b"", help="Session to open this one under."
)
@click.option("--owner", default="", help="Principal that may mint for it. Default: the caller.")
@click.option(
    "--issuer-key",
    "issuer_key_ids",
    type=params.key_id,
    multiple=True,
    help="Only this key may root its tokens.",
)
@click.option(
    "--observe",
    is_flag=True,
    help="Record the calls that the ceiling would refuse, and refuse nothing. Operators only.",
)
@click.option("--quiet", is_flag=True, help="Print the session's id and nothing else.")
@params.request_id_option
@with_settings
def open_(
    settings: Settings,
    /,
    quiet: bool,
    ceiling: Sequence[str],
    ceiling_file: str,
    ceilings: Path | None,
    **options: Any,
) -> None:
    """Open a session."""
    options["ceiling"] = _ceiling_of(ceiling, ceiling_file, ceilings, options["purpose"])
    with settings.client() as client:
        opened = client.open_session(**_opening(client, **options))
    if opened.observe:
        warn(f"observe mode: {session_view.OBSERVE_MODE}; 'sessauth session narrow --enforce' ends that")
    if quiet:
        settings.show(session_view.to_json(opened), [opened.id.hex()])
    else:
        _show(settings, opened)


@session.command("get")
@params.session_argument
@with_settings
def get(settings: Settings, session_id: Ref) -> None:
    """Show one session."""
    with settings.client() as client:
        _show(settings, client.get_session(lookup.session(client, session_id)))


@session.command("list")
@click.option("--all", "ended_too", is_flag=True, help="Ended ones too.")
@click.option(
    "--status",
    metavar="ACTIVE|SUSPENDED|ENDED",
    type=click.Choice([each.name for each in session_list.STATUSES], case_sensitive=False),
)
@click.option("--subject", default="")
@click.option("--owner", default="")
@click.option("--parent", "parent_id", type=params.session_id, default=b"")
@click.option("--label", "labels", type=params.label, multiple=True, help="name=value; all must fit.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@with_settings
def list_(
    settings: Settings,
    /,
    ended_too: bool,
    status: str | None,
    parent_id: Ref,
    labels: Sequence[tuple[str, str]],
    limit: int,
    **filters: Any,
) -> None:
    """List sessions that fit all the filters: the living first, the newest first."""
    with settings.client() as client:
        filters |= {"parent_id": lookup.session(client, parent_id), "labels": dict(labels)}
        listed = session_list.find(client, filters, status, ended_too=ended_too, limit=limit)
    settings.show(listed.to_json(), listed.to_lines(settings.clock.now_ms(), short_ids=sys.stdout.isatty()))


@session.command("keep-alive")
@params.session_argument
@with_settings
def keep_alive(settings: Settings, session_id: Ref) -> None:
    """Renew a session's lease."""
    with settings.client() as client:
        whole_id = lookup.session(client, session_id)
        deadline = client.keep_alive(whole_id)
    settings.show(
        {"session_id": whole_id.hex(), "lease_deadline_ms": deadline},
        [f"lease lapses {moment_and_distance(deadline, settings.clock.now_ms())}"],
    )


@session.command("narrow")
@params.session_argument
@click.option("--ceiling", multiple=True, help="A scope; every call must match one of them too.")
@click.option("--enforce", is_flag=True, help="End observe mode: the ceiling is enforced from now on.")
@_expected_epoch
@params.request_id_option
@with_settings
def narrow(settings: Settings, /, session_id: Ref, **options: Any) -> None:
    """Narrow a session, or end its observe mode, for every token of it at once."""
    if not options["ceiling"] and not options["enforce"]:
        raise UsageError("give --ceiling, or --enforce to end observe mode")
    with settings.client() as client:
        _show(settings, client.narrow(lookup.session(client, session_id), **options))


@session.command("facts")
@params.session_argument
@_facts
@_visible
@click.option("--remove", multiple=True, help="Name of a fact to remove.")
@_expected_epoch
@params.request_id_option
@with_settings
def facts(
    settings: Settings,
    /,
    session_id: Ref,
    facts: Sequence[tuple[str, Any]],
    visible_facts: Sequence[tuple[str, Any]],
    remove: Sequence[str],
    **options: Any,
) -> None:
    """Set and remove facts; without either, show the session."""
    with settings.client() as client:
        whole_id = lookup.session(client, session_id)
        if facts or visible_facts or remove:
            stated = _facts_of(facts, visible_facts)
            changed = client.update_facts(whole_id, **stated, remove=remove, **options)
        else:
            changed = client.get_session(whole_id)
    _show(settings, changed)


def _change(name: str, doc: str) -> Callable[..., Any]:
    @session.command(name, help=doc)
    @params.session_argument
    @params.reason_option
    @_expected_epoch
    @params.request_id_option
    @with_settings
    def change(settings: Settings, /, session_id: Ref, reason: str, **options: Any) -> None:
        with settings.client() as client:
            whole_id = lookup.session(client, session_id)
            _show(settings, getattr(client, name)(whole_id, reason, **options))

    return change


suspend = _change("suspend", "Deny every call of a session until it is resumed.")
resume = _change("resume", "Let a suspended session go on.")


session.add_command(end)
session.add_command(bans)
session.add_command(lift_ban)
session.add_command(receipt)
session.add_command(verify_closed)
session.add_command(watch)
