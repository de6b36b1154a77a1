"""``sessauth state``: look after the state folder of a local service."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ....errors import StateUnusable, UsageError
from ... import failures
from ...context import Settings, with_settings
from ...output import Progress, document_fields
from ...params import PATH, state_dir_option


@click.group()
def state() -> None:
    """Check and copy the state of a local service."""


@state.command("check")
@click.option("--backup", "backed_up", type=PATH, help="Read this backup in the state's place.")
@state_dir_option
@with_settings
def check(settings: Settings, folder: Path | None, backed_up: Path | None) -> None:
    """Read the whole state and say whether it can be served from. Exits with 5 if not.

    Without --state the home folder is looked at too: whether others could read its keys or change its files.
    With --backup a backup is read, as a restore reads it first; nothing is changed.
    """
    from ....server.keys import local_files
    from ....state.backup import WHOLE, read_apart

    if backed_up is not None:
        if folder is not None:
            raise UsageError("--backup and --state exclude each other")
        _check_backup(settings, backed_up)
        return
    if folder is None:
        config = settings.config()
        folder = config.state_dir
        local_files.check(config)
    with Progress("verifying") as progress:
        read = read_apart(folder, WHOLE, progress)
    head, counts = read.head, read.counts
    if head is None or counts is None:
        raise StateUnusable(f"{folder}: the answer of the process that read it is cut short", "CORRUPT")
    brake, stale = _brake_reason(folder), _is_stale(folder)
    document = {
        "state_dir": str(folder),
        "cluster_id": head.cluster_id.hex(),
        "incarnation": head.incarnation.hex(),
        "format": head.format,
        "revision": head.revision,
        "seq": head.seq,
        **asdict(counts),
        "braked": brake is not None,
        "brake_reason": brake or "",
        "cluster_brake": _cluster_brake(folder),
        "stale": stale,
        "alarm": _alarm(folder),
    }
    settings.show_fields(document)
    if brake is not None or stale:
        click.get_current_context().exit(failures.STATE)


def _check_backup(settings: Settings, folder: Path) -> None:
    """Show the contents of a backup. Raises StateUnusable if it can't be restored."""
    from ....state.backup import BACKUP, read_apart

    with Progress("verifying") as progress:
        read = read_apart(folder, BACKUP, progress)
    if read.manifest is None or read.counts is None:
        raise StateUnusable(f"{folder}: the answer of the process that read it is cut short", "CORRUPT")
    document = {"backup": str(folder), **asdict(read.manifest), **asdict(read.counts)}
    settings.show_fields(document)


def _brake_reason(folder: Path) -> str | None:
    """Return why the brake is engaged, None if it is released. Raises StateUnusable."""
    from ....state.host.brake import reader_page, reason_of
    from ....state.layout import BRAKE_FILE

    with reader_page(folder / BRAKE_FILE) as page:
        return reason_of(page)


def _cluster_brake(folder: Path) -> str:
    """Return the reason of the cluster's brake, empty if it is not set. Raises StateUnusable."""
    from ....state.host.brake import cluster_reason_of, reader_page
    from ....state.layout import BRAKE_FILE

    with reader_page(folder / BRAKE_FILE) as page:
        return cluster_reason_of(page)


def _alarm(folder: Path) -> str:
    """Return the alarm of the folder's host, empty if there is none. Raises StateUnusable."""
    from ....state.host.brake import alarm_of, reader_page
    from ....state.layout import BRAKE_FILE

    with reader_page(folder / BRAKE_FILE) as page:
        return alarm_of(page)


def _is_stale(folder: Path) -> bool:
    """Return True if the folder's freshness bound has passed. Raises StateUnusable."""
    from ....state.host.brake import is_stale, reader_page
    from ....state.layout import BRAKE_FILE

    with reader_page(folder / BRAKE_FILE) as page:
        return is_stale(page)


@state.command("backup")
@click.argument("target", type=PATH)
@state_dir_option
@with_settings
def backup(settings: Settings, target: Path, folder: Path | None) -> None:
    """Copy the state into TARGET, a new folder; the server may go on running."""
    from ....state.backup import backup as copy

    with Progress("copying and verifying") as progress:
        manifest = asdict(copy(settings.state_dir(folder), target, progress))
    document = {"target": str(target), **manifest}
    settings.show_fields(document)


@state.command("restore")
@click.argument("source", type=PATH)
@click.option("--force", is_flag=True, help="Accept a backup of another cluster.")
@state_dir_option
@with_settings
def restore(settings: Settings, source: Path, force: bool, folder: Path | None) -> None:
    """Put the backup in SOURCE in the place of the state; ends every session.

    The server must be stopped. Revocations after the backup are not in it, so no earlier session or token
    survives.
    """
    from ....state.backup import restore as put_back

    folder = settings.state_dir(folder)
    map_size = settings.config().server.map_size_bytes
    with Progress("verifying and restoring") as progress:
        head = put_back(source, folder, force=force, map_size=map_size, on_progress=progress)
    document = {
        "state_dir": str(folder),
        "cluster_id": head.cluster_id.hex(),
        "incarnation": head.incarnation.hex(),
        "revision": head.revision,
    }
    settings.show(document, [*document_fields(document), "every session has ended; open them again"])
