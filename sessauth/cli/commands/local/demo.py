"""``sessauth demo``: six stories against a real server."""

from __future__ import annotations

import click

from ...context import Settings, with_settings


@click.command()
@with_settings
def demo(settings: Settings) -> None:
    """Run six stories against a real server of their own.

    Says of each decision whether it was the expected one, and exits with 1 if any was not.
    """
    from ...demo import run
    from ...output import show

    click.get_current_context().exit(run(lambda text: show([text]), as_json=settings.json))
