"""Shared files of a state folder: all carry the folder's group.

So ``chgrp -R gateways state`` also covers files created later. Code that creates a file calls ``share``.
"""

from __future__ import annotations

import errno
import os

__all__ = ["give_group", "share"]

# An open descriptor, or a path. LMDB's lock file is always passed by path: closing a descriptor of it
# releases LMDB's locks.
_Target = int | str | os.PathLike[str]


def give_group(target: _Target, folder: str | os.PathLike[str]) -> None:
    """Give a file or folder the group of its parent folder.

    Raises:
        PermissionError: this process may not change the group. The text says how to fix that.
    """
    group = os.stat(folder).st_gid
    if os.stat(target).st_gid == group:
        return
    try:
        os.chown(target, -1, group)
    except PermissionError:
        message = (
            f"can't be given to group {group}, that of {folder}: make this process's user a member of it"
            " (usermod -aG) and start it again"
        )
        raise PermissionError(errno.EPERM, message) from None


def share(target: _Target, folder: str | os.PathLike[str], mode: int) -> None:
    """Give a file or folder the group of its parent folder, then a mode, regardless of the umask.

    Raises:
        PermissionError: as ``give_group``.
    """
    give_group(target, folder)
    # Last: no group may open the file before it has the right one.
    os.chmod(target, mode)
