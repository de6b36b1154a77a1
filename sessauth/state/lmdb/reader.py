"""The read-only view of a state folder, for verifiers in other processes than the writer's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

import lmdb

from ...errors import StateUnusable
from ...model.log_records import Head
from .. import layout
from ..host import preflight
from ..host.folder import Owner, pid_namespace
from ..integrity import anchor
from .environment import LmdbSource, open_environment, open_tables
from .rows import TxnRows


class StateReader(LmdbSource):
    """What the kernel's view reads from, opened read-only; use :meth:`open`.

    It sees every change as soon as the writer acknowledged it. It goes on to read a folder whose writer is
    gone: nothing can be acknowledged then. In a forked child everything denies.
    """

    _folder: Path
    _latest: int = 0
    _watching: tuple[Callable[[], None], ...] = ()
    _identity: tuple[tuple[int, int, int], ...]

    @classmethod
    def open(cls, state_dir: str | os.PathLike[str]) -> Self:
        """Open a state folder; raises StateUnusable, which names what is wrong."""
        folder = Path(state_dir)
        preflight.check(folder, writer=False)
        # The identity is taken before LMDB opens the file: if it is replaced in between, they differ.
        identity = _identity(folder)
        env = open_environment(folder, readonly=True, map_size=(folder / layout.DATA_FILE).stat().st_size)
        try:
            reader = cls(env, open_tables(env, create=False), folder)
            reader._folder, reader._identity = folder, identity
            reader.reap_readers()
            head = reader._anchored_head()
            if head.min_reader_format > layout.FORMAT:
                message = (
                    f"{folder} needs a reader of format {head.min_reader_format}, this one reads "
                    f"{layout.FORMAT}; upgrade this program"
                )
                raise StateUnusable(message, "NEWER_FORMAT")
        except lmdb.Error as error:
            env.close()
            raise StateUnusable(f"{folder}: {error}; restore it from a backup", "CORRUPT") from error
        except StateUnusable:
            env.close()
            raise
        return reader

    def _anchored_head(self) -> Head:
        """Return the head; raises StateUnusable ROLLED_BACK if the state is behind its anchor."""
        while True:
            anchored = anchor.read(self._folder)
            with self.reading() as txn:
                rows = TxnRows(txn, self.tables)
                try:
                    anchor.refuse_behind(anchored, rows, int(self.env.info()["last_txnid"]), self._folder)
                except StateUnusable:
                    # A restore in between begins what this anchor did not announce yet.
                    if anchor.read(self._folder) != anchored:
                        continue
                    raise
                return rows.head()

    def files_unchanged(self) -> bool:
        """Whether the files under the folder's names are still those that were opened.

        A few stat calls, to be made about every 100 ms. After False the view must deny: what it reads may
        be a file that nobody writes any more. Open the folder again to see which.
        """
        for look in self._watching:
            look()
        if self._went_back():
            return False
        try:
            if _identity(self._folder) != self._identity:
                return self._accept_new_owner()
        except OSError:
            return False
        return True

    def _went_back(self) -> bool:
        """Return whether the file holds fewer commits than it did: other bytes were written into it."""
        if self.commit_id is None:
            return False
        latest = self.commit_id.number
        went_back, self._latest = latest < self._latest, max(latest, self._latest)
        return went_back

    def watch(self, look: Callable[[], None]) -> None:
        """Call ``look``, which must not raise, as often as :meth:`files_unchanged` is asked."""
        self._watching = (*self._watching, look)

    def close(self) -> None:
        """Close the environment; nothing is watched any more."""
        self._watching = ()
        super().close()

    def _accept_new_owner(self) -> bool:
        """Whether only the writer changed, to another in the same PID namespace."""
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
    """Return device and inode of data, lock, brake and owner files; and what else would tell a change."""
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
