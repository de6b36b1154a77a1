"""The protocols that the rest of the package knows the state by."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Protocol

from ...crypto.issuer_key import KeyRecord
from ...model.approval import ApprovalRecord
from ...model.change import Change, ChangeOutcome
from ...model.costs import Ledger, Permit, SessionCounts
from ...model.log_records import Head
from ...model.session import Session


class Rows(Protocol):
    """What ``apply`` may read: the state that the changes before it made."""

    def head(self) -> Head:
        """Return where the log stands."""
        ...

    def session(self, session_id: bytes) -> Session | None:
        """Return a session, without its lease deadline."""
        ...

    def session_ids(self) -> Iterator[bytes]:
        """Yield the ids of all sessions, ascending."""
        ...

    def is_revoked(self, session_id: bytes, block_id: bytes) -> bool:
        """Whether a block of a session is revoked."""
        ...

    def key(self, key_id: bytes) -> KeyRecord | None:
        """Return an issuer key."""
        ...

    def key_count(self) -> int:
        """Return how many issuer keys there are."""
        ...

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a row's value."""
        ...

    def uses(self, session_id: bytes, block_id: bytes, scope: int) -> int:
        """Return how often a scope of a block was used."""
        ...

    def ledger(self, session_id: bytes, ledger: bytes) -> Ledger:
        """Return a ledger of a session; an empty one if nothing was taken from it yet."""
        ...

    def approval_used(self, session_id: bytes, approval_id: bytes) -> bool:
        """Whether an approval was used up by a call."""
        ...

    def counts(self, session_id: bytes) -> SessionCounts:
        """Return what a session has open."""
        ...

    def permit(self, session_id: bytes, permit_id: bytes) -> Permit | None:
        """Return an open permit."""
        ...

    def approval(self, session_id: bytes, approval_id: bytes) -> ApprovalRecord | None:
        """Return an approval that was asked for, of any status."""
        ...


class ChangeLog(Protocol):
    """Takes changes, orders them, and answers each once it is durable."""

    def submit(self, change: Change) -> Future[ChangeOutcome]:
        """Queue a change; the future resolves after the commit that holds it."""
        ...

    def keep_alive(self, session_id: bytes) -> Future[int]:
        """Renew a lease; the future gives the durable deadline in ms."""
        ...


class ReadTransaction(Protocol):
    """One consistent view of all tables."""

    def id(self) -> int:
        """Return the number of the last commit that it sees."""
        ...

    def get(self, key: bytes, *, db: object) -> bytes | None:
        """Return a row's value."""
        ...

    def abort(self) -> None:
        """End it."""
        ...


class ViewSource(Protocol):
    """What the kernel's view reads from. The tables are handles for ``get(db=...)``.

    It may also have ``commit_id``, a ``_fast.check.commit_id.CommitId`` or None. With one, checks open no
    transaction while nothing is committed. It may have ``files_unchanged() -> bool``, which checks call every
    100 ms; once it returns False, every check denies.
    """

    sessions: object
    leases: object
    revoked: object
    keys: object
    meta: object
    brake: object

    def begin(self) -> ReadTransaction:
        """Start a read."""
        ...


class ChangeFeed(Protocol):
    """What a follower reads: the changes behind a seq, in order."""

    def head(self) -> Head:
        """Return where the log stands."""
        ...

    def changes(self, since_seq: int, limit: int) -> list[tuple[int, Change]]:
        """Return the changes that follow ``since_seq``; raises Rejected COMPACTED if some are gone."""
        ...
