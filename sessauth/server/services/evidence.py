"""EvidenceService and UsageService: the registry of verifiers, receipts of ended sessions, and sums of usage.

Verifiers report their observations to UsageService, which adds them up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from ...client._usage_messages import read_batch
from ...clock import Clock
from ...errors import ServerError, UsageError
from ...model.change import Head
from ...model.receipt import RegistrationRecord
from ...model.session import Session, fits_words
from ...state.writer.state_writer import StateWriter
from ...v1 import evidence_service_pb2 as evidence_pb
from ...v1 import receipt_pb2
from ...v1 import usage_service_pb2 as usage_pb
from .. import request_fields
from ..evidence.receipts import ReceiptIssuer
from ..evidence.registry import RegistrationRequest, VerifierKind, VerifierRegistry, validated
from ..rpc.access import ISSUER, WORKER
from ..rpc.call import CallContext
from ..status import invalid, refused
from ..usage.cluster_usage import ClusterUsage, require_host
from ..usage.host_report import read_report
from ..usage.store import UsageStore, census_message, set_session
from .base import Service, deadline_checked, owner_visible, readable, require_unix_socket, require_visible


@dataclass(eq=False)
class EvidenceService(Service):
    """Answers EvidenceService from the registry of verifiers and the log; ``receipts`` issues receipts."""

    descriptor = evidence_pb.DESCRIPTOR.services_by_name["EvidenceService"]

    writer: StateWriter
    registry: VerifierRegistry
    receipts: ReceiptIssuer

    def register_verifier(
        self, request: evidence_pb.RegisterVerifierRequest, call: CallContext
    ) -> evidence_pb.RegisterVerifierResponse:
        """Register a verifier or renew its registration. It must use this server's state."""
        worker = call.principal.role == WORKER
        if worker:
            require_unix_socket(call)
        record = RegistrationRecord(
            request.name,
            call.principal.name,
            request.instance,
            request.process_id,
            request.process_started,
            request.staleness_ms,
            request.revision,
        )
        kind = VerifierKind.WORKER if worker else VerifierKind.EMBEDDED
        registration = validated(RegistrationRequest(kind, record))
        head = self.writer.head()
        if request.leave:
            self.registry.leave(registration.record.name, record.instance)
            return evidence_pb.RegisterVerifierResponse(revision=head.revision)
        _require_same_state(request, head)
        return evidence_pb.RegisterVerifierResponse(revision=self.registry.register(registration))

    def get_receipt(
        self, request: evidence_pb.GetReceiptRequest, call: CallContext
    ) -> evidence_pb.GetReceiptResponse:
        """Return the receipt of a session that the caller sees."""
        session = require_visible(
            self.writer.get_session(request_fields.session_id(request.session_id)), call
        )
        receipt = self.receipts.receipt(session, call)
        return evidence_pb.GetReceiptResponse(receipt=request_fields.receipt_message(receipt))

    def list_verifiers(
        self, request: evidence_pb.ListVerifiersRequest, call: CallContext
    ) -> evidence_pb.ListVerifiersResponse:
        """Return the registered verifiers with their state against the last end; this process first."""
        own = self.receipts.own_status(self.writer.head().revision)
        here = evidence_pb.Verifier(
            name=own.name,
            kind=evidence_pb.VERIFIER_KIND_CONTROL,
            state=receipt_pb2.VerifierState.Name(own.state),
            revision=own.revision,
            renewed_at_ms=own.at_ms,
        )
        return evidence_pb.ListVerifiersResponse(
            verifiers=[here]
            + [
                evidence_pb.Verifier(
                    name=entry.record.name,
                    kind=evidence_pb.VerifierKind.Name(entry.kind),
                    principal=entry.record.principal,
                    state=receipt_pb2.VerifierState.Name(state),
                    revision=entry.revision,
                    staleness_ms=entry.record.staleness_ms,
                    registered_at_ms=entry.record.registered_at_ms,
                    renewed_at_ms=entry.renewed_at_ms,
                )
                for entry, state in self.registry.all()
            ]
        )


