"""The read-only view of a state folder, for verifiers in other processes than the writer's.

LMDB permits no second environment of the same files in one process. So the readers of a folder share one, and
the last one that closes closes it. The writer's own environment is not among them: beside it a reader is
refused ``IN_USE``. A forked child shares nothing that was open before: it opens an environment of its own.

The credentials of a cluster are read once, and again when one changed.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import lmdb

from ...errors import StateError, StateUnusable
from ...model.change import Head
from ...model.host import CredentialRecord
from .. import layout
from ..host import folder as preflight
from ..host.folder import Owner, pid_namespace
from ..integrity import anchor, pages
from .cluster_rows import CREDENTIAL, credential_values, decode_changed
from .environment import LmdbSource, open_environment, open_tables


class StateReader(LmdbSource):
    """Source of the kernel's view, opened read-only; use :meth:`open`.

    It sees every change once the writer acknowledged it. It still reads a folder whose writer is gone:
    nothing can be acknowledged then. In a forked child everything denies. Readers of one folder in a process
    share its environment, and nothing else: each is closed by itself.
    """

    _use: EnvironmentUse
    _folder: Path
    _latest: int = 0
    _callbacks: tuple[Callable[[], None], ...] = ()
    _identity: tuple[tuple[int, int, int], ...]

    @classmethod
    def open(cls, state_dir: str | os.PathLike[str]) -> Self:
        """Open a state folder; raises StateUnusable, whose ``problem`` names the cause.

        IN_USE: this process writes it, or has a reader of files that were replaced since. Reads the number
        of each page that a check may need, some microseconds each.
        """
        folder = Path(state_dir)
        preflight.check(folder, writer=False)
        # Taken before LMDB opens the file: if the file is replaced in between, the identities differ.
        identity = _identity(folder)
        use = EnvironmentUse(folder, identity[:2])
        try:
            reader = cls(use.env, use.tables, folder)
            reader._use, reader._folder, reader._identity = use, folder, identity
            reader.reap_readers()
            head = reader._anchored_head()
            if head.min_reader_format > layout.FORMAT:
                message = (
                    f"{folder} needs a reader of format {head.min_reader_format}, this one reads "
                    f"{layout.FORMAT}; upgrade this program"
                )
                raise StateUnusable(message, "NEWER_FORMAT")
            pages.verify_pages(reader.env, reader.reading, pages.CHECKED)
        except lmdb.Error as error:
            use.close()
            raise StateUnusable(f"{folder}: {error}; restore it from a backup", "CORRUPT") from error
        except StateUnusable:
            use.close()
            raise
        return reader

    def _anchored_head(self) -> Head:
        """Return the head; raises StateUnusable ROLLED_BACK if the state is behind its anchor."""
        while True:
            anchored = anchor.read(self._folder)
            with self.rows() as rows:
                try:
                    anchor.require_not_behind(
                        anchored, rows, int(self.env.info()["last_txnid"]), self._folder
                    )
                except StateUnusable:
                    # A restore in between begins an incarnation that this anchor did not announce yet.
                    if anchor.read(self._folder) != anchored:
                        continue
                    raise
                return rows.head()

    def files_unchanged(self) -> bool:
        """Return True if the files under the folder's names are still those that were opened.

        A few stat calls, made about every 100 ms. After False the view must deny: it may read a file that has
        no writer any more. Open the folder again to find the cause.
        """
        for callback in self._callbacks:
            callback()
        if self._went_back():
            return False
        try:
            if _identity(self._folder) != self._identity:
                return self._accept_new_owner()
        except OSError:
            return False
        return True

    def _went_back(self) -> bool:
        """Return True if the file holds fewer commits than before: other bytes were written into it."""
        if self.commit_id is None:
            return False
        latest = self.commit_id.number
        went_back, self._latest = latest < self._latest, max(latest, self._latest)
        return went_back

    def watch(self, callback: Callable[[], None]) -> None:
        """Call ``callback``, which must not raise, on each :meth:`files_unchanged`."""
        self._callbacks = (*self._callbacks, callback)

    def close(self) -> None:
        """Deny from now on, and drop the callbacks. The last reader closes the environment."""
        self._callbacks = ()
        super().close()

    def _close_environment(self) -> None:
        self._use.close()

    def _accept_new_owner(self) -> bool:
        """Return True if only the writer changed, to another in the same PID namespace."""
        identity = _identity(self._folder)
        if identity[:-1] != self._identity[:-1]:
            return False
        try:
            same = Owner.read(self._folder).pid_namespace == pid_namespace()
        except StateUnusable:
            return False
        if same:
            self._identity = identity
        return same


def _identity(folder: Path) -> tuple[tuple[int, int, int], ...]:
    """Return the identities of the data, lock, brake and owner files."""
    data, lock, page, owner = (
        (folder / name).stat()
        for name in (layout.DATA_FILE, layout.LOCK_FILE, layout.BRAKE_FILE, layout.OWNER_FILE)
    )
    return (
        (data.st_dev, data.st_ino, data.st_size),
        (lock.st_dev, lock.st_ino, 0),
        (page.st_dev, page.st_ino, page.st_size),
        (owner.st_dev, owner.st_ino, owner.st_mtime_ns),
    )


# Device, inode and size of the data file, and of the lock file, which counts as of size 0.
FilesKey = tuple[tuple[int, int, int], ...]


class _Shared:
    """An open environment with its tables, and one object for each of its users."""

    def __init__(self, env: lmdb.Environment, tables: dict[str, Any]) -> None:
        self.env = env
        self.tables = tables
        self.users: set[object] = set()
        self.closed = False


class _Registry:
    """The environments of this process, each for as long as it has a user."""

    def __init__(self) -> None:
        # Reentrant, for a close in a finalizer or a signal handler.
        self.lock = threading.RLock()
        self.shared: weakref.WeakValueDictionary[FilesKey, _Shared] = weakref.WeakValueDictionary()


_registry = _Registry()


class EnvironmentUse:
    """One reader's use of an environment. Safe between threads."""

    def __init__(self, folder: Path, key: FilesKey) -> None:
        """Use the environment of the files with this ``key``; open it in ``folder`` if none does yet.

        Raises StateUnusable as :func:`open_environment` and :func:`open_tables` do.
        """
        registry, user = _registry, object()
        with registry.lock:
            while True:
                shared = registry.shared.get(key)
                if shared is None:
                    shared = registry.shared[key] = _open(folder)
                shared.users.add(user)
                # The collector may have ended the last other use before this one counted.
                if not shared.closed:
                    break
        self._shared = shared
        # A use that is collected has ended, even if others still refer to the environment.
        self._end = weakref.finalize(self, _end, registry, shared, user)
        self._end.atexit = False

    @property
    def env(self) -> lmdb.Environment:
        """The environment."""
        return self._shared.env

    @property
    def tables(self) -> dict[str, Any]:
        """The handles of its tables."""
        return self._shared.tables

    def close(self) -> None:
        """End this use, and close the environment if it was the last one. A second close does nothing."""
        self._end()


