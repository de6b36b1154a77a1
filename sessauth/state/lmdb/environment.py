"""The LMDB environment of a state folder: how it is opened, and what guards it.

One environment per process. A forked child would share the parent's reader slots and locks, so in a child
every source that was opened before denies: reads raise, which is logged once, and the child's own copy of the
brake page is engaged. A child opens an environment of its own.

The parent's is never closed in a child, not even when the child ends: that would free the parent's reader
slot, and give up the locks that the child holds for its own environment. LMDB's binding also holds a lock
that a thread of the parent may have had at the moment of the fork.
"""

from __future__ import annotations

import ctypes
import logging
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import lmdb
from lmdb import _envid

from ..._fast.check.commit_id import CommitId
from ...errors import StateError, StateUnusable
from ...model.log_records import Head
from .. import layout
from ..host import brake
from .commit_id import open_commit_id

_log = logging.getLogger(__name__)


def open_environment(
    state_dir: Path, *, readonly: bool, map_size: int, lock: bool = True
) -> lmdb.Environment:
    """Open the environment; raises StateUnusable if LMDB refuses it.

    ``lib_version=0`` pins the file format against the environment variable that changes the default.
    ``lock=False`` is for files that nobody writes: a backup.
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
    except lmdb.Error as error:
        problem, advice = _classify(error)
        raise StateUnusable(f"{state_dir / layout.DATA_FILE}: {error}; {advice}", problem) from error


def _classify(error: lmdb.Error) -> tuple[str, str]:
    if isinstance(error, lmdb.ReadonlyError | lmdb.LockError) or "already open" in str(error):
        return "IN_USE", "this process has it open already; use that writer or reader"
    if isinstance(error, lmdb.VersionMismatchError):
        return "FOREIGN", "it was written by another LMDB format; restore it from a backup"
    if "ermission" in str(error):
        return "WRONG_MODE", "give this user read access to the data and write access to lock.mdb"
    if "space" in str(error):
        return "NO_SPACE", "free some space on this file system"
    return "CORRUPT", "restore it from a backup"


def open_tables(env: lmdb.Environment, *, create: bool) -> dict[str, Any]:
    """Return the handles of all tables; raises StateUnusable if one is missing.

    What a folder of an earlier format does not have is left out, unless ``create``.
    """
    try:
        there = [name for name in layout.TABLES if create or _has(env, name)]
        return {name: env.open_db(name.encode(), create=create) for name in there}
    except lmdb.NotFoundError as error:
        message = f"{env.path()}: a table is missing, so it is another program's or was never initialised"
        raise StateUnusable(message, "FOREIGN") from error
    except lmdb.Error as error:
        raise StateUnusable(f"{env.path()}: {error}; restore it from a backup", "CORRUPT") from error


def _has(env: lmdb.Environment, name: str) -> bool:
    """Whether a table need not be missing: it is there, or every format has it."""
    if name not in layout.LATER_TABLES:
        return True
    with env.begin() as txn:
        return txn.get(name.encode()) is not None


class LmdbSource:
    """What the kernel's view reads from: ``begin``, the table handles, the pulse and the brake page.

    ``begin`` is the environment's own method, since the checks that need a transaction call it.
    """

    def __init__(self, env: lmdb.Environment, tables: dict[str, Any], state_dir: Path) -> None:
        """Take an open environment and map the brake page."""
        self.env = env
        self.tables = tables
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
        """Return the pulse of the file if it says what LMDB says; a commit may come in between.

        None costs a transaction a check, and nothing else.
        """
        try:
            pulse = open_commit_id(state_dir / layout.DATA_FILE)
        except OSError:
            return None
        for _ in range(100):
            if pulse is None or pulse.number == self.env.info()["last_txnid"]:
                return pulse
        return None

    def called_for(self) -> tuple[int, int]:
        """Return to whom verifiers are to acknowledge, and which revision."""
        return brake.called_for(self.brake)

    def head(self) -> Head:
        """Return where the log stands, read now; raises StateError if that can't be read."""
        with self.reading() as txn:
            data = txn.get(layout.HEAD_KEY, db=self.meta)
        if data is None:
            raise StateError("the state has no head")
        return Head.decode(bytes(data))

    def reap_readers(self) -> int:
        """Free the reader slots of processes that died; return how many."""
        return int(self.env.reader_check())

    def reading(self) -> lmdb.Transaction:
        """Start a read from Python code; reaps dead readers if their table is full."""
        try:
            return self.begin()  # type: ignore[no-any-return]
        except lmdb.ReadersFullError:
            self.reap_readers()
            return self.begin()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the environment. Reads raise from now on, and the brake page stays as it is."""
        if not self.forked:
            self.begin = _refuse_closed
            self._stop_pulse()
            self.env.close()

    def disown(self) -> None:
        """Deny everything in this process, which is a forked child, and keep the environment for good."""
        self.forked = True
        self.begin = self._refuse
        _keep_for_good(self.env)
        self._stop_pulse()
        self.brake[0] = 1

    def _stop_pulse(self) -> None:
        """Make every view of this source ask ``begin``, which refuses."""
        if self.commit_id is not None:
            self.commit_id.close()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        """Refuse a read in a forked child; the first one is logged."""
        told = (
            f"{self._state_dir} was opened before this process was forked, so that every call is denied here;"
            " open the verifier again in this process"
        )
        if not self._refused:
            self._refused = True
            _log.error("%s", told)
        raise StateError(told)


def _refuse_closed(*_: object, **__: object) -> NoReturn:
    raise StateError("the state is closed; open it again")


_live: weakref.WeakSet[LmdbSource] = weakref.WeakSet()
_keep_for_good = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))
_keys_of_files: Callable[[str, bool], tuple[tuple[object, ...], ...]] = _envid.env_keys


def _keys_in_this_process(path: str, subdir: bool) -> tuple[tuple[object, ...], ...]:
    """Return what the binding knows open files by, of this process alone.

    Its list of them is inherited by a child, and nothing but closing takes an entry out.
    """
    return tuple((os.getpid(), *key) for key in _keys_of_files(path, subdir))


def _after_fork_in_child() -> None:
    _envid.env_keys = _keys_in_this_process
    for source in list(_live):
        source.disown()


os.register_at_fork(after_in_child=_after_fork_in_child)
