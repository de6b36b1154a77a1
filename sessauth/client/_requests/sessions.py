"""Calls about sessions, as described for both clients: opening, changes, ends, receipts, bans, the freeze."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any, Required, TypedDict

from google.protobuf.message import Message

from ..._fast import _check as kernel
from ...errors import ServerError, UsageError
from ...model.receipt import Registration, SignedReceipt, VerifierState
from ...model.session import Session, SessionBan, SessionSelector, SessionTerms
from ...scopes.scope import Scope
from ...scopes.value import Plain
from ...tokens.terms import check_terms
from ...tokens.token import Token
from ...v1 import cut_off_service_pb2 as cut_off_pb
from ...v1 import evidence_service_pb2 as evidence_pb
from ...v1 import identity_service_pb2 as identity_pb
from ...v1 import receipt_pb2, record_pb2
from ...v1 import session_service_pb2 as pb
from ...v1 import session_service_pb2 as session_pb
from .._results import (
    EndedLogins,
    EndedSession,
    EndedSessions,
    FreezeState,
    IdentityStatus,
    ProviderStatus,
    RegisteredVerifier,
    SelectedSession,
    SessionPage,
    StreamStatus,
)
from .._transport import RpcRequest
from .fields import (
    change,
    check_count,
    check_id,
    check_session_id,
    fact_messages,
    field_values,
    newer_server,
    session_from_message,
    sessions_page,
    texts,
    token_from_message,
)
from .tokens import MintTerms, mint_request

MAX_PAGE = 1000
STATUSES = {
    "": record_pb2.SESSION_STATUS_UNSPECIFIED,
    "active": record_pb2.SESSION_STATUS_ACTIVE,
    "suspended": record_pb2.SESSION_STATUS_SUSPENDED,
    "ended": record_pb2.SESSION_STATUS_ENDED,
}


class OpenTerms(SessionTerms, total=False):
    """Terms of a new session. ``subject`` and ``ceiling`` are required.

    Attributes:
        subject: the agent that acts in it.
        purpose: a text that people read: what it is opened for.
        owner: on whose behalf the agent acts.
        parent_id: the id of the session whose end is its end too, 16 bytes.
        ttl_ms: how long it lives at most, in ms. 0: the server's default lifetime.
        lease_ms: how long it lives without a renewal, in ms. 0: no lease.
        issuer_key_ids: the keys that may sign its tokens, each id of 32 bytes. None: every active key.
        observe: for operators alone: the ceiling refuses nothing, and its would-be refusals are recorded.
        ceiling: the scopes that no token of it exceeds.
        facts: values that conditions of scopes compare.
        visible_facts: the names of the facts that holders' blocks may test.
        labels: names and values by which sessions are listed and ended.
        identity_token: a token of an identity provider: the session is opened below that login's own session.
            An empty subject is then the one that the token proves. Not with ``parent_id``.
        identity_proof: the proof (DPoP) of the key that ``identity_token`` is bound to.
    """

    ceiling: Required[Sequence[Scope | str]]
    facts: Mapping[str, Plain]
    visible_facts: Collection[str]
    labels: Mapping[str, str]
    identity_token: str
    identity_proof: str


def open_session(request_id: str, terms: OpenTerms) -> RpcRequest[Session]:
    """Describe OpenSession."""
    request = _opening(terms)
    return change("SessionService/OpenSession", request, pb.OpenSessionResponse, _opened(request), request_id)


def open_and_mint(
    request_id: str, scopes: Sequence[Scope | str], audience: Sequence[str], mint: MintTerms, terms: OpenTerms
) -> RpcRequest[tuple[Session, Token]]:
    """Describe OpenSession with the session's first token."""
    request = _opening(terms)
    request.mint.CopyFrom(mint_request(b"", scopes, audience, mint))
    opened = _opened(request)
    return change(
        "SessionService/OpenSession",
        request,
        pb.OpenSessionResponse,
        lambda answer: _session_and_token(opened(answer), answer),
        request_id,
    )


def _opened(request: pb.OpenSessionRequest) -> Callable[[Any], Session]:
    """Return a function that reads the session which a request opened."""
    if not request.identity_token:
        return _session

    def below_login(answer: Any) -> Session:
        session = _session(answer)
        if not session.parent_id:
            raise ServerError(
                f"the server is older than this client: it did not read the identity token, and session "
                f"{session.id.hex()} is open without a login; end it",
                "UNKNOWN_KIND",
            )
        return session

    return below_login


def _session_and_token(session: Session, answer: Any) -> tuple[Session, Token]:
    if not answer.HasField("token"):
        raise ServerError(
            f"the server is older than this client: session {session.id.hex()} is open and has no token; "
            "mint one with mint(), or end the session",
            "UNKNOWN_KIND",
        )
    return session, token_from_message(answer.token)


