"""The anchor: how far the state was, in a file beside it, so that an older data file is not believed.

LMDB's file says nothing of whether it is the latest: a copy of yesterday is as whole as today's. After each
commit, once that is durable, the writer notes here which state it left. So the state may be ahead of the
anchor (a crash in between, a loss of power), and is never behind it unless somebody put an older file in
its place.

The file is one page with two slots, written in turn. Each has a count and a checksum, and lies within one
sector: whatever of a write reaches the disk, one of the two is whole. No slot is newer than the state.
Nothing here is secret or signed: it holds against copies, not against whoever may write the folder.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple, Self

from ..._fast.nonces.shared_file import share
from ...errors import StateUnusable
from ...model.log_records import Head
from .. import layout
from ..host.folder import replace_file
from ..lmdb.rows import TxnRows
from ..rules.apply import chained

PAGE_BYTES: Final = 4096
SLOT_AT: Final = (0, 2048)
_MAGIC: Final = b"sa-anch1"
# Magic, count, what is anchored; then a CRC-32 of it.
_SLOT: Final = struct.Struct("=8s Q 16s 16s Q Q 32s Q 16s 16s")
_SUM: Final = struct.Struct("=I")
# No writer gets there; above it the numbers would not fit their fields one day.
_MOST: Final = (1 << 63) - 1
_OPEN: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
_NOBODY: Final = bytes(16)
_DO: Final = (
    "put the latest file back, or stop the server and run 'sessauth state restore' with a backup: every "
    "session ends, and nothing that was ended or revoked comes back"
)


class Anchored(NamedTuple):
    """The state that was left: its log's identity and end, and the number of LMDB's commit.

    ``next_cluster`` and ``next_incarnation`` were announced before the commit that was to begin them.
    """

    cluster_id: bytes
    incarnation: bytes
    revision: int
    seq: int
    digest: bytes
    commit: int
    next_cluster: bytes = _NOBODY
    next_incarnation: bytes = _NOBODY

    @classmethod
    def of(cls, head: Head, commit: int) -> Self:
        """Return what is noted of a state."""
        digest = head.digest or bytes(32)
        return cls(head.cluster_id, head.incarnation, head.revision, head.seq, digest, commit)


class Anchor:
    """The writer's hold on the file. It knows what the file has to hold, and puts that right."""

    def __init__(self, state_dir: Path) -> None:
        """Open the file, and make it if there is none; raises StateUnusable NO_SPACE."""
        self._path = state_dir / layout.ANCHOR_FILE
        self._folder = state_dir
        self._count = 0
        self.anchored: Anchored | None = None
        self._page = bytearray(PAGE_BYTES)
        self._descriptor = -1
        found = _newest(_content(self._path))
        if found is not None:
            self._count, self.anchored = found
            self._put(found[0], found[1])
        with contextlib.suppress(OSError):
            self._descriptor = os.open(self._path, _OPEN)
        try:
            page = b"" if self._descriptor < 0 else _read(self._descriptor)
            if len(page) == PAGE_BYTES:
                self._page[:] = page
                share(self._descriptor, state_dir, layout.DATA_MODE)
            else:
                # In one step: a file that was cut may hold the only slot that is whole.
                self.renew()
        except OSError as error:
            self.close()
            message = f"{self._path} can't be made ({error.strerror}); free some space"
            raise StateUnusable(message, "NO_SPACE") from error

    def write(self, anchored: Anchored) -> None:
        """Note a durable state; raises OSError. The note outlives this process, and soon the machine."""
        self._count += 1
        self.anchored = anchored
        at, slot = self._put(self._count, anchored)
        self.store(at, slot)

    def store(self, at: int, data: bytes) -> None:
        """Write bytes into the file's page; raises OSError."""
        os.pwrite(self._descriptor, data, at)

    def announce(self, cluster_id: bytes, incarnation: bytes) -> None:
        """Note, durably, the incarnation that the next commit begins. Raises OSError."""
        if self.anchored is not None:
            self.write(self.anchored._replace(next_cluster=cluster_id, next_incarnation=incarnation))
            self.flush()

    def flush(self) -> None:
        """Make what was noted durable; raises OSError."""
        os.fsync(self._descriptor)

    def what_differs(self) -> str:
        """Return in which way the file under the name is not the one that was written; empty: it is."""
        try:
            named = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return "removed"
        held = os.fstat(self._descriptor)
        if (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino):
            return "replaced"
        return "" if _read(self._descriptor) == self._page else "overwritten or cut"

    def renew(self) -> None:
        """Put a new file with what was noted in the place, durably; raises OSError, and is as before then."""
        replace_file(self._path, bytes(self._page), layout.DATA_MODE)
        descriptor = os.open(self._path, _OPEN)
        self.close()
        self._descriptor = descriptor

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _put(self, count: int, anchored: Anchored) -> tuple[int, bytes]:
        """Put a slot into the page that is known; returns where it lies, and its bytes."""
        at, slot = SLOT_AT[count & 1], _encoded(count, anchored)
        self._page[at : at + len(slot)] = slot
        return at, slot


