"""Reads what a session's calls have cost, and what it has open, from the rows of ``counter_keys``."""

from __future__ import annotations

from ...errors import SessauthError, StateUnusable
from ...model.approval import ApprovalRecord
from ...model.costs import Ledger, Permit, SessionCounts
from .. import layout
from . import counter_keys


def corrupt(what: str, error: object) -> StateUnusable:
    """Return the error for a row that can't be what this program wrote."""
    return StateUnusable(f"{what} can't be read ({error}); restore the state from a backup", "CORRUPT")


class CostRows:
    """Decodes the rows; ``get`` is the subclass's. A row that can't be read raises StateUnusable."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a row's value."""
        raise NotImplementedError

    def uses(self, session_id: bytes, block_id: bytes, scope: int) -> int:
        """Return how often a scope of a block was used."""
        return int.from_bytes(
            self.get(layout.COUNTERS, counter_keys.uses_key(session_id, block_id, scope)) or b"", "big"
        )

    def ledger(self, session_id: bytes, ledger: bytes) -> Ledger:
        """Return a ledger of a session; an empty one if nothing was taken from it yet."""
        data = self.get(layout.COUNTERS, counter_keys.ledger_key(session_id, ledger))
        if data is None:
            return Ledger()
        try:
            return Ledger.decode(data)
        except (ValueError, SessauthError) as error:
            raise corrupt(f"ledger {ledger.hex()} of session {session_id.hex()}", error) from error

    def approval_used(self, session_id: bytes, approval_id: bytes) -> bool:
        """Whether an approval was used up by a call."""
        return self.get(layout.COUNTERS, counter_keys.used_approval_key(session_id, approval_id)) is not None

    def counts(self, session_id: bytes) -> SessionCounts:
        """Return what a session has open."""
        data = self.get(layout.COUNTERS, counter_keys.counts_key(session_id))
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
        """Return an approval that was asked for, of any status."""
        data = self.get(layout.APPROVALS, session_id + approval_id)
        if data is None:
            return None
        try:
            return ApprovalRecord.decode(data)
        except (ValueError, SessauthError) as error:
            raise corrupt(f"approval {approval_id.hex()} of session {session_id.hex()}", error) from error

    def asked(
        self, session_id: bytes, block_id: bytes, block: int, scope: int, epoch: int, request_digest: bytes
    ) -> ApprovalRecord | None:
        """Return the approval that was last asked for a call: PENDING, GRANTED or DENIED, perhaps expired."""
        key = counter_keys.asked_key(session_id, block_id, block, scope, epoch, request_digest)
        approval_id = self.get(layout.COUNTERS, key)
        return None if approval_id is None else self.approval(session_id, approval_id)
