"""``sessauth session``: open, watch over and end sessions."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from ...model.session import Session
from .. import id_prefixes, params
from ..context import Settings, with_settings
from ..output import moment_and_distance
from ..params import Ref
from ..render import receipt as receipt_view
from ..render import session as session_view
from ..render import session_list
from .session_receipt import receipt, verify_closed
from .session_usage import census, report
from .session_watch import watch

NO_RECEIPT = "no receipt: the server could not make one yet; its log says why. The session has ended"


@click.group()
def session() -> None:
    """Open, change and end sessions, and see how they were used."""


session.add_command(report)
session.add_command(census)


def _show(settings: Settings, found: Session) -> None:
    settings.show(session_view.to_json(found), session_view.to_lines(found, settings.clock.now_ms()))


_request_id = click.option(
    "--request-id", default="", help="Repeat a change with the same id to learn its first outcome."
)
_expected_epoch = click.option(
    "--expected-epoch", type=click.IntRange(0), default=0, help="Refuse if the session has moved on."
)
_reason = click.option("--reason", default="", help="Why, for whoever reads it later.")
_facts = click.option("--fact", "facts", type=params.fact, multiple=True, help="name=text, or name:=JSON.")
_visible = click.option(
    "--visible-fact", "visible", type=params.fact, multiple=True, help="A fact that holders' blocks may test."
)


@session.command("open")
@click.option("--subject", required=True, help="Who acts.")
@click.option("--purpose", default="", help="What for.")
@click.option("--ceiling", multiple=True, required=True, help="A scope; no call may ever go beyond them.")
@_facts
@_visible
@click.option("--label", "labels", type=params.label, multiple=True, help="name=value, to find it by.")
@click.option("--ttl", type=params.duration, default=0, help="Longest life, as 1h. Default: the server's.")
@click.option("--lease", type=params.duration, default=0, help="It ends unless kept alive this often.")
@click.option("--parent", type=params.session_id, default=b"", help="Session to open this one under.")
@click.option("--owner", default="", help="Principal that may mint for it. Default: the caller.")
@click.option("--issuer-key", type=params.key_id, multiple=True, help="Only this key may root its tokens.")
@click.option("--quiet", is_flag=True, help="Print the session's id and nothing else.")
@_request_id
@with_settings
def open_(
    settings: Settings,
    subject: str,
    purpose: str,
    ceiling: Sequence[str],
    facts: Sequence[tuple[str, Any]],
    visible: Sequence[tuple[str, Any]],
    labels: Sequence[tuple[str, str]],
    ttl: int,
    lease: int,
    parent: Ref,
    owner: str,
    issuer_key: Sequence[Ref],
    quiet: bool,
    request_id: str,
) -> None:
    """Open a session."""
    with settings.client() as client:
        opened = client.open_session(
            subject=subject,
            purpose=purpose,
            ceiling=ceiling,
            facts=dict([*facts, *visible]),
            visible_facts={name for name, _ in visible},
            labels=dict(labels),
            ttl_ms=ttl,
            lease_ms=lease,
            parent_id=id_prefixes.session(client, parent),
            owner=owner,
            issuer_key_ids=[id_prefixes.key(client, each) for each in issuer_key],
            request_id=request_id,
        )
    if quiet:
        settings.show(session_view.to_json(opened), [opened.id.hex()])
    else:
        _show(settings, opened)


@session.command("get")
@click.argument("session_id", type=params.session_id)
@with_settings
def get(settings: Settings, session_id: Ref) -> None:
    """Show one session."""
    with settings.client() as client:
        _show(settings, client.get_session(id_prefixes.session(client, session_id)))


@session.command("list")
@click.option("--all", "ended_too", is_flag=True, help="Ended ones too.")
@click.option(
    "--status",
    metavar="ACTIVE|SUSPENDED|ENDED",
    type=click.Choice([each.name for each in session_list.STATUSES], case_sensitive=False),
)
@click.option("--subject", default="")
@click.option("--owner", default="")
@click.option("--parent", type=params.session_id, default=b"")
@click.option("--label", "labels", type=params.label, multiple=True, help="name=value; all must fit.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@with_settings
def list_(
    settings: Settings,
    ended_too: bool,
    status: str | None,
    subject: str,
    owner: str,
    parent: Ref,
    labels: Sequence[tuple[str, str]],
    limit: int,
) -> None:
    """List sessions that fit all the filters: the living first, the newest first."""
    with settings.client() as client:
        parent_id = id_prefixes.session(client, parent)
        filters = {"subject": subject, "owner": owner, "parent_id": parent_id, "labels": dict(labels)}
        found = session_list.find(client, filters, status, ended_too=ended_too, limit=limit)
    settings.show(found.to_json(), found.to_lines(settings.clock.now_ms(), short_ids=sys.stdout.isatty()))


@session.command("keep-alive")
@click.argument("session_id", type=params.session_id)
@with_settings
def keep_alive(settings: Settings, session_id: Ref) -> None:
    """Renew a session's lease."""
    with settings.client() as client:
        found = id_prefixes.session(client, session_id)
        deadline = client.keep_alive(found)
    settings.show(
        {"session_id": found.hex(), "lease_deadline_ms": deadline},
        [f"lease lapses {moment_and_distance(deadline, settings.clock.now_ms())}"],
    )


