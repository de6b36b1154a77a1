"""Places that the server writes to beside its state: can it, and is nothing else there."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from ...state import layout
from ..config.config import Config
from .finding import Finding
from .host import Host


def find(host: Host) -> Iterator[Finding]:
    """Yield the findings."""
    config = host.config
    try:
        owner = config.state_dir.stat().st_uid
    except OSError:
        owner = os.geteuid()
    for setting, folder in _folders(config):
        problem = _problem(folder, owner)
        if problem:
            yield Finding(
                "folder_unusable",
                f"{setting}: {folder} can't be written by the service: {problem}",
                f"give that folder to user {owner}, or state another {setting}",
            )
    if config.audit.enabled and _is_open_to_all(config.audit_dir):
        yield Finding(
            "open_file", f"everybody may write in {config.audit_dir}", f"run chmod o-w {config.audit_dir}"
        )
    lock = config.state_dir / layout.WRITER_LOCK_FILE
    if not _is_own_file(lock, owner):
        yield Finding(
            "folder_unusable",
            f"{lock} is no file of user {owner}, so the service can't lock its state",
            "move it away; the service makes it",
        )
    for path in (config.socket, *map(config.check_socket, range(config.server.workers))):
        if _is_in_the_way(path):
            yield Finding(
                "folder_unusable",
                f"{path} is no socket, and a server makes one there",
                "move it away, or state another server.run_dir",
            )


def _folders(config: Config) -> Iterator[tuple[str, Path]]:
    yield "server.run_dir", config.run_dir
    # Read at each start, whether usage is enabled or not.
    yield "usage.dir", config.usage_dir
    if config.audit.enabled:
        yield "audit.dir", config.audit_dir


def _problem(folder: Path, uid: int) -> str:
    """Return why a user can't write in a folder, or make it; empty if nothing speaks against it."""
    at = folder.absolute()
    while True:
        try:
            found = at.stat()
            break
        except (FileNotFoundError, NotADirectoryError):
            if at.is_symlink():
                return f"{at} is a link to nothing"
            at = at.parent
        except OSError as error:
            return f"{at}: {error.strerror}"
    if not stat.S_ISDIR(found.st_mode):
        return f"{at} is no folder"
    if uid == os.geteuid():
        may = os.access(at, os.W_OK | os.X_OK)
    else:
        may = _allows(found, uid)
    return "" if may else f"user {uid} may not write in {at}"


def _allows(found: os.stat_result, uid: int) -> bool:
    """Return True if the mode of a folder lets another user write there."""
    if uid == 0 or found.st_mode & stat.S_IWOTH:
        return True
    if found.st_uid == uid:
        return bool(found.st_mode & stat.S_IWUSR)
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        groups: list[int] = []
    else:
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
    return found.st_gid in groups and bool(found.st_mode & stat.S_IWGRP)


def _is_open_to_all(folder: Path) -> bool:
    try:
        return bool(folder.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return False


def _is_own_file(path: Path, owner: int) -> bool:
    """Return True if a path is a plain file of a user, or nothing yet."""
    try:
        found = path.lstat()
    except OSError:
        return True
    return stat.S_ISREG(found.st_mode) and found.st_uid == owner


def _is_in_the_way(path: Path) -> bool:
    try:
        return not stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False
