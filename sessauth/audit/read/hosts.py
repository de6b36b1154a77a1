"""The audit folders of several hosts, as an operator has collected them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ...errors import StateUnusable
from .. import layout

AUDIT: Final = "audit"
STATE: Final = "state"


@dataclass(frozen=True, slots=True)
class AuditHost:
    """One host's audit folder, and its state folder if that lies beside it.

    The name is the one in its records, else that of the folder.
    """

    name: str
    folder: Path
    state_dir: Path | None = None


def audit_hosts(folders: Sequence[Path]) -> list[AuditHost]:
    """Return the hosts of folders, by name.

    A folder holds streams itself, or it is a home with ``audit`` and ``state`` in it, or it holds such
    folders, one for each host: then each of its folders counts, also one without a stream. If two folders
    have one name, the folder's path is appended. Raises StateUnusable MISSING if a folder can't be read.
    """
    try:
        found = [host for folder in folders for host in _hosts_in(folder)]
    except OSError as error:
        raise StateUnusable(layout.unreadable(error, error.filename), "MISSING") from None
    found = list({host.folder.resolve(): host for host in found}.values())
    names = Counter(host.name for host in found)
    return sorted(
        (
            replace(host, name=f"{host.name} ({host.folder})") if names[host.name] > 1 else host
            for host in found
        ),
        key=lambda host: host.name,
    )


def _hosts_in(folder: Path) -> list[AuditHost]:
    own = _host_of(folder)
    if own is not None:
        return [own]
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    # One without a stream is one whose log was removed, or that recorded nothing: not to be passed over.
    return [_host_of(path) or AuditHost(path.name, path) for path in inside] or [
        AuditHost(folder.name, folder)
    ]


def _host_of(folder: Path) -> AuditHost | None:
    """Return the host of a folder with streams, or of a home; None for another folder."""
    if any(folder.glob("*.jsonl")):
        named = folder.parent if folder.name == AUDIT else folder
        return AuditHost(_name(folder, named.name), folder)
    if not (folder / AUDIT).is_dir():
        return None
    state = folder / STATE
    return AuditHost(_name(folder / AUDIT, folder.name), folder / AUDIT, state if state.is_dir() else None)


def _name(folder: Path, default: str) -> str:
    """Return the name of the host in the records of a folder."""
    for files in layout.files(folder).values():
        with min(files.items())[1].open("rb") as file:
            begin = layout.parse(file.readline(65_536)) or {}
        name = begin.get("host")
        if isinstance(name, str) and name:
            return name
    return default
