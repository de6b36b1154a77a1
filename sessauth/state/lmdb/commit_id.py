"""The id of the last commit to an LMDB file, read from the transaction ids in its two mapped meta pages.

LMDB (format 1) begins each file with two meta pages, which the commits write in turn, as their last
write and before the commit returns. Each states its transaction's id; the larger one is the last commit.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Final

from ..._fast._check import CommitId

# A meta page: a page header of 16 bytes, then magic, version, address, map size, and the records of two
# tables (48 bytes each; the first four of the first one are the page size), the last page, the id.
_HEAD: Final = struct.Struct("=16x I I 8x 8x I")
_ID_AT: Final = 144
_META_BYTES: Final = 152
_MAGIC: Final = 0xBEEFC0DE
_VERSION: Final = 1
_PAGE_SIZES: Final = frozenset(1 << bits for bits in range(9, 17))


def open_commit_id(data_file: Path) -> CommitId | None:
    """Map the ids of an LMDB data file; return None for another layout than the one described here.

    Without it every check begins a transaction to read the id. LMDB holds no lock on the data file, so
    closing this descriptor of it releases none.
    """
    pages, page_size = _map_pages(data_file)
    return None if pages is None else CommitId(pages, _ID_AT, page_size + _ID_AT)


def last_commit(data_file: Path) -> int | None:
    """Return the number of the last commit to an LMDB data file; None if it can't be read."""
    try:
        commit_id = open_commit_id(data_file)
    except OSError:
        return None
    return None if commit_id is None else commit_id.number


def _map_pages(data_file: Path) -> tuple[mmap.mmap | None, int]:
    descriptor = os.open(data_file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = os.read(descriptor, _META_BYTES)
        if len(head) < _META_BYTES:
            return None, 0
        magic, version, page_size = _HEAD.unpack_from(head)
        if (magic, version) != (_MAGIC, _VERSION) or page_size not in _PAGE_SIZES:
            return None, 0
        if os.fstat(descriptor).st_size < 2 * page_size:
            return None, 0
        pages = mmap.mmap(descriptor, 2 * page_size, mmap.MAP_SHARED, mmap.PROT_READ)
    finally:
        os.close(descriptor)
    if _HEAD.unpack_from(pages, page_size) != (magic, version, page_size):
        return None, 0
    return pages, page_size
