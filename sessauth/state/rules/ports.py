"""Protocols of the rows that ``apply`` reads and of the sources that sessions are read from."""

from __future__ import annotations

from typing import Protocol

from ...crypto.issuer_key import KeyRecord
from ...model.approval import ApprovalRecord
from ...model.costs import Ledger, Permit, SessionCounts
from ...model.log_records import Head
from ...model.session import Session


class Rows(Protocol):
    """The state after the changes so far, as ``apply`` reads it."""

    def head(self) -> Head:
        """Return the head of the log."""
        ...

    def session(self, session_id: bytes) -> Session | None:
        """Return a session, without its lease deadline."""
        ...

    def is_revoked(self, session_id: bytes, block_id: bytes) -> bool:
        """Return True if a block of a session is revoked."""
        ...

    def key(self, key_id: bytes) -> KeyRecord | None:
        """Return an issuer key."""
        ...

    def key_count(self) -> int:
        """Return the number of issuer keys."""
        ...

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a row's value."""
        ...

    def uses(self, session_id: bytes, block_id: bytes, scope: int) -> int:
        """Return the number of uses of a scope of a block."""
        ...

    def ledger(self, session_id: bytes, ledger: bytes) -> Ledger:
        """Return a ledger of a session, an empty one if there is no row."""
        ...

    def approval_used(self, session_id: bytes, approval_id: bytes) -> bool:
        """Return True if a call used the approval."""
        ...

    def counts(self, session_id: bytes) -> SessionCounts:
        """Return the open permits and approvals of a session, and its number of counters."""
        ...

    def permit(self, session_id: bytes, permit_id: bytes) -> Permit | None:
        """Return an open permit."""
        ...

    def approval(self, session_id: bytes, approval_id: bytes) -> ApprovalRecord | None:
        """Return a requested approval of any status."""
        ...


class ReadTransaction(Protocol):
    """One consistent view of all tables."""

    def get(self, key: bytes, *, db: object) -> bytes | None:
        """Return a row's value."""
        ...

    def abort(self) -> None:
        """End the transaction."""
        ...


class SessionSource(Protocol):
    """A source of the kernel's view, as far as sessions are read from it."""

    @property
    def sessions(self) -> object:
        """The handle of the table of sessions, for ``get(db=...)``."""
        ...

    def begin(self) -> ReadTransaction:
        """Start a read."""
        ...
