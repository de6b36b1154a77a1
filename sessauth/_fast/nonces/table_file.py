"""The file of a replay table: created atomically, and validated when it is opened.

The file is a header, a counter of 8 bytes for each bucket, and the buckets. The header describes the table
and never changes, except the latest second of a use, which its digest does not cover. A table is valid for
one boot of the machine: a crash loses entries that are not on disk.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
from typing import Final

from nacl.bindings import randombytes

from sessauth._fast.base import boot
from sessauth._fast.nonces.shared_file import share

__all__ = ["TableError", "create", "open_file"]

HEADER_BYTES: Final = 4096
LATEST_AT: Final = 40
BUCKET_SLOTS: Final = 16
LEAST_SLOTS: Final = 256
MOST_SLOTS: Final = 1 << 28
MODE: Final = 0o660
# A process may use a replaced table for a millisecond, and for longer when it is not scheduled.
STALE_USE_MS: Final = 1_000
# The window of a proof's time, as in limits.pxd.
PROOF_WINDOW_MS: Final = 30_000

_FORMAT: Final = 1
_MAGIC: Final = b"sessauth/replay\0"
# Magic, format, slots, earliest proof time, latest second, boot id, secret, digest.
_HEADER: Final = struct.Struct("=16s I 4x Q Q Q 16s 32s 16s")
_DIGEST_BYTES: Final = 16
_WRITE_BYTES: Final = 1 << 20


class TableError(Exception):
    """A file that can't serve as the replay table. The text says how to fix that."""


def create(path: str, slots: int, now_ms: int, *, proofs_before: bool) -> None:
    """Create a table file; ``ReplayTable.create`` documents the arguments.

    Raises:
        ValueError: for a number of slots that a table can't have.
        TableError: when the file can't be created.
    """
    if not _is_size(slots):
        raise ValueError(f"slots is a power of two from {LEAST_SLOTS} to 2**28, not {slots}")
    # A proof from a clock that is ahead may have been allowed before now, and is valid until then.
    counts_from_ms = now_ms
    if proofs_before or os.path.lexists(path):
        counts_from_ms += PROOF_WINDOW_MS + STALE_USE_MS
    header = _header(slots, counts_from_ms, boot.boot_id(), randombytes(32))
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{randombytes(8).hex()}")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            share(descriptor, os.path.dirname(path), MODE)
            _fill(descriptor, header, _file_bytes(slots))
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
    except OSError as error:
        knob = ": free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        message = f"the replay table {path} can't be made ({error.strerror}){knob}"
        raise TableError(message) from error


def open_file(path: str) -> tuple[int, int, int, bytes]:
    """Return an open file, its slots, the earliest proof time, and its secret of 32 bytes.

    Raises:
        TableError: for a file that this process can't use as a table.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise TableError(
            f"the replay table {path} can't be opened ({error.strerror}): start the server on this host,"
            " and let this process into its group"
        ) from error
    try:
        return (descriptor, *_read_header(path, os.fstat(descriptor), os.pread(descriptor, _HEADER.size, 0)))
    except BaseException:
        os.close(descriptor)
        raise


def _read_header(path: str, status: os.stat_result, header: bytes) -> tuple[int, int, bytes]:
    knob = "start the server on this host, which makes a new one"
    if len(header) < _HEADER.size or not stat.S_ISREG(status.st_mode):
        raise TableError(f"{path} is no replay table: {knob}")
    magic, form, slots, counts_from_ms, _, boot_id, secret, _ = _HEADER.unpack(header)
    if magic != _MAGIC:
        raise TableError(f"{path} is no replay table: {knob}")
    if form != _FORMAT:
        raise TableError(f"the replay table {path} is of format {form}, this program knows {_FORMAT}: {knob}")
    sealed = _header(slots, counts_from_ms, boot_id, secret)
    if header[:LATEST_AT] + header[LATEST_AT + 8 :] != sealed[:LATEST_AT] + sealed[LATEST_AT + 8 :]:
        raise TableError(f"the replay table {path} is damaged: {knob}")
    if not _is_size(slots) or status.st_size != _file_bytes(slots):
        raise TableError(f"the replay table {path} was cut: {knob}")
    if status.st_mode & 0o007:
        raise TableError(f"the replay table {path} is open to everybody: give it the mode 0660")
    if boot_id != boot.boot_id():
        raise TableError(f"the replay table {path} is of an earlier start of this machine: {knob}")
    return slots, counts_from_ms, secret


def _fill(descriptor: int, header: bytes, size: int) -> None:
    """Write a header and zeros. A hole would not do: on a full disk, writing into it kills."""
    with open(descriptor, "wb", closefd=False) as file:
        file.write(header)
        left = size - len(header)
        while left > 0:
            left -= file.write(bytes(min(left, _WRITE_BYTES)))


def _header(slots: int, counts_from_ms: int, boot_id: bytes, secret: bytes) -> bytes:
    """Return the header of an unused table."""
    fields = (_MAGIC, _FORMAT, slots, counts_from_ms, 0, boot_id, secret)
    bare = _HEADER.pack(*fields, bytes(_DIGEST_BYTES))
    return bare[:-_DIGEST_BYTES] + hashlib.blake2b(bare, digest_size=32).digest()[:_DIGEST_BYTES]


def _is_size(slots: int) -> bool:
    return LEAST_SLOTS <= slots <= MOST_SLOTS and slots & (slots - 1) == 0


def _file_bytes(slots: int) -> int:
    return HEADER_BYTES + slots // BUCKET_SLOTS * 8 + slots * 8
