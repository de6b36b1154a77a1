"""``sessauth console``: sessions, their use and their ends, in a browser on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...approvals.safe_text import visible
from ...errors import ConfigError
from ..context import Settings, with_settings
from ..params import PATH, duration

if TYPE_CHECKING:
    from ...approvals.request import ApprovalRequest

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
    """Serve until the process is asked to end; ``terms`` are those of ``ConsoleTerms``.

    Raises:
        ConfigError: if a part of the console is not installed, or the port is in use.
    """
    try:
        from ...console.logins import CODE_MS
        from ...console.parts import ConsoleTerms
        from ...console.serving import bind, minutes_of_a_link, serve
    except ImportError as error:
        raise ConfigError(f"{error.name} is not installed: pip install 'sessauth[console]'") from None

    connect = settings.async_client()
    bound = bind(port)
    minutes = minutes_of_a_link()

    def show_code(code: str, approval: ApprovalRequest) -> None:
        record = approval.record
        document = {"code": code, "session_id": record.session_id.hex(), "approval_id": record.id.hex()}
        lines = [
            f"sign    {visible(record.action)} {visible(record.resource)}",
            f"        session {record.session_id.hex()}, approval {record.id.hex()}",
            f"        code {code}: type it in the page that asks for it, within {CODE_MS // 60_000} minutes",
        ]
        settings.show(document, lines)

    def announce(link: str) -> None:
        words = f"        once, within {minutes} minutes; Enter prints another"
        settings.show({"link": link, "minutes": minutes}, [f"log in  {link}", words])

    named = {"server": settings.address(), "show_code": show_code, **terms}
    serve(connect, bound, ConsoleTerms(**named), announce, login_ms=login_ms)


def _audit(settings: Settings, folder: Path | None) -> Path | None:
    if folder is None:
        folder = settings.audit_dir(None)
        return folder if folder.is_dir() else None
    if not folder.is_dir():
        raise ConfigError(f"audit: {folder} is no folder")
    return folder
