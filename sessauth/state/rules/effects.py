"""Effects of a change: puts and deletes by table, computed before anything is written.

The protocols of the rows that ``apply`` reads, and of the sources that sessions are read from, are here too,
and two kinds of rows.

**Costs** of a session's calls: a counter's key is the session id, one byte for the kind, and the thing
counted.

**Incarnations**: a new one ends all sessions that have not ended, by one row. A session's row states the
revision of the last change to it. The head states the revision at which the incarnation began. A row of an
earlier revision whose session has not ended is read as ended by the new incarnation. The next write of the
session stores that.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from ..._fast._check import WireError, replaced
from ...crypto.keys import KeyRecord
from ...errors import SessauthError, StateUnusable
from ...model.approval import ApprovalRecord
from ...model.change import Head, IncarnationRecord, Ledger, Permit, SessionCounts
from ...model.session import EndCause, Session, SessionStatus
from .. import layout


@dataclass(frozen=True, slots=True)
class Put:
    """Write a row."""

    table: str
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a row, if it is there."""

    table: str
    key: bytes


@dataclass(frozen=True, slots=True)
class DeletePrefix:
    """Remove all rows whose key begins with ``prefix``."""

    table: str
    prefix: bytes


@dataclass(frozen=True, slots=True)
class Effect:
    """Result of the rule of one kind.

    ``keys_changed`` increments the head's keys generation. ``incarnation`` and ``clock_floor_ms`` replace
    those of the head, unless empty or negative. ``permit_id`` and ``permit_deadline_ms`` describe an issued
    permit. ``session`` is the session whose state changed, for followers, or None. ``reader_format`` is the
    least format that a reader must know from now on, or 0.
    """

    writes: Sequence[Put | Delete | DeletePrefix]
    epoch: int = 0
    keys_changed: bool = False
    incarnation: bytes = b""
    clock_floor_ms: int = -1
    permit_id: bytes = b""
    permit_deadline_ms: int = 0
    session: Session | None = None
    reader_format: int = 0


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

    def get(self, key: bytes, default: None, db: object) -> bytes | None:
        """Return a row's value."""
        ...

    def abort(self) -> None:
        """End the transaction."""
        ...


class SessionSource(Protocol):
    """A source of the kernel's view, as far as sessions are read from it."""

    @property
    def sessions(self) -> object:
        """The handle of the table of sessions, for ``get``."""
        ...

    def begin(self) -> ReadTransaction:
        """Start a read."""
        ...


T = TypeVar("T")
_REQUEST_LABEL = b"sessauth/state/asked/v1\x00"

# Uses of a scope of a block: 8 bytes, big-endian.
USES: Final = b"u"
# A LedgerRecord.
LEDGER: Final = b"l"
# A used approval: the revision, 8 bytes. The row stays as long as the session's.
USED_APPROVAL: Final = b"a"
# The session's SessionCounts.
COUNTS: Final = b"c"
# The id of the approval that was requested for a call: one at a time for the same call at the same epoch.
REQUESTED: Final = b"q"

KINDS: Final = (USES, LEDGER, USED_APPROVAL, COUNTS, REQUESTED)


def uses_key(session_id: bytes, block_id: bytes, scope: int) -> bytes:
    """Return the key of a scope's count."""
    return session_id + USES + block_id + scope.to_bytes(4, "big")


def ledger_key(session_id: bytes, ledger: bytes) -> bytes:
    """Return the key of a ledger."""
    return session_id + LEDGER + ledger


def used_approval_key(session_id: bytes, approval_id: bytes) -> bytes:
    """Return the key of a used approval."""
    return session_id + USED_APPROVAL + approval_id


def counts_key(session_id: bytes) -> bytes:
    """Return the key of a session's SessionCounts."""
    return session_id + COUNTS


def request_key(
    session_id: bytes, block_id: bytes, block: int, scope: int, epoch: int, request_digest: bytes
) -> bytes:
    """Return the key of the approval that was requested for a call.

    ``block_id`` is the id of the chain's last block. ``block`` and ``scope`` are the indices of the scope
    that needs the approval.
    """
    place = block.to_bytes(4, "big") + scope.to_bytes(4, "big") + epoch.to_bytes(8, "big")
    call = hashlib.blake2b(_REQUEST_LABEL + block_id + place + request_digest, digest_size=32).digest()
    return session_id + REQUESTED + call


def request_key_of(record: ApprovalRecord) -> bytes:
    """Return the :func:`request_key` of an approval's record."""
    return request_key(
        record.session_id, record.block_id, record.block, record.scope, record.epoch, record.request_digest
    )


def corrupt(what: str, error: object) -> StateUnusable:
    """Return the error for a row that this program can't have written."""
    return StateUnusable(f"{what} can't be read ({error}); restore the state from a backup", "CORRUPT")