def _opening(terms: OpenTerms) -> pb.OpenSessionRequest:
    check_terms(terms, OpenTerms)
    named: dict[str, Any] = {
        name: value for name, value in terms.items() if name in SessionTerms.__annotations__
    }
    if named.get("parent_id"):
        named["parent_id"] = check_id("parent_id", named["parent_id"], 16)
    key_ids = named.get("issuer_key_ids", ())
    named["issuer_key_ids"] = [check_id("issuer_key_ids", key_id, 32) for key_id in key_ids]
    for name, value in named.items():
        if isinstance(value, int):
            check_count(name, value)
    return pb.OpenSessionRequest(
        ceiling=texts("ceiling", terms["ceiling"]),
        facts=fact_messages(terms.get("facts", {}), terms.get("visible_facts", ())),
        labels=dict(terms.get("labels", {})),
        identity_token=terms.get("identity_token", ""),
        identity_proof=terms.get("identity_proof", ""),
        **named,
    )


def get_session(session_id: bytes | str) -> RpcRequest[Session]:
    """Describe GetSession."""
    return RpcRequest(
        "SessionService/GetSession",
        pb.GetSessionRequest(session_id=check_session_id(session_id)),
        pb.GetSessionResponse,
        _session,
    )


class SessionFilters(TypedDict, total=False):
    """Filters of ListSessions; unset ones do not limit.

    Attributes:
        status: ACTIVE, SUSPENDED or ENDED, in any case.
        subject: the whole subject.
        owner: the whole owner.
        parent_id: the id of the parent session, 16 bytes.
        labels: labels that it has, all of them.
        id_prefix: the first 4 to 32 hex digits of the id.
    """

    status: str
    subject: str
    owner: str
    parent_id: bytes | str
    labels: Mapping[str, str] | None
    id_prefix: str


def list_sessions(page_size: int, page_token: str, filters: SessionFilters) -> RpcRequest[SessionPage]:
    """Describe ListSessions."""
    check_terms(filters, SessionFilters)
    status, parent_id = filters.get("status", ""), filters.get("parent_id", b"")
    if status.lower() not in STATUSES:
        raise UsageError(f"status: {status!r} is not one of ACTIVE, SUSPENDED, ENDED")
    request = pb.ListSessionsRequest(
        page_size=check_count("page_size", page_size, MAX_PAGE),
        page_token=page_token,
        status=STATUSES[status.lower()],
        subject=filters.get("subject", ""),
        owner=filters.get("owner", ""),
        parent_id=check_id("parent_id", parent_id, 16) if parent_id else b"",
        labels=dict(filters.get("labels") or {}),
        id_prefix=filters.get("id_prefix", ""),
    )
    return RpcRequest("SessionService/ListSessions", request, pb.ListSessionsResponse, sessions_page)


def keep_alive(
    session_id: bytes | str, identity_token: str = "", identity_proof: str = ""
) -> RpcRequest[int]:
    """Describe KeepAlive. The result is the lease's deadline, in ms since 1970."""
    return RpcRequest(
        "SessionService/KeepAlive",
        pb.KeepAliveRequest(
            session_id=check_session_id(session_id),
            identity_token=identity_token,
            identity_proof=identity_proof,
        ),
        pb.KeepAliveResponse,
        lambda answer: int(answer.lease_deadline_ms),
    )


def narrow(
    session_id: bytes | str,
    ceiling: Sequence[Scope | str],
    expected_epoch: int,
    request_id: str,
    enforce: bool = False,
) -> RpcRequest[Session]:
    """Describe NarrowSession."""
    request = pb.NarrowSessionRequest(
        ceiling=texts("ceiling", ceiling), enforce=enforce, **_target(session_id, expected_epoch)
    )
    return _change("NarrowSession", request, pb.NarrowSessionResponse, request_id)


def update_facts(
    session_id: bytes | str,
    facts: Mapping[str, Plain],
    visible_facts: Collection[str],
    remove: Collection[str],
    expected_epoch: int,
    request_id: str,
) -> RpcRequest[Session]:
    """Describe UpdateFacts."""
    request = pb.UpdateFactsRequest(
        set=fact_messages(facts, visible_facts), remove=sorted(remove), **_target(session_id, expected_epoch)
    )
    return _change("UpdateFacts", request, pb.UpdateFactsResponse, request_id)


def suspend(
    session_id: bytes | str, reason: str, expected_epoch: int, request_id: str
) -> RpcRequest[Session]:
    """Describe SuspendSession."""
    request = pb.SuspendSessionRequest(reason=reason, **_target(session_id, expected_epoch))
    return _change("SuspendSession", request, pb.SuspendSessionResponse, request_id)