def _end(registry: _Registry, shared: _Shared, user: object) -> None:
    if registry is not _registry:
        # The environment is the parent's.
        return
    with registry.lock:
        shared.users.discard(user)
        if shared.users or shared.closed:
            return
        shared.closed = True
        for key in [key for key, value in registry.shared.items() if value is shared]:
            del registry.shared[key]
        shared.env.close()


def _open(folder: Path) -> _Shared:
    env = open_environment(folder, readonly=True, map_size=(folder / layout.DATA_FILE).stat().st_size)
    try:
        return _Shared(env, open_tables(env, create=False))
    except BaseException:
        env.close()
        raise


def _after_fork_in_child() -> None:
    # Another thread of the parent may have held the lock.
    global _registry
    _registry = _Registry()


os.register_at_fork(after_in_child=_after_fork_in_child)


class CredentialReader:
    """The rows, read again when their mark is another one."""

    def __init__(self, source: LmdbSource) -> None:
        """Read from ``source``; nothing is read yet."""
        self._source = source
        # The mark under which ``records`` were read; empty without rows, None: nothing was read yet.
        self._mark: bytes | None = None
        # The last commit that is known to have this mark.
        self._commit = 0
        self._values: Mapping[bytes, bytes] = {}
        # By key; replaced by another object when the rows change.
        self.records: Mapping[bytes, CredentialRecord] = {}

    def unchanged(self) -> bool:
        """Return True if ``records`` are those of the last commit. False if that can't be read."""
        commit_id = self._source.commit_id
        if commit_id is not None and self._commit and commit_id.number == self._commit:
            return True
        mark = self._mark
        try:
            found, commit = self._read_mark()
        except (StateError, lmdb.Error):
            return False
        if mark is None or found != mark:
            return False
        self._commit = commit
        return True

    def read(self) -> Mapping[bytes, CredentialRecord]:
        """Return the records of now. One thread at a time. Raises StateError if they can't be read."""
        if self.unchanged():
            return self.records
        self._mark = None
        try:
            with self._source.rows() as rows:
                commit = int(rows.txn.id())
                mark = rows.get(layout.EVIDENCE, CREDENTIAL) or b""
                values = credential_values(rows)
        except lmdb.Error as error:
            raise StateError(f"the credentials of the cluster can't be read: {error}") from error
        # The mark comes last: another thread may compare it meanwhile.
        self.records = decode_changed(values, self._values, self.records)
        self._values = values
        self._commit, self._mark = commit, mark
        return self.records

    def _read_mark(self) -> tuple[bytes, int]:
        """Return the mark, and the commit that it was read at.

        That is the transaction's own: a commit's id is in the file's pages a moment before a new transaction
        reads its rows.
        """
        table = self._source.tables.get(layout.EVIDENCE)
        txn = self._source.reading()
        try:
            mark = b"" if table is None else bytes(txn.get(CREDENTIAL, db=table) or b"")
            return mark, int(txn.id())
        finally:
            txn.abort()
