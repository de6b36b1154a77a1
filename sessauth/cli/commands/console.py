"""``sessauth console``: sessions, their use and their ends, in a browser on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from ...errors import ConfigError
from ..context import Settings, with_settings
from ..params import PATH, duration


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=0, help="Port on 127.0.0.1. Default: a free one."
)
@click.option(
    "--allow-changes", is_flag=True, help="Permit ends, suspensions and narrowings. Default: read only."
)
@click.option("--audit", type=PATH, help="Audit folder to read decisions from. Default: that of the home.")
@click.option(
    "--login-for", "login_ms", type=duration, default="8h", show_default=True, help="How long a login counts."
)
@with_settings
def console(settings: Settings, /, port: int, allow_changes: bool, audit: Path | None, login_ms: int) -> None:
    """Serve a console on loopback until Ctrl-C. A one-time link, printed here, logs a browser in."""
    serve_console(settings, port=port, allow_changes=allow_changes, audit=audit, login_ms=login_ms)


def serve_console(
    settings: Settings, *, port: int, allow_changes: bool, audit: Path | None, login_ms: int
) -> None:
    """Serve until the process is told to end.

    Raises:
        ConfigError: if a part of the console is not installed, or the port is in use.
    """
    try:
        from ...console.parts import ConsoleTerms
        from ...console.serving import bind, minutes_of_a_link, serve
    except ImportError as error:
        raise ConfigError(f"{error.name} is not installed: pip install 'sessauth[console]'") from None

    connect = settings.async_client()
    terms = ConsoleTerms(allow_changes=allow_changes, audit=_audit(settings, audit))
    bound = bind(port)
    minutes = minutes_of_a_link()

    def announce(link: str) -> None:
        document = {"link": link, "minutes": minutes}
        settings.show(
            document, [f"log in  {link}", f"        once, within {minutes} minutes; Enter prints another"]
        )

    serve(connect, bound, terms, announce, login_ms=login_ms)


def _audit(settings: Settings, folder: Path | None) -> Path | None:
    if folder is None:
        folder = settings.audit_dir(None)
        return folder if folder.is_dir() else None
    if not folder.is_dir():
        raise ConfigError(f"audit: {folder} is no folder")
    return folder
