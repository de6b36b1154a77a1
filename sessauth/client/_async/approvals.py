"""Calls about approvals and permits."""

from __future__ import annotations

from collections.abc import Sequence

from ...approvals.approver import DEFAULT_TTL_MS, Approver
from ...approvals.request import ApprovalRequest
from ...model.approval import SignedApproval
from ...scopes.call_arguments import Arguments
from ...tokens.token import Token
from .._decision import RemoteDecision
from .._requests import approvals as approval_calls
from .._results import ApprovalPage, CheckItem
from .calls import AsyncCalls


class AsyncApprovalCalls(AsyncCalls):
    """Calls of ApprovalService, and those that use a permit."""

    async def list_approvals(
        self,
        *,
        session_id: bytes = b"",
        status: str = "waiting",
        public_key: bytes = b"",
        page_size: int = 0,
        page_token: str = "",
    ) -> ApprovalPage:
        """Return one page of approvals.

        Args:
            session_id: approvals of this session only.
            status: ``waiting`` (pending and not over), ``pending``, ``granted``, ``denied`` or ``used``.
            public_key: approvals that this key may sign; of the waiting ones, those without its signature.
            page_size: 1 to 1000; 0: 100.
            page_token: from an earlier page.
        """
        return await self._run(
            approval_calls.list_approvals(session_id, status, public_key, page_size, page_token)
        )

    async def get_approval(self, session_id: bytes, approval_id: bytes) -> ApprovalRequest:
        """Return an approval as an approver reads and signs it."""
        return await self._run(approval_calls.get_approval(session_id, approval_id))

    async def grant_approval(
        self,
        request: ApprovalRequest,
        by: Approver | SignedApproval,
        *,
        ttl_ms: int = DEFAULT_TTL_MS,
        request_id: str = "",
    ) -> ApprovalRequest:
        """Submit a signed approval, or have ``by`` sign ``request`` here, as it was shown.

        Returns the approval's new state. Raises InvalidApproval for a request that must not be signed,
        Rejected BAD_APPROVAL for a signature that does not count.
        """
        return await self._run(approval_calls.grant_approval(request, by, ttl_ms, request_id))

    async def deny_approval(
        self, session_id: bytes, approval_id: bytes, reason: str = "", *, request_id: str = ""
    ) -> ApprovalRequest:
        """Deny a call until the approval expires."""
        return await self._run(approval_calls.deny_approval(session_id, approval_id, reason, request_id))

    async def commit(
        self,
        permit: bytes,
        token: Token | str | bytes,
        action: str | bytes,
        resource: str | bytes,
        arguments: Arguments = b"",
        *,
        tool: Arguments = b"",
        session: bytes = b"",
        source: str = "",
        peer: Sequence[str] = (),
        audience: str = "",
        at_least_revision: int = 0,
    ) -> RemoteDecision:
        """Check the call of a permit again, just before it is done, and use the permit up.

        The call is given as it was checked. An allow is for now: nothing is committed twice.
        """
        item = CheckItem(token, action, resource, arguments, tool, session, source, peer)
        return await self._run(approval_calls.commit(permit, item, audience, at_least_revision))

    async def release(self, permit: bytes) -> int:
        """Give back the costs that a permit holds. Returns the revision from which they are free again."""
        return await self._run(approval_calls.release(permit))
