"""SessionService and ApprovalService: opens, reads, changes and ends sessions; requested approvals.

A role lets a caller read and answer. The statement's signature decides if an answer counts: the log evaluates
it as a check would. An approver sees every waiting approval (``public_key`` narrows that to those its key
may sign), a gateway only those that it requested itself.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from ... import limits
from ..._fast.codec import base64url
from ...model import change as changes
from ...model.approval import ApprovalRecord, ApprovalStatus, SignedApproval
from ...model.change import Change, ChangeOutcome, answer_approval
from ...model.session import ScopeRecord, Session, SessionSelector, SessionTerms, lineage
from ...state.writer.state_writer import StateWriter
from ...v1 import approval_service_pb2 as approval_pb
from ...v1 import session_service_pb2 as session_pb
from ...v1 import token_pb2
from .. import request_fields
from ..evidence.receipts import ReceiptIssuer
from ..identity.key_proofs import Possession
from ..identity.login_sessions import LoginSessions, Opening, ProvenLogin
from ..keys.certificates import first_der
from ..rpc.access import GATEWAY, ISSUER, OPERATOR
from ..rpc.call import CallContext
from ..rpc.finisher import ON_A_THREAD, Steps
from ..sections import SessionSettings
from ..status import invalid, refused
from ..writer.port import change_from, change_session, submit_and_wait
from .base import Service, deadline_checked, readable, require_owner_visible, require_visible
from .minting import CeilingOf, Minter, Minting, require_repeatable

R = TypeVar("R")


@dataclass(eq=False)
class SessionService(Service):
    """Answers SessionService from the log.

    ``settings`` bound lifetimes. ``receipts`` issues receipts of ends, ``minter`` mints tokens that a session
    is opened with, ``logins`` judges tokens of identity providers. ``require_grants`` raises while no
    authority may be granted.
    """

    descriptor = session_pb.DESCRIPTOR.services_by_name["SessionService"]

    writer: StateWriter
    settings: SessionSettings
    receipts: ReceiptIssuer
    minter: Minter
    logins: LoginSessions
    require_grants: Callable[[], None]

    def open_session(
        self, request: session_pb.OpenSessionRequest, call: CallContext
    ) -> Steps[session_pb.OpenSessionResponse]:
        """Open a session that the caller owns; an operator may name any owner."""
        self.require_grants()
        if not request.identity_token:
            _require_no_proof(request)
            return (yield from self._open(request, call, None))
        opening = Opening()
        with self.logins.counted(opening):
            if request.parent_id:
                raise invalid(
                    "parent_id", "must be empty beside identity_token: the login's session is the parent"
                )
            login = self.logins.prove(request.identity_token, _shown(request, call), opening)
            return (yield from self._open(request, call, login))

    def _open(
        self, request: session_pb.OpenSessionRequest, call: CallContext, login: ProvenLogin | None
    ) -> Steps[session_pb.OpenSessionResponse]:
        """Open a session, below that of ``login`` if there is one."""
        principal = call.principal
        owner = request_fields.text(request.owner, "owner") or principal.name
        if owner != principal.name and principal.role != OPERATOR:
            raise refused("PERMISSION_DENIED", "owner: only an operator opens for another principal")
        if request.observe and principal.role != OPERATOR:
            raise refused("PERMISSION_DENIED", "observe: only an operator opens a session in observe mode")
        if request.ttl_ms > self.settings.max_ttl_ms:
            raise invalid("ttl_ms", f"must be at most {self.settings.max_ttl_ms} ms (sessions.max_ttl_ms)")
        stated = request_fields.text(request.subject, "subject")
        subject = stated or ("" if login is None else login.terms.subject)
        if not subject:
            raise invalid("subject", "is required: whom or what the session is for")
        self.logins.require_token(subject, login)
        parent_id = request_fields.optional_session_id(request.parent_id, "parent_id")
        parent = self._session(parent_id, call) if parent_id else None
        issuer_key_ids = request.issuer_key_ids
        request_fields.digests(issuer_key_ids, "issuer_key_ids", limits.MAX_SESSION_ISSUER_KEYS)
        decided: dict[str, Any] = {
            "owner": owner,
            "subject": subject,
            "ttl_ms": request.ttl_ms or self.settings.default_ttl_ms,
        }
        ceiling = _ceiling(request)
        minting = None
        if request.HasField("mint"):
            now_ms = self.writer.now_ms()
            above = parent if login is None else self.logins.session_of(login)
            ends_at_ms = now_ms + decided["ttl_ms"]
            if above is not None:
                ends_at_ms = min(ends_at_ms, above.expires_at_ms)
            elif login is not None:
                ends_at_ms = min(ends_at_ms, login.terms.ends_at_ms)
            minting = self._minting(request, ceiling, self._ceilings_of(above, login), ends_at_ms, now_ms)
            minting.try_out(now_ms)
            encoded = request.mint.SerializeToString(deterministic=True)
            decided["mint_digest"] = hashlib.blake2b(encoded, digest_size=32).digest()
        change = change_from(
            request,
            call,
            changes.open_session,
            (login.opened_id if login is not None else b"") or secrets.token_bytes(16),
            ceiling,
            facts=request_fields.facts(request.facts, "facts"),
            labels=_labels(request.labels),
            **{**request_fields.named(request, SessionTerms.__annotations__), **decided},
        )
        prepare = None if login is None else partial(self.logins.place_below, login)
        outcome, session = yield from change_session(self.writer, change, call, prepare)
        response = session_pb.OpenSessionResponse(
            session=self._shown(session, outcome.session_id, call), revision=outcome.revision
        )
        if minting is not None:
            opened = response.session
            token = minting.sign(opened.id, opened.expires_at_ms, outcome.revision, outcome.at_ms, change.id)
            response.token.CopyFrom(token)
        return response

    def get_session(
        self, request: session_pb.GetSessionRequest, call: CallContext
    ) -> session_pb.GetSessionResponse:
        """Return one session."""
        return session_pb.GetSessionResponse(
            session=self._message(request_fields.session_id(request.session_id), call)
        )

    def list_sessions(
        self, request: session_pb.ListSessionsRequest, call: CallContext
    ) -> session_pb.ListSessionsResponse:
        """Return one page of the sessions that match all filters; an issuer sees its own.

        The filter compares effective statuses, the ones shown. The search is bounded, so a page may
        be short although another one follows.
        """
        size = request_fields.page_size(request.page_size)
        request_fields.optional_session_id(request.parent_id, "parent_id")
        after = request_fields.page_start(request.page_token)
        owner = call.principal.name if call.principal.role == ISSUER else request.owner
        selector = SessionSelector.of(request.subject, owner, request.labels)
        matches = deadline_checked(_filter(request, selector), call)
        if request.id_prefix:
            digits = request_fields.id_prefix(request.id_prefix)
            found = self.writer.sessions_beginning(digits, after, size + 1, matches, selector)
            last, more = after, len(found) > size
        else:
            found, last, more = self.writer.page_of_sessions(
                after, size + 1, matches, int(request.status), selector
            )
        if len(found) > size:
            last = found[size - 1].id
        read = readable(self.writer, call)
        return session_pb.ListSessionsResponse(
            sessions=[request_fields.session_message(read(session)) for session in found[:size]],
            next_page_token=request_fields.page_token(last) if more else "",
        )

    def keep_alive(
        self, request: session_pb.KeepAliveRequest, call: CallContext
    ) -> Steps[session_pb.KeepAliveResponse]:
        """Renew a lease, or by a token that of its login's session; returns its durable deadline."""
        session_id = request_fields.session_id(request.session_id)
        if request.identity_token:
            login = self.logins.prove(request.identity_token, _shown(request, call))
            living = self.logins.session_of(login)
            # The token is the right to a session that an issuer does not see.
            if living is None or living.id != session_id:
                self._session(session_id, call)
            call.raise_if_expired()
            deadline_ms = yield self.logins.renew(login, session_id)
        else:
            _require_no_proof(request)
            self._session(session_id, call)
            call.raise_if_expired()
            deadline_ms = yield self.writer.keep_alive(session_id)
        return session_pb.KeepAliveResponse(lease_deadline_ms=deadline_ms)

    def narrow_session(
        self, request: session_pb.NarrowSessionRequest, call: CallContext
    ) -> Steps[session_pb.NarrowSessionResponse]:
        """Narrow a ceiling, or end observe mode: every outstanding token is held to it at once."""
        fields = {
            "ceiling": _ceiling(request) if request.ceiling or not request.enforce else [],
            "enforce": request.enforce,
            "expected_epoch": request.expected_epoch,
        }
        return self._change(session_pb.NarrowSessionResponse, request, call, changes.narrow_session, **fields)

    def update_facts(
        self, request: session_pb.UpdateFactsRequest, call: CallContext
    ) -> Steps[session_pb.UpdateFactsResponse]:
        """Set and remove facts; the next check uses them."""
        self.require_grants()
        fields = {
            "set_facts": request_fields.facts(request.set, "set"),
            "remove": list(request.remove),
            "expected_epoch": request.expected_epoch,
        }
        return self._change(session_pb.UpdateFactsResponse, request, call, changes.update_facts, **fields)

    def suspend_session(
        self, request: session_pb.SuspendSessionRequest, call: CallContext
    ) -> Steps[session_pb.SuspendSessionResponse]:
        """Deny every call of the session until it is resumed."""
        fields = {"reason": _reason(request), "expected_epoch": request.expected_epoch}
        return self._change(
            session_pb.SuspendSessionResponse, request, call, changes.suspend_session, **fields
        )

    def resume_session(
        self, request: session_pb.ResumeSessionRequest, call: CallContext
    ) -> Steps[session_pb.ResumeSessionResponse]:
        """Let a suspended session act again."""
        self.require_grants()
        fields = {"reason": _reason(request), "expected_epoch": request.expected_epoch}
        return self._change(session_pb.ResumeSessionResponse, request, call, changes.resume_session, **fields)

    def end_session(
        self, request: session_pb.EndSessionRequest, call: CallContext
    ) -> Steps[session_pb.EndSessionResponse]:
        """End a session for good, with every token and child of it: one write, and then its receipt."""
        outcome, session = yield from self._changed(
            request, call, changes.end_session, reason=_reason(request)
        )
        if self.receipts.may_wait(outcome.revision):
            yield ON_A_THREAD
        receipt = self.receipts.after_end(request.session_id, session, call)
        return session_pb.EndSessionResponse(
            session=self._shown(session, request.session_id, call),
            revision=outcome.revision,
            receipt=None if receipt is None else request_fields.receipt_message(receipt),
        )

    def _ceilings_of(self, above: Session | None, login: ProvenLogin | None) -> Iterable[CeilingOf]:
        """Return the ceilings above a session that is opened; of a login without a session its terms."""
        if above is None and login is not None:
            return [CeilingOf([login.ceiling], observe=False)]
        return map(CeilingOf.session, lineage(above, self.writer.get_session))

    def _minting(
        self,
        request: session_pb.OpenSessionRequest,
        ceiling: list[ScopeRecord],
        above: Iterable[CeilingOf],
        expires_at_ms: int,
        now_ms: int,
    ) -> Minting:
        """Read the request for the first token of a session that is opened."""
        require_repeatable(request.mint)
        ceilings = (CeilingOf([ceiling], request.observe), *above)
        return self.minter.read(request.mint, ceilings, request.issuer_key_ids, expires_at_ms, now_ms)

    def _session(self, session_id: bytes, call: CallContext) -> Session:
        return require_visible(self.writer.get_session(session_id), call)

    def _change(
        self,
        response: Callable[..., R],
        request: Any,
        call: CallContext,
        make: Callable[..., Change],
        **fields: Any,
    ) -> Steps[R]:
        """Change the session that a request names; returns the response with the changed session."""
        outcome, session = yield from self._changed(request, call, make, **fields)
        return response(session=self._shown(session, request.session_id, call), revision=outcome.revision)

    def _changed(
        self, request: Any, call: CallContext, make: Callable[..., Change], **fields: Any
    ) -> Steps[tuple[ChangeOutcome, Session | None]]:
        session_id = request_fields.session_id(request.session_id)
        change = change_from(request, call, make, session_id, **fields)
        require_owner_visible(self.writer.owner(session_id), call)
        return (yield from change_session(self.writer, change, call))

    def _shown(self, session: Session | None, session_id: bytes, call: CallContext) -> session_pb.Session:
        """Return the session that a change left; read where the change does not tell it."""
        return self._message(session_id, call) if session is None else request_fields.session_message(session)

    def _message(self, session_id: bytes, call: CallContext) -> session_pb.Session:
        """Return a session with its effective status."""
        session = require_visible(self.writer.effective_session(session_id), call)
        return request_fields.session_message(readable(self.writer, call)(session))