def resume(session_id: bytes | str, reason: str, expected_epoch: int, request_id: str) -> RpcRequest[Session]:
    """Describe ResumeSession."""
    request = pb.ResumeSessionRequest(reason=reason, **_target(session_id, expected_epoch))
    return _change("ResumeSession", request, pb.ResumeSessionResponse, request_id)


def _target(session_id: bytes | str, expected_epoch: int) -> dict[str, Any]:
    """Return the fields that name the session to change, and the epoch that it must have."""
    return {
        "session_id": check_session_id(session_id),
        "expected_epoch": check_count("expected_epoch", expected_epoch),
    }


def _session(answer: Any) -> Session:
    return session_from_message(answer.session)


def _change(method: str, request: Message, answer: type[Message], request_id: str) -> RpcRequest[Session]:
    return change(f"SessionService/{method}", request, answer, _session, request_id)


def end(session_id: bytes | str, reason: str, request_id: str) -> RpcRequest[EndedSession]:
    """Describe EndSession."""
    request = session_pb.EndSessionRequest(session_id=check_session_id(session_id), reason=reason)
    return change("SessionService/EndSession", request, session_pb.EndSessionResponse, _ended, request_id)


def get_receipt(session_id: bytes | str) -> RpcRequest[SignedReceipt]:
    """Describe GetReceipt. The result is unverified."""
    return RpcRequest(
        "EvidenceService/GetReceipt",
        evidence_pb.GetReceiptRequest(session_id=check_session_id(session_id)),
        evidence_pb.GetReceiptResponse,
        lambda answer: _receipt(answer.receipt),
    )


def list_verifiers() -> RpcRequest[list[RegisteredVerifier]]:
    """Describe ListVerifiers."""
    return RpcRequest(
        "EvidenceService/ListVerifiers",
        evidence_pb.ListVerifiersRequest(),
        evidence_pb.ListVerifiersResponse,
        lambda answer: [_verifier(each) for each in answer.verifiers],
    )


def register_verifier(registration: Registration) -> RpcRequest[int]:
    """Describe RegisterVerifier. The result is the server's latest revision."""
    values = {item.name: getattr(registration, item.name) for item in fields(registration)}
    return RpcRequest(
        "EvidenceService/RegisterVerifier",
        evidence_pb.RegisterVerifierRequest(**values),
        evidence_pb.RegisterVerifierResponse,
        lambda answer: int(answer.revision),
    )


def _ended(answer: Any) -> EndedSession:
    session = session_from_message(answer.session)
    values = {item.name: getattr(session, item.name) for item in fields(Session)}
    return EndedSession(**values, receipt=_receipt(answer.receipt) if answer.HasField("receipt") else None)


def _receipt(message: receipt_pb2.SignedReceipt) -> SignedReceipt:
    return SignedReceipt(bytes(message.payload), bytes(message.issuer_key_id), bytes(message.signature))


def _verifier(message: evidence_pb.Verifier) -> RegisteredVerifier:
    try:
        kind = evidence_pb.VerifierKind.Name(message.kind).removeprefix("VERIFIER_KIND_")
        values = {**field_values(message), "kind": kind, "state": VerifierState(message.state)}
        return RegisteredVerifier(**values)
    except ValueError as error:
        raise newer_server(error) from None


def selector(subject: str, owner: str, labels: Mapping[str, str] | None, all_: bool) -> SessionSelector:
    """Return the selector of a call's parameters. Raises UsageError."""
    parts = SessionSelector(subject, owner, tuple(sorted((labels or {}).items())), all_)
    wrong = parts.fault()
    if wrong:
        raise UsageError(f"selector: {wrong}")
    return parts


def end_sessions(
    parts: SessionSelector, reason: str, dry_run: bool, refuse_new_ms: int, page_token: str
) -> RpcRequest[EndedSessions]:
    """Describe EndSessions. A repeat leaves ended sessions alone."""
    request = cut_off_pb.EndSessionsRequest(
        selector=_message(parts),
        reason=reason,
        dry_run=dry_run,
        refuse_new_ms=check_count("refuse_new_ms", refuse_new_ms),
        page_token=page_token,
    )
    return RpcRequest("CutOffService/EndSessions", request, cut_off_pb.EndSessionsResponse, _all_ended)


def report_logout(provider: str, logout_token: str) -> RpcRequest[EndedLogins]:
    """Describe ReportSignal of a logout token. A repeat changes nothing."""
    return _report(identity_pb.ReportSignalRequest(provider=provider, logout_token=logout_token))


