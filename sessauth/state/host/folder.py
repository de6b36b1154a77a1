"""Files of a state folder besides LMDB's: the owner's file, the writer's lock, and durable replacement.

All files there have the folder's group, which includes the service and the gateways that embed a verifier.
Errors of access name the command to run.

A folder is checked before use; each problem has a stable word.

    NOT_A_FOLDER  MISSING  EMPTY  WRONG_MODE  WRONG_OWNER  WRONG_GROUP  READ_ONLY_FS  NETWORK_FS  FOREIGN
    CORRUPT  NEWER_FORMAT  IN_USE  PID_NAMESPACE  SWAPPED  ROLLED_BACK  NO_SPACE  NO_MEMORY

Unreadable, empty or foreign state is refused: it must never pass for one without revocations.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import json
import os
import pwd
import stat
import struct
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NoReturn, Self

from ..._fast.nonces.shared_file import give_group, share
from ...crypto.pem import sync_path
from ...errors import StateUnusable
from .. import layout
from .brake import PAGE_BYTES, check_brake_is_there


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


def read_file(path: Path, most: int = -1) -> bytes:
    """Read a file, at most ``most`` bytes of it; -1: whole.

    Raises OSError, also if it is not a regular file: a pipe would block its reader.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        return file.read(most)


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


# LMDB's file format: a page header of 16 bytes, then the meta page (magic, version, ...).
_META = struct.Struct("=16xII")
_MAGIC = 0xBEEFC0DE
_DATA_VERSION = 1
# The page size is in the meta page, in the padding of the free list's record.
_PAGE_SIZE_AT = 40
# Space for a group and for the pages that LMDB copies to write it.
_LEAST_FREE_BYTES = 65_536

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "coda"}
    | {"gfs2", "glusterfs", "lustre", "ncpfs", "ocfs2", "gpfs", "beegfs", "orangefs", "pvfs2"}
)


def refuse(problem: str, message: str) -> NoReturn:
    """Raise StateUnusable."""
    raise StateUnusable(message, problem)


def check(state_dir: str | os.PathLike[str], *, writer: bool, creating: bool = False) -> None:
    """Raise StateUnusable if a state folder can't be used.

    ``writer``: by the process that writes it. ``creating``: missing files will be created. Reads file
    attributes, the first two pages and ``owner.json``; writes nothing, and opens no environment.
    """
    folder = Path(state_dir)
    _check_folder(folder, writer=writer, creating=creating)
    _check_file_system(folder, writer=writer)
    if not writer:
        _check_readers_access(folder)
    data = folder / layout.DATA_FILE
    if creating and not data.exists():
        return
    owner = folder.stat().st_uid
    _check_file(data, owner, 0o027, "0640")
    check_data_pages(data)
    _check_file(folder / layout.LOCK_FILE, owner, 0o007, "0660", optional=writer)
    if not creating:
        check_brake_is_there(folder / layout.BRAKE_FILE)
    _check_file(folder / layout.BRAKE_FILE, owner, 0o027, "0640", optional=creating)
    _check_brake(folder / layout.BRAKE_FILE)
    _check_file(folder / layout.ANCHOR_FILE, owner, 0o027, "0640", optional=True)
    _check_file(folder / layout.OWNER_FILE, owner, 0o027, "0640", optional=writer)
    _check_proof(folder / layout.PROOF_DIR, owner)
    check_owner(folder, writer=writer)


def _check_readers_access(folder: Path) -> None:
    """Raise StateUnusable, with the command to run, if this process can't access a verifier's files."""
    proof = folder / layout.PROOF_DIR
    check_access(folder / layout.LOCK_FILE, READ_WRITE, folder)
    for name in (layout.DATA_FILE, layout.BRAKE_FILE, layout.ANCHOR_FILE, layout.OWNER_FILE):
        check_access(folder / name, READ, folder)
    if proof.is_dir():
        check_access(proof, SEARCH, folder)
        check_access(proof / layout.PROOF_KEYS_FILE, READ, folder)
        check_access(proof / layout.REPLAY_FILE, READ_WRITE, folder)


def check_owner(folder: Path, *, writer: bool) -> None:
    """Raise StateUnusable if the data was truncated, or the writer is in another PID namespace."""
    if writer and not (folder / layout.OWNER_FILE).exists():
        return
    owner = Owner.read(folder)
    if owner.format > layout.FORMAT:
        refuse("NEWER_FORMAT", f"{folder}: written by format {owner.format}; upgrade this program")
    size = (folder / layout.DATA_FILE).stat().st_size
    if size < owner.data_bytes:
        refuse(
            "CORRUPT",
            f"{folder / layout.DATA_FILE} has {size} bytes of {owner.data_bytes}: it was cut; "
            "restore it from a backup",
        )
    if not writer and owner.pid_namespace != pid_namespace():
        refuse(
            "PID_NAMESPACE",
            f"{folder}: its writer runs in another PID namespace, so it would take live readers for dead "
            "ones; run both in one (for containers: share the PID namespace)",
        )