def _require_no_proof(request: session_pb.OpenSessionRequest | session_pb.KeepAliveRequest) -> None:
    if request.identity_proof:
        raise invalid("identity_proof", "must be empty without the identity_token that it belongs to")


def _shown(
    request: session_pb.OpenSessionRequest | session_pb.KeepAliveRequest, call: CallContext
) -> Possession:
    return Possession(_thumbprint(call), request.identity_proof, call.method)


def _thumbprint(call: CallContext) -> str:
    """Return the SHA-256 of the caller's client certificate in base64url; empty without one.

    The connection of a call that another host handed on shows that host's certificate.
    """
    pems = () if call.context.stated is not None else call.context.auth_context().get("x509_pem_cert", ())
    der = first_der(pems[0]) if pems else b""
    return base64url.encode(hashlib.sha256(der).digest()) if der else ""


def _ceiling(request: session_pb.OpenSessionRequest | session_pb.NarrowSessionRequest) -> list[ScopeRecord]:
    return [scope.to_record() for scope in request_fields.scopes(request.ceiling, "ceiling")]


def _reason(
    request: session_pb.SuspendSessionRequest
    | session_pb.ResumeSessionRequest
    | session_pb.EndSessionRequest,
) -> str:
    return request_fields.text(request.reason, "reason")


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    if len(labels) > limits.MAX_LABELS:
        raise invalid("labels", f"must be at most {limits.MAX_LABELS}, not {len(labels)}")
    for name, value in labels.items():
        request_fields.text(name, "labels")
        request_fields.text(value, f"labels[{name}]")
    return dict(labels)


