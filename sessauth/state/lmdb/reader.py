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
from ..integrity import anchor, pages
from .environment import LmdbSource
from .shared_environment import EnvironmentUse


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