def report_revocation(provider: str, bearer: str, body: bytes) -> RpcRequest[EndedLogins]:
    """Describe ReportSignal of a global revocation. A repeat changes nothing."""
    stated = identity_pb.GlobalRevocation(bearer=bearer, body=body)
    return _report(identity_pb.ReportSignalRequest(provider=provider, revocation=stated))


def report_security_event(provider: str, token: str) -> RpcRequest[EndedLogins]:
    """Describe ReportSignal of a security event token. A repeat changes nothing."""
    return _report(identity_pb.ReportSignalRequest(provider=provider, security_event=token))


def _report(request: identity_pb.ReportSignalRequest) -> RpcRequest[EndedLogins]:
    return RpcRequest(
        "IdentityService/ReportSignal",
        request,
        identity_pb.ReportSignalResponse,
        lambda answer: EndedLogins(**field_values(answer)),
    )


def ask_stream(provider: str) -> RpcRequest[str]:
    """Describe AskStream."""
    request = identity_pb.AskStreamRequest(provider=provider)
    return RpcRequest(
        "IdentityService/AskStream", request, identity_pb.AskStreamResponse, lambda answer: str(answer.state)
    )


def cut_logins(
    provider: str, subject: str, sid: str, reason: str, *, enable: bool = False
) -> RpcRequest[EndedLogins]:
    """Describe CutLogins. A repeat cuts up to, or enables from, a later moment."""
    if bool(subject) == bool(sid):
        raise UsageError("subject, sid: state exactly one of them")
    request = identity_pb.CutLoginsRequest(
        provider=provider, subject=subject, sid=sid, reason=reason, enable=enable
    )
    return RpcRequest(
        "IdentityService/CutLogins",
        request,
        identity_pb.CutLoginsResponse,
        lambda answer: EndedLogins(**field_values(answer)),
    )


def get_identity_status() -> RpcRequest[IdentityStatus]:
    """Describe GetIdentityStatus."""
    return RpcRequest(
        "IdentityService/GetIdentityStatus",
        identity_pb.GetIdentityStatusRequest(),
        identity_pb.GetIdentityStatusResponse,
        lambda answer: IdentityStatus(tuple(map(_provider, answer.providers)), answer.cuts),
    )


def _provider(each: identity_pb.ProviderStatus) -> ProviderStatus:
    return ProviderStatus(
        each.name,
        each.issuer,
        each.keys_age_ms if each.HasField("keys_age_ms") else None,
        each.logins,
        StreamStatus(**field_values(each.stream)) if each.HasField("stream") else None,
    )


def list_bans() -> RpcRequest[list[SessionBan]]:
    """Describe ListBans."""
    return RpcRequest(
        "CutOffService/ListBans", cut_off_pb.ListBansRequest(), cut_off_pb.ListBansResponse, _bans
    )


def lift_ban(parts: SessionSelector) -> RpcRequest[None]:
    """Describe LiftBan."""
    request = cut_off_pb.LiftBanRequest(selector=_message(parts))
    return RpcRequest(
        "CutOffService/LiftBan", request, cut_off_pb.LiftBanResponse, _nothing, repeatable=False
    )


def freeze(reason: str) -> RpcRequest[None]:
    """Describe Freeze. It has the same effect however often it is done."""
    return RpcRequest(
        "CutOffService/Freeze", cut_off_pb.FreezeRequest(reason=reason), cut_off_pb.FreezeResponse, _nothing
    )


def thaw() -> RpcRequest[None]:
    """Describe Thaw. It has the same effect however often it is done."""
    return RpcRequest("CutOffService/Thaw", cut_off_pb.ThawRequest(), cut_off_pb.ThawResponse, _nothing)


def get_freeze() -> RpcRequest[FreezeState]:
    """Describe GetFreeze."""
    return RpcRequest(
        "CutOffService/GetFreeze",
        cut_off_pb.GetFreezeRequest(),
        cut_off_pb.GetFreezeResponse,
        lambda answer: FreezeState(**field_values(answer)),
    )


def _message(parts: SessionSelector) -> record_pb2.SessionSelector:
    try:
        return record_pb2.SessionSelector.FromString(parts.encode())
    except kernel.WireError as error:
        raise UsageError(f"selector: {error}") from None


def _all_ended(answer: Any) -> EndedSessions:
    values = field_values(answer)
    values["sessions"] = tuple(SelectedSession(**field_values(each)) for each in answer.sessions)
    return EndedSessions(**values)


def _bans(answer: Any) -> list[SessionBan]:
    try:
        return [SessionBan.decode(each.SerializeToString()) for each in answer.bans]
    except ValueError as error:
        raise newer_server(error) from None


def _nothing(answer: Any) -> None:
    return None
