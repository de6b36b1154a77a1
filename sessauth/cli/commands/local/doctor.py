"""``sessauth doctor``: all faults of this host, each with its remedy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ....errors import SessauthError, Unavailable, UsageError
from ... import params
from ...context import Settings, with_settings
from ...output import json_fields, printable

if TYPE_CHECKING:
    from ....server.config import Config
    from ....server.doctor.finding import Finding, Host

WARNINGS: Final = 1
ERRORS: Final = 2


@click.command()
@click.option("--deep", is_flag=True, help="Read the whole state and the whole audit, too.")
@click.option(
    "--backups",
    type=params.PATH,
    multiple=True,
    help="A backup, or a folder of backups: is the newest young enough, and can it be restored. Repeatable.",
)
@click.option(
    "--backup-age",
    "backup_age_ms",
    type=params.duration,
    default="1d",
    show_default=True,
    help="The newest backup is younger.",
)
@with_settings
def doctor(settings: Settings, deep: bool, backups: tuple[Path, ...], backup_age_ms: int) -> None:
    """Find everything that is wrong on this host, each with its remedy. Changes nothing.

    Exits with 0 if nothing is, with 1 if there are warnings, with 2 if there are errors. Run it as the user
    of the service, or as root.
    """
    from ....server.doctor.examination import examine
    from ....server.doctor.finding import Host

    if settings.target is not None:
        raise UsageError("--target: the doctor examines this host; name its home folder with --home")

    def host_of(config: Config) -> Host:
        asked = replace(settings, home=config.home)
        host = Host(config, settings.clock, deep=deep, backups=backups, backup_age_ms=backup_age_ms)
        try:
            with asked.client() as client:
                return replace(host, status=client.server_status())
        except Unavailable as error:
            return replace(host, silence=str(error))
        except SessauthError as error:
            return replace(host, refusal=str(error))

    found = examine(settings.config, host_of)
    errors = sum(each.severity == "error" for each in found)
    document = {
        "errors": errors,
        "warnings": len(found) - errors,
        "findings": [json_fields(each, severity=each.severity) for each in found],
    }
    settings.show(document, _lines(found, errors))
    if found:
        click.get_current_context().exit(ERRORS if errors else WARNINGS)


def _lines(found: list[Finding], errors: int) -> list[str]:
    lines = []
    for each in found:
        lines.append(f"{each.severity.upper()}  {each.id}: {printable(each.words)}")
        lines.append(f"  {printable(each.remedy)}")
    if not found:
        return ["nothing was found"]
    return [*lines, f"{errors} errors, {len(found) - errors} warnings"]
