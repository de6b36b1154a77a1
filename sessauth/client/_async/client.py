"""The asyncio client.

It has the calls that check. Two things here outlast a call: a session that lives as long as a block of code,
and a watch of sessions, which follows one stream after another and returns no event twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, Unpack, cast

import grpc

from ...crypto.keys import IssuerKeys
from ...decisions.tool_catalog import HANDSHAKE, TOOLS_CALL, ToolCatalog, Verdicts, token_options
from ...errors import SessauthError, UnknownTool
from ...limits import MAX_BATCH_ITEMS
from ...model.approval import SignedApproval
from ...model.session import Session
from ...reasons import SurveyVerdict
from ...scopes.call_arguments import Arguments
from ...scopes.scope import Scope
from ...scopes.value import Plain
from ...tokens.prover import HolderKey
from ...tokens.terms import shows_terms
from ...tokens.token import Token
from ...v1 import authorization_service_pb2 as pb
from .._live_state import (
    PATIENCE_MS,
    EventCursor,
    EventKind,
    LiveState,
    ProofMaker,
    ProofSource,
    SessionEvent,
    end_reason,
    watch_request,
)
from .._requests import tokens as token_calls
from .._requests.sessions import OpenTerms
from .._requests.tokens import MintTerms
from .._results import UNKNOWN_TOOL, CheckItem, RemoteDecision, TransactionToken, decision_from_message
from .._target import Tls
from .._tasks import (
    AsyncEventStream,
    AsyncLeaseRenewal,
    AsyncWatch,
    async_enumerate,  # async only
)
from .._transport import MAX_TIMEOUT_MS, Failure, RpcFailure, check_timeout, resolve_endpoint, unreadable
from .calls import AsyncCalls, AsyncTransport


class AsyncLiveSession(LiveState):
    """A session held by an ``async with`` block. Made by :meth:`AsyncClient.session`."""

    def __init__(self, client: AsyncCalls, session: Session) -> None:
        """Start to renew the lease, if there is one."""
        super().__init__(session)
        self._client = client
        self._renewal = AsyncLeaseRenewal(client, self) if session.lease_ms else None

    @shows_terms(MintTerms)
    async def mint(
        self, scopes: Sequence[Scope | str], audience: Sequence[str], **terms: Unpack[MintTerms]
    ) -> Token:
        """Mint a token of this session, as :meth:`AsyncClient.mint` does."""
        self.raise_if_lost()
        return await self._client.mint(self.id, scopes, audience, **terms)

    async def narrow(self, ceiling: Sequence[Scope | str]) -> Session:
        """Add a layer of ceiling, which every call of the session must match."""
        self.raise_if_lost()
        self._session = await self._client.narrow(self.id, ceiling)
        return self._session

    async def update_facts(
        self,
        facts: Mapping[str, Plain] | None = None,
        *,
        visible_facts: Collection[str] = (),
        remove: Collection[str] = (),
    ) -> Session:
        """Set and remove facts; the next check uses them."""
        self.raise_if_lost()
        self._session = await self._client.update_facts(
            self.id, facts, visible_facts=visible_facts, remove=remove
        )
        return self._session

    async def suspend(self, reason: str = "") -> Session:
        """Deny every call of the session until it is resumed."""
        self.raise_if_lost()
        self._session = await self._client.suspend(self.id, reason)
        return self._session

    async def resume(self, reason: str = "") -> Session:
        """Resume the session."""
        self.raise_if_lost()
        self._session = await self._client.resume(self.id, reason)
        return self._session

    async def revoke(self, block_ids: Sequence[bytes | str], reason: str = "") -> int:
        """Revoke blocks of this session's tokens. Returns the revision from which none is allowed."""
        return await self._client.revoke(self.id, block_ids, reason)

    async def end(self, reason: str = "") -> None:
        """End the session. Ending one that is already over is not an error."""
        if self._renewal is not None:
            self._renewal.stop()
        if self._ended:
            return
        try:
            self._session = await self._client.end(self.id, reason)
        except SessauthError as error:
            self._raise_unless_over(error)
        self._ended = True

    async def _leave(self, cause: BaseException) -> None:
        try:
            # Usually this very task was cancelled, and the end must still be sent.  # async only
            await asyncio.shield(self.end(end_reason(cause)))
        except SessauthError as error:
            cause.add_note(self._not_ended_note(error))


