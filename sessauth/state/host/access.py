"""Access of this process to a state folder, with errors that name the command to run.

All files there have the folder's group, which includes the service and the gateways that embed a verifier.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import sys
from pathlib import Path
from typing import Final, NoReturn

from ..._fast.nonces.shared_file import give_group
from ...errors import StateUnusable
from .. import layout

READ: Final = os.R_OK
READ_WRITE: Final = os.R_OK | os.W_OK
SEARCH: Final = os.R_OK | os.X_OK
_LETTERS: Final = {os.R_OK: "r", os.W_OK: "w", os.X_OK: "x"}


def check_writers_group(folder: Path) -> None:
    """Raise StateUnusable WRONG_GROUP if the writer can't give its files to the folder's group.

    Root can. Except on Linux, a new file gets its folder's group.
    """
    group = folder.stat().st_gid
    if os.geteuid() == 0 or sys.platform != "linux" or group in (os.getegid(), *os.getgroups()):
        return
    _refuse_member(folder, group)


def check_access(path: Path, how: int, folder: Path) -> None:
    """Raise StateUnusable if this process has no access to an existing file or folder.

    WRONG_GROUP if it, or this user, is in another group than ``folder``; else WRONG_MODE.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    except PermissionError:
        check_access(path.parent, SEARCH, folder)
        raise
    if _may(path, how):
        return
    group = folder.stat().st_gid
    if status.st_gid != group:
        message = (
            f"{path} belongs to group {_group_name(status.st_gid)}, {folder} to {_group_name(group)};"
            f" run chgrp -R {_group_name(group)} {folder}"
        )
        raise StateUnusable(message, "WRONG_GROUP")
    if group not in (os.getegid(), *os.getgroups()):
        _refuse_member(folder, group)
    bits = "".join(letter for bit, letter in _LETTERS.items() if how & bit)
    mode = stat.S_IMODE(status.st_mode)
    message = f"{path} has mode {mode:04o}, which closes it to this user; run chmod g+{bits} {path}"
    raise StateUnusable(message, "WRONG_MODE")


def set_group(folder: Path) -> None:
    """Give all files of a state folder the folder's group; raises StateUnusable WRONG_GROUP."""
    proof = folder / layout.PROOF_DIR
    entries = [*folder.iterdir(), *(proof.iterdir() if proof.is_dir() else ())]
    for path in entries:
        try:
            if not path.is_symlink():
                give_group(path, folder)
        except FileNotFoundError:
            # Another process's temporary name.
            continue
        except PermissionError as error:
            raise StateUnusable(f"{path} {error.strerror}", "WRONG_GROUP") from error


def _may(path: Path, how: int) -> bool:
    return os.access(path, how, effective_ids=os.access in os.supports_effective_ids)


def _refuse_member(folder: Path, group: int) -> NoReturn:
    name, user = _group_name(group), _user_name(os.geteuid())
    message = (
        f"{folder} belongs to group {name}, of which user {user} is no member: run usermod -aG {name} {user},"
        " and start this process again"
    )
    raise StateUnusable(message, "WRONG_GROUP")


def _group_name(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
