"""Files that the processes of a host share in a state folder: all of them carry the folder's group.

So ``chgrp -R gateways state`` holds for what is made later, too. Whoever makes a file there calls ``share``.
"""

from __future__ import annotations

import errno
import os

__all__ = ["give_group", "share"]

# An open descriptor, or a path. LMDB's lock file is only ever named: closing it would give up LMDB's locks.
_Target = int | str | os.PathLike[str]


def give_group(target: _Target, folder: str | os.PathLike[str]) -> None:
    """Give a file or folder the group of the folder that it lies in.

    Raises:
        PermissionError: this process may not; the text says what to do.
    """
    group = os.stat(folder).st_gid
    if os.stat(target).st_gid == group:
        return
    try:
        os.chown(target, -1, group)
    except PermissionError:
        told = (
            f"can't be given to group {group}, that of {folder}: make this process's user a member of it"
            " (usermod -aG) and start it again"
        )
        raise PermissionError(errno.EPERM, told) from None


def share(target: _Target, folder: str | os.PathLike[str], mode: int) -> None:
    """Give a file or folder the group of the folder that it lies in, then its mode, whatever the umask.

    Raises:
        PermissionError: as ``give_group``.
    """
    give_group(target, folder)
    # Last: it is open to no group before it is in the right one.
    os.chmod(target, mode)
