"""Calls about evidence: receipts of ends, and the verifiers that they cover."""

from __future__ import annotations

from ...model.receipt import SignedReceipt
from .._requests import evidence as evidence_calls
from .._results import RegisteredVerifier
from .calls import AsyncCalls


class AsyncEvidenceCalls(AsyncCalls):
    """Calls of EvidenceService."""

    async def get_receipt(self, session_id: bytes) -> SignedReceipt:
        """Return the receipt of an ended session, made by the server's present knowledge.

        Raises Rejected WRONG_STATUS for a session that has not ended.
        """
        return await self._run(evidence_calls.get_receipt(session_id))

    async def list_verifiers(self) -> list[RegisteredVerifier]:
        """Return the registered verifiers, each with its state against the last end."""
        return await self._run(evidence_calls.list_verifiers())
