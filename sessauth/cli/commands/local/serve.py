"""``sessauth serve``: run the server of a home folder."""

from __future__ import annotations

import os

import click

from ...context import Settings, with_settings


@click.command()
@click.option("--workers", type=click.IntRange(0, 64), help="Processes that only check. Overrides the file.")
@with_settings
def serve(settings: Settings, workers: int | None) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain. Logs JSON lines to stderr."""
    # gRPC's core reads this when it is loaded; without it, lines of its own stand among our JSON on stderr.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from ....server.config.config import from_dict
    from ....server.process import control

    config = settings.config()
    if workers is not None:
        table = config.to_dict()
        table["server"]["workers"] = workers
        config = from_dict(table)
    control.serve(config)
