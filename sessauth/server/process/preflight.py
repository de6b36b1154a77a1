"""Checks files outside the state folder that give authority: settings, credentials, keys, certificates.

A user who can write one of these files, or read a secret one, has the authority of the service. So mode and
owner of each are checked before anything is served; ``state.preflight`` does that for the state folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...audit import stream_register
from ...audit.recording.change_follower import POSITION_FILE
from ...errors import StateUnusable
from ...state.host.folder import refuse
from ..config.config import Config
from ..keys import local_changes

# Bits of a mode that a file must not have.
_WRITABLE: Final = 0o022
_OPEN_TO_OTHERS: Final = 0o027
_OPEN: Final = 0o077
_ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class _Guarded:
    """A file or a folder, the bits that its mode must not have, and the mode to give it."""

    path: Path
    forbidden: int
    mode: int


def check(config: Config) -> None:
    """Refuse files that give authority and are open to others, or are another user's.

    Reads attributes only; skips files that are missing or not visible to this user. The files must belong to
    the owner of the state folder, or to root. Raises StateUnusable WRONG_MODE or WRONG_OWNER with the command
    to type.
    """
    try:
        owner = config.state_dir.stat().st_uid
    except OSError:
        owner = os.geteuid()
    _check_files(_authority_files(config), owner)


def problems(config: Config) -> Iterator[StateUnusable]:
    """Yield the error of each file that :func:`check` refuses."""
    try:
        owner = config.state_dir.stat().st_uid
    except OSError:
        owner = os.geteuid()
    for guarded in _authority_files(config):
        try:
            _check_files([guarded], owner)
        except StateUnusable as error:
            yield error


def check_tls(config: Config) -> None:
    """Check the files of TLS alone, which are reloaded when they change."""
    _check_files(_tls_files(config), os.geteuid())


def _check_files(all_guarded: Iterable[_Guarded], owner: int) -> None:
    for guarded in all_guarded:
        try:
            found = guarded.path.stat()
        except OSError:
            continue
        mode = stat.S_IMODE(found.st_mode)
        if mode & guarded.forbidden:
            can = "change" if mode & guarded.forbidden & _WRITABLE else "read"
            refuse(
                "WRONG_MODE",
                f"{guarded.path} has mode {mode:04o}, so other users can {can} it; "
                f"run chmod {guarded.mode:04o} {guarded.path}",
            )
        if found.st_uid not in (owner, _ROOT):
            refuse(
                "WRONG_OWNER",
                f"{guarded.path} belongs to user {found.st_uid}, who can change it; "
                f"run chown {owner} {guarded.path}",
            )


def _authority_files(config: Config) -> Iterator[_Guarded]:
    yield _Guarded(config.home, _WRITABLE, 0o755)
    yield _Guarded(config.home / "sessauth.toml", _WRITABLE, 0o644)
    yield _Guarded(config.home / "operator.credential", _OPEN, 0o600)
    yield _Guarded(config.run_dir, _WRITABLE, 0o750)
    yield _Guarded(config.credentials_file, _OPEN_TO_OTHERS, 0o640)
    yield _Guarded(config.state_dir / local_changes.FILE, _WRITABLE, local_changes.FILE_MODE)
    yield _Guarded(config.state_dir / stream_register.FILE, _WRITABLE, 0o640)
    yield _Guarded(config.keys_dir, _OPEN, 0o700)
    try:
        for path in sorted(config.keys_dir.iterdir()):
            yield _Guarded(path, _OPEN, 0o600)
    except OSError:
        # Closed to this user, or missing: the key ring reports that.
        pass
    yield from _tls_files(config)
    if config.audit.enabled:
        yield _Guarded(config.audit_dir / POSITION_FILE, _WRITABLE, 0o600)


def _tls_files(config: Config) -> Iterator[_Guarded]:
    tcp, follow, cluster = config.tcp, config.follow, config.cluster
    for name in filter(None, (tcp.private_key, follow.private_key, follow.credential, cluster.private_key)):
        yield _Guarded(config.path(name), _OPEN_TO_OTHERS, 0o600)
    public = (tcp.certificate, tcp.client_ca, follow.certificate, follow.server_ca)
    for name in filter(None, (*public, cluster.certificate, cluster.server_ca)):
        yield _Guarded(config.path(name), _WRITABLE, 0o644)