def _check_folder(folder: Path, *, writer: bool, creating: bool) -> None:
    try:
        status = folder.stat()
    except FileNotFoundError:
        # A reader that is only sent to init would make a second, empty service.
        remedy = (
            "run init, for a further server 'cluster join', or restore a backup"
            if writer
            else "is this the path of the service's state folder, on the host where it runs? "
            "(a new service is made by 'init', for a further server 'cluster join')"
        )
        refuse("MISSING", f"{folder} does not exist; {remedy}")
    except PermissionError:
        refuse("WRONG_MODE", f"{folder} can't be reached; give this user search access to the folders above")
    if not stat.S_ISDIR(status.st_mode):
        refuse("NOT_A_FOLDER", f"{folder} is not a folder; name the folder that holds {layout.DATA_FILE}")
    if status.st_mode & 0o027:
        refuse("WRONG_MODE", f"{folder} has mode {status.st_mode & 0o777:04o}; run chmod 0750 {folder}")
    if writer and status.st_uid != os.geteuid():
        refuse("WRONG_OWNER", f"{folder} belongs to user {status.st_uid}; run as that user, or chown it")
    if writer:
        check_writers_group(folder)
    check_access(folder, SEARCH | (os.W_OK if writer else 0), folder)
    if not creating and not any(folder.iterdir()):
        refuse("EMPTY", f"{folder} is empty; run init, or restore it from a backup")


def _check_file(path: Path, owner: int, forbidden: int, mode: str, *, optional: bool = False) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        if optional:
            return
        refuse("MISSING", f"{path} is missing; start the server once on this folder, or restore it")
    if not stat.S_ISREG(status.st_mode):
        refuse("FOREIGN", f"{path} is not a regular file; restore it from a backup")
    _check_mode(path, status, owner, forbidden, mode)


def _check_mode(path: Path, status: os.stat_result, owner: int, forbidden: int, mode: str) -> None:
    if status.st_mode & forbidden:
        refuse("WRONG_MODE", f"{path} has mode {status.st_mode & 0o777:04o}; run chmod {mode} {path}")
    if status.st_uid != owner:
        refuse("WRONG_OWNER", f"{path} belongs to user {status.st_uid}, its folder to {owner}; chown it")


def _check_proof(folder: Path, owner: int) -> None:
    """Check the modes of the folder of proof keys, which may be missing or empty."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        refuse("FOREIGN", f"{folder} is not a folder; move it away, and the server makes it")
    _check_mode(folder, status, owner, 0o027, "0750")
    _check_file(folder / layout.PROOF_KEYS_FILE, owner, 0o027, "0640", optional=True)
    _check_file(folder / layout.REPLAY_FILE, owner, 0o007, "0660", optional=True)


def _check_brake(path: Path) -> None:
    if path.exists() and path.stat().st_size != PAGE_BYTES:
        refuse("CORRUPT", f"{path} does not have {PAGE_BYTES} bytes; restore the state from a backup")


def check_data_pages(path: Path) -> None:
    """Raise StateUnusable unless a regular file begins with two meta pages of LMDB's format."""
    if path.exists() and not path.is_file():
        refuse("FOREIGN", f"{path} is not a regular file; restore it from a backup")
    try:
        with path.open("rb") as file:
            first = file.read(256)
            (page_bytes,) = struct.unpack_from("=I", first, _PAGE_SIZE_AT) if len(first) == 256 else (0,)
            plausible = page_bytes in (1 << n for n in range(8, 17))
            file.seek(page_bytes if plausible else 4096)
            second = file.read(256)
    except PermissionError:
        refuse("WRONG_MODE", f"{path} can't be read; add this user to the folder's group")
    except OSError as error:
        refuse("CORRUPT", f"{path} can't be read ({error.strerror}); restore it from a backup")
    if not first:
        refuse("EMPTY", f"{path} has no content; restore it from a backup")
    if len(first) == 256 and not any(first):
        refuse("CORRUPT", f"{path} begins with zeros where LMDB's page should be; restore it from a backup")
    if len(first) < 256 or _META.unpack_from(first)[0] != _MAGIC:
        refuse("FOREIGN", f"{path} is not an LMDB file; restore it from a backup")
    if _META.unpack_from(first)[1] != _DATA_VERSION:
        refuse("FOREIGN", f"{path} is of another LMDB version; restore it from a backup")
    if not plausible or len(second) < 256 or _META.unpack_from(second) != (_MAGIC, _DATA_VERSION):
        refuse("CORRUPT", f"{path} is damaged or was cut; restore it from a backup")


def _check_file_system(folder: Path, *, writer: bool) -> None:
    status = os.statvfs(folder)
    if status.f_flag & os.ST_RDONLY:
        refuse("READ_ONLY_FS", f"{folder} is on a read-only file system, where a view does not see changes")
    kind = file_system_kind(folder)
    if kind in _NETWORK or kind.startswith("fuse."):
        refuse("NETWORK_FS", f"{folder} is on {kind}, where a view goes wrong; move it to a local disk")
    if writer and status.f_bavail * status.f_frsize < _LEAST_FREE_BYTES:
        refuse("NO_SPACE", f"{folder}: the file system is full; free some space")


def file_system_kind(folder: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the type of the file system that holds a folder; empty if it is unknown."""
    try:
        lines = mountinfo.read_text().splitlines()
    except OSError:
        return ""
    target = os.path.realpath(folder)
    best, kind = "", ""
    for line in lines:
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split(" ")[0]
    return kind