class AsyncSessionWatch(AsyncEventStream):
    """Iterates over the events of sessions; made by :meth:`AsyncClient.watch_sessions`.

    A stream that breaks is opened again from where it broke. The watch is established when its ``async with``
    block is entered, else when the first event is requested. Leave the block, or close it, to end it. For one
    task, except for :meth:`close`.
    """

    def __aiter__(self) -> Self:
        """Return the watch."""
        return self

    async def __anext__(self) -> SessionEvent:
        """Wait for the next event.

        Ends when the watch was closed or its time is over. Raises Unavailable when no server answered for too
        long, Rejected COMPACTED when the log no longer has the next event, and other refusals of a server.
        """
        while not self._over():
            event = self._cursor.next()
            if event is not None:
                return event
            await self._advance()
        await self.close()
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        """Return the watch once it is established: it misses nothing that happens from here on."""
        try:
            while not self._cursor.established and not self._over():
                await self._advance()
        except BaseException:
            # The caller does not get the watch, and so can't close it.
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()

    async def _advance(self) -> None:
        """Store the next response, or pause after a break. Raises the error that ends the watch."""
        try:
            self._cursor.accept(await self._receive())
        except SessauthError as error:
            self._stream = None
            if not self._over():
                await self._pause(self._limited(self._cursor.pause(error)))


