"""The feed: the changes of a local log in order, for followers, audit and replay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..change import Change, Rejection
from ..errors import Rejected, StateUnusable
from ..record import Head
from . import layout
from .lmdb_env import Source
from .rows import TxnRows

_MOST = 1_000


class LocalFeed:
    """Reads the log through a source, one consistent read a call."""

    def __init__(self, source: Source) -> None:
        """Take the reader's or the writer's source."""
        self._source = source

    def head(self) -> Head:
        """Return where the log stands: what a snapshot is taken at."""
        with self._rows() as rows:
            return rows.head()

    def changes(self, since_seq: int, limit: int = _MOST) -> list[tuple[int, Change]]:
        """Return up to ``limit`` changes that follow ``since_seq``, dense and ascending.

        Raises Rejected COMPACTED if some of them are gone (take a snapshot instead), Rejected INVALID for
        a seq that the log has not reached (it is another log's), StateUnusable CORRUPT if one is missing.
        """
        with self._rows() as rows:
            head = rows.head()
            if not 0 <= since_seq <= head.seq:
                raise Rejected(
                    Rejection.INVALID.value, f"since_seq: {since_seq}, but the log is at {head.seq}"
                )
            anchor = rows.get(layout.META, layout.ANCHOR_KEY) or bytes(8)
            if since_seq < int.from_bytes(anchor[:8], "big"):
                raise Rejected(Rejection.COMPACTED.value, f"since_seq: changes behind {since_seq} are gone")
            found: list[tuple[int, Change]] = []
            with rows.txn.cursor(db=rows.tables[layout.CHANGES]) as cursor:
                there = cursor.set_range((since_seq + 1).to_bytes(8, "big"))
                while there and len(found) < min(limit, _MOST):
                    seq = int.from_bytes(cursor.key(), "big")
                    if seq != since_seq + len(found) + 1:
                        raise StateUnusable(f"change {since_seq + len(found) + 1} is missing", "CORRUPT")
                    found.append((seq, Change.decode(bytes(cursor.value()))))
                    there = cursor.next()
            return found

    @contextmanager
    def _rows(self) -> Iterator[TxnRows]:
        txn = self._source.reading()
        try:
            yield TxnRows(txn, self._source.tables)
        finally:
            txn.abort()
