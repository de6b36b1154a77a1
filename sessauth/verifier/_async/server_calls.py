"""Calls of a verifier whose server charges their costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..._fast._check import Prepared, judged
from ...decisions.decision import DecisionBase
from ...errors import SessauthError
from ...model.approval import SignedApproval
from ...reasons import Stage
from ...scopes.call_arguments import Arguments
from ...tokens.token import Token
from ..base import CostJudge, new_retry_id, sendable

if TYPE_CHECKING:
    from ..._fast._check import Batch
    from ...client import AsyncClient, RemoteDecision


class AsyncServerCalls:
    """The calls that may ask the server; a call that needs no server is checked in this process."""

    if TYPE_CHECKING:

        @property
        def _judge(self) -> CostJudge: ...
        def _server(self) -> AsyncClient: ...

    async def check(
        self,
        token: bytes | str | Token | Prepared,
        action: str | bytes,
        resource: str | bytes,
        arguments: Arguments = b"",
        *,
        approvals: Sequence[SignedApproval] = (),
        retry_id: bytes | str = b"",
        permit_ms: int = 0,
        tool: Arguments = b"",
        session: bytes = b"",
        source: str = "",
        peer: Sequence[str] = (),
        audience: str | None = None,
        at_least_revision: int = 0,
        proof: bytes | str = b"",
    ) -> DecisionBase:
        """Check one call, and have the server charge its costs.

        Raises UsageError for a retry id or a permit beyond its limit.

        Args:
            token: as in :meth:`BaseVerifier.check`; so are ``action``, ``resource``, ``arguments``.
            action: the action of the call.
            resource: its resource.
            arguments: the very JSON that will be forwarded, or its values.
            approvals: signed approvals, beside those that the server holds.
            retry_id: up to 64 bytes that identify the attempt: the costs are charged once under it.
            permit_ms: request a permit, to be committed within so many ms; 0: none.
            tool: as in :meth:`BaseVerifier.check`; so are all below.
            session: the id of the session that the caller expects.
            source: the agent's IP address.
            peer: the identities of the agent's certificate.
            audience: the name of the verifier.
            at_least_revision: deny STALE_STATE unless the view has this revision.
            proof: the holder's proof of this call.

        Returns:
            The kernel's decision, or the server's where the server was asked. If the server can't be asked,
            the kernel's denial: NEEDS_SERVER, or APPROVAL_REQUIRED.
        """
        # Converted once, so that the server checks the same bytes.
        arguments = judged(arguments)
        options: dict[str, Any] = {
            "tool": tool,
            "session": session,
            "source": source,
            "peer": peer,
            "audience": audience,
            "at_least_revision": at_least_revision,
            "proof": proof,
        }
        judge = self._judge
        # The server records its own decision.
        decision = judge.judge(token, action, resource, arguments, retry_id, permit_ms, options)
        if decision.allowed or decision.stage is not Stage.NEEDS:
            return decision
        try:
            return await self._server().check(
                sendable(token),
                action,
                resource,
                arguments,
                retry_id=retry_id or new_retry_id(),
                permit_ms=permit_ms,
                approvals=approvals,
                **judge.server_options(options),
            )
        except SessauthError:
            judge.record_decision(
                decision, sendable(token), action, resource, arguments, source=source, audience=audience
            )
            return decision

    async def commit(
        self,
        permit: bytes,
        token: bytes | str | Token | Prepared,
        action: str | bytes,
        resource: str | bytes,
        arguments: Arguments = b"",
        **options: Any,
    ) -> RemoteDecision:
        """Have the server check the call of a permit again, just before it is done, and use the permit up.

        The call is given as it was checked. Raises SessauthError without an answer, which is never a yes; the
        permit may be used up.
        """
        given = self._judge.server_options(options)
        given.pop("proof", None)
        return await self._server().commit(permit, sendable(token), action, resource, arguments, **given)

    async def release(self, permit: bytes) -> int:
        """Give back the costs that a permit holds; returns the revision from which they are free again.

        Raises SessauthError if it is not open, or there was no answer.
        """
        return await self._server().release(permit)

    async def check_batch(
        self, calls: Iterable[tuple[Any, ...]], *, audience: str | None = None, at_least_revision: int = 0
    ) -> Batch | list[DecisionBase]:
        """Check many calls as :meth:`BaseVerifier.check_batch` does, and have the server charge the costs.

        The server is asked about calls with costs one by one, in their order.
        """
        calls = tuple(calls)
        options = {"audience": audience, "at_least_revision": at_least_revision}
        judge = self._judge
        batch = judge._check_batch(
            calls, audience=audience, at_least_revision=at_least_revision, record_needs=False
        )
        if batch.all_allowed:
            return batch
        decisions: list[DecisionBase] = []
        for index, (call, here) in enumerate(zip(calls, batch, strict=True)):
            decision: DecisionBase = here
            if here.stage is Stage.NEEDS:
                token, action, resource, *rest = call
                try:
                    decision = await self._server().check(
                        sendable(token),
                        action,
                        resource,
                        retry_id=new_retry_id(),
                        **judge.batch_options(tuple(rest), options),
                    )
                except SessauthError:
                    judge.record_batch_item(batch, index)
            decisions.append(decision)
        return decisions
