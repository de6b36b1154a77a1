"""The file of a replay table: made whole under its name, and read with suspicion.

A header, a counter of 8 bytes for each bucket, the buckets. The header says what the table is and never
changes, but for the latest second that the table was used at, which is not under its digest. A table counts
for one start of the machine: what was not yet written to disk is gone after it.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import Final

from nacl.bindings import randombytes

from sessauth._fast.crypto.ed25519 import digest
from sessauth._fast.nonces.shared_file import share

__all__ = ["TableError", "create", "open_file"]

HEADER_BYTES: Final = 4096
LATEST_AT: Final = 40
BUCKET_SLOTS: Final = 16
LEAST_SLOTS: Final = 256
MOST_SLOTS: Final = 1 << 28
MODE: Final = 0o660
# A process may go on with a table that was replaced for a millisecond; a scheduler may make more of it.
SEEN_LATE_MS: Final = 1_000
# How far a proof's time may lie from the verifier's: that of limits.pxd.
PROOF_WINDOW_MS: Final = 30_000

_FORMAT: Final = 1
_MAGIC: Final = b"sessauth/replay\0"
# Magic, format, slots, from when proofs count, the latest second, boot id, secret, digest.
_HEADER: Final = struct.Struct("=16s I 4x Q Q Q 16s 32s 16s")
_DIGEST_BYTES: Final = 16
_WRITE_BYTES: Final = 1 << 20
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


class TableError(Exception):
    """A file that can't serve as the replay table, and what to do about it."""


def create(path: str, slots: int, now_ms: int, *, proofs_before: bool) -> None:
    """Put a new table in place; ``ReplayTable.create`` says what the arguments are.

    Raises:
        ValueError: for a number of slots that a table can't have.
        TableError: when the file can't be made.
    """
    if not _is_size(slots):
        raise ValueError(f"slots is a power of two from {LEAST_SLOTS} to 2**28, not {slots}")
    # A proof of a holder whose clock is ahead may have been allowed up to now, and count until then.
    counts_from_ms = now_ms
    if proofs_before or os.path.lexists(path):
        counts_from_ms += PROOF_WINDOW_MS + SEEN_LATE_MS
    header = _header(slots, counts_from_ms, _boot_id(), randombytes(32))
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
    """Return an open file, its slots, from when its proofs count, and its secret of 32 bytes.

    Raises:
        TableError: for what is no table that this process may use.
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


def _read_header(path: str, found: os.stat_result, header: bytes) -> tuple[int, int, bytes]:
    knob = "start the server on this host, which makes a new one"
    if len(header) < _HEADER.size or not stat.S_ISREG(found.st_mode):
        raise TableError(f"{path} is no replay table: {knob}")
    magic, form, slots, counts_from_ms, _, boot_id, secret, _ = _HEADER.unpack(header)
    if magic != _MAGIC:
        raise TableError(f"{path} is no replay table: {knob}")
    if form != _FORMAT:
        raise TableError(f"the replay table {path} is of format {form}, this program knows {_FORMAT}: {knob}")
    sealed = _header(slots, counts_from_ms, boot_id, secret)
    if header[:LATEST_AT] + header[LATEST_AT + 8 :] != sealed[:LATEST_AT] + sealed[LATEST_AT + 8 :]:
        raise TableError(f"the replay table {path} is damaged: {knob}")
    if not _is_size(slots) or found.st_size != _file_bytes(slots):
        raise TableError(f"the replay table {path} was cut: {knob}")
    if found.st_mode & 0o007:
        raise TableError(f"the replay table {path} is open to everybody: give it the mode 0660")
    if boot_id != _boot_id():
        raise TableError(f"the replay table {path} is of an earlier start of this machine: {knob}")
    return slots, counts_from_ms, secret


def _fill(descriptor: int, header: bytes, size: int) -> None:
    """Write a header and zeros behind it. A hole would not do: on a full disk, writing into one kills."""
    with open(descriptor, "wb", closefd=False) as file:
        file.write(header)
        left = size - len(header)
        while left > 0:
            left -= file.write(bytes(min(left, _WRITE_BYTES)))


def _header(slots: int, counts_from_ms: int, boot_id: bytes, secret: bytes) -> bytes:
    """The header of a table that was not used yet."""
    fields = (_MAGIC, _FORMAT, slots, counts_from_ms, 0, boot_id, secret)
    bare = _HEADER.pack(*fields, bytes(_DIGEST_BYTES))
    return bare[:-_DIGEST_BYTES] + digest(bare)[:_DIGEST_BYTES]


def _is_size(slots: int) -> bool:
    return LEAST_SLOTS <= slots <= MOST_SLOTS and slots & (slots - 1) == 0


def _file_bytes(slots: int) -> int:
    return HEADER_BYTES + slots // BUCKET_SLOTS * 8 + slots * 8


def _boot_id() -> bytes:
    """Which start of the machine this is, 16 bytes; zeros where it does not say."""
    try:
        with open(_BOOT_ID, "rb") as file:
            return digest(file.read(64))[:16]
    except OSError:
        return bytes(16)
