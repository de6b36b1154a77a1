"""``sessauth session report`` and ``sessauth session census``: how sessions were used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...errors import UsageError
from ...usage.generalize import Fit
from .. import id_prefixes, params
from ..context import Settings, with_settings
from ..params import Ref
from ..render import census as census_view
from ..render import report as report_view
from ..render import usage

if TYPE_CHECKING:
    from ...client import Client, SessionReport


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
@click.option("--svg", type=click.Path(path_type=Path), help="Write a picture to this file, too.")
@with_settings
def report(settings: Settings, session_id: Ref | None, purpose: str, fit: str, svg: Path | None) -> None:
    """Show what a session was granted and what it used of it, and suggest what would have been enough."""
    if bool(session_id) == bool(purpose):
        raise UsageError("give SESSION_ID, or --purpose")
    with settings.client() as client:
        found = (
            [client.get_report(id_prefixes.session(client, session_id))]
            if session_id
            else _of_purpose(client, purpose)
        )
    whole = usage.joined(found, settings.clock.now_ms(), purpose or None)
    if svg is not None:
        if whole is None:
            raise UsageError("--svg: there is nothing to draw; the server has usage.enabled off")
        report_view.write_svg(whole, svg)
    settings.show(usage.to_json(found, whole), usage.to_lines(found, whole, Fit(fit)))


@click.command("census")
@click.argument("session_id", type=params.session_id)
@with_settings
def census(settings: Settings, session_id: Ref) -> None:
    """Show every block of a session's tokens that any verifier saw, with its first and last use."""
    with settings.client() as client:
        whole_id = id_prefixes.session(client, session_id)
        found = client.get_census(whole_id)
    settings.show(census_view.to_json(whole_id, found), census_view.to_lines(found))


def _of_purpose(client: Client, purpose: str) -> list[SessionReport]:
    found: list[SessionReport] = []
    token = ""
    while True:
        page = client.list_reports(purpose, page_token=token)
        found += page.reports
        token = page.next_page_token
        if not token:
            return found
