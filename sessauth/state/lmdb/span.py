"""A range of keys of the tables whose keys begin with a session id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import lmdb

# The most that follows a session id in a key.
MAX_KEY_BYTES: Final = 64
END: Final = b"\xff" * (16 + MAX_KEY_BYTES)


class Span(NamedTuple):
    """The keys after ``after`` (empty: from the first one on), up to ``until``."""

    after: bytes
    until: bytes

    def keys(self, txn: lmdb.Transaction, handle: Any) -> Iterator[bytes]:
        """Yield a table's keys in the range, ascending."""
        return (key for key, _ in self.items(txn, handle))

    def items(self, txn: lmdb.Transaction, handle: Any) -> Iterator[tuple[bytes, bytes]]:
        """Yield a table's keys in the range, ascending, with their values."""
        with txn.cursor(db=handle) as cursor:
            more = cursor.set_range(self.after + b"\0") if self.after else cursor.first()
            while more:
                key = bytes(cursor.key())
                if key > self.until:
                    return
                yield key, bytes(cursor.value())
                more = cursor.next()


ALL: Final = Span(b"", END)
