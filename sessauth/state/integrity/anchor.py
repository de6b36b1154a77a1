"""The anchor: a file beside the state that states its last commit, so that an older data file is refused.

LMDB's file does not show if it is the latest: yesterday's copy is as valid as today's. After each durable
commit the writer writes the state's position here. So the state may be ahead of the anchor (after a crash or
a loss of power in between), but it is behind only if an older file replaced it.

The file is one page with two slots, written in turn. Each has a count and a checksum, and lies within one
sector. So one of the two is whole, whatever part of a write reaches the disk. No slot is newer than the
state. Nothing here is secret or signed: it protects against copies, not against a process that may write the
folder.
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
from ...model.change import Head
from .. import layout
from ..host.folder import replace_file
from ..lmdb.rows import TxnRows
from ..rules.apply import chain_digest

PAGE_BYTES: Final = 4096
SLOT_AT: Final = (0, 2048)
_MAGIC: Final = b"sa-anch1"
# Magic, count, the fields of Anchored; then a CRC-32 of them.
_SLOT: Final = struct.Struct("=8s Q 16s 16s Q Q 32s Q 16s 16s")
_SUM: Final = struct.Struct("=I")
# No writer reaches it; larger numbers could overflow their fields.
_MOST: Final = (1 << 63) - 1
_SEQ_BYTES = 8
_OPEN: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
_NOBODY: Final = bytes(16)
_DO: Final = (
    "put the latest file back, or stop the server and run 'sessauth state restore' with a backup: every "
    "session ends, and nothing that was ended or revoked comes back"
)


class Anchored(NamedTuple):
    """An anchored state: its log's identity and end, and the number of LMDB's commit.

    ``next_cluster`` and ``next_incarnation`` are announced before the commit that begins them.
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
        """Return the anchored fields of a state."""
        digest = head.digest or bytes(32)
        return cls(head.cluster_id, head.incarnation, head.revision, head.seq, digest, commit)


class Anchor:
    """The writer's handle of the file. It has the right content in memory, and restores it."""

    def __init__(self, state_dir: Path) -> None:
        """Open the file, or create it; raises StateUnusable NO_SPACE."""
        self._path = state_dir / layout.ANCHOR_FILE
        self._folder = state_dir
        self._count = 0
        self.anchored: Anchored | None = None
        self._page = bytearray(PAGE_BYTES)
        self._descriptor = -1
        newest = _newest(_content(self._path))
        if newest is not None:
            self._count, self.anchored = newest
            self._put(*newest)
        with contextlib.suppress(OSError):
            self._descriptor = os.open(self._path, _OPEN)
        try:
            page = b"" if self._descriptor < 0 else _read(self._descriptor)
            if len(page) == PAGE_BYTES:
                self._page[:] = page
                share(self._descriptor, state_dir, layout.DATA_MODE)
            else:
                # In one step: a truncated file may hold the only whole slot.
                self.renew()
        except OSError as error:
            self.close()
            message = f"{self._path} can't be made ({error.strerror}); free some space"
            raise StateUnusable(message, "NO_SPACE") from error

    def write(self, anchored: Anchored) -> None:
        """Write a durable state; raises OSError. It survives this process, and once flushed a power loss."""
        self._count += 1
        self.anchored = anchored
        at, slot = self._put(self._count, anchored)
        self.store(at, slot)

    def store(self, at: int, data: bytes) -> None:
        """Write bytes into the file's page; raises OSError."""
        os.pwrite(self._descriptor, data, at)

    def announce(self, cluster_id: bytes, incarnation: bytes) -> None:
        """Write, durably, the incarnation that the next commit begins. Raises OSError."""
        if self.anchored is not None:
            self.write(self.anchored._replace(next_cluster=cluster_id, next_incarnation=incarnation))
            self.flush()

    def flush(self) -> None:
        """Make the writes durable; raises OSError."""
        os.fsync(self._descriptor)

    def difference(self) -> str:
        """Return how the file under the name differs from the written one; empty: it does not."""
        try:
            named = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return "removed"
        held = os.fstat(self._descriptor)
        if (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino):
            return "replaced"
        return "" if _read(self._descriptor) == self._page else "overwritten or cut"

    def renew(self) -> None:
        """Replace the file, durably, by one with the right content; raises OSError without any change."""
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
        """Write a slot into the page in memory; return its offset and bytes."""
        at, slot = SLOT_AT[count & 1], _encoded(count, anchored)
        self._page[at : at + len(slot)] = slot
        return at, slot


