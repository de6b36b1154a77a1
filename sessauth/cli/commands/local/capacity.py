"""``sessauth capacity``: the room that a load takes on a host."""

from __future__ import annotations

import click

from ... import params
from ...context import Settings, with_settings
from ...output import Progress, fields, json_fields


@click.command()
@click.option("--sessions-per-second", type=params.NumberRange(0, 1e6), required=True, help="Openings.")
@click.option(
    "--decisions-per-second", type=params.NumberRange(0, 1e9), default=0.0, help="Checks, of all processes."
)
@click.option("--ttl", "ttl_ms", type=params.duration, default="1h", show_default=True, help="Of a session.")
@click.option(
    "--changes-per-session",
    type=params.NumberRange(1, 1e6),
    default=2.0,
    show_default=True,
    help="Its opening, its end, and the narrowings, revocations and costs in between.",
)
@click.option(
    "--audit-days", type=params.NumberRange(0, 36_500), default=30.0, show_default=True, help="Stored audit."
)
@click.option("--ceiling-file", default="", help="Scopes of a usual session, one a line.")
@with_settings
def capacity(
    settings: Settings,
    sessions_per_second: float,
    decisions_per_second: float,
    ttl_ms: int,
    changes_per_session: float,
    audit_days: float,
    ceiling_file: str,
) -> None:
    """Compute the room that a load takes, by rows that are measured in a temporary folder.

    Prints the sizes, and the settings for them.
    """
    from ....server.capacity.estimate import Load, estimate
    from ....server.capacity.trial import CEILING, measure
    from ...render.server_status import byte_text
    from ...scope_files import read_scopes

    ceiling = read_scopes(ceiling_file, "--ceiling-file") if ceiling_file else CEILING
    load = Load(sessions_per_second, decisions_per_second, ttl_ms / 1000, changes_per_session, audit_days)
    with Progress("measuring"):
        sizes = measure(ceiling)
    found = estimate(load, sizes, settings.config())
    day, decision = byte_text(found.audit_bytes_per_day), byte_text(sizes.audit_decision)
    rows: list[tuple[str, object]] = [
        ("stored sessions", f"{found.stored_sessions:,}, {sizes.session:.0f} bytes each"),
        ("state", byte_text(found.state_bytes)),
        ("audit", f"{day} a day, {decision} a decision"),
        ("disk", f"{byte_text(found.disk_bytes)}, with {audit_days:g} days of audit"),
        ("memory", f"{byte_text(found.memory_bytes)}, with full caches"),
        ("fsyncs", f"{found.fsyncs:g} a second at most; changes that come at once share one"),
    ]
    document = {
        **json_fields(found),
        "row_bytes": json_fields(sizes),
        "settings": {"server": {"map_size_bytes": found.map_size_bytes}},
    }
    settings.show(document, [*fields(rows), "[server]", f"map_size_bytes = {found.map_size_bytes}"])
