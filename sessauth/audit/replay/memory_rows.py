"""Rows of a state in memory: recorded changes are applied to them, and the kernel's view reads them."""

from __future__ import annotations

from collections.abc import Iterator

from ...crypto.issuer_key import KeyRecord
from ...model.log_records import Head
from ...model.session import Session
from ...state import layout
from ...state.rules.effects import CostRows, Delete, DeletePrefix, Put, current_session

# Every key begins with the id of its session, or with as many other bytes.
_GROUP_BYTES = 16


class MemoryRows(CostRows):
    """Tables as dicts, for ``state.rules.apply`` and as a source of the kernel's view.

    A renewal of a lease is no change: ``leases`` has the deadline that a session was opened with.
    """

    def __init__(self, head: Head) -> None:
        """Start empty at a head."""
        self.current = head
        self.sessions, self.leases, self.revoked = layout.SESSIONS, layout.LEASES, layout.REVOKED
        self.keys, self.meta = layout.KEYS, layout.META
        self.brake = bytes(64)
        self._identity = 1
        self._tables: dict[str, dict[bytes, dict[bytes, bytes]]] = {name: {} for name in layout.TABLES}

    def head(self) -> Head:
        """Return the head of the log."""
        return self.current

    def move(self, head: Head) -> None:
        """Set the head."""
        self.current = head
        self._identity += 1

    def forget(self) -> None:
        """Drop every row. A view reads all of its rows again."""
        for table in self._tables.values():
            table.clear()
        self._identity += 1

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a row's value."""
        if table == layout.META and key == layout.HEAD_KEY:
            return self.current.encode()
        return self._tables[table].get(key[:_GROUP_BYTES], {}).get(key)

    def session(self, session_id: bytes) -> Session | None:
        """Return a session."""
        data = self.get(layout.SESSIONS, session_id)
        return None if data is None else current_session(self, Session.decode(data))

    def session_ids(self) -> Iterator[bytes]:
        """Yield the ids of all sessions, ascending."""
        yield from sorted(self._tables[layout.SESSIONS])

    def is_revoked(self, session_id: bytes, block_id: bytes) -> bool:
        """Return True if a block is revoked."""
        return self.get(layout.REVOKED, session_id + block_id) is not None

    def key(self, key_id: bytes) -> KeyRecord | None:
        """Return an issuer key."""
        data = self.get(layout.KEYS, key_id)
        return None if data is None else KeyRecord.decode(data)

    def key_count(self) -> int:
        """Return how many issuer keys there are."""
        return sum(map(len, self._tables[layout.KEYS].values()))

    def perform(self, writes: tuple[Put | Delete | DeletePrefix, ...]) -> None:
        """Perform the writes of a change."""
        for write in writes:
            table = self._tables[write.table]
            if isinstance(write, Put):
                table.setdefault(write.key[:_GROUP_BYTES], {})[write.key] = write.value
            elif isinstance(write, Delete):
                self._drop(table, write.key)
            else:
                for key in list(table.get(write.prefix[:_GROUP_BYTES], {})):
                    if key.startswith(write.prefix):
                        self._drop(table, key)

    @staticmethod
    def _drop(table: dict[bytes, dict[bytes, bytes]], key: bytes) -> None:
        group = table.get(key[:_GROUP_BYTES], {})
        group.pop(key, None)
        if not group:
            table.pop(key[:_GROUP_BYTES], None)

    def begin(self) -> MemoryTransaction:
        """Start a read."""
        return MemoryTransaction(self, self._identity)


class MemoryTransaction:
    """A read: over before the next change is applied."""

    __slots__ = ("_identity", "_rows")

    def __init__(self, rows: MemoryRows, identity: int) -> None:
        """Read rows under the number of the last write."""
        self._rows = rows
        self._identity = identity

    def id(self) -> int:
        """Return that number."""
        return self._identity

    def get(self, key: bytes, *, db: str) -> bytes | None:
        """Return a row's value; the tables' handles are their names."""
        return self._rows.get(db, key)

    def abort(self) -> None:
        """Do nothing: there is nothing to release."""
