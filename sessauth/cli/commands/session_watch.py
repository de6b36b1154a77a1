"""``sessauth session watch``: stay, and print the events of sessions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ...scopes.value import quoted
from .. import lookup, params
from ..context import Settings, with_settings
from ..output import json_fields, moment, printable
from ..params import Ref

if TYPE_CHECKING:
    from ...client import SessionEvent


@click.command("watch")
@click.option("--session", "session_ids", type=params.session_id, multiple=True, help="Only this session.")
@click.option("--children", "include_children", is_flag=True, help="Also all descendants of the --session.")
@click.option("--kinds", default="", help="Only these kinds: ended,lapsed,used_after_end.")
@click.option("--subject", default="")
@click.option("--purpose", default="")
@click.option("--owner", default="")
@click.option(
    "--after",
    "after_revision",
    type=click.IntRange(0),
    help="Go on after this revision. Default: from now on.",
)
@click.option("--heartbeats", is_flag=True, help="Say every few seconds that nothing was kept back.")
@click.option("--count", type=click.IntRange(1), help="End after so many events.")
@click.option(
    "--for", "for_ms", type=params.duration, default=0, help="End after so long: 30s, 10m; an hour at most."
)
@with_settings
def watch(
    settings: Settings, /, session_ids: Sequence[Ref], kinds: str, count: int | None, **filters: Any
) -> None:
    """Print the events of sessions as they happen, one line each.

    A connection that breaks is made again, and nothing is said twice.
    """
    from ...client import EventKind

    shown = 0
    with (
        settings.client() as client,
        client.watch_sessions(
            [lookup.session(client, each) for each in session_ids],
            kinds=[kind for kind in kinds.replace(" ", "").split(",") if kind],
            **filters,
        ) as watched,
    ):
        for event in watched:
            click.echo(json.dumps(to_json(event)) if settings.json else to_line(event))
            shown += event.kind is not EventKind.SYNCED
            if shown == count:
                return


def to_json(event: SessionEvent) -> dict[str, Any]:
    """Return an event as JSON values, without empty ones."""
    document = json_fields(event, cause=event.cause.name if event.cause else "")
    return {name: value for name, value in document.items() if value or name == "revision"}


def to_line(event: SessionEvent) -> str:
    """Return an event as a line; texts that others chose are quoted."""
    parts = [moment(event.at_ms), event.kind.name, event.session_id.hex()]
    parts += [f"{name}={value}" for name, value in _details(event) if value]
    return printable(" ".join(part for part in parts if part))


def _details(event: SessionEvent) -> list[tuple[str, str]]:
    return [
        ("revision", str(event.revision)),
        ("cause", event.cause.name if event.cause else ""),
        ("by", _quoted(event.actor)),
        ("reason", _quoted(event.reason)),
        ("subject", _quoted(event.subject)),
        ("purpose", _quoted(event.purpose)),
        ("ends_too" if event.cause else "holds_for", ",".join(each.hex() for each in event.inherited_by)),
        ("observe", "its ceiling refuses nothing" if event.observe else ""),
        ("enforce", "its ceiling is enforced from now on" if event.enforce else ""),
        ("blocks", ",".join(each.hex() for each in event.block_ids)),
        ("verifier", _quoted(event.verifier)),
        ("times", str(event.count or "")),
        ("verified", "no" if event.claimed else ""),
        ("missed", str(event.missed or "")),
    ]


def _quoted(text: str) -> str:
    return quoted(text) if text else ""
