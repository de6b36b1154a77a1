"""Which audit folder a command works on."""

from __future__ import annotations

from pathlib import Path

import click

from .context import Settings

dir_option = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    help="The audit folder. Default: that of the home folder.",
)


def audit_folder(settings: Settings, folder: Path | None) -> Path:
    """Return the audit folder that a command works on. Raises ConfigError."""
    return folder or settings.config().audit_dir
