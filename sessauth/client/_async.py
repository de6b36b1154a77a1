"""The asyncio client: the blocking one, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack, cast

import grpc

from ..crypto.issuer_key import IssuerKeys, KeyRecord
from ..crypto.verifier_key import VerifierKeys
from ..decisions.survey import Verdicts
from ..model.approval import SignedApproval
from ..model.session import Session
from ..scopes.call_arguments import Arguments
from ..scopes.scope import Scope
from ..scopes.value import Plain
from ..tokens.holder import HolderKey
from ..tokens.token import Token
from ..v1 import authorization_service_pb2 as check_pb
from ._approvals import AsyncApprovalCalls
from ._decision import RemoteDecision, decision_from_message
from ._event_calls import AsyncEventCalls
from ._evidence import AsyncEvidenceCalls
from ._failures import Failure, RpcFailure
from ._proofs import ProofMaker
from ._requests import checks as survey_calls
from ._requests import keys as key_calls
from ._requests import sessions as session_calls
from ._requests import tokens as token_calls
from ._requests.sessions import OpenTerms
from ._requests.tokens import MintTerms
from ._results import CheckItem, Inspection, SessionPage
from ._session import AsyncLiveSession
from ._target import Tls
from ._transport import MAX_TIMEOUT_MS, AsyncTransport, RpcRequest, check_timeout, resolve_endpoint
from ._usage import AsyncUsageCalls
from ._watch.checks import ProofSource
from ._watch.checks_async import AsyncWatch

T = TypeVar("T")


class AsyncClient(AsyncApprovalCalls, AsyncUsageCalls, AsyncEventCalls, AsyncEvidenceCalls):
    """Calls a sessauth server and awaits the answer, at most ``timeout_ms``.

    Every method raises Unauthenticated, PermissionDenied, NotFound, Unavailable (no answer, which
    is never a yes), Rejected (the rules say no, with a stable word) or UsageError (an argument, named).
    Changes carry a request id: made afresh, or given as ``request_id`` to repeat one whose outcome
    is not known. Make and use a client on one event loop; never share it across a fork.
    """

    def __init__(
        self,
        target: str | None = None,
        credential: str | None = None,
        *,
        credential_file: Path | None = None,
        tls: Tls | None = None,
        insecure_tcp: bool = False,
        timeout_ms: int = 2000,
        check_target: str | Sequence[str] | None = None,
        holder: HolderKey | None = None,
        issuer_keys: IssuerKeys | None = None,
        trace: bool = False,
    ) -> None:
        """Make a client; nothing connects before the first call.

        Args:
            target: a socket path or HOST:PORT. None: ``$SESSAUTH_TARGET``, else the default socket.
            credential: the API key. None: from ``credential_file``, else from the file that
                ``$SESSAUTH_CREDENTIAL_FILE`` names, else the operator's beside a local socket.
                Empty: none, as with mTLS.
            credential_file: a file with the API key, not readable by others.
            tls: certificate files; needed for TCP.
            insecure_tcp: permit TCP without TLS, which shows tokens to the network.
            timeout_ms: the deadline of each call, retries included.
            check_target: where checks go, one or several in turn, all on one host. None: to ``target``.
            holder: proves the checks of tokens that are bound to it.
            issuer_keys: what the host's verifier keys must be signed by: a JWK set, public keys or
                KeyRecords. None: the keys that the server itself names.
            trace: tell the server which trace a call belongs to; needs ``sessauth[tracing]``.

        Raises:
            ConfigError: if these contradict each other or a file can't be read.
        """
        self._timeout_ms = check_timeout(timeout_ms)
        endpoint = resolve_endpoint(target, credential, credential_file, tls, insecure_tcp, check_target)
        self._transport = AsyncTransport(endpoint, trace=trace)
        self._prover = ProofMaker(holder, issuer_keys)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    def with_timeout(self, timeout_ms: int) -> AsyncClient:
        """Return a client on the same connections with another deadline, in ms."""
        other = object.__new__(AsyncClient)
        other._timeout_ms = check_timeout(timeout_ms)
        other._transport = self._transport
        other._prover = self._prover
        return other

    async def _run(self, call: RpcRequest[T]) -> T:
        return await self._transport.run(call, self._timeout_ms)

    @asynccontextmanager
    async def session(self, **terms: Unpack[OpenTerms]) -> AsyncIterator[AsyncLiveSession]:
        """Open a session for a ``async with`` block; it ends when the block is left, however it is left.

        With ``lease_ms`` a task renews the lease while the block runs, and the session dies by
        itself if this process does. An exception of the block passes through; if the session could
        not be ended then, a note on it says so.
        """
        live = AsyncLiveSession(self, await self.open_session(**terms))
        try:
            yield live
        except BaseException as cause:
            await live._leave(cause)
            raise
        await live.end()

    async def open_session(self, *, request_id: str = "", **terms: Unpack[OpenTerms]) -> Session:
        """Open a session; the terms are those of ``OpenTerms``."""
        return await self._run(session_calls.open_session(request_id, terms))

    async def get_session(self, session_id: bytes) -> Session:
        """Return a session, ended ones included until they are purged."""
        return await self._run(session_calls.get_session(session_id))

    async def list_sessions(
        self,
        *,
        status: str = "",
        subject: str = "",
        owner: str = "",
        parent_id: bytes = b"",
        labels: Mapping[str, str] | None = None,
        id_prefix: str = "",
        page_size: int = 0,
        page_token: str = "",
    ) -> SessionPage:
        """Return one page of the sessions that fit all filters that are set, by id.

        ``status``: ACTIVE, SUSPENDED or ENDED, in any case. A page may have fewer sessions than were asked
        for (1 to 1000; 0: 100), or none, and others behind it: ``next_page_token`` is empty on the last one.
        ``id_prefix`` are 4 to 32 hex digits that the id begins with.
        """
        return await self._run(
            session_calls.list_sessions(
                status, subject, owner, parent_id, labels, id_prefix, page_size, page_token
            )
        )

    async def keep_alive(self, session_id: bytes) -> int:
        """Renew a lease. Returns its durable deadline, in ms since 1970; a lapsed one stays lapsed."""
        return await self._run(session_calls.keep_alive(session_id))

    async def narrow(
        self,
        session_id: bytes,
        ceiling: Sequence[Scope | str],
        *,
        expected_epoch: int = 0,
        request_id: str = "",
    ) -> Session:
        """Hold every call of the session to ``ceiling`` too, outstanding tokens included."""
        return await self._run(session_calls.narrow(session_id, ceiling, expected_epoch, request_id))

    async def update_facts(
        self,
        session_id: bytes,
        facts: Mapping[str, Plain] | None = None,
        *,
        visible_facts: Collection[str] = (),
        remove: Collection[str] = (),
        expected_epoch: int = 0,
        request_id: str = "",
    ) -> Session:
        """Set and remove facts; the next check is judged by them."""
        return await self._run(
            session_calls.update_facts(
                session_id, facts or {}, visible_facts, remove, expected_epoch, request_id
            )
        )

    async def suspend(
        self, session_id: bytes, reason: str = "", *, expected_epoch: int = 0, request_id: str = ""
    ) -> Session:
        """Deny every call of the session until it is resumed."""
        return await self._run(session_calls.suspend(session_id, reason, expected_epoch, request_id))

    async def resume(
        self, session_id: bytes, reason: str = "", *, expected_epoch: int = 0, request_id: str = ""
    ) -> Session:
        """Let a suspended session go on."""
        return await self._run(session_calls.resume(session_id, reason, expected_epoch, request_id))

    async def mint(
        self,
        session_id: bytes,
        scopes: Sequence[Scope | str],
        audience: Sequence[str],
        **terms: Unpack[MintTerms],
    ) -> Token:
        """Have the server sign a root block; the terms are those of ``MintTerms``."""
        return await self._run(token_calls.mint(session_id, scopes, audience, terms))

    async def attenuate(
        self,
        token: Token,
        scopes: Sequence[Scope | str] = (),
        *,
        audience: Sequence[str] = (),
        strict: bool = False,
        **terms: Unpack[MintTerms],
    ) -> Token:
        """Have the server attenuate an open token, whose secret it sees; ``Token.attenuate`` asks nobody."""
        return await self._run(token_calls.attenuate(token, scopes, audience, strict, terms))

    async def inspect(self, token: Token | str) -> Inspection:
        """Ask whether the token's signatures stand and its blocks are revoked. Its secret stays here."""
        return await self._run(token_calls.inspect(token))

    async def revoke(
        self, session_id: bytes, block_ids: Sequence[bytes], reason: str = "", *, request_id: str = ""
    ) -> int:
        """Revoke blocks with all below them. Returns the revision from which none is allowed."""
        return await self._run(token_calls.revoke(session_id, block_ids, reason, request_id))

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
        """Judge one call. A denial is a result, false as a bool; an error is not a yes.

        A token that is bound to the client's holder is proven by itself, unless ``proof`` is given. A check
        with a proof is never repeated: what it used up is gone. ``approvals``, ``retry_id`` and ``permit_ms``
        are for calls that cost something: ``CheckItem`` says what they mean.
        """
        item = CheckItem(
            token,
            action,
            resource,
            arguments,
            tool,
            session,
            source,
            peer,
            proof,
            approvals,
            retry_id,
            permit_ms,
        )
        proven = await self._proven(item)
        decision = await self._run(token_calls.check(proven, audience, at_least_revision))
        if self._prover.missed(item, proven, decision):
            # Denied, so nothing was used up: once more, by keys that are asked for now.
            proven = await self._proven(item)
            decision = await self._run(token_calls.check(proven, audience, at_least_revision))
        return decision

    async def _proven(self, item: CheckItem) -> CheckItem:
        if self._prover.wants_keys(item):
            self._prover.take(await self.verifier_keys())
        return self._prover.proven(item)

    async def check_batch(
        self, items: Sequence[CheckItem], *, audience: str = "", at_least_revision: int = 0
    ) -> list[RemoteDecision]:
        """Judge up to 1024 calls; the decisions stand in the order of the items.

        A token that several items present is sent once.
        """
        proven = [await self._proven(item) for item in items]
        decisions = await self._run(token_calls.check_batch(proven, audience, at_least_revision))
        for item, sent, decision in zip(items, proven, decisions, strict=False):
            self._prover.missed(item, sent, decision)
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
        """Say of up to 1024 calls whether this token could make them now: yes, no or maybe.

        Each candidate is a ``Candidate`` or a tuple of its parts. NO denies and YES allows with any
        arguments, or with those of the candidate; what is done is still to be checked.
        """
        return await self._run(
            survey_calls.list_allowed(token, candidates, audience, session, source, peer, at_least_revision)
        )

    async def check_stream(
        self,
        items: Iterable[CheckItem] | AsyncIterable[CheckItem],
        *,
        audience: str = "",
        at_least_revision: int = 0,
        stream_timeout_ms: int = 60_000,
    ) -> AsyncIterator[tuple[int, RemoteDecision]]:
        """Judge calls over one stream, of at most ``stream_timeout_ms``.

        Yields each decision with the number of its item, counted from 0, as it arrives. Leaving the
        loop early cancels the stream. Nothing is retried.
        """
        lane = self._transport.lanes.pick(checks=True)
        method = lane.channel.stream_stream(token_calls.STREAM_PATH, **token_calls.STREAM_CODEC)

        async def requests() -> AsyncIterator[check_pb.CheckStreamRequest]:
            number = 0
            async for item in token_calls.each(items):
                proven = await self._proven(item)
                yield token_calls.stream_message(number, proven, audience, at_least_revision)
                number += 1

        timeout_s = check_timeout(stream_timeout_ms) / 1000
        stream = method(requests(), timeout=timeout_s, metadata=self._transport.metadata)
        try:
            async for answer in stream:
                yield int(answer.id), decision_from_message(answer.decision)
        except grpc.RpcError as error:
            failure = Failure.read(cast("RpcFailure", error))
            raise failure.error(target=lane.target, timeout_ms=stream_timeout_ms) from None
        finally:
            stream.cancel()

    def watch(self, *, audience: str = "", stream_timeout_ms: int = MAX_TIMEOUT_MS) -> AsyncWatch:
        """Return a watch, for ``async with``: calls asked about on it are taken back once no longer allowed.

        It lasts at most ``stream_timeout_ms``, an hour by default; servers may end it sooner, and then each
        call that still goes on is to be asked about on another one. Nothing is retried.
        """
        proving = ProofSource(self._proven, self._prover.missed)
        return AsyncWatch(self._transport, proving, audience, self._timeout_ms, stream_timeout_ms)

    async def list_keys(self) -> list[KeyRecord]:
        """Return the issuer keys, public halves only."""
        return await self._run(key_calls.list_keys())

    async def verifier_keys(self, issuer_keys: IssuerKeys | None = None) -> VerifierKeys:
        """Return the keys of the server's host that proofs are made for, verified.

        ``issuer_keys`` are what they must be signed by. None: those that the client was made with, else
        those that the server itself names. Raises UsageError for a key that they don't vouch for.
        """
        signed = await self._run(key_calls.verifier_keys())
        known = issuer_keys if issuer_keys is not None else self._prover.issuer_keys
        return self._prover.verified(signed, known if known is not None else await self.jwks())

    async def jwks(self) -> bytes:
        """Return the public issuer keys as a JWK set, JSON."""
        return await self._run(key_calls.jwks())

    async def add_key(self, public_key: bytes = b"", *, owner: str = "", request_id: str = "") -> KeyRecord:
        """Add an issuer key, PREPARED. Without ``public_key`` the server makes a pair of its own."""
        return await self._run(key_calls.add(public_key, owner, request_id))

    async def activate_key(self, key_id: bytes, *, request_id: str = "") -> KeyRecord:
        """Let a prepared key root tokens."""
        return await self._run(key_calls.activate(key_id, request_id))

    async def retire_key(self, key_id: bytes, *, request_id: str = "") -> KeyRecord:
        """Let a key verify what it signed until now, and nothing later."""
        return await self._run(key_calls.retire(key_id, request_id))

    async def distrust_key(self, key_id: bytes, *, request_id: str = "") -> KeyRecord:
        """Deny every token of a key, at once."""
        return await self._run(key_calls.distrust(key_id, request_id))
