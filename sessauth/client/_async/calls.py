"""A client's transport, and the calls that need nothing else.

A method describes its call by ``client/_requests`` and runs it; the transport adds the deadline, the
credential and the retries. Calls that check, sessions that stay open and streams are in ``client.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Self, TypeVar, Unpack, cast

import grpc

from ...approvals.approver import DEFAULT_TTL_MS, Approver
from ...approvals.request import ApprovalRequest
from ...crypto.keys import IssuerKeys, KeyRecord, VerifierKeys
from ...errors import NotFound, PermissionDenied, SessauthError, Unavailable
from ...model.approval import SignedApproval
from ...model.receipt import SignedReceipt
from ...model.server_status import ClusterStanding, ServerStatus
from ...model.session import Session, SessionBan, SessionStatus
from ...scopes.call_arguments import Arguments
from ...scopes.scope import Scope
from ...scopes.value import Plain
from ...tokens.terms import shows_terms
from ...tokens.token import Token
from .._live_state import ProofMaker
from .._requests import operations as operation_calls
from .._requests import sessions as session_calls
from .._requests import tokens as token_calls
from .._requests.sessions import OpenTerms, SessionFilters
from .._requests.tokens import MintTerms
from .._results import (
    MAX_PREVIEWED,
    MAX_SELECTED,
    Activity,
    ApprovalPage,
    Census,
    CheckItem,
    EndedLogins,
    EndedSession,
    EndedSessions,
    EndPreview,
    FreezeState,
    IdentityStatus,
    Inspection,
    ListedCredential,
    RegisteredVerifier,
    RemoteDecision,
    ReportPage,
    SelectedSession,
    SessionPage,
    SessionReport,
)
from .._transport import (
    CallMetadata,
    ChannelPool,
    Endpoint,
    Failure,
    RetryState,
    RpcFailure,
    RpcRequest,
    check_timeout,
    unreadable,
)

T = TypeVar("T")


class AsyncTransport(CallMetadata):
    """Runs calls on the event loop that it was made on."""

    def __init__(self, endpoint: Endpoint, *, trace: bool = False) -> None:
        """Make the channels; nothing connects before the first call. ``trace``: calls name their trace."""
        super().__init__(endpoint, trace)
        if not trace:  # async only
            # Each call would make it of a tuple.  # async only
            self._metadata = grpc.aio.Metadata(*endpoint.metadata)  # async only
        self.channels = ChannelPool(endpoint, grpc.aio)

    async def run(self, call: RpcRequest[T], timeout_ms: int) -> T:
        """Make the call and return its result. Raises the errors of ``Failure.error``."""
        retries = RetryState(call, timeout_ms, self.channels.servers(call.checks))
        while True:
            handle = self.channels.pick(call.checks)
            try:
                answer = await handle.unary(call)(
                    call.request, timeout=retries.remaining_s(), metadata=self.metadata
                )
            except grpc.RpcError as error:
                failure = Failure.read(cast("RpcFailure", error))
                if failure.elsewhere:
                    self.channels.leave(handle)
                verdict = retries.decide(failure, handle.target)
            else:
                if answer is None:  # async only
                    raise unreadable()  # async only
                return call.convert(answer)
            if isinstance(verdict, SessauthError):
                raise verdict
            await asyncio.sleep(verdict)

    async def close(self) -> None:
        """Close all channels; calls under way are cancelled."""
        for handle in self.channels.close():
            await handle.channel.close()


class AsyncCalls:
    """Runs calls over the client's connections, within its deadline.

    Those of CredentialService raise Rejected NOT_IN_CLUSTER on a single host.
    """

    _timeout_ms: int
    _transport: AsyncTransport
    _prover: ProofMaker

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def with_timeout(self, timeout_ms: int) -> Self:
        """Return a client on the same connections with another deadline, in ms."""
        other = object.__new__(type(self))
        other._timeout_ms = check_timeout(timeout_ms)
        other._transport = self._transport
        other._prover = self._prover
        return other

    async def _run(self, call: RpcRequest[T]) -> T:
        return await self._transport.run(call, self._timeout_ms)

    # Of SessionService and TokenService.
    @shows_terms(OpenTerms)
    async def open_session(self, *, request_id: str = "", **terms: Unpack[OpenTerms]) -> Session:
        """Open a session."""
        return await self._run(session_calls.open_session(request_id, terms))

    @shows_terms(OpenTerms)
    async def open_and_mint(
        self,
        scopes: Sequence[Scope | str],
        audience: Sequence[str],
        *,
        mint: MintTerms | None = None,
        request_id: str = "",
        **terms: Unpack[OpenTerms],
    ) -> tuple[Session, Token]:
        """Open a session and mint its first token: one call, and one durable write.

        If the token can't be minted, nothing is opened. A repeat with the same request id returns the same
        session and token.

        Args:
            scopes: the scopes of the token.
            audience: the verifiers that the token is for.
            mint: the other terms of the token; it can't be open.
            request_id: a name of this request.
            terms: those of the session.
        """
        return await self._run(session_calls.open_and_mint(request_id, scopes, audience, mint or {}, terms))

    async def get_session(self, session_id: bytes | str) -> Session:
        """Return a session, ended ones included until they are purged."""
        return await self._run(session_calls.get_session(session_id))

    @shows_terms(SessionFilters)
    async def list_sessions(
        self, *, page_size: int = 0, page_token: str = "", **filters: Unpack[SessionFilters]
    ) -> SessionPage:
        """Return one page of the sessions that match all filters, by id.

        A page may have fewer sessions than ``page_size`` (1 to 1000; 0: 100), or none, with others after it:
        ``next_page_token`` is empty on the last one.
        """
        return await self._run(session_calls.list_sessions(page_size, page_token, filters))

    async def keep_alive(
        self, session_id: bytes | str, *, identity_token: str = "", identity_proof: str = ""
    ) -> int:
        """Renew a lease. Returns its durable deadline, in ms since 1970; a lapsed one stays lapsed.

        With the token of an identity provider that was issued since the last renewal it is the lease of the
        login's session that is renewed: that session itself, or the one above ``session_id``. A token that is
        bound to a key needs the proof of it (DPoP), made for this call.
        """
        return await self._run(session_calls.keep_alive(session_id, identity_token, identity_proof))

    async def narrow(
        self,
        session_id: bytes | str,
        ceiling: Sequence[Scope | str] = (),
        *,
        enforce: bool = False,
        expected_epoch: int = 0,
        request_id: str = "",
    ) -> Session:
        """Add a layer of ceiling, which every call of the session must match, outstanding tokens included.

        ``enforce`` ends observe mode: the whole ceiling is enforced from then on. Then no scopes are needed.
        """
        request = session_calls.narrow(session_id, ceiling, expected_epoch, request_id, enforce)
        return await self._run(request)

    async def update_facts(
        self,
        session_id: bytes | str,
        facts: Mapping[str, Plain] | None = None,
        *,
        visible_facts: Collection[str] = (),
        remove: Collection[str] = (),
        expected_epoch: int = 0,
        request_id: str = "",
    ) -> Session:
        """Set and remove facts; the next check uses them."""
        return await self._run(
            session_calls.update_facts(
                session_id, facts or {}, visible_facts, remove, expected_epoch, request_id
            )
        )

    async def suspend(
        self, session_id: bytes | str, reason: str = "", *, expected_epoch: int = 0, request_id: str = ""
    ) -> Session:
        """Deny every call of the session until it is resumed."""
        return await self._run(session_calls.suspend(session_id, reason, expected_epoch, request_id))

    async def resume(
        self, session_id: bytes | str, reason: str = "", *, expected_epoch: int = 0, request_id: str = ""
    ) -> Session:
        """Resume a suspended session."""
        return await self._run(session_calls.resume(session_id, reason, expected_epoch, request_id))

    async def end(self, session_id: bytes | str, reason: str = "", *, request_id: str = "") -> EndedSession:
        """End a session for good, with every token and every child of it.

        Its ``receipt`` lists the verifiers that can't allow a token of it any more; ``receipt.verify`` checks
        it against the service's keys. It is None where the server could not make one: the session has ended
        all the same.
        """
        return await self._run(session_calls.end(session_id, reason, request_id))

    @shows_terms(MintTerms)
    async def mint(
        self,
        session_id: bytes | str,
        scopes: Sequence[Scope | str],
        audience: Sequence[str],
        **terms: Unpack[MintTerms],
    ) -> Token:
        """Have the server sign a root block."""
        return await self._run(token_calls.mint(session_id, scopes, audience, terms))

    @shows_terms(MintTerms)
    async def attenuate(
        self,
        token: Token,
        scopes: Sequence[Scope | str] = (),
        *,
        audience: Sequence[str] = (),
        **terms: Unpack[MintTerms],
    ) -> Token:
        """Have the server attenuate an open token, and see its secret; ``Token.attenuate`` needs none."""
        return await self._run(token_calls.attenuate(token, scopes, audience, terms))

    async def inspect(self, token: Token | str) -> Inspection:
        """Return whether the token's signatures are valid and its blocks revoked. Its secret stays here."""
        return await self._run(token_calls.inspect(token))

    async def revoke(
        self,
        session_id: bytes | str,
        block_ids: Sequence[bytes | str],
        reason: str = "",
        *,
        request_id: str = "",
    ) -> int:
        """Revoke blocks with all below them. Returns the revision from which none is allowed."""
        return await self._run(token_calls.revoke(session_id, block_ids, reason, request_id))

    # Of ApprovalService, and those that use a permit.
    async def list_approvals(
        self,
        *,
        session_id: bytes | str = b"",
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
            token_calls.list_approvals(session_id, status, public_key, page_size, page_token)
        )

    async def get_approval(self, session_id: bytes | str, approval_id: bytes | str) -> ApprovalRequest:
        """Return an approval as an approver reads and signs it."""
        return await self._run(token_calls.get_approval(session_id, approval_id))

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
        return await self._run(token_calls.grant_approval(request, by, ttl_ms, request_id))

    async def deny_approval(
        self, session_id: bytes | str, approval_id: bytes | str, reason: str = "", *, request_id: str = ""
    ) -> ApprovalRequest:
        """Deny a call until the approval expires."""
        return await self._run(token_calls.deny_approval(session_id, approval_id, reason, request_id))

    async def commit(
        self,
        permit: bytes | str,
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
    ) -> RemoteDecision:
        """Check the call of a permit again, just before it is done, and use the permit up.

        The call is given as it was checked. An allow is for now: nothing is committed twice.
        """
        item = CheckItem(token, action, resource, arguments, tool, session, source, peer)
        return await self._run(token_calls.commit(permit, item, audience, at_least_revision))

    async def release(self, permit: bytes | str) -> int:
        """Give back the costs that a permit holds. Returns the revision from which they are free again."""
        return await self._run(token_calls.release(permit))

    # Of EvidenceService.
    async def get_receipt(self, session_id: bytes | str) -> SignedReceipt:
        """Return the receipt of an ended session, made by the server's present knowledge.

        Raises Rejected WRONG_STATUS for a session that has not ended.
        """
        return await self._run(session_calls.get_receipt(session_id))

    async def list_verifiers(self) -> list[RegisteredVerifier]:
        """Return the registered verifiers, each with its state against the last end."""
        return await self._run(session_calls.list_verifiers())

    # Of IdentityService.
    async def report_logout(self, provider: str, logout_token: str) -> EndedLogins:
        """Hand on a logout token of the identity provider of this name, as OpenID Connect sends it.

        The server verifies it. Once this returns, the logins that it names are over, and no token of them
        opens a session. Raises IdentityRefused for a token that does not count.
        """
        return await self._run(session_calls.report_logout(provider, logout_token))

    async def report_revocation(self, provider: str, bearer: str, body: bytes) -> EndedLogins:
        """Hand on a global token revocation: the provider's JWT, and the body with ``sub_id`` (RFC 9493).

        As :meth:`report_logout`, for all logins of the user.
        """
        return await self._run(session_calls.report_revocation(provider, bearer, body))

    async def report_security_event(self, provider: str, token: str) -> EndedLogins:
        """Hand on a security event token (RFC 8417) of CAEP or RISC, as it came by push or poll.

        As :meth:`report_logout`: it ends, suspends or resumes, by its event.
        """
        return await self._run(session_calls.report_security_event(provider, token))

    async def ask_stream(self, provider: str) -> str:
        """Return a random state with which to ask a provider for a verification event (SSF 1.0).

        Empty where the server's settings state no ``silence_ms``: nobody waits for the event.
        """
        return await self._run(session_calls.ask_stream(provider))

    async def cut_logins(
        self, provider: str, *, subject: str = "", sid: str = "", reason: str = ""
    ) -> EndedLogins:
        """End a user's logins up to now, or one login, and refuse their tokens; operators only.

        ``subject`` and ``sid`` are the names that the provider gives them. Raises NotFound for a provider
        that is not in the server's settings.
        """
        return await self._run(session_calls.cut_logins(provider, subject, sid, reason))

    async def enable_account(self, provider: str, subject: str, reason: str = "") -> EndedLogins:
        """Let tokens of a user count again whose account the provider has disabled; operators only.

        The provider says so itself by an event (RISC account-enabled). Logins up to a cut stay cut.
        """
        return await self._run(session_calls.cut_logins(provider, subject, "", reason, enable=True))

    async def get_identity_status(self) -> IdentityStatus:
        """Return the state of each identity provider: its keys, its stream of events, and its logins."""
        return await self._run(session_calls.get_identity_status())

    # Of CutOffService.
    async def end_sessions(
        self,
        *,
        subject: str = "",
        owner: str = "",
        labels: Mapping[str, str] | None = None,
        all_sessions: bool = False,
        reason: str = "",
        dry_run: bool = False,
        refuse_new_ms: int = 0,
        page_token: str = "",
    ) -> EndedSessions:
        """End every session that fits all parts, or ``all_sessions``, with all tokens and children.

        With ``refuse_new_ms``, at most a day, new ones that fit are refused (BANNED) for that time, beginning
        before the first end; operators only. Sessions end while the server searches, for some seconds a call:
        repeat it with the result's ``next_page_token`` as ``page_token`` until that is empty.
        """
        parts = session_calls.selector(subject, owner, labels, all_sessions)
        return await self._run(session_calls.end_sessions(parts, reason, dry_run, refuse_new_ms, page_token))

    async def preview_end(self, session_id: bytes | str) -> EndPreview:
        """Return the sessions, tokens and calls that an end of one session would hit; none once it ended."""
        session = await self.get_session(session_id)
        if session.status is SessionStatus.ENDED:
            return EndPreview(0, ())
        selected = SelectedSession(session.id, session.epoch, session.subject, session.owner)
        return await self._with_content(EndPreview(1, (selected,)))

    async def preview_end_sessions(
        self,
        *,
        subject: str = "",
        owner: str = "",
        labels: Mapping[str, str] | None = None,
        all_sessions: bool = False,
    ) -> EndPreview:
        """Return the sessions, tokens and calls that :meth:`end_sessions` would hit.

        All sessions are counted; at most 200 are read one by one.
        """
        parts = session_calls.selector(subject, owner, labels, all_sessions)
        matched, token = 0, ""
        selected: list[SelectedSession] = []
        while True:
            found = await self._run(session_calls.end_sessions(parts, "", True, 0, token))
            matched += found.matched
            selected += found.sessions
            token = found.next_page_token
            if not token:
                return await self._with_content(EndPreview(matched, tuple(selected[:MAX_SELECTED])))

    async def _with_content(self, preview: EndPreview) -> EndPreview:
        """Read the selected sessions and those below them, as many as a preview reads."""
        chosen = {each.id for each in preview.selected}
        waiting = [each.id for each in preview.selected]
        children: dict[bytes, Session] = {}
        for session_id in waiting:
            if preview.read == MAX_PREVIEWED:
                break
            try:
                session = await self.get_session(session_id)
            except NotFound:
                continue
            if session.status is SessionStatus.ENDED:
                continue
            for child in await self._living_below(session_id):
                if child.id not in chosen and child.id not in children:
                    children[child.id] = child
                    waiting.append(child.id)
            try:
                census = await self.get_census(session_id)
            except (PermissionDenied, Unavailable):
                preview = preview.with_session(session, None)
            else:
                preview = preview.with_session(session, census)
        return replace(preview, children=tuple(children.values()))

    async def _living_below(self, session_id: bytes) -> list[Session]:
        found: list[Session] = []
        token = ""
        while True:
            page = await self.list_sessions(parent_id=session_id, page_size=1000, page_token=token)
            found += [each for each in page.sessions if each.status is not SessionStatus.ENDED]
            token = page.next_page_token
            if not token:
                return found

    async def list_bans(self) -> list[SessionBan]:
        """Return the bans of new sessions that have not lapsed."""
        return await self._run(session_calls.list_bans())

    async def lift_ban(
        self,
        *,
        subject: str = "",
        owner: str = "",
        labels: Mapping[str, str] | None = None,
        all_sessions: bool = False,
    ) -> None:
        """Lift the ban by these very parts. Raises NotFound if there is none."""
        await self._run(session_calls.lift_ban(session_calls.selector(subject, owner, labels, all_sessions)))

    async def freeze(self, reason: str = "") -> None:
        """Deny every check and refuse all new authority, on the server's host or all hosts of its cluster.

        ``reason`` has up to 256 bytes. Sessions can still be ended, and their leases renewed.
        """
        await self._run(session_calls.freeze(reason))

    async def thaw(self) -> None:
        """Undo :meth:`freeze`; sessions that have not ended meanwhile go on."""
        await self._run(session_calls.thaw())

    async def get_freeze(self) -> FreezeState:
        """Return why checks are denied on the server's host."""
        return await self._run(session_calls.get_freeze())

    # Of KeyService.
    async def list_keys(self) -> list[KeyRecord]:
        """Return the issuer keys, public halves only."""
        return await self._run(operation_calls.list_keys())

    async def verifier_keys(self, issuer_keys: IssuerKeys | None = None) -> VerifierKeys:
        """Return the verifier keys of the server's host, verified; proofs are made for them.

        They must be signed by ``issuer_keys``. None: those that the client was made with, else
        those that the server itself names. Raises UsageError for a key with another signature.
        """
        signed = await self._run(operation_calls.verifier_keys())
        known = issuer_keys if issuer_keys is not None else self._prover.issuer_keys
        return self._prover.verify(signed, known if known is not None else await self.jwks())

    async def jwks(self) -> bytes:
        """Return the public issuer keys as a JWK set, JSON."""
        return await self._run(operation_calls.jwks())

    async def transaction_keys(self) -> bytes:
        """Return the public keys of the server's transaction tokens as a JWK set, JSON."""
        return await self._run(token_calls.transaction_keys())

    async def add_key(self, public_key: bytes = b"", *, owner: str = "", request_id: str = "") -> KeyRecord:
        """Add an issuer key, PREPARED. Without ``public_key`` the server makes a pair of its own."""
        return await self._run(operation_calls.add_key(public_key, owner, request_id))

    async def activate_key(self, key_id: bytes | str, *, request_id: str = "") -> KeyRecord:
        """Let a prepared key root tokens."""
        return await self._run(operation_calls.activate(key_id, request_id))

    async def retire_key(self, key_id: bytes | str, *, request_id: str = "") -> KeyRecord:
        """Let a key verify its signatures until now, and no later ones."""
        return await self._run(operation_calls.retire(key_id, request_id))

    async def distrust_key(self, key_id: bytes | str, *, request_id: str = "") -> KeyRecord:
        """Deny every token of a key, at once."""
        return await self._run(operation_calls.distrust(key_id, request_id))

    async def admit_server(
        self, name: str, *, server_key: bytes, issuer_key: bytes, address: str = "", request_id: str = ""
    ) -> tuple[KeyRecord, KeyRecord]:
        """Have the cluster trust another server, by its public keys (32 bytes each); return both.

        ``address`` (HOST:PORT) is where it can be reached. The first key signs the server's records when it
        leads, the second one roots tokens. Raises Rejected ALREADY_EXISTS if a key is there already,
        NAME_TAKEN if the name has another server key that is active or prepared, NOT_IN_CLUSTER on a single
        host.
        """
        return await self._run(
            operation_calls.admit_server(name, server_key, issuer_key, address, request_id)
        )

    async def remove_host(self, name: str) -> None:
        """Remove a host of the cluster that can't allow calls any more; receipts name it for its bound yet.

        Raises Rejected HOST_ACTIVE while it may allow, NOT_FOUND, NOT_IN_CLUSTER on a single host.
        """
        await self._run(operation_calls.remove_host(name))

    # Of UsageService.
    async def get_report(self, session_id: bytes | str) -> SessionReport:
        """Return the grants of a session and its use as verifiers observed it, after its end too."""
        return await self._run(operation_calls.get_report(session_id))

    async def get_reports(self, session_ids: Sequence[bytes | str]) -> tuple[SessionReport, ...]:
        """Return the reports of 1 to 100 sessions, in this order.

        Those that are not known, or that the caller does not reach, are left out; and those at the end that
        would make the answer too large.
        """
        return await self._run(operation_calls.get_reports(session_ids))

    async def list_reports(self, purpose: str, *, page_size: int = 0, page_token: str = "") -> ReportPage:
        """Return one page of the reports of all sessions with a purpose that the caller reaches.

        Args:
            purpose: as the sessions were opened with.
            page_size: 1 to 100; 0: 20. A page of large reports may have fewer.
            page_token: from an earlier page.
        """
        return await self._run(operation_calls.list_reports(purpose, page_size, page_token))

    async def list_activity(self, *, order: str = "denied", limit: int = 0, words: str = "") -> Activity:
        """Return the most active sessions of the last ten minutes that the caller reaches.

        Args:
            order: "denied": the most denied calls first; "calls": the most calls first.
            limit: 1 to 100 sessions; 0: 25.
            words: each begins the id, or is in subject, purpose, owner or a label (``name=value``), in any
                case. At most 200 characters.
        """
        return await self._run(operation_calls.list_activity(order, limit, words))

    async def get_census(self, session_id: bytes | str) -> Census:
        """Return every block of a session's tokens that any verifier observed."""
        return await self._run(operation_calls.get_census(session_id))

    # Of StatusService and ClusterService.
    async def server_status(self) -> ServerStatus:
        """Return the present status of the server, also while it denies every check."""
        return await self._run(operation_calls.get_status())

    async def cluster_standing(self) -> ClusterStanding:
        """Return the position of the server's host in the log, also in an alarm.

        Raises Rejected NOT_IN_CLUSTER on a single host.
        """
        return await self._run(operation_calls.get_standing())

    # Of CredentialService.
    async def list_credentials(self) -> list[ListedCredential]:
        """Return the callers of the cluster, then those of the asked host's own file."""
        return await self._run(operation_calls.list_credentials())

    async def add_credential(
        self, name: str, role: str, secret_hash: bytes, *, audiences: Sequence[str] = (), request_id: str = ""
    ) -> int:
        """Let a caller call every host of the cluster; return the revision at which it may.

        Args:
            name: 1 to 64 letters, digits, '.' or '-'. Rejected ALREADY_EXISTS if it is taken.
            role: operator, issuer, gateway, auditor, approver or follower.
            secret_hash: the BLAKE2b-256 of a secret of 32 random bytes.
            audiences: those that a gateway may check for; empty: any.
            request_id: a repeat of one returns the first outcome.
        """
        return await self._run(operation_calls.add_credential(name, role, secret_hash, audiences, request_id))

    async def remove_credential(self, name: str, *, request_id: str = "") -> int:
        """Refuse all calls of a caller, on every host; return the revision at which they are.

        Raises NotFound, and Rejected LAST_OPERATOR for the cluster's last operator.
        """
        return await self._run(operation_calls.remove_credential(name, request_id))
