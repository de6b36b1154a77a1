"""Checks of a state folder before use; each problem has a stable word.

    NOT_A_FOLDER  MISSING  EMPTY  WRONG_MODE  WRONG_OWNER  WRONG_GROUP  READ_ONLY_FS  NETWORK_FS  FOREIGN
    CORRUPT  NEWER_FORMAT  IN_USE  PID_NAMESPACE  SWAPPED  ROLLED_BACK  NO_SPACE  NO_MEMORY

Unreadable, empty or foreign state is refused: it must never pass for one without revocations.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import NoReturn

from ...errors import StateUnusable
from .. import layout
from . import access
from .brake import PAGE_BYTES, check_brake_is_there
from .folder import Owner, pid_namespace

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
    access.check_access(folder / layout.LOCK_FILE, access.READ_WRITE, folder)
    for name in (layout.DATA_FILE, layout.BRAKE_FILE, layout.ANCHOR_FILE, layout.OWNER_FILE):
        access.check_access(folder / name, access.READ, folder)
    if proof.is_dir():
        access.check_access(proof, access.SEARCH, folder)
        access.check_access(proof / layout.PROOF_KEYS_FILE, access.READ, folder)
        access.check_access(proof / layout.REPLAY_FILE, access.READ_WRITE, folder)


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
        access.check_writers_group(folder)
    access.check_access(folder, access.SEARCH | (os.W_OK if writer else 0), folder)
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
    """Raise StateUnusable unless a file begins with two meta pages of LMDB's format."""
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
