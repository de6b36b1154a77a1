"""Calls that check: one call, a batch, a stream, a survey, a watch."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, cast

import grpc

from ...decisions.tool_catalog import HANDSHAKE, TOOLS_CALL, ToolCatalog, Verdicts, token_options
from ...errors import UnknownTool
from ...limits import MAX_BATCH_ITEMS
from ...model.approval import SignedApproval
from ...reasons import SurveyVerdict
from ...scopes.call_arguments import Arguments
from ...tokens.token import Token
from ...v1 import authorization_service_pb2 as pb
from .._live_state import ProofSource
from .._requests import tokens as token_calls
from .._results import UNKNOWN_TOOL, CheckItem, RemoteDecision, decision_from_message
from .._tasks import (
    AsyncWatch,
    async_enumerate,  # async only
)
from .._transport import MAX_TIMEOUT_MS, Failure, RpcFailure, check_timeout, unreadable
from .calls import AsyncKeyCalls


class AsyncCheckCalls(AsyncKeyCalls):
    """Calls of AuthorizationService."""

    async def check(
        self,
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
        proof: str | bytes = b"",
        approvals: Sequence[SignedApproval] = (),
        retry_id: bytes = b"",
        permit_ms: int = 0,
    ) -> RemoteDecision:
        """Check one call. A denial is a result, false as a bool; an error is not a yes.

        A token that is bound to the client's holder is proven by itself, unless ``proof`` is given. A check
        with a proof is never repeated: its nonce is used up. ``approvals``, ``retry_id`` and ``permit_ms``
        are for calls that cost something: see ``CheckItem``.
        """
        costs = (approvals, retry_id, permit_ms)
        item = CheckItem(token, action, resource, arguments, tool, session, source, peer, proof, *costs)
        if not self._prover.proves:
            return await self._run(token_calls.check(item, audience, at_least_revision))
        proven = await self._with_proof(item)
        decision = await self._run(token_calls.check(proven, audience, at_least_revision))
        if self._prover.drop_rejected_keys(item, proven, decision):
            # A denial used up nothing: check once more, by keys that are fetched now.
            proven = await self._with_proof(item)
            decision = await self._run(token_calls.check(proven, audience, at_least_revision))
        return decision

    async def _with_proof(self, item: CheckItem) -> CheckItem:
        if self._prover.needs_keys(item):
            self._prover.use_keys(await self.verifier_keys())
        return self._prover.with_proof(item)

    async def stands(
        self,
        token: Token | str | bytes,
        *,
        session: bytes = b"",
        source: str = "",
        peer: Sequence[str] = (),
        audience: str = "",
        at_least_revision: int = 0,
    ) -> RemoteDecision:
        """Check the token itself: its form, session, issuer, signatures, time, audience and revocations.

        No call is checked, so an allow permits none: it names no scope. A bound token needs no proof here, so
        an allow does not show that the presenter is its holder.
        """
        item = CheckItem.of_token(token, session=session, source=source, peer=peer)
        return await self._run(token_calls.check(item, audience, at_least_revision))

    async def check_tool(
        self,
        token: Token | str | bytes,
        catalogue: ToolCatalog,
        tool: str,
        arguments: Arguments = b"",
        *,
        method: str = TOOLS_CALL,
        **options: Any,
    ) -> RemoteDecision:
        """Check a call of an MCP tool, with action, resource and facts from the operator's catalogue.

        A tool that is not in the catalogue is denied ``UNKNOWN_TOOL`` here: the server is not asked, and
        records nothing. ``method`` is the protocol's method; one that is part of the handshake is checked by
        :meth:`stands`. ``options`` are those of :meth:`check`, but for ``tool``.
        """
        try:
            action, resource, facts = catalogue.ask(tool, method)
        except UnknownTool:
            return UNKNOWN_TOOL
        if action == HANDSHAKE:
            return await self.stands(token, **token_options(options))
        return await self.check(token, action, resource, arguments, tool=facts, **options)

    async def check_batch(
        self, items: Sequence[CheckItem], *, audience: str = "", at_least_revision: int = 0
    ) -> list[RemoteDecision]:
        """Check up to 1024 calls; the decisions are in the order of the items.

        A token that several items present is sent once.
        """
        proven = [await self._with_proof(item) for item in items]
        decisions = await self._run(token_calls.check_batch(proven, audience, at_least_revision))
        for item, sent, decision in zip(items, proven, decisions, strict=False):
            self._prover.drop_rejected_keys(item, sent, decision)
        return decisions

    async def list_allowed(
        self,
        token: Token | str | bytes,
        candidates: Sequence[tuple[Any, ...]],
        *,
        session: bytes = b"",
        source: str = "",
        peer: Sequence[str] = (),
        audience: str = "",
        at_least_revision: int = 0,
    ) -> Verdicts:
        """Return for up to 1024 calls whether this token could make them now: yes, no or maybe.

        Each candidate is a ``Candidate`` or a tuple of its parts. NO denies and YES allows with any
        arguments, or with those of the candidate; a call is still to be checked before it is made.
        """
        return await self._run(
            token_calls.list_allowed(token, candidates, audience, session, source, peer, at_least_revision)
        )

    async def list_tools(
        self,
        token: Token | str | bytes,
        catalogue: ToolCatalog,
        tools: Iterable[Mapping[str, Any]],
        **options: Any,
    ) -> list[Mapping[str, Any]]:
        """Return the definitions of an MCP ``tools/list`` answer that this token could call at all.

        A tool that is not in the catalogue, or would be denied with any arguments, is left out.
        ``options`` are those of :meth:`list_allowed`.
        """
        known = catalogue.pinned(tools)
        shown: list[Mapping[str, Any]] = []
        for first in range(0, len(known), MAX_BATCH_ITEMS):
            part = known[first : first + MAX_BATCH_ITEMS]
            candidates = catalogue.candidates(tool["name"] for tool in part)
            verdicts = await self.list_allowed(token, candidates, **options)
            shown += [
                tool for tool, verdict in zip(part, verdicts, strict=True) if verdict != SurveyVerdict.NO
            ]
        return shown

    async def check_stream(
        self,
        items: Iterable[CheckItem] | AsyncIterable[CheckItem],
        *,
        audience: str = "",
        at_least_revision: int = 0,
        stream_timeout_ms: int = 60_000,
    ) -> AsyncIterator[tuple[int, RemoteDecision]]:
        """Check calls over one stream, of at most ``stream_timeout_ms``.

        Yields each decision with the number of its item, counted from 0, as it arrives. Leaving the
        loop early cancels the stream. Nothing is retried.
        """
        handle = self._transport.channels.pick(checks=True)
        method = handle.channel.stream_stream(token_calls.STREAM_PATH, **token_calls.STREAM_CODEC)

        async def requests() -> AsyncIterator[pb.CheckStreamRequest]:
            async for number, item in async_enumerate(items):
                proven = await self._with_proof(item)
                yield token_calls.stream_message(number, proven, audience, at_least_revision)

        timeout_s = check_timeout(stream_timeout_ms) / 1000
        stream = method(requests(), timeout=timeout_s, metadata=self._transport.metadata)
        try:
            async for answer in stream:
                if answer is None:  # async only
                    raise unreadable()  # async only
                yield int(answer.id), decision_from_message(answer.decision)
        except grpc.RpcError as error:
            failure = Failure.read(cast("RpcFailure", error))
            if failure.elsewhere:
                self._transport.channels.leave(handle)
            raise failure.error(target=handle.target, timeout_ms=stream_timeout_ms) from None
        finally:
            stream.cancel()

    def watch(self, *, audience: str = "", stream_timeout_ms: int = MAX_TIMEOUT_MS) -> AsyncWatch:
        """Return a watch, for an ``async with`` block: it withdraws calls that are no longer allowed.

        It lasts at most ``stream_timeout_ms``, an hour by default. Servers may end it sooner; then each
        call in progress is to be checked again on another one. Nothing is retried.
        """
        proofs = ProofSource(self._with_proof, self._prover.drop_rejected_keys)
        return AsyncWatch(self._transport, proofs, audience, self._timeout_ms, stream_timeout_ms)