def read(state_dir: Path) -> Anchored | None:
    """Return a folder's anchored state; None without an anchor, or if no slot of it is whole."""
    newest = _newest(_content(state_dir / layout.ANCHOR_FILE))
    return None if newest is None else newest[1]


def require_not_behind(anchored: Anchored | None, rows: TxnRows, commit: int, state_dir: Path) -> None:
    """Raise StateUnusable ROLLED_BACK if a state is behind its anchor, or has lost its anchor.

    ``commit`` is the number of LMDB's last commit. The anchor has to be read before the state.
    """
    problem = _behind(anchored, rows, commit)
    if problem:
        raise StateUnusable(f"{state_dir / layout.DATA_FILE} {problem}; {_DO}", "ROLLED_BACK")


def require_no_state(state_dir: Path, problem: str) -> None:
    """Raise StateUnusable ROLLED_BACK if the anchor knows of a state; ``problem`` says why there is none."""
    anchored = read(state_dir)
    if anchored is not None and anchored.seq:
        data = state_dir / layout.DATA_FILE
        message = (
            f"{data} is older than the state that was here, or damaged: {problem}; put the latest file back, "
            "or stop the server, move it away and run 'sessauth state restore' with a backup"
        )
        raise StateUnusable(message, "ROLLED_BACK")


def _behind(anchored: Anchored | None, rows: TxnRows, commit: int) -> str:
    head = rows.head()
    if anchored is None:
        # A folder of an earlier format has no anchor yet, and a folder without changes has nothing to lose.
        lacks = head.format >= layout.ANCHOR_FORMAT and head.seq > 0
        return f"can't be held against {layout.ANCHOR_FILE}, which is missing or damaged" if lacks else ""
    log = head.cluster_id, head.incarnation
    if log == (anchored.next_cluster, anchored.next_incarnation):
        return ""
    if head.cluster_id != anchored.cluster_id:
        return "is of another cluster than the state that was here"
    if head.incarnation != anchored.incarnation:
        return "is of another incarnation than the state that was here, which was restored since or before"
    for name, number, before in (
        ("change", head.seq, anchored.seq),
        ("revision", head.revision, anchored.revision),
        ("commit", commit, anchored.commit),
    ):
        if number < before:
            return f"is older than the state that was here: it is at {name} {number}, that was at {before}"
    if not _leads_to(anchored, rows, head):
        return f"has another history than the state that was here, up to change {anchored.seq}"
    return ""


def _leads_to(anchored: Anchored, rows: TxnRows, head: Head) -> bool:
    """Return True if the log's changes after the anchored one chain up to the head's digest."""
    if rows.compacted()[0] > anchored.seq:
        return True
    seq, digest = anchored.seq, anchored.digest
    with rows.txn.cursor(db=rows.tables[layout.CHANGES]) as cursor:
        more = cursor.set_range((seq + 1).to_bytes(8, "big"))
        while more:
            key = bytes(cursor.key())
            if len(key) != _SEQ_BYTES:
                # A page of another table.
                return False
            seq = int.from_bytes(key, "big")
            digest = chain_digest(digest, seq, bytes(cursor.value()))
            more = cursor.next()
    return (seq, digest) == (head.seq, head.digest or bytes(32))


def _content(path: Path) -> bytes:
    """Return the page of a file; empty if it can't be read, or is no regular file."""
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
    """Return a file's content, at most one byte more than a page; raises OSError."""
    return os.pread(descriptor, PAGE_BYTES + 1, 0)


def _encoded(count: int, anchored: Anchored) -> bytes:
    body = _SLOT.pack(_MAGIC, count, *anchored)
    return body + _SUM.pack(zlib.crc32(body))


def _newest(page: bytes) -> tuple[int, Anchored] | None:
    """Return count and content of the whole slot with the highest count."""
    newest: tuple[int, Anchored] | None = None
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
        if newest is None or count > newest[0]:
            newest = count, anchored
    return newest
