"""``sessauth status``: one server on one screen, also one that does not run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import click

from ....errors import Rejected, Unavailable
from ... import failures
from ...context import Settings, with_settings


@click.command()
@with_settings
def status(settings: Settings) -> None:
    """Show a server: whether it is ready, its sessions, checks, free space, certificate, audit.

    Exits with 0 if it answers checks, with 1 if it denies every one, and with 4 if it does not answer. Then
    the folder of a local service is read in its place.
    """
    from ...render.server_status import status_json, status_lines

    standing = None
    try:
        with settings.client() as client:
            found = client.server_status()
            if found.role != "single":
                # The status is there without it: a server that is too busy, or belongs to no cluster.
                with suppress(Unavailable, Rejected):
                    standing = client.cluster_standing()
    except Unavailable as error:
        if not settings.is_local:
            raise
        from ....server.process.server_status import folder_status

        found = replace(folder_status(settings.config()), not_ready=f"no server answers: {error}")
        settings.show(
            status_json(found, None, serving=False), status_lines(found, None, settings.clock.now_ms())
        )
        click.get_current_context().exit(failures.UNAVAILABLE)
    settings.show(
        status_json(found, standing, serving=True),
        status_lines(found, standing, settings.clock.now_ms()),
        ok=not found.not_ready,
    )
