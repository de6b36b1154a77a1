"""``sessauth session report`` and ``sessauth session census``: how sessions were used."""

from __future__ import annotations

from pathlib import Path

import click

from ...errors import UsageError
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
    default=Fit.LOOSE.value,
    show_default=True,
    help="How close to what was seen the suggested scopes stay.",
)
@click.option("--svg", type=params.PATH, help="Write a picture to this file, too.")
@with_settings
def report(settings: Settings, session_id: Ref | None, purpose: str, fit: str, svg: Path | None) -> None:
    """Show what a session was granted and what it used of it, and suggest what would have been enough."""
    if bool(session_id) == bool(purpose):
        raise UsageError("give SESSION_ID, or --purpose")
    with settings.client() as client:
        if session_id:
            reports = [client.get_report(lookup.session(client, session_id))]
        else:
            pages = lookup.pages(client.list_reports, purpose=purpose)
            reports = [each for page in pages for each in page.reports]
    whole = usage.joined(reports, settings.clock.now_ms(), purpose or None)
    if svg is not None:
        if whole is None:
            raise UsageError("--svg: there is nothing to draw; the server has usage.enabled off")
        usage.write_svg(whole, svg)
    settings.show(usage.to_json(reports, whole), usage.to_lines(reports, whole, Fit(fit)))


@click.command("census")
@params.session_argument
@with_settings
def census(settings: Settings, session_id: Ref) -> None:
    """Show every block of a session's tokens that any verifier saw, with its first and last use."""
    with settings.client() as client:
        whole_id = lookup.session(client, session_id)
        blocks = client.get_census(whole_id)
    settings.show(census_view.to_json(whole_id, blocks), census_view.to_lines(blocks))
