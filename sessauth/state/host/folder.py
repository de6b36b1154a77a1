"""Files of a state folder besides LMDB's: the owner's file, the writer's lock, and durable replacement."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from ..._fast.nonces.shared_file import share
from ...crypto.pem import sync_path
from ...errors import StateUnusable
from .. import layout


@dataclass(frozen=True, slots=True)
class Owner:
    """The writer's file for readers: its process id, its PID namespace, the size of its data file.

    LMDB distinguishes live from dead readers by process id, so all processes of a folder must be in one PID
    namespace. The data file has its full size from the start (sparse), so a truncated file is detected by its
    size, and nothing is read past its end.
    """

    format: int
    pid: int
    pid_namespace: str
    data_bytes: int

    @classmethod
    def read(cls, state_dir: Path) -> Self:
        """Read ``owner.json``; raises StateUnusable MISSING, WRONG_MODE or CORRUPT."""
        path = state_dir / layout.OWNER_FILE
        try:
            raw = json.loads(read_file(path))
            return cls(int(raw["format"]), int(raw["pid"]), str(raw["pid_namespace"]), int(raw["data_bytes"]))
        except FileNotFoundError as error:
            message = f"{path} is missing; start the server once on this folder, or run init"
            raise StateUnusable(message, "MISSING") from error
        except PermissionError as error:
            message = f"{path} can't be read; add this user to the folder's group"
            raise StateUnusable(message, "WRONG_MODE") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = f"{path} was not written by the server ({error}); restore the state from a backup"
            raise StateUnusable(message, "CORRUPT") from error

    def write(self, state_dir: Path) -> None:
        """Write ``owner.json`` atomically."""
        path = state_dir / layout.OWNER_FILE
        replace_file(path, json.dumps(asdict(self)).encode() + b"\n", layout.DATA_MODE)


def pid_namespace() -> str:
    """Return the name of this process's PID namespace; empty on systems without."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def read_file(path: Path) -> bytes:
    """Read a file whole; raises OSError, also if it is not a regular file: a pipe would block its reader."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        return file.read()


def replace_file(path: Path, data: bytes, mode: int) -> None:
    """Write a file through a temporary name and a rename, durably; it gets the group of its folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            share(descriptor, path.parent, mode)
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_path(path.parent)


def make_folder(folder: Path, mode: int) -> None:
    """Create a missing folder with its mode and the group of its parent."""
    if folder.is_dir():
        return
    folder.mkdir(mode=0o700)
    share(folder, folder.parent, mode)
    sync_path(folder.parent)


def extend_data(state_dir: Path, map_size: int) -> int:
    """Give the data file its full size, and LMDB's files group and mode; return the size in bytes.

    The new part is a hole, which takes no space until it is written.
    """
    path = state_dir / layout.DATA_FILE
    size = path.stat().st_size
    if size < map_size:
        os.truncate(path, map_size)
        size = map_size
    share(path, state_dir, layout.DATA_MODE)
    share(state_dir / layout.LOCK_FILE, state_dir, layout.LOCK_MODE)
    return size


class WriterLock:
    """The lock of the one writer of a folder; the kernel releases it when the process ends."""

    def __init__(self, state_dir: Path) -> None:
        """Take the lock; raises StateUnusable IN_USE if a writer has it, WRONG_MODE if it is no file."""
        path = state_dir / layout.WRITER_LOCK_FILE
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, layout.DATA_MODE)
        except OSError as error:
            message = f"{path} can't be opened ({error.strerror}); move it away, and the service makes it"
            raise StateUnusable(message, "WRONG_MODE") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            message = f"{state_dir} has a writer already{_writer_of(state_dir)}; stop that server first"
            raise StateUnusable(message, "IN_USE") from error

    def release(self) -> None:
        """Release the lock. In a forked child this only closes the child's copy."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _writer_of(state_dir: Path) -> str:
    try:
        return f" (process {Owner.read(state_dir).pid})"
    except StateUnusable:
        return ""
