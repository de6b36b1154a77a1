"""``sessauth check --watch``: judge one call, and stay to say when it is no longer allowed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from ...client import CheckItem
from ...decisions.decision import DecisionBase
from ..context import Settings
from ..output import show
from ..render.decision import to_json, to_lines

if TYPE_CHECKING:
    from ...client import Client


def watch_call(
    settings: Settings,
    client: Client,
    item: CheckItem,
    audience: str,
    at_least_revision: int,
    explain: Callable[[DecisionBase], str],
) -> None:
    """Show the decision on a call, then its withdrawal, if it was allowed.

    Returns once the call is not allowed. Raises Unavailable if the server can no longer tell.
    """
    with client.watch(audience=audience) as watch:
        call = watch.ask(item, at_least_revision=at_least_revision)
        _show(settings, call.decision, explain(call.decision), withdrawn=False)
        if call.decision:
            for event in watch:
                if event.withdrawn is not None:
                    _show(settings, event.withdrawn, explain(event.withdrawn), withdrawn=True)
                    return


def _show(settings: Settings, decision: DecisionBase, explanation: str, *, withdrawn: bool) -> None:
    """Print one line of JSON, or lines for people."""
    if settings.json:
        click.echo(json.dumps({**to_json(decision, explanation), "withdrawn": withdrawn}))
        return
    lines = to_lines(decision, explanation)
    if withdrawn:
        lines[0] = f"WITHDRAWN at stage {decision.stage.name.lower()}"
    show(lines)
