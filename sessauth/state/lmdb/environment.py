"""The LMDB environment of a state folder: opening it, and guarding it against forks.

One environment per process, which its readers share (``reader.py``). A forked child would share the parent's
reader slots and locks. So in a child every source that was opened before denies: reads raise, which is logged
once, and the child's own copy of the brake page is engaged. A child opens an environment of its own.

A child never closes the parent's environment, not even when it ends. That would free the parent's reader
slot, and release the locks that the child holds for its own environment. LMDB's binding also has a lock that
a thread of the parent may have held at the moment of the fork.

The id of the last commit is read from the file itself. LMDB (format 1) begins each file with two meta pages,
which the commits write in turn, as their last write and before the commit returns. Each states its
transaction's id; the larger one is the last commit.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import struct
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import lmdb
from lmdb import _envid

from ..._fast._check import CommitId
from ...errors import StateError, StateUnusable
from ...model.change import Head
from .. import layout
from ..host import brake
from ..integrity import anchor
from .rows import TxnRows

_log = logging.getLogger(__name__)


def open_environment(
    state_dir: Path, *, readonly: bool, map_size: int, lock: bool = True
) -> lmdb.Environment:
    """Open the environment; raises StateUnusable if LMDB refuses it.

    ``lib_version=0`` pins the file format against the environment variable that changes the default.
    ``lock=False`` is for a backup, which has no writer.
    """
    try:
        return lmdb.open(
            str(state_dir),
            map_size=map_size,
            readonly=readonly,
            create=not readonly,
            max_dbs=layout.MAX_DBS,
            max_readers=layout.MAX_READERS,
            max_spare_txns=1,
            mode=layout.DATA_MODE,
            sync=True,
            metasync=True,
            writemap=False,
            map_async=False,
            lock=lock,
            lib_version=0,
        )
    except lmdb.MemoryError as error:
        advice = "allow this process the address space of the map (ulimit -v), or lower server.map_size_bytes"
        raise StateUnusable(f"{state_dir / layout.DATA_FILE}: {error}; {advice}", "NO_MEMORY") from error
    except lmdb.Error as error:
        problem, advice = _classify(error)
        raise StateUnusable(f"{state_dir / layout.DATA_FILE}: {error}; {advice}", problem) from error


def _classify(error: lmdb.Error) -> tuple[str, str]:
    if isinstance(error, lmdb.ReadonlyError | lmdb.LockError) or "already open" in str(error):
        return (
            "IN_USE",
            "this process writes it, or has old files of it open; close that first",
        )
    if isinstance(error, lmdb.VersionMismatchError):
        return "FOREIGN", "it was written by another LMDB format; restore it from a backup"
    if "ermission" in str(error):
        return "WRONG_MODE", "give this user read access to the data and write access to lock.mdb"
    if "space" in str(error):
        return "NO_SPACE", "free some space on this file system"
    return "CORRUPT", "restore it from a backup"


def open_tables(env: lmdb.Environment, *, create: bool) -> dict[str, Any]:
    """Return the handles of all tables; raises StateUnusable if one is missing.

    The problem is FOREIGN, or ROLLED_BACK where the anchor knows of a state: a writer that wrote into a file
    while an older one was copied over it leaves one without tables.

    Omits tables that a folder of an earlier format lacks, unless ``create``.
    """
    try:
        names = [name for name in layout.TABLES if create or _has(env, name)]
        return {name: env.open_db(name.encode(), create=create) for name in names}
    except lmdb.NotFoundError as error:
        anchor.require_no_state(Path(env.path()), "a table is missing")
        message = f"{env.path()}: a table is missing, so it is another program's or was never initialised"
        raise StateUnusable(message, "FOREIGN") from error
    except lmdb.Error as error:
        raise StateUnusable(f"{env.path()}: {error}; restore it from a backup", "CORRUPT") from error


def _has(env: lmdb.Environment, name: str) -> bool:
    """Return False for a table of a later format that is missing."""
    if name not in layout.LATER_TABLES:
        return True
    with env.begin() as txn:
        return txn.get(name.encode()) is not None


class LmdbSource:
    """Source of the kernel's view: ``begin``, the table handles, the commit id and the brake page.

    ``begin`` is the environment's own method, since checks that need a transaction call it.
    """

    def __init__(self, env: lmdb.Environment, tables: dict[str, Any], state_dir: Path) -> None:
        """Take an open environment and map the brake page."""
        self.env = env
        self.tables = tables
        # The tallies of revoked blocks; None while a folder has none.
        self.tallies: Any = tables.get(layout.TALLIES)
        self.sessions = tables[layout.SESSIONS]
        self.leases = tables[layout.LEASES]
        self.revoked = tables[layout.REVOKED]
        self.keys = tables[layout.KEYS]
        self.meta = tables[layout.META]
        self.brake = brake.reader_page(state_dir / layout.BRAKE_FILE)
        self.begin: Any = env.begin
        self.commit_id = self._open_commit_id(state_dir)
        self.forked = False
        self._state_dir = state_dir
        self._refused = False
        _live.add(self)

    def _open_commit_id(self, state_dir: Path) -> CommitId | None:
        """Return the commit id of the file if it agrees with LMDB's; a commit may come between the two reads.

        None only costs a transaction a check.
        """
        try:
            commit_id = open_commit_id(state_dir / layout.DATA_FILE)
        except OSError:
            return None
        for _ in range(100):
            if commit_id is None or commit_id.number == self.env.info()["last_txnid"]:
                return commit_id
        return None

    def called_for(self) -> tuple[int, int]:
        """Return the caller that verifiers acknowledge to, and the revision."""
        return brake.called_for(self.brake)

    def head(self) -> Head:
        """Return the head of the log, read now; raises StateError if it can't be read."""
        with self.reading() as txn:
            data = txn.get(layout.HEAD_KEY, db=self.meta)
        if data is None:
            raise StateError("the state has no head")
        return Head.decode(bytes(data))

    def reap_readers(self) -> int:
        """Free the reader slots of dead processes; return their number."""
        return int(self.env.reader_check())

    @contextmanager
    def rows(self) -> Iterator[TxnRows]:
        """Give the rows of one consistent read. Raises StateUnusable CORRUPT if LMDB can't read them."""
        txn = self.reading()
        try:
            yield TxnRows(txn, self.tables)
        except lmdb.Error as error:
            message = f"{self.env.path()}: {error}; restore it from a backup"
            raise StateUnusable(message, "CORRUPT") from error
        finally:
            txn.abort()

    def reading(self) -> lmdb.Transaction:
        """Start a read from Python code; reaps dead readers if their table is full."""
        try:
            return self.begin()  # type: ignore[no-any-return]
        except lmdb.ReadersFullError:
            self.reap_readers()
            return self.begin()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the environment. Later reads raise, and the brake page stays as it is."""
        if not self.forked:
            self.begin = _refuse_closed
            self._close_commit_id()
            self._close_environment()

    def _close_environment(self) -> None:
        self.env.close()

    def disown(self) -> None:
        """Deny everything in this process, a forked child, and never free the environment."""
        self.forked = True
        self.begin = self._refuse
        _add_reference(self.env)
        self._close_commit_id()
        self.brake[0] = 1

    def _close_commit_id(self) -> None:
        """Make every view of this source call ``begin``, which raises."""
        if self.commit_id is not None:
            self.commit_id.close()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        """Raise StateError for a read in a forked child; logs the first one."""
        message = (
            f"{self._state_dir} was opened before this process was forked, so that every call is denied here;"
            " open the verifier again in this process"
        )
        if not self._refused:
            self._refused = True
            _log.error("%s", message)
        raise StateError(message)


def _refuse_closed(*_: object, **__: object) -> NoReturn:
    raise StateError("the state is closed; open it again")


_live: weakref.WeakSet[LmdbSource] = weakref.WeakSet()
_add_reference = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))
_keys_of_files: Callable[[str, bool], tuple[tuple[object, ...], ...]] = _envid.env_keys


def _keys_in_this_process(path: str, subdir: bool) -> tuple[tuple[object, ...], ...]:
    """Return the binding's keys of open files, made different for each process.

    A child inherits the binding's list of them, and only closing removes an entry.
    """
    return tuple((os.getpid(), *key) for key in _keys_of_files(path, subdir))


def _after_fork_in_child() -> None:
    _envid.env_keys = _keys_in_this_process
    for source in list(_live):
        source.disown()


os.register_at_fork(after_in_child=_after_fork_in_child)


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
