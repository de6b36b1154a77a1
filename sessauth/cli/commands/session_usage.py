"""``sessauth session report`` and ``sessauth session census``: how sessions were used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ...errors import UsageError
from ...scopes.needs import Approval
from ...usage.generalize import Fit
from .. import lookup, params
from ..context import Settings, with_settings
from ..params import Ref
from ..render import census as census_view
from ..render import usage


@click.command("report")
@click.argument("session_id", type=params.session_id, required=False)
@click.option("--purpose", default="", help="All sessions with this purpose, together.")
@click.option(
    "--fit",
    type=click.Choice([fit.value for fit in Fit]),
    default=Fit.KINDS.value,
    show_default=True,
    help="How close to the observed calls the suggested scopes stay.",
)
@click.option(
    "--new",
    type=click.Choice(["deny", "approval"]),
    default="deny",
    show_default=True,
    help="Calls that no suggestion has: denied, or asked about by scopes for tokens.",
)
@click.option(
    "--approver",
    "approvers",
    type=params.approver_key,
    multiple=True,
    help="With --new approval: an approver's public key; any one of them may approve.",
)
@click.option("--scopes-only", is_flag=True, help="Print the suggested scopes and nothing else, one a line.")
@click.option("--layer", default="", metavar="ID", help="With --scopes-only: of this list of granted scopes.")
@click.option("--html", type=params.PATH, help="Write the report as a page to this file, too.")
@with_settings
def report(
    settings: Settings,
    /,
    session_id: Ref | None,
    purpose: str,
    fit: str,
    new: str,
    approvers: Sequence[bytes],
    scopes_only: bool,
    layer: str,
    html: Path | None,
) -> None:
    """Show the granted and the used authority of a session, and suggest one that would have been enough."""
    if bool(session_id) == bool(purpose):
        raise UsageError("give SESSION_ID, or --purpose")
    if (new == "approval") != bool(approvers):
        raise UsageError("give --new approval and --approver together: somebody must be asked")
    approval = Approval(1, tuple(approvers)) if approvers else None
    with settings.client() as client:
        if session_id:
            reports = [client.get_report(lookup.session(client, session_id))]
        else:
            pages = lookup.pages(client.list_reports, purpose=purpose)
            reports = [each for page in pages for each in page.reports]
    whole = usage.joined(reports, settings.clock.now_ms(), purpose or None)
    if html is not None:
        if whole is None:
            raise UsageError(f"--html: {usage.NO_USAGE}")
        usage.write_html(whole, html, Fit(fit))
    if scopes_only:
        scopes = usage.suggested(whole, Fit(fit), layer, approval)
        for line in usage.cautions(reports, whole, layer, Fit(fit)) if whole else ():
            click.echo(f"sessauth: {line}", err=True)
        settings.show({"scopes": scopes}, scopes)
        return
    document = usage.to_json(reports, whole, Fit(fit), approval)
    settings.show(document, usage.to_lines(reports, whole, Fit(fit), approval))


@click.command("census")
@params.session_argument
@with_settings
def census(settings: Settings, session_id: Ref) -> None:
    """Show every block of a session's tokens that any verifier saw, with its first and last use."""
    with settings.client() as client:
        whole_id = lookup.session(client, session_id)
        blocks = client.get_census(whole_id)
    settings.show(census_view.to_json(whole_id, blocks), census_view.to_lines(blocks))
