"""``sessauth init``, ``serve``, ``follow`` and ``demo``: make, run and try the service of a home folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ...context import Settings, with_settings
from ...output import fields, show

if TYPE_CHECKING:
    from ....server.config import Config

WORKERS = click.option(
    "--workers", type=click.IntRange(0, 64), help="Processes that only check. Overrides the file."
)


@click.command()
@with_settings
def init(settings: Settings) -> None:
    """Make a service's folders, key and credential; overwrites nothing."""
    from ....server.process.init import initialise

    made = initialise(settings.home)
    pairs: list[tuple[str, object]] = [
        ("home", made.home),
        ("configuration", made.config_file),
        ("state", made.state_dir),
        ("keys", made.keys_dir),
        ("issuer key", made.key_id.hex()),
        ("credential", made.credential_file),
        ("socket", made.socket),
    ]
    document = {name.replace(" ", "_"): str(value) for name, value in pairs}
    serve = "sessauth serve" if settings.home is None else f"sessauth --home {made.home} serve"
    settings.show(document, [*fields(pairs), "", f"start it with: {serve}"])


@click.command()
@WORKERS
@with_settings
def serve(settings: Settings, workers: int | None) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain. Logs JSON lines to stderr."""
    # gRPC's core reads this when it is loaded; without it, its own lines mix with our JSON on stderr.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from ....server.process import control

    control.serve(_with_workers(settings, workers))


@click.command()
@WORKERS
@with_settings
def follow(settings: Settings, workers: int | None) -> None:
    """Serve this host from a cluster's log ([follow]) until SIGTERM or Ctrl-C. Logs JSON lines to stderr.

    It answers checks and reads as a server does, and verifiers open the state folder as on a single host.
    All of them deny once the folder may lack an acknowledged change. It changes nothing.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from ....server.cluster.following import follow as follow_cluster

    follow_cluster(_with_workers(settings, workers))


def _with_workers(settings: Settings, workers: int | None) -> Config:
    """Return the settings. Before they are checked: an address of workers needs some."""
    return settings.config(**({} if workers is None else {"SESSAUTH_SERVER_WORKERS": str(workers)}))


@click.command()
@click.option("--console", is_flag=True, help="A console over living sessions instead, until Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="With --console: its port.")
@with_settings
def demo(settings: Settings, console: bool, port: int) -> None:
    """Run six stories against a real server of their own.

    Says of each decision whether it was the expected one, and exits with 1 if any was not.
    """
    from ....server.transport.requirements import require_libraries

    require_libraries()
    if console:
        from ...demo.living import run_console

        run_console(settings, port, lambda text: show([text]))
        return
    from ...demo import run

    click.get_current_context().exit(run(lambda text: show([text]), as_json=settings.json))