class AsyncClient(AsyncCalls):
    """Client of a sessauth server that awaits each answer, at most ``timeout_ms``.

    Every method raises Unauthenticated, PermissionDenied, NotFound, Unavailable (no answer, which
    is never a yes), Rejected (the rules say no, with a stable word) or UsageError (an argument, named).
    Changes carry a request id: made afresh, or given as ``request_id`` to repeat one whose outcome
    is not known. Make and use a client on one event loop; never share it across a fork.
    """

    def __init__(
        self,
        target: str | Path | Sequence[str] | None = None,
        credential: str | None = None,
        *,
        credential_file: Path | None = None,
        tls: Tls | None = None,
        insecure_tcp: bool = False,
        timeout_ms: int = 2000,
        check_target: str | Path | Sequence[str] | None = None,
        holder: HolderKey | None = None,
        issuer_keys: IssuerKeys | None = None,
        trace: bool = False,
    ) -> None:
        """Make a client; nothing connects before the first call.

        Raises ConfigError if these contradict each other or a file can't be read.

        Args:
            target: a socket path or HOST:PORT, or those of several servers of a cluster, of which one is
                asked after the other: a sequence, or a text with commas in between. None:
                ``$SESSAUTH_TARGET``, else the default socket.
            credential: the API key. None: from ``credential_file``, else from the file that
                ``$SESSAUTH_CREDENTIAL_FILE`` names, else the operator's beside a local socket.
                Empty: none, as with mTLS.
            credential_file: a file with the API key, not readable by others.
            tls: certificate files; needed for TCP.
            insecure_tcp: permit TCP without TLS, which shows tokens to the network.
            timeout_ms: the deadline of each call, retries included.
            check_target: target of checks, one or several in turn, all on one host. None: ``target``.
            holder: proves the checks of tokens that are bound to it.
            issuer_keys: keys that must have signed the host's verifier keys: a JWK set, public keys or
                KeyRecords. None: the keys that the server itself names.
            trace: send the trace that a call belongs to; needs ``sessauth[tracing]``.
        """
        self._timeout_ms = check_timeout(timeout_ms)
        endpoint = resolve_endpoint(target, credential, credential_file, tls, insecure_tcp, check_target)
        self._transport = AsyncTransport(endpoint, trace=trace)
        self._prover = ProofMaker(holder, issuer_keys)

    @shows_terms(OpenTerms)
    @asynccontextmanager
    async def session(self, **terms: Unpack[OpenTerms]) -> AsyncIterator[AsyncLiveSession]:
        """Open a session for an ``async with`` block; it ends however the block is left.

        With ``lease_ms`` a task renews the lease while the block runs, and the session ends by
        itself if this process dies. An exception of the block passes through; if the session could
        not be ended then, a note on it says so.
        """
        live = AsyncLiveSession(self, await self.open_session(**terms))
        try:
            yield live
        except BaseException as cause:
            await live._leave(cause)
            raise
        await live.end()

    def watch_sessions(
        self,
        session_ids: Sequence[bytes | str] = (),
        *,
        kinds: Sequence[EventKind | str] = (),
        subject: str = "",
        purpose: str = "",
        owner: str = "",
        include_children: bool = False,
        after_revision: int | None = None,
        incarnation: bytes = b"",
        heartbeats: bool = False,
        patience_ms: int = PATIENCE_MS,
        for_ms: int = 0,
    ) -> AsyncSessionWatch:
        """Return a watch that iterates over the events of sessions, in order and each exactly once.

        It is for an ``async with`` block. A stream that breaks is opened again, from where it broke. Filters
        that are not set do not limit.

        Args:
            session_ids: events of these sessions, and of those that they descend from.
            kinds: events of these kinds, or their names; SYNCED and RESTORED come in any case.
            subject: events of sessions with this subject.
            purpose: events of sessions with this purpose.
            owner: events of this principal's sessions.
            include_children: also events of all that descend from ``session_ids``.
            after_revision: events after this revision, as far as the log still has it; 0: from its
                beginning. None: from now on.
            incarnation: the incarnation that another watch had with that revision; it shows a state that was
                restored since.
            heartbeats: return SYNCED events too, one every few seconds.
            patience_ms: time for which a broken stream is tried again before Unavailable is raised. The first
                one is tried for the client's ``timeout_ms``.
            for_ms: length of the watch, at most an hour; 0: until it is closed.
        """
        check_timeout(patience_ms)
        if for_ms:
            check_timeout(for_ms)
        request = watch_request(
            session_ids, kinds, subject, purpose, owner, include_children, after_revision, incarnation
        )
        cursor = EventCursor(request, self._timeout_ms, patience_ms, heartbeats)
        return AsyncSessionWatch(self._transport, cursor, for_ms)

    async def check(
        self,
        token: Token | str | bytes,
        action: str | bytes,
        resource: str | bytes,
        arguments: Arguments = b"",
        *,
        tool: Arguments = b"",
        session: bytes | str = b"",
        source: str = "",
        peer: Sequence[str] = (),
        audience: str = "",
        at_least_revision: int = 0,
        proof: str | bytes = b"",
        approvals: Sequence[SignedApproval] = (),
        retry_id: bytes | str = b"",
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

    async def exchange(
        self,
        token: Token | str | bytes,
        action: str | bytes,
        resource: str | bytes,
        arguments: Arguments = b"",
        *,
        trust_domain: str = "",
        tool: Arguments = b"",
        session: bytes | str = b"",
        source: str = "",
        peer: Sequence[str] = (),
        audience: str = "",
        at_least_revision: int = 0,
        proof: str | bytes = b"",
        approvals: Sequence[SignedApproval] = (),
        retry_id: bytes | str = b"",
    ) -> TransactionToken:
        """Check one call as :meth:`check` does, and return a transaction token of it if it is allowed.

        It is for services behind the gateway that take a JWT of ``trust_domain``, by default the only one of
        the server's settings. It takes the place of a check: what the call costs is taken. It is valid until
        it expires, also if the session ends before.
        """
        costs = (approvals, retry_id)
        item = CheckItem(token, action, resource, arguments, tool, session, source, peer, proof, *costs)
        named = (audience, at_least_revision, trust_domain)
        if not self._prover.proves:
            return await self._run(token_calls.exchange(item, *named))
        proven = await self._with_proof(item)
        exchanged = await self._run(token_calls.exchange(proven, *named))
        if self._prover.drop_rejected_keys(item, proven, exchanged.decision):
            proven = await self._with_proof(item)
            exchanged = await self._run(token_calls.exchange(proven, *named))
        return exchanged

    async def _with_proof(self, item: CheckItem) -> CheckItem:
        if self._prover.needs_keys(item):
            self._prover.use_keys(await self.verifier_keys())
        return self._prover.with_proof(item)

    async def stands(
        self,
        token: Token | str | bytes,
        *,
        session: bytes | str = b"",
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
        session: bytes | str = b"",
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
