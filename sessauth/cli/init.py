"""``sessauth init``: make the folders, keys and the first credential of a service."""

from __future__ import annotations

import click

from .context import Settings, with_settings
from .output import fields


@click.command()
@with_settings
def init(settings: Settings) -> None:
    """Make a service's folders, issuer key and operator credential; overwrites nothing."""
    from ..server.config import default_home
    from ..server.init import initialise

    made = initialise(settings.home or default_home())
    settings.show(
        {name: str(value) for name, value in made.items()},
        [*fields(list(made.items())), "", "start it with: sessauth serve"],
    )
