"""Continuity of the data file: each commit goes to the file of the commit before, and to the anchor.

The writer has its data file mapped. If another file came under its name, or other bytes into it, the writer
would continue an older state, in which ended sessions are active. So before each commit it checks the file
names (at most every 20 ms) and LMDB's two meta pages, and after each commit the pages again.

It checks the anchor along with the names. The writer has the anchor's content in memory, so it rewrites an
anchor that was removed, truncated or replaced, and logs that. Otherwise an older data file could be put in
place after the anchor was removed.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import Final

from ...errors import StateUnusable
from ...model.log_records import Head
from .. import layout
from ..integrity.anchor import Anchor, Anchored
from ..lmdb.commit_id import last_commit
from ..lmdb.environment import LmdbSource

_log = logging.getLogger(__name__)
# The check of the names is a system call for each; the pages are mapped.
NAMES_NS: Final = 20_000_000
_NAMES: Final = (layout.DATA_FILE, layout.LOCK_FILE)
_NONE: Final = (0, 0)
Identities = tuple[tuple[int, int], ...]


class Continuity:
    """Checks the data file around each commit, and writes the anchor. One thread commits; any may check."""

    def __init__(
        self, state_dir: Path, source: LmdbSource, anchor: Anchor, before: Identities, *, behind: bool
    ) -> None:
        """Start from the current file. ``behind``: the state is older than its anchor.

        ``before`` are the files' identities before the source opened them, zeros for a file that it created.
        Raises StateUnusable if one was replaced since.
        """
        self._files = tuple(state_dir / name for name in _NAMES)
        self._source = source
        self._anchor = anchor
        self._behind = behind
        now = identities(state_dir)
        self._identities = tuple(old if old != _NONE else new for old, new in zip(before, now, strict=True))
        self._ids = self._meta_ids()
        self._require_files()
        self._head = source.head()
        self._committing = threading.Lock()
        self._checked_ns = 0
        self._anchor_failed = ""

    @property
    def anchored(self) -> Anchored | None:
        """The anchored state."""
        return self._anchor.anchored

    def begin(self) -> None:
        """Check before a group runs; :meth:`end` has to follow. Raises as :meth:`check_files` does."""
        self._committing.acquire()
        now_ns = time.monotonic_ns()
        if now_ns - self._checked_ns > NAMES_NS:
            self._require_files()
            self._restore_anchor()
            self._checked_ns = now_ns
        self._require_pages()

    def end(self) -> None:
        """Let other threads check again."""
        self._committing.release()

    def check_files(self) -> None:
        """Raise StateUnusable SWAPPED if a file was replaced, ROLLED_BACK if by an older one or overwritten.

        Does nothing while a group is written, since the writer itself checks then.
        """
        if not self._committing.acquire(blocking=False):
            return
        try:
            self._require_files()
            self._require_pages()
            self._restore_anchor()
        finally:
            self._committing.release()

    def announce(self, head: Head) -> None:
        """Announce the incarnation in the anchor if the next commit begins another one. Raises OSError."""
        if (head.cluster_id, head.incarnation) != (self._head.cluster_id, self._head.incarnation):
            self._anchor.announce(head.cluster_id, head.incarnation)

    def committed(self, head: Head, commit: int) -> None:
        """Check again, then anchor the committed state. Raises StateUnusable ROLLED_BACK."""
        if self._ids is not None:
            expected = list(self._ids)
            expected[commit & 1] = commit
            self._ids = expected[0], expected[1]
            if self._meta_ids() != self._ids:
                self._refuse_overwritten()
        if self._behind and head.incarnation == self._head.incarnation:
            return
        self._behind, self._head = False, head
        try:
            self._anchor.write(Anchored.of(head, commit))
        except OSError as error:
            # The commit is durable and is acknowledged: a state may be ahead of its anchor. The next check
            # retries.
            self._log_failure(error)

    def require_head(self, head: Head) -> None:
        """Raise StateUnusable ROLLED_BACK unless a group reads the head that the last commit left."""
        if head != self._head:
            self._refuse_overwritten()

    def close(self) -> None:
        """Check the anchor once more, make it durable and close it. Later checks do nothing."""
        self._committing.acquire()
        self._restore_anchor()
        try:
            self._anchor.flush()
        except OSError as error:
            self._log_failure(error)
        self._anchor.close()

    def _restore_anchor(self) -> None:
        """Rewrite the anchor if it was changed. Errors are logged only: the state is safe without it."""
        try:
            difference = self._anchor.difference()
            if not difference:
                return
            self._anchor.renew()
        except OSError as error:
            self._log_failure(error)
            return
        self._anchor_failed = ""
        words = "the anchor was %s while the server ran, and was rewritten; find out by whom"
        _log.warning(words, difference, extra={"event": "anchor_renewed", "fields": {"found": difference}})

    def _log_failure(self, error: OSError) -> None:
        """Log that the anchor could not be written, once for each cause."""
        if self._anchor_failed != str(error):
            self._anchor_failed = str(error)
            extra = {"event": "anchor_not_written", "fields": {"error": str(error)}}
            _log.error("the anchor could not be written: %s", error, extra=extra)

    def _require_files(self) -> None:
        for file, identity in zip(self._files, self._identities, strict=True):
            if _identity(file) != identity:
                problem = "ROLLED_BACK" if self._is_older(file) else "SWAPPED"
                message = f"{file}: was replaced while the server ran; find out by whom, then start it again"
                raise StateUnusable(message, problem)

    def _require_pages(self) -> None:
        if self._meta_ids() != self._ids:
            self._refuse_overwritten()

    def _is_older(self, file: Path) -> bool:
        """Return True if the file that is now under the data file's name holds fewer commits."""
        if self._ids is None or file.name != layout.DATA_FILE:
            return False
        commit = last_commit(file)
        return commit is not None and commit < max(self._ids)

    def _refuse_overwritten(self) -> None:
        message = (
            f"{self._files[0]}: was overwritten while the server ran; find out by whom, then restore the "
            "state from a backup"
        )
        raise StateUnusable(message, "ROLLED_BACK")

    def _meta_ids(self) -> tuple[int, int] | None:
        return None if self._source.commit_id is None else self._source.commit_id.numbers


def identities(state_dir: Path) -> Identities:
    """Return the identities of the data and the lock file now, for :class:`Continuity`."""
    return tuple(_identity(state_dir / name) for name in _NAMES)


def _identity(file: Path) -> tuple[int, int]:
    """Return device and inode of a file; zeros if there is none."""
    try:
        status = os.stat(file)
    except OSError:
        return _NONE
    return status.st_dev, status.st_ino