@session.command("narrow")
@click.argument("session_id", type=params.session_id)
@click.option(
    "--ceiling", multiple=True, required=True, help="A scope; every call must match one of them too."
)
@_expected_epoch
@_request_id
@with_settings
def narrow(
    settings: Settings, session_id: Ref, ceiling: Sequence[str], expected_epoch: int, request_id: str
) -> None:
    """Narrow a session, for every token of it at once."""
    with settings.client() as client:
        _show(
            settings,
            client.narrow(
                id_prefixes.session(client, session_id),
                ceiling,
                expected_epoch=expected_epoch,
                request_id=request_id,
            ),
        )


@session.command("facts")
@click.argument("session_id", type=params.session_id)
@_facts
@_visible
@click.option("--remove", multiple=True, help="Name of a fact to remove.")
@_expected_epoch
@_request_id
@with_settings
def facts(
    settings: Settings,
    session_id: Ref,
    facts: Sequence[tuple[str, Any]],
    visible: Sequence[tuple[str, Any]],
    remove: Sequence[str],
    expected_epoch: int,
    request_id: str,
) -> None:
    """Set and remove facts; without either, show the session."""
    with settings.client() as client:
        if not (facts or visible or remove):
            _show(settings, client.get_session(id_prefixes.session(client, session_id)))
            return
        changed = client.update_facts(
            id_prefixes.session(client, session_id),
            dict([*facts, *visible]),
            visible_facts={name for name, _ in visible},
            remove=remove,
            expected_epoch=expected_epoch,
            request_id=request_id,
        )
    _show(settings, changed)


@session.command("suspend")
@click.argument("session_id", type=params.session_id)
@_reason
@_expected_epoch
@_request_id
@with_settings
def suspend(settings: Settings, session_id: Ref, reason: str, expected_epoch: int, request_id: str) -> None:
    """Deny every call of a session until it is resumed."""
    with settings.client() as client:
        found = id_prefixes.session(client, session_id)
        _show(settings, client.suspend(found, reason, expected_epoch=expected_epoch, request_id=request_id))


@session.command("resume")
@click.argument("session_id", type=params.session_id)
@_reason
@_expected_epoch
@_request_id
@with_settings
def resume(settings: Settings, session_id: Ref, reason: str, expected_epoch: int, request_id: str) -> None:
    """Let a suspended session go on."""
    with settings.client() as client:
        found = id_prefixes.session(client, session_id)
        _show(settings, client.resume(found, reason, expected_epoch=expected_epoch, request_id=request_id))


@session.command("end")
@click.argument("session_id", type=params.session_id)
@_reason
@_request_id
@with_settings
def end(settings: Settings, session_id: Ref, reason: str, request_id: str) -> None:
    """End a session for good, with every token and every child of it, and say what proves it."""
    with settings.client() as client:
        ended = client.end(id_prefixes.session(client, session_id), reason, request_id=request_id)
    document, lines = session_view.to_json(ended), session_view.to_lines(ended, settings.clock.now_ms())
    signed = ended.receipt
    document["receipt"] = None if signed is None else receipt_view.to_json(signed, signed.unverified)
    lines.append(NO_RECEIPT if signed is None else receipt_view.summary(signed.unverified))
    settings.show(document, lines)


session.add_command(receipt)
session.add_command(verify_closed)
session.add_command(watch)
