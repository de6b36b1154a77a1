"""Rows of the costs of a session's calls: the keys of its counters, and what is stored under them.

A counter's key is the session id, one byte for the kind, and what is counted.
"""

from __future__ import annotations

import hashlib
from typing import Final

from ...errors import SessauthError, StateUnusable
from ...model.approval import ApprovalRecord
from ...model.costs import Ledger, Permit, SessionCounts
from .. import layout

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


class CostRows:
    """Decodes the rows; the subclass implements ``get``. Raises StateUnusable CORRUPT at a damaged row."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a row's value."""
        raise NotImplementedError

    def uses(self, session_id: bytes, block_id: bytes, scope: int) -> int:
        """Return the number of uses of a scope of a block."""
        return int.from_bytes(self.get(layout.COUNTERS, uses_key(session_id, block_id, scope)) or b"", "big")

    def ledger(self, session_id: bytes, ledger: bytes) -> Ledger:
        """Return a ledger of a session, an empty one if there is no row."""
        data = self.get(layout.COUNTERS, ledger_key(session_id, ledger))
        if data is None:
            return Ledger()
        try:
            return Ledger.decode(data)
        except (ValueError, SessauthError) as error:
            raise corrupt(f"ledger {ledger.hex()} of session {session_id.hex()}", error) from error

    def approval_used(self, session_id: bytes, approval_id: bytes) -> bool:
        """Return True if a call used the approval."""
        return self.get(layout.COUNTERS, used_approval_key(session_id, approval_id)) is not None

    def counts(self, session_id: bytes) -> SessionCounts:
        """Return the open permits and approvals of a session, and its number of counters."""
        data = self.get(layout.COUNTERS, counts_key(session_id))
        if data is None:
            return SessionCounts()
        try:
            return SessionCounts.decode(data)
        except ValueError as error:
            raise corrupt(f"what session {session_id.hex()} has open", error) from error

    def permit(self, session_id: bytes, permit_id: bytes) -> Permit | None:
        """Return an open permit."""
        data = self.get(layout.PERMITS, session_id + permit_id)
        if data is None:
            return None
        try:
            return Permit.decode(data)
        except (ValueError, SessauthError) as error:
            raise corrupt(f"permit {permit_id.hex()} of session {session_id.hex()}", error) from error

    def approval(self, session_id: bytes, approval_id: bytes) -> ApprovalRecord | None:
        """Return a requested approval of any status."""
        data = self.get(layout.APPROVALS, session_id + approval_id)
        if data is None:
            return None
        try:
            return ApprovalRecord.decode(data)
        except (ValueError, SessauthError) as error:
            raise corrupt(f"approval {approval_id.hex()} of session {session_id.hex()}", error) from error

    def requested_approval(
        self, session_id: bytes, block_id: bytes, block: int, scope: int, epoch: int, request_digest: bytes
    ) -> ApprovalRecord | None:
        """Return the approval last requested for a call: PENDING, GRANTED or DENIED, perhaps expired."""
        key = request_key(session_id, block_id, block, scope, epoch, request_digest)
        approval_id = self.get(layout.COUNTERS, key)
        return None if approval_id is None else self.approval(session_id, approval_id)