def _filter(request: session_pb.ListSessionsRequest, selector: SessionSelector) -> Callable[[Session], bool]:
    if request.owner and request.owner != selector.owner:
        return lambda session: False

    def matches(session: Session) -> bool:
        return (
            (not request.status or int(session.status) == request.status)
            and (not request.parent_id or session.parent_id == request.parent_id)
            and selector.fits(session.subject, session.owner, session.labels)
        )

    return matches


@dataclass(eq=False)
class ApprovalService(Service):
    """Answers ApprovalService from the log. ``require_grants`` raises while no authority may be granted."""

    descriptor = approval_pb.DESCRIPTOR.services_by_name["ApprovalService"]

    writer: StateWriter
    require_grants: Callable[[], None]

    def list_approvals(
        self, request: approval_pb.ListApprovalsRequest, call: CallContext
    ) -> approval_pb.ListApprovalsResponse:
        """Return one page of the approvals that match all filters, by session and id."""
        size = request_fields.page_size(request.page_size)
        found = self.writer.approvals(
            request_fields.optional_session_id(request.session_id, "session_id"),
            after=request_fields.page_start(request.page_token, 2 * request_fields.ID_BYTES),
            limit=size + 1,
            predicate=deadline_checked(self._filter(request, call), call),
        )
        page = found[:size]
        last = page[-1].session_id + page[-1].id if len(found) > size else b""
        return approval_pb.ListApprovalsResponse(
            approvals=[request_fields.approval_message(record) for record in page],
            next_page_token=request_fields.page_token(last),
            sessions=[self._session(record) for record in page],
        )

    def get_approval(
        self, request: approval_pb.GetApprovalRequest, call: CallContext
    ) -> approval_pb.GetApprovalResponse:
        """Return one approval."""
        record = self._approval(*_ids(request), call)
        session = self._session(record)
        return approval_pb.GetApprovalResponse(
            approval=request_fields.approval_message(record), session=session
        )

    def grant_approval(
        self, request: approval_pb.GrantApprovalRequest, call: CallContext
    ) -> approval_pb.GrantApprovalResponse:
        """Add a signed statement; rejected with BAD_APPROVAL if it does not count."""
        self.require_grants()
        if not request.HasField("statement"):
            raise invalid("statement", "is required: what the approver signed")
        sent = request.statement
        # The log checks it.
        statement = SignedApproval(sent.public_key, sent.signature, sent.statement)
        return self._answer(approval_pb.GrantApprovalResponse, request, call, statement=statement)

    def deny_approval(
        self, request: approval_pb.DenyApprovalRequest, call: CallContext
    ) -> approval_pb.DenyApprovalResponse:
        """Deny an approval, which stays denied until it expires."""
        reason = request_fields.text(request.reason, "reason")
        return self._answer(approval_pb.DenyApprovalResponse, request, call, deny=True, reason=reason)

    def _approval(self, session_id: bytes, approval_id: bytes, call: CallContext) -> ApprovalRecord:
        record = self.writer.approval(session_id, approval_id)
        if record is None or not _is_visible(record, call):
            raise refused("NOT_FOUND", "approval_id: no such approval")
        return record

    def _session(self, record: ApprovalRecord) -> approval_pb.ApprovalSession:
        """Return the caller, the purpose and the origin: roles that read approvals may read sessions."""
        session = self.writer.get_session(record.session_id)
        if session is None:
            return approval_pb.ApprovalSession()
        budgets = self.writer.remaining(record.session_id, record.charges)
        remaining = [token_pb2.Number(units=each.units, nanos=each.nanos) for each in budgets]
        return approval_pb.ApprovalSession(
            subject=session.subject, purpose=session.purpose, remaining=remaining
        )

    def _answer(
        self,
        response: Callable[..., R],
        request: approval_pb.GrantApprovalRequest | approval_pb.DenyApprovalRequest,
        call: CallContext,
        **answer: object,
    ) -> R:
        ids = _ids(request)
        change = change_from(request, call, answer_approval, *ids, **answer)
        outcome = submit_and_wait(self.writer, change, call)
        record = self._approval(*ids, call)
        approval, session = request_fields.approval_message(record), self._session(record)
        return response(approval=approval, revision=outcome.revision, session=session)

    def _filter(
        self, request: approval_pb.ListApprovalsRequest, call: CallContext
    ) -> Callable[[ApprovalRecord, Session], bool]:
        key = request_fields.digest(request.public_key, "public_key") if request.public_key else b""
        try:
            status = ApprovalStatus(request.status)
        except ValueError:
            raise invalid("status", "is none that this server knows") from None
        now_ms = self.writer.now_ms()

        def matches(record: ApprovalRecord, session: Session) -> bool:
            if not _is_visible(record, call) or (key and key not in record.keys):
                return False
            if status is not ApprovalStatus.UNSPECIFIED:
                return record.status is status
            # A statement of an earlier epoch never counts, so an approval of one needs no signature.
            signed = any(key == statement.public_key for statement in record.standing(now_ms))
            return record.epoch == session.epoch and record.waits(now_ms) and not signed

        return matches


def _is_visible(record: ApprovalRecord, call: CallContext) -> bool:
    return call.principal.role != GATEWAY or record.gateway == call.principal.name


def _ids(
    request: approval_pb.GetApprovalRequest
    | approval_pb.GrantApprovalRequest
    | approval_pb.DenyApprovalRequest,
) -> tuple[bytes, bytes]:
    """Return the ids of session and approval."""
    return (
        request_fields.session_id(request.session_id),
        request_fields.session_id(request.approval_id, "approval_id"),
    )
