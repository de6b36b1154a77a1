"""Backups: is there one, how old is the newest, can it be restored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ...errors import StateError, StateUnusable
from ...state.backup import BACKUP, MANIFEST_FILE, read_apart
from ...state.lmdb.reader import StateReader
from .finding import Finding, of_error
from .host import Host

# Clocks of machines that copy backups differ by less.
_AHEAD_MS: Final = 60_000


def find(host: Host) -> Iterator[Finding]:
    """Yield the findings of the folders that were named."""
    for folder in host.backups:
        newest = newest_backup(folder)
        if newest is None:
            yield Finding(
                "backup_missing",
                f"{folder} is no finished backup and holds none",
                f"sessauth state backup {folder}/NAME",
            )
            continue
        age_ms = host.clock.now_ms() - int((newest / MANIFEST_FILE).stat().st_mtime * 1000)
        if age_ms < -_AHEAD_MS:
            yield Finding(
                "backup_old",
                f"the newest backup, {newest}, has a time ahead of the clock, so its age is unknown",
                f"set the clock right; sessauth state backup {newest.parent}/NAME",
            )
        elif age_ms > host.backup_age_ms:
            yield Finding(
                "backup_old",
                f"the newest backup, {newest}, is {age_ms // 3_600_000} h old",
                f"sessauth state backup {newest.parent}/NAME, from a timer",
            )
        try:
            manifest = read_apart(newest, BACKUP).manifest
        except (StateUnusable, OSError) as error:
            yield of_error("backup_unusable", error)
            continue
        if manifest is not None and _cluster_id(host) not in ("", manifest.cluster_id):
            yield Finding(
                "backup_unusable",
                f"{newest} belongs to another service than {host.config.state_dir}, so a restore refuses it",
                "name the folder of this service's backups",
            )


def _cluster_id(host: Host) -> str:
    """Return the id that backups of this host's state have; empty if the state can't be read."""
    if host.state_fault is not None:
        # A finding of the folder.
        return ""
    try:
        reader = StateReader.open(host.config.state_dir)
    except StateError:
        # A finding of the folder.
        return ""
    try:
        return reader.head().cluster_id.hex()
    finally:
        reader.close()


def newest_backup(folder: Path) -> Path | None:
    """Return the newest finished backup, which ``folder`` is or holds; None if there is none."""
    found: list[tuple[float, Path]] = []
    for manifest in (folder / MANIFEST_FILE, *folder.glob(f"*/{MANIFEST_FILE}")):
        try:
            found.append((manifest.stat().st_mtime, manifest.parent))
        except OSError:
            continue
    return max(found)[1] if found else None
