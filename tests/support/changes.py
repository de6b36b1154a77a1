"""Builders of changes, and rows in memory for judging them without a disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from sessauth.crypto.keys import KeyRecord
from sessauth.model.change import Change, ChangeOutcome, Head, open_session
from sessauth.model.session import Session
from sessauth.scopes.scope import Scope
from sessauth.state import layout
from sessauth.state.rules.apply import apply
from sessauth.state.rules.effects import CostRows, Delete, Put, current_session

NOW = 1_800_000_000_000
HOUR = 3_600_000


def scopes(*texts: str) -> list[dict[str, Any]]:
    """Return scope records from their texts."""
    return [dict(Scope.parse(text).to_record()) for text in texts]


def opening(change_id: str, session_id: bytes = b"", ceiling: str = "read:files/**", **given: Any) -> Change:
    """Return a change that opens a session for an hour, with what is given in place of that."""
    given.setdefault("subject", "agent")
    if "expires_at_ms" not in given:
        given.setdefault("ttl_ms", HOUR)
    return open_session(change_id, session_id or os.urandom(16), scopes(ceiling), **given)


class MemoryRows(CostRows):
    """The tables as dicts; applies changes the way the log does."""

    def __init__(self) -> None:
        """Start empty, at revision 0."""
        self.tables: dict[str, dict[bytes, bytes]] = {name: {} for name in layout.TABLES}
        self.current = Head(1, 1, b"c" * 16, b"i" * 16, digest=bytes(32))

    def head(self) -> Head:
        """Return where the log stands."""
        return self.current

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a row's value."""
        return self.tables[table].get(key)

    def session(self, session_id: bytes) -> Session | None:
        """Return a session."""
        data = self.tables[layout.SESSIONS].get(session_id)
        return None if data is None else current_session(self, Session.decode(data))

    def session_ids(self) -> Iterator[bytes]:
        """Yield the ids of all sessions."""
        yield from sorted(self.tables[layout.SESSIONS])

    def is_revoked(self, session_id: bytes, block_id: bytes) -> bool:
        """Return True if a block is revoked."""
        return session_id + block_id in self.tables[layout.REVOKED]

    def key(self, key_id: bytes) -> KeyRecord | None:
        """Return an issuer key."""
        data = self.tables[layout.KEYS].get(key_id)
        return None if data is None else KeyRecord.decode(data)

    def key_count(self) -> int:
        """Return how many issuer keys there are."""
        return len(self.tables[layout.KEYS])

    def do(self, change: Change, at_ms: int = NOW) -> ChangeOutcome:
        """Apply a change at a time, write what it writes, and return its outcome."""
        applied = apply(self, change.stamped(at_ms))
        for write in applied.writes:
            table = self.tables[write.table]
            if isinstance(write, Put):
                table[write.key] = write.value
            elif isinstance(write, Delete):
                table.pop(write.key, None)
            else:
                for key in [key for key in table if key.startswith(write.prefix)]:
                    del table[key]
        self.current = applied.head
        return applied.outcome
