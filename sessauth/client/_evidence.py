"""What both clients can do about ends and what proves them, blocking and awaited."""

from __future__ import annotations

from typing import TypeVar

from ..model.receipt import SignedReceipt
from ..model.registration import Registration
from ._requests import evidence as evidence_calls
from ._results import EndedSession, RegisteredVerifier
from ._transport import RpcRequest

T = TypeVar("T")


class EvidenceCalls:
    """The blocking calls; a client mixes them in."""

    def _run(self, call: RpcRequest[T]) -> T:
        raise NotImplementedError

    def end(self, session_id: bytes, reason: str = "", *, request_id: str = "") -> EndedSession:
        """End a session for good, with every token and every child of it.

        Its ``receipt`` says who can't allow a token of it any more; ``receipt.verify`` holds it to the
        service's keys. It is None where the server could not make one: the end stands all the same.
        """
        return self._run(evidence_calls.end(session_id, reason, request_id))

    def get_receipt(self, session_id: bytes) -> SignedReceipt:
        """Return the receipt of an ended session, made by what is known now.

        Raises Rejected WRONG_STATUS for a session that has not ended.
        """
        return self._run(evidence_calls.get_receipt(session_id))

    def list_verifiers(self) -> list[RegisteredVerifier]:
        """Return who is enrolled, and where each stands against the last end."""
        return self._run(evidence_calls.list_verifiers())

    def register_verifier(self, told: Registration) -> int:
        """Enrol a verifier, or renew that (``verifier.registration``). Returns the latest revision."""
        return self._run(evidence_calls.register_verifier(told))


class AsyncEvidenceCalls:
    """The same, awaited."""

    async def _run(self, call: RpcRequest[T]) -> T:
        raise NotImplementedError

    async def end(self, session_id: bytes, reason: str = "", *, request_id: str = "") -> EndedSession:
        """End a session for good; see :meth:`EvidenceCalls.end`."""
        return await self._run(evidence_calls.end(session_id, reason, request_id))

    async def get_receipt(self, session_id: bytes) -> SignedReceipt:
        """Return the receipt of an ended session; see :meth:`EvidenceCalls.get_receipt`."""
        return await self._run(evidence_calls.get_receipt(session_id))

    async def list_verifiers(self) -> list[RegisteredVerifier]:
        """Return who is enrolled, and where each stands against the last end."""
        return await self._run(evidence_calls.list_verifiers())

    async def register_verifier(self, told: Registration) -> int:
        """Enrol a verifier or renew that; see :meth:`EvidenceCalls.register_verifier`."""
        return await self._run(evidence_calls.register_verifier(told))