class CostRows(ABC):
    """Decodes the rows; the subclass implements ``get``. Raises StateUnusable CORRUPT at a damaged row."""

    @abstractmethod
    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a row's value."""

    def decoded(
        self, table: str, key: bytes, decode: Callable[[bytes], T], name: str, *ids: bytes
    ) -> T | None:
        """Return a row as ``decode`` reads it; ``name``, with the ``ids`` in hex, names it in the error."""
        data = self.get(table, key)
        if data is None:
            return None
        try:
            return decode(data)
        except (ValueError, SessauthError) as error:
            raise corrupt(name % tuple(each.hex() for each in ids), error) from error

    def uses(self, session_id: bytes, block_id: bytes, scope: int) -> int:
        """Return the number of uses of a scope of a block."""
        return int.from_bytes(self.get(layout.COUNTERS, uses_key(session_id, block_id, scope)) or b"", "big")

    def ledger(self, session_id: bytes, ledger: bytes) -> Ledger:
        """Return a ledger of a session, an empty one if there is no row."""
        key, name = ledger_key(session_id, ledger), "ledger %s of session %s"
        return self.decoded(layout.COUNTERS, key, Ledger.decode, name, ledger, session_id) or Ledger()

    def approval_used(self, session_id: bytes, approval_id: bytes) -> bool:
        """Return True if a call used the approval."""
        return self.get(layout.COUNTERS, used_approval_key(session_id, approval_id)) is not None

    def counts(self, session_id: bytes) -> SessionCounts:
        """Return the open permits and approvals of a session, and its number of counters."""
        key, name = counts_key(session_id), "the permits of session %s"
        return self.decoded(layout.COUNTERS, key, SessionCounts.decode, name, session_id) or SessionCounts()

    def permit(self, session_id: bytes, permit_id: bytes) -> Permit | None:
        """Return an open permit."""
        key, name = session_id + permit_id, "permit %s of session %s"
        return self.decoded(layout.PERMITS, key, Permit.decode, name, permit_id, session_id)

    def approval(self, session_id: bytes, approval_id: bytes) -> ApprovalRecord | None:
        """Return a requested approval of any status."""
        key, name = session_id + approval_id, "approval %s of session %s"
        return self.decoded(layout.APPROVALS, key, ApprovalRecord.decode, name, approval_id, session_id)

    def requested_approval(
        self, session_id: bytes, block_id: bytes, block: int, scope: int, epoch: int, request_digest: bytes
    ) -> ApprovalRecord | None:
        """Return the approval last requested for a call: PENDING, GRANTED or DENIED, perhaps expired."""
        key = request_key(session_id, block_id, block, scope, epoch, request_digest)
        approval_id = self.get(layout.COUNTERS, key)
        return None if approval_id is None else self.approval(session_id, approval_id)


# Followed by the revision at which it began, 8 bytes.
PREFIX: Final = b"incarnation/"


class IncarnationRows(Protocol):
    """Source of the rows."""

    def head(self) -> Head:
        """Return the head of the log."""
        ...

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a row's value."""
        ...


def key_of(revision: int) -> bytes:
    """Return the key of the incarnation that began at a revision."""
    return PREFIX + revision.to_bytes(8, "big")


def record(rows: IncarnationRows, revision: int) -> IncarnationRecord:
    """Return an incarnation's row; raises StateUnusable CORRUPT if it is missing or wrong."""
    data = rows.get(layout.META, key_of(revision))
    try:
        if data is None:
            raise ValueError("its row is missing")
        incarnation = IncarnationRecord.decode(data)
        if incarnation.previous_revision >= revision:
            raise ValueError("it follows a later one")
        return incarnation
    except (WireError, ValueError) as error:
        raise corrupt(f"the incarnation that began at revision {revision}", error) from error


def current_session(rows: IncarnationRows, session: Session) -> Session:
    """Return a decoded session in its current state: ended, if an incarnation began after its row."""
    began = rows.head().incarnation_revision
    if session.revision >= began or session.status is SessionStatus.ENDED:
        return session
    incarnation = record(rows, began)
    while incarnation.previous_revision > session.revision:
        began = incarnation.previous_revision
        incarnation = record(rows, began)
    return replaced(
        session,
        status=SessionStatus.ENDED,
        epoch=session.epoch + 1,
        ended_at_ms=incarnation.at_ms,
        end_cause=EndCause.RESTORED,
        reason=incarnation.reason,
        revision=began,
    )


def verify_incarnations(rows: IncarnationRows) -> None:
    """Read the rows of all incarnations; raises StateUnusable or ValueError at a wrong one."""
    began = rows.head().incarnation_revision
    if began > rows.head().revision:
        raise ValueError("the incarnation begins after the head")
    while began:
        began = record(rows, began).previous_revision