def read(state_dir: Path) -> Anchored | None:
    """Return what the file says; None if there is none, or it holds nothing that is whole."""
    found = _newest(_content(state_dir / layout.ANCHOR_FILE))
    return None if found is None else found[1]


def refuse_behind(anchored: Anchored | None, rows: TxnRows, commit: int, state_dir: Path) -> None:
    """Raise StateUnusable ROLLED_BACK if a state is behind its anchor, or lacks the one that it had.

    ``commit`` is the number of LMDB's last commit. The anchor has to be read before the state is.
    """
    words = _behind(anchored, rows, commit)
    if words:
        raise StateUnusable(f"{state_dir / layout.DATA_FILE} {words}; {_DO}", "ROLLED_BACK")


def _behind(anchored: Anchored | None, rows: TxnRows, commit: int) -> str:
    head = rows.head()
    if anchored is None:
        # A folder of an earlier format has none yet, and in one without changes nothing was ended.
        lacks = head.format >= layout.ANCHOR_FORMAT and head.seq > 0
        return f"can't be held against {layout.ANCHOR_FILE}, which is missing or damaged" if lacks else ""
    log = head.cluster_id, head.incarnation
    if log == (anchored.next_cluster, anchored.next_incarnation):
        return ""
    if head.cluster_id != anchored.cluster_id:
        return "is of another cluster than the state that was here"
    if head.incarnation != anchored.incarnation:
        return "is of another incarnation than the state that was here, which was restored since or before"
    for name, found, left in (
        ("change", head.seq, anchored.seq),
        ("revision", head.revision, anchored.revision),
        ("commit", commit, anchored.commit),
    ):
        if found < left:
            return f"is older than the state that was here: it is at {name} {found}, that was at {left}"
    if not _leads_to(anchored, rows, head):
        return f"has another history than the state that was here, up to change {anchored.seq}"
    return ""


def _leads_to(anchored: Anchored, rows: TxnRows, head: Head) -> bool:
    """Return whether the head is behind the anchored change, by the digests of the log that is kept."""
    compacted = rows.get(layout.META, layout.COMPACTED_KEY) or bytes(8)
    if int.from_bytes(compacted[:8], "big") > anchored.seq:
        return True
    seq, digest = anchored.seq, anchored.digest
    with rows.txn.cursor(db=rows.tables[layout.CHANGES]) as cursor:
        found = cursor.set_range((seq + 1).to_bytes(8, "big"))
        while found:
            seq = int.from_bytes(cursor.key(), "big")
            digest = chained(digest, seq, bytes(cursor.value()))
            found = cursor.next()
    return (seq, digest) == (head.seq, head.digest or bytes(32))


def _content(path: Path) -> bytes:
    """Return the page of a file; nothing if it can't be read, or is none that holds bytes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return _read(descriptor)[:PAGE_BYTES]
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> bytes:
    """Return what a file holds, up to one byte more than a page; raises OSError."""
    return os.pread(descriptor, PAGE_BYTES + 1, 0)


def _encoded(count: int, anchored: Anchored) -> bytes:
    body = _SLOT.pack(_MAGIC, count, *anchored)
    return body + _SUM.pack(zlib.crc32(body))


def _newest(page: bytes) -> tuple[int, Anchored] | None:
    """Return the slot of the higher count that is whole."""
    found: tuple[int, Anchored] | None = None
    for at in SLOT_AT:
        if len(page) < at + _SLOT.size + _SUM.size:
            continue
        magic, count, *rest = _SLOT.unpack_from(page, at)
        anchored = Anchored(*rest)
        whole = _SUM.pack(zlib.crc32(page[at : at + _SLOT.size]))
        if magic != _MAGIC or page[at + _SLOT.size : at + _SLOT.size + _SUM.size] != whole:
            continue
        if max(count, anchored.revision, anchored.seq, anchored.commit) > _MOST:
            continue
        if found is None or count > found[0]:
            found = count, anchored
    return found