def _require_same_state(request: evidence_pb.RegisterVerifierRequest, head: Head) -> None:
    """Refuse a verifier of another state folder: its revisions are not comparable."""
    if (request.cluster_id, request.incarnation) != (head.cluster_id, head.incarnation):
        raise refused(
            "OTHER_STATE",
            "cluster_id: the verifier reads another state than this server writes; open this one's",
        )
    if request.revision > head.revision:
        raise invalid("revision", f"{request.revision} is beyond this server's, {head.revision}")


# Bound of one response in bytes; a client takes 12 MiB.
MAX_RESPONSE_BYTES: Final = 8 << 20
MAX_PAGE: Final = 100
DEFAULT_PAGE: Final = 20
DEFAULT_ACTIVE: Final = 25
MAX_WORDS_CHARS: Final = 200


@dataclass(eq=False)
class UsageService(Service):
    """Answers UsageService from the usage store, or from the usage of all hosts in ``cluster``.

    ``usage``: usage records of other hosts are collected too. ``counts``: this server's own verifiers report.
    """

    descriptor = usage_pb.DESCRIPTOR.services_by_name["UsageService"]

    writer: StateWriter
    store: UsageStore
    clock: Clock
    cluster: ClusterUsage | None = None
    usage: bool = False
    counts: bool = True

    def report_observations(
        self, request: usage_pb.ReportObservationsRequest, call: CallContext
    ) -> usage_pb.ReportObservationsResponse:
        """Add a verifier's observations. A faulty request is refused whole and changes nothing."""
        verifier = call.principal.name
        if call.principal.role == WORKER:
            require_unix_socket(call)
            verifier = request.verifier
        try:
            batch = read_batch(request, verifier, self.clock.now_ms())
        except UsageError as error:
            raise _invalid(error) from error
        call.raise_if_expired()
        ack = self.store.report_observations(batch)
        return usage_pb.ReportObservationsResponse(control_id=ack.control_id, wants_usage=ack.wants_usage)

    def get_report(self, request: usage_pb.GetReportRequest, call: CallContext) -> usage_pb.GetReportResponse:
        """Return the report of a session, those of some sessions, or one page of those of a purpose.

        Raises NotLeader: only the leader has the use of all hosts.
        """
        stated = (request.session_id, request.session_ids, request.purpose)
        if sum(map(bool, stated)) != 1:
            raise invalid("session_id", "state one of session_id, session_ids, purpose")
        if request.session_id:
            return usage_pb.GetReportResponse(
                reports=[self._report(request.session_id, call)], hosts=self._hosts()
            )
        if request.session_ids:
            return self._reports(request.session_ids, call)
        if request.page_size > MAX_PAGE:
            raise invalid("page_size", f"must be 1 to {MAX_PAGE}, not {request.page_size}")
        size = request.page_size or DEFAULT_PAGE

        if self.cluster is not None:
            self.cluster.require_leading()

        def matches(session: Session) -> bool:
            return session.purpose == request.purpose and owner_visible(session.owner, call)

        sessions = self.writer.list_sessions(
            request_fields.page_start(request.page_token), size + 1, deadline_checked(matches, call)
        )
        response = usage_pb.GetReportResponse(hosts=self._hosts())
        response_bytes = 0
        for number, session in enumerate(sessions):
            report = self._report(session.id, call) if number < size else None
            response_bytes += 0 if report is None else report.ByteSize()
            if report is None or (number and response_bytes > MAX_RESPONSE_BYTES):
                response.next_page_token = request_fields.page_token(sessions[number - 1].id)
                break
            response.reports.append(report)
        return response

    def get_census(self, request: usage_pb.GetCensusRequest, call: CallContext) -> usage_pb.GetCensusResponse:
        """Return every block of a session's tokens that a verifier observed."""
        report = self._report(request.session_id, call)
        census = census_message(report, partial(self.writer.is_revoked, report.session.id))
        census.hosts.extend(self._hosts())
        return census

    def list_activity(
        self, request: usage_pb.ListActivityRequest, call: CallContext
    ) -> usage_pb.ListActivityResponse:
        """Return the sessions with the most denied calls, or the most calls, of the last ten minutes.

        Raises NotLeader: only the leader has the use of all hosts.
        """
        if request.order not in usage_pb.ActivityOrder.values():
            raise invalid("order", f"this server has no order {request.order}")
        if request.limit > MAX_PAGE:
            raise invalid("limit", f"must be 1 to {MAX_PAGE}, not {request.limit}")
        if len(request.words) > MAX_WORDS_CHARS:
            raise invalid("words", f"must have at most {MAX_WORDS_CHARS} characters")
        if self.cluster is not None:
            self.cluster.require_leading()
        recent = self.store.recent
        response = usage_pb.ListActivityResponse(elapsed_ms=recent.elapsed_ms(), hosts=self._hosts())
        if self.counts or len(recent):
            response.since_ms = recent.since_ms
        if call.principal.role != ISSUER:
            response.allowed[:], response.denied[:] = recent.total()
        read = deadline_checked(self.writer.effective_session, call)
        shown = readable(self.writer, call)
        by_calls = request.order == usage_pb.ACTIVITY_ORDER_CALLS
        for session_id, (allowed, denied) in recent.ranked(by_calls=by_calls):
            session = read(session_id)
            if session is None or not owner_visible(session.owner, call):
                continue
            if not fits_words(session, request.words):
                continue
            message = request_fields.session_message(shown(session))
            response.sessions.add(session=message, allowed=allowed, denied=denied)
            if len(response.sessions) == (request.limit or DEFAULT_ACTIVE):
                break
        return response

    def report_host_usage(
        self, request: usage_pb.ReportHostUsageRequest, call: CallContext
    ) -> usage_pb.ReportHostUsageResponse:
        """Take the sums of a host. Raises NotLeader; a faulty request changes nothing."""
        if self.cluster is None:
            raise refused("NOT_IN_CLUSTER", "this server is a single host; report to one of a cluster")
        self.cluster.require_leading()
        require_host(request.host, call.principal.name, self.writer.host(request.host))
        try:
            report = read_report(request, self.clock.now_ms(), usage=self.usage)
        except UsageError as error:
            raise _invalid(error) from error
        call.raise_if_expired()
        return self.cluster.take(report)

    def _hosts(self) -> list[usage_pb.HostUsage]:
        return [] if self.cluster is None else self.cluster.hosts()

    def _reports(self, session_ids: Sequence[bytes], call: CallContext) -> usage_pb.GetReportResponse:
        """Return the reports of sessions, as many as one answer takes."""
        if len(session_ids) > MAX_PAGE:
            raise invalid("session_ids", f"must be at most {MAX_PAGE}, not {len(session_ids)}")
        response = usage_pb.GetReportResponse(hosts=self._hosts())
        response_bytes = 0
        for session_id in session_ids:
            report = self._find_report(session_id, call)
            if report is None:
                continue
            response_bytes += report.ByteSize()
            if response.reports and response_bytes > MAX_RESPONSE_BYTES:
                break
            response.reports.append(report)
        return response

    def _report(self, session_id: bytes, call: CallContext) -> usage_pb.SessionReport:
        report = self._find_report(session_id, call)
        if report is None:
            raise refused("NOT_FOUND", "session_id: no such session, and nothing is known of one")
        return report

    def _find_report(self, session_id: bytes, call: CallContext) -> usage_pb.SessionReport | None:
        """Return a session's report; None for one that is not known, or is another owner's."""
        call.raise_if_expired()
        usage = self.store if self.cluster is None else self.cluster
        report = usage.report(request_fields.session_id(session_id))
        if report is None or not owner_visible(report.session.owner, call):
            return None
        # A stored report has the session's own status.
        session = self.writer.effective_session(session_id)
        if session is not None:
            set_session(report, readable(self.writer, call)(session))
        return report


def _invalid(error: UsageError) -> ServerError:
    """Return the refusal for a request whose field is at fault."""
    field, _, problem = str(error).partition(": ")
    return invalid(field, problem)
