"""SessionService: opens, reads, changes and ends sessions."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Mapping

from ... import limits
from ...model import change as changes
from ...model.change import Change
from ...model.session import Session
from ...state.writer.state_writer import StateWriter
from ...v1 import session_service_pb2 as pb
from .. import request_fields
from ..config.sections import SessionSettings
from ..evidence.receipts import ReceiptIssuer
from ..rpc.access import ISSUER, OPERATOR
from ..rpc.call import CallContext
from ..status import invalid, refused
from ..writer.submit import nothing_to_ask, reachable, submit, wait

# How often a search through all sessions looks whether anybody still waits for it.
SESSIONS_BETWEEN_LOOKS = 256


class SessionService:
    """Answers SessionService from the log."""

    def __init__(
        self,
        log: StateWriter,
        settings: SessionSettings,
        evidence: ReceiptIssuer,
        may_give: Callable[[], None] = nothing_to_ask,
    ) -> None:
        """Write to ``log``; ``settings`` bound lifetimes.

        ``evidence`` makes receipts of ends. ``may_give`` raises where nothing may be given.
        """
        self._may_give = may_give
        self._log = log
        self._settings = settings
        self._evidence = evidence

    def open_session(self, request: pb.OpenSessionRequest, call: CallContext) -> pb.OpenSessionResponse:
        """Open a session that the caller, or for an operator anybody, owns."""
        self._may_give()
        principal = call.principal
        owner = request_fields.text(request.owner, "owner") or principal.name
        if owner != principal.name and principal.role != OPERATOR:
            raise refused("PERMISSION_DENIED", "owner: only an operator opens for another principal")
        if not request.subject:
            raise invalid("subject", "is required: whom or what the session is for")
        if request.ttl_ms > self._settings.max_ttl_ms:
            raise invalid("ttl_ms", f"must be at most {self._settings.max_ttl_ms} (sessions.max_ttl_ms)")
        parent_id = request_fields.optional_session_id(request.parent_id, "parent_id")
        if parent_id:
            reachable(self._log.get_session(parent_id), call)
        change = changes.open_session(
            request_fields.request_id(request.request_id),
            secrets.token_bytes(16),
            [scope.to_record() for scope in request_fields.scopes(request.ceiling, "ceiling")],
            subject=request_fields.text(request.subject, "subject"),
            purpose=request_fields.text(request.purpose, "purpose"),
            owner=owner,
            actor=principal.name,
            parent_id=parent_id,
            facts=request_fields.facts(request.facts, "facts"),
            labels=_labels(request.labels),
            ttl_ms=request.ttl_ms or self._settings.default_ttl_ms,
            lease_ms=request.lease_ms,
            issuer_key_ids=request_fields.digests(
                request.issuer_key_ids, "issuer_key_ids", limits.MAX_SESSION_ISSUER_KEYS
            ),
        )
        outcome = submit(self._log, change, call)
        session = self._session(outcome.session_id, call)
        return pb.OpenSessionResponse(
            session=request_fields.session_message(session), revision=outcome.revision
        )

    def get_session(self, request: pb.GetSessionRequest, call: CallContext) -> pb.GetSessionResponse:
        """Return one session."""
        session = self._session(request_fields.session_id(request.session_id), call)
        return pb.GetSessionResponse(session=request_fields.session_message(session))

    def list_sessions(self, request: pb.ListSessionsRequest, call: CallContext) -> pb.ListSessionsResponse:
        """Return one page of the sessions that match all filters; an issuer sees its own.

        The search for it is bounded, so a page may be shorter than was asked for and have one behind it.
        """
        size = request_fields.page_size(request.page_size)
        request_fields.optional_session_id(request.parent_id, "parent_id")
        after, fits = request_fields.page_start(request.page_token), _filter(request, call)
        if request.id_prefix:
            digits = request_fields.id_prefix(request.id_prefix)
            found = self._log.sessions_beginning(digits, after, size + 1, fits)
            last, more = after, len(found) > size
        else:
            found, last, more = self._log.page_of_sessions(after, size + 1, fits, int(request.status))
        if len(found) > size:
            last = found[size - 1].id
        return pb.ListSessionsResponse(
            sessions=[request_fields.session_message(session) for session in found[:size]],
            next_page_token=request_fields.page_token(last) if more else "",
        )

    def keep_alive(self, request: pb.KeepAliveRequest, call: CallContext) -> pb.KeepAliveResponse:
        """Renew a lease; returns the deadline that is durable."""
        session = self._session(request_fields.session_id(request.session_id), call)
        call.raise_if_expired()
        return pb.KeepAliveResponse(lease_deadline_ms=wait(self._log.keep_alive(session.id), call))

    def narrow_session(self, request: pb.NarrowSessionRequest, call: CallContext) -> pb.NarrowSessionResponse:
        """Narrow a ceiling: every outstanding token is held to it at once."""
        scopes = request_fields.scopes(request.ceiling, "ceiling")
        change = changes.narrow_session(
            request_fields.request_id(request.request_id),
            request_fields.session_id(request.session_id),
            [scope.to_record() for scope in scopes],
            actor=call.principal.name,
            expected_epoch=request.expected_epoch,
        )
        session, revision = self._change(change, call)
        return pb.NarrowSessionResponse(session=session, revision=revision)

    def update_facts(self, request: pb.UpdateFactsRequest, call: CallContext) -> pb.UpdateFactsResponse:
        """Set and remove facts; the next check is judged by them."""
        self._may_give()
        change = changes.update_facts(
            request_fields.request_id(request.request_id),
            request_fields.session_id(request.session_id),
            set_facts=request_fields.facts(request.set, "set"),
            remove=list(request.remove),
            actor=call.principal.name,
            expected_epoch=request.expected_epoch,
        )
        session, revision = self._change(change, call)
        return pb.UpdateFactsResponse(session=session, revision=revision)

    def suspend_session(
        self, request: pb.SuspendSessionRequest, call: CallContext
    ) -> pb.SuspendSessionResponse:
        """Deny every call of the session until it is resumed."""
        change = changes.suspend_session(
            request_fields.request_id(request.request_id),
            request_fields.session_id(request.session_id),
            request_fields.text(request.reason, "reason"),
            actor=call.principal.name,
            expected_epoch=request.expected_epoch,
        )
        session, revision = self._change(change, call)
        return pb.SuspendSessionResponse(session=session, revision=revision)

    def resume_session(self, request: pb.ResumeSessionRequest, call: CallContext) -> pb.ResumeSessionResponse:
        """Let a suspended session act again."""
        self._may_give()
        change = changes.resume_session(
            request_fields.request_id(request.request_id),
            request_fields.session_id(request.session_id),
            request_fields.text(request.reason, "reason"),
            actor=call.principal.name,
            expected_epoch=request.expected_epoch,
        )
        session, revision = self._change(change, call)
        return pb.ResumeSessionResponse(session=session, revision=revision)

    def end_session(self, request: pb.EndSessionRequest, call: CallContext) -> pb.EndSessionResponse:
        """End a session for good, with every token and child of it: one write, and then its receipt."""
        change = changes.end_session(
            request_fields.request_id(request.request_id),
            request_fields.session_id(request.session_id),
            request_fields.text(request.reason, "reason"),
            actor=call.principal.name,
        )
        session, revision = self._change(change, call)
        receipt = self._evidence.after_end(change.session_id, call)
        return pb.EndSessionResponse(
            session=session,
            revision=revision,
            receipt=None if receipt is None else request_fields.receipt_message(receipt),
        )

    def methods(self) -> Mapping[str, Callable[..., object]]:
        """Return the RPCs of the service by name."""
        return {
            "OpenSession": self.open_session,
            "GetSession": self.get_session,
            "ListSessions": self.list_sessions,
            "KeepAlive": self.keep_alive,
            "NarrowSession": self.narrow_session,
            "UpdateFacts": self.update_facts,
            "SuspendSession": self.suspend_session,
            "ResumeSession": self.resume_session,
            "EndSession": self.end_session,
        }

    def _session(self, session_id: bytes, call: CallContext) -> Session:
        return reachable(self._log.get_session(session_id), call)

    def _change(self, change: Change, call: CallContext) -> tuple[pb.Session, int]:
        self._session(change.session_id, call)
        outcome = submit(self._log, change, call)
        session = self._session(change.session_id, call)
        return request_fields.session_message(session), outcome.revision


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
    seen = itertools.count(1)

    def matches(session: Session) -> bool:
        if next(seen) % SESSIONS_BETWEEN_LOOKS == 0:
            call.raise_if_expired()
        return (
            (not request.status or int(session.status) == request.status)
            and (not request.subject or session.subject == request.subject)
            and (not owner or session.owner == owner)
            and (not request.parent_id or session.parent_id == request.parent_id)
            and all(session.labels.get(name) == value for name, value in labels.items())
        )

    return matches
