"""Rows of the costs of a session's calls: the keys of its counters, and the values stored under them.

A counter's key is the session id, one byte for the kind, and the thing counted.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, TypeVar

from ...errors import SessauthError, StateUnusable
from ...model.approval import ApprovalRecord
from ...model.costs import Ledger, Permit, SessionCounts
from .. import layout

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
