"""SessionService: opens, reads, changes and ends sessions."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ... import limits
from ...model import change as changes
from ...model.change import Change, ChangeOutcome
from ...model.session import ScopeRecord, Session, SessionTerms
from ...state.writer.state_writer import StateWriter
from ...v1 import session_service_pb2 as pb
from .. import request_fields
from ..config.sections import SessionSettings
from ..evidence.receipts import ReceiptIssuer
from ..rpc.access import ISSUER, OPERATOR
from ..rpc.call import CallContext
from ..status import invalid, refused
from ..writer.submit import always_permitted, change_from, submit_and_wait, wait_for_commit
from .base import Service, deadline_checked, readable, require_visible

R = TypeVar("R")


class SessionService(Service):
    """Answers SessionService from the log."""

    descriptor = pb.DESCRIPTOR.services_by_name["SessionService"]

    def __init__(
        self,
        log: StateWriter,
        settings: SessionSettings,
        receipts: ReceiptIssuer,
        require_grants: Callable[[], None] = always_permitted,
    ) -> None:
        """Write to ``log``; ``settings`` bound lifetimes.

        ``receipts`` issues receipts of ends. ``require_grants`` raises while no authority may be granted.
        """
        self._require_grants = require_grants
        self._log = log
        self._settings = settings
        self._receipts = receipts

    def open_session(self, request: pb.OpenSessionRequest, call: CallContext) -> pb.OpenSessionResponse:
        """Open a session that the caller owns; an operator may name any owner."""
        self._require_grants()
        principal = call.principal
        owner = request_fields.text(request.owner, "owner") or principal.name
        if owner != principal.name and principal.role != OPERATOR:
            raise refused("PERMISSION_DENIED", "owner: only an operator opens for another principal")
        if request.observe and principal.role != OPERATOR:
            raise refused("PERMISSION_DENIED", "observe: only an operator opens a session in observe mode")
        if not request.subject:
            raise invalid("subject", "is required: whom or what the session is for")
        if request.ttl_ms > self._settings.max_ttl_ms:
            raise invalid("ttl_ms", f"must be at most {self._settings.max_ttl_ms} ms (sessions.max_ttl_ms)")
        parent_id = request_fields.optional_session_id(request.parent_id, "parent_id")
        if parent_id:
            self._session(parent_id, call)
        issuer_key_ids = request.issuer_key_ids
        request_fields.digests(issuer_key_ids, "issuer_key_ids", limits.MAX_SESSION_ISSUER_KEYS)
        decided = {"owner": owner, "ttl_ms": request.ttl_ms or self._settings.default_ttl_ms}
        change = change_from(
            request,
            call,
            changes.open_session,
            secrets.token_bytes(16),
            _ceiling(request),
            facts=request_fields.facts(request.facts, "facts"),
            labels=_labels(request.labels),
            **{**request_fields.named(request, SessionTerms.__annotations__), **decided},
        )
        outcome = submit_and_wait(self._log, change, call)
        return self._response(pb.OpenSessionResponse, outcome, outcome.session_id, call)

    def get_session(self, request: pb.GetSessionRequest, call: CallContext) -> pb.GetSessionResponse:
        """Return one session."""
        return pb.GetSessionResponse(
            session=self._message(request_fields.session_id(request.session_id), call)
        )

    def list_sessions(self, request: pb.ListSessionsRequest, call: CallContext) -> pb.ListSessionsResponse:
        """Return one page of the sessions that match all filters; an issuer sees its own.

        The filter compares effective statuses, the ones shown. The search is bounded, so a page may
        be short although another one follows.
        """
        size = request_fields.page_size(request.page_size)
        request_fields.optional_session_id(request.parent_id, "parent_id")
        after = request_fields.page_start(request.page_token)
        matches = deadline_checked(_filter(request, call), call)
        if request.id_prefix:
            digits = request_fields.id_prefix(request.id_prefix)
            found = self._log.sessions_beginning(digits, after, size + 1, matches)
            last, more = after, len(found) > size
        else:
            found, last, more = self._log.page_of_sessions(after, size + 1, matches, int(request.status))
        if len(found) > size:
            last = found[size - 1].id
        read = readable(self._log, call)
        return pb.ListSessionsResponse(
            sessions=[request_fields.session_message(read(session)) for session in found[:size]],
            next_page_token=request_fields.page_token(last) if more else "",
        )

    def keep_alive(self, request: pb.KeepAliveRequest, call: CallContext) -> pb.KeepAliveResponse:
        """Renew a lease; returns its durable deadline."""
        session = self._session(request_fields.session_id(request.session_id), call)
        call.raise_if_expired()
        deadline_ms = wait_for_commit(self._log.keep_alive(session.id), call)
        return pb.KeepAliveResponse(lease_deadline_ms=deadline_ms)

    def narrow_session(self, request: pb.NarrowSessionRequest, call: CallContext) -> pb.NarrowSessionResponse:
        """Narrow a ceiling, or end observe mode: every outstanding token is held to it at once."""
        fields = {
            "ceiling": _ceiling(request) if request.ceiling or not request.enforce else [],
            "enforce": request.enforce,
            "expected_epoch": request.expected_epoch,
        }
        return self._change(pb.NarrowSessionResponse, request, call, changes.narrow_session, **fields)

    def update_facts(self, request: pb.UpdateFactsRequest, call: CallContext) -> pb.UpdateFactsResponse:
        """Set and remove facts; the next check uses them."""
        self._require_grants()
        fields = {
            "set_facts": request_fields.facts(request.set, "set"),
            "remove": list(request.remove),
            "expected_epoch": request.expected_epoch,
        }
        return self._change(pb.UpdateFactsResponse, request, call, changes.update_facts, **fields)

    def suspend_session(
        self, request: pb.SuspendSessionRequest, call: CallContext
    ) -> pb.SuspendSessionResponse:
        """Deny every call of the session until it is resumed."""
        fields = {"reason": _reason(request), "expected_epoch": request.expected_epoch}
        return self._change(pb.SuspendSessionResponse, request, call, changes.suspend_session, **fields)

    def resume_session(self, request: pb.ResumeSessionRequest, call: CallContext) -> pb.ResumeSessionResponse:
        """Let a suspended session act again."""
        self._require_grants()
        fields = {"reason": _reason(request), "expected_epoch": request.expected_epoch}
        return self._change(pb.ResumeSessionResponse, request, call, changes.resume_session, **fields)

    def end_session(self, request: pb.EndSessionRequest, call: CallContext) -> pb.EndSessionResponse:
        """End a session for good, with every token and child of it: one write, and then its receipt."""
        reason = _reason(request)
        response = self._change(pb.EndSessionResponse, request, call, changes.end_session, reason=reason)
        receipt = self._receipts.after_end(request.session_id, call)
        if receipt is not None:
            response.receipt.CopyFrom(request_fields.receipt_message(receipt))
        return response

    def _session(self, session_id: bytes, call: CallContext) -> Session:
        return require_visible(self._log.get_session(session_id), call)

    def _change(
        self,
        response: Callable[..., R],
        request: Any,
        call: CallContext,
        make: Callable[..., Change],
        **fields: Any,
    ) -> R:
        """Change the session that a request names; returns the response with the changed session."""
        session_id = request_fields.session_id(request.session_id)
        change = change_from(request, call, make, session_id, **fields)
        self._session(session_id, call)
        outcome = submit_and_wait(self._log, change, call)
        return self._response(response, outcome, session_id, call)

    def _response(
        self, response: Callable[..., R], outcome: ChangeOutcome, session_id: bytes, call: CallContext
    ) -> R:
        return response(session=self._message(session_id, call), revision=outcome.revision)

    def _message(self, session_id: bytes, call: CallContext) -> pb.Session:
        """Return a session with its effective status."""
        session = require_visible(self._log.effective_session(session_id), call)
        return request_fields.session_message(readable(self._log, call)(session))


def _ceiling(request: pb.OpenSessionRequest | pb.NarrowSessionRequest) -> list[ScopeRecord]:
    return [scope.to_record() for scope in request_fields.scopes(request.ceiling, "ceiling")]


def _reason(request: pb.SuspendSessionRequest | pb.ResumeSessionRequest | pb.EndSessionRequest) -> str:
    return request_fields.text(request.reason, "reason")


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    if len(labels) > limits.MAX_LABELS:
        raise invalid("labels", f"must be at most {limits.MAX_LABELS}, not {len(labels)}")
    for name, value in labels.items():
        request_fields.text(name, "labels")
        request_fields.text(value, f"labels[{name}]")
    return dict(labels)


def _filter(request: pb.ListSessionsRequest, call: CallContext) -> Callable[[Session], bool]:
    owner = call.principal.name if call.principal.role == ISSUER else request.owner
    if request.owner and request.owner != owner:
        return lambda session: False
    labels = dict(request.labels)

    def matches(session: Session) -> bool:
        return (
            (not request.status or int(session.status) == request.status)
            and (not request.subject or session.subject == request.subject)
            and (not owner or session.owner == owner)
            and (not request.parent_id or session.parent_id == request.parent_id)
            and all(session.labels.get(name) == value for name, value in labels.items())
        )

    return matches
