"""``sessauth init``: make the folders, keys and the first credential of a service."""

from __future__ import annotations

import click

from ...context import Settings, with_settings
from ...output import fields


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
