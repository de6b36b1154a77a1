"""That the file which is written is the one that was written before, and is noted in the anchor.

The writer holds its data file by a map. Another file under its name, or other bytes in it, would be written
on as if nothing had been: what was ended would live again. So each commit is preceded by a look at the
name (in a busy time every 20 ms) and at LMDB's two meta pages, and followed by another at the pages.

The anchor is looked at with the names. What it has to say the writer knows, so one that was removed, cut or
replaced is written anew, and logged: who puts back an older data file would have to lose the anchor too.
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
# Asking for a name's file is a system call; the pages are mapped.
NAMES_NS: Final = 20_000_000
_NAMES: Final = (layout.DATA_FILE, layout.LOCK_FILE)
_NONE: Final = (0, 0)
Identities = tuple[tuple[int, int], ...]


class Continuity:
    """Looks at the data file around each commit, and writes the anchor. One thread commits; any may look."""

    def __init__(
        self, state_dir: Path, source: LmdbSource, anchor: Anchor, found: Identities, *, behind: bool
    ) -> None:
        """Take the file as it is now. ``behind``: the state is older than its anchor says.

        ``found``: whose the names were before the source opened them; a file that it made itself has none.
        Raises StateUnusable if one was replaced since.
        """
        self._files = tuple(state_dir / name for name in _NAMES)
        self._source = source
        self._anchor = anchor
        self._behind = behind
        made = identities(state_dir)
        self._identities = tuple(old if old != _NONE else new for old, new in zip(found, made, strict=True))
        self._ids = self._meta_ids()
        self._hold_names()
        self._head = source.head()
        self._committing = threading.Lock()
        self._named_ns = 0
        self._anchor_failed = ""

    @property
    def anchored(self) -> Anchored | None:
        """Return what the anchor says."""
        return self._anchor.anchored

    def begin(self) -> None:
        """Look before a group is judged; :meth:`end` has to follow. Raises as :meth:`hold` does."""
        self._committing.acquire()
        now_ns = time.monotonic_ns()
        if now_ns - self._named_ns > NAMES_NS:
            self._hold_names()
            self._hold_anchor()
            self._named_ns = now_ns
        self._hold_pages()

    def end(self) -> None:
        """Let others look again."""
        self._committing.release()

    def hold(self) -> None:
        """Raise StateUnusable if the file is another one, ROLLED_BACK if it is an older one.

        While a group is written there is nothing to see: the writer itself looks then.
        """
        if not self._committing.acquire(blocking=False):
            return
        try:
            self._hold_names()
            self._hold_pages()
            self._hold_anchor()
        finally:
            self._committing.release()

    def announce(self, head: Head) -> None:
        """Note that the next commit begins another incarnation, if it does. Raises OSError."""
        if (head.cluster_id, head.incarnation) != (self._head.cluster_id, self._head.incarnation):
            self._anchor.announce(head.cluster_id, head.incarnation)

    def committed(self, head: Head, commit: int) -> None:
        """Look again, then note what was left. Raises StateUnusable ROLLED_BACK."""
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
            # What is durable is acknowledged: a state may be ahead of its anchor. The next look tries again.
            self._say_failed(error)

    def judged(self, head: Head) -> None:
        """Hold that the head which a group read is the one that the last one left."""
        if head != self._head:
            self._refuse_overwritten()

    def close(self) -> None:
        """Hold the anchor once more, make it durable and close it. Nobody looks any more."""
        self._committing.acquire()
        self._hold_anchor()
        try:
            self._anchor.flush()
        except OSError as error:
            self._say_failed(error)
        self._anchor.close()

    def _hold_anchor(self) -> None:
        """Write the anchor anew if it is not what was written. The state is safe without: this only logs."""
        try:
            found = self._anchor.what_differs()
            if not found:
                return
            self._anchor.renew()
        except OSError as error:
            self._say_failed(error)
            return
        self._anchor_failed = ""
        words = "the anchor was %s while the server ran, and was written anew; find out by whom"
        _log.warning(words, found, extra={"event": "anchor_renewed", "fields": {"found": found}})

    def _say_failed(self, error: OSError) -> None:
        """Log, once a cause, that the anchor could not be written."""
        if self._anchor_failed != str(error):
            self._anchor_failed = str(error)
            extra = {"event": "anchor_not_written", "fields": {"error": str(error)}}
            _log.error("the anchor could not be written: %s", error, extra=extra)

    def _hold_names(self) -> None:
        for file, identity in zip(self._files, self._identities, strict=True):
            if _identity(file) != identity:
                problem = "ROLLED_BACK" if self._is_older(file) else "SWAPPED"
                message = f"{file}: was replaced while the server ran; find out by whom, then start it again"
                raise StateUnusable(message, problem)

    def _hold_pages(self) -> None:
        if self._meta_ids() != self._ids:
            self._refuse_overwritten()

    def _is_older(self, file: Path) -> bool:
        """Return whether the file under the data file's name now was committed to less often."""
        if self._ids is None or file.name != layout.DATA_FILE:
            return False
        found = last_commit(file)
        return found is not None and found < max(self._ids)

    def _refuse_overwritten(self) -> None:
        message = (
            f"{self._files[0]}: was overwritten while the server ran; find out by whom, then restore the "
            "state from a backup"
        )
        raise StateUnusable(message, "ROLLED_BACK")

    def _meta_ids(self) -> tuple[int, int] | None:
        return None if self._source.commit_id is None else self._source.commit_id.numbers


def identities(state_dir: Path) -> Identities:
    """Return which files data and lock are now, for :class:`Continuity`."""
    return tuple(_identity(state_dir / name) for name in _NAMES)


def _identity(file: Path) -> tuple[int, int]:
    """Return device and inode of a file; zeros if there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return _NONE
    return found.st_dev, found.st_ino
