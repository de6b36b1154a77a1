"""``sessauth console``: sessions, their use and their ends, in a browser on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...errors import ConfigError
from ..context import Settings, with_settings
from ..params import PATH, duration

PORT = click.option(
    "--port", type=click.IntRange(0, 65_535), default=0, help="On 127.0.0.1. Default: a free one."
)
LOGIN = click.option(
    "--login-for", "login_ms", type=duration, default="8h", show_default=True, help="How long a login counts."
)


@click.command()
@PORT
@click.option("--allow-changes", is_flag=True, help="Permit ends and other changes. Default: read only.")
@click.option("--audit", type=PATH, help="Audit folder to read decisions from. Default: that of the home.")
@LOGIN
@with_settings
def console(settings: Settings, /, port: int, allow_changes: bool, audit: Path | None, login_ms: int) -> None:
    """Serve a console on loopback until Ctrl-C. A one-time link, printed here, logs a browser in."""
    terms = {"allow_changes": allow_changes, "audit": _audit(settings, audit)}
    serve_console(settings, port=port, login_ms=login_ms, **terms)


def serve_console(settings: Settings, *, port: int, login_ms: int, **terms: Any) -> None:
    """Serve until the process is told to end; ``terms`` are those of ``ConsoleTerms``.

    Raises:
        ConfigError: if a part of the console is not installed, or the port is in use.
    """
    try:
        from ...console.parts import ConsoleTerms
        from ...console.serving import bind, minutes_of_a_link, serve
    except ImportError as error:
        raise ConfigError(f"{error.name} is not installed: pip install 'sessauth[console]'") from None

    connect = settings.async_client()
    bound = bind(port)
    minutes = minutes_of_a_link()

    def announce(link: str) -> None:
        words = f"        once, within {minutes} minutes; Enter prints another"
        settings.show({"link": link, "minutes": minutes}, [f"log in  {link}", words])

    named = {"server": settings.address(), **terms}
    serve(connect, bound, ConsoleTerms(**named), announce, login_ms=login_ms)


def _audit(settings: Settings, folder: Path | None) -> Path | None:
    if folder is None:
        folder = settings.audit_dir(None)
        return folder if folder.is_dir() else None
    if not folder.is_dir():
        raise ConfigError(f"audit: {folder} is no folder")
    return folder
