"""EvidenceService: the registry of verifiers, and receipts of ended sessions."""

from __future__ import annotations

from ...model.log_records import Head
from ...model.registration import RegistrationRecord
from ...state.writer.state_writer import StateWriter
from ...v1 import evidence_service_pb2 as pb
from ...v1 import receipt_pb2
from .. import request_fields
from ..evidence.receipts import ReceiptIssuer
from ..evidence.registry import RegistrationRequest, VerifierRegistry, validated
from ..evidence.registry_entry import VerifierKind
from ..rpc.access import WORKER
from ..rpc.call import CallContext
from ..status import invalid, refused
from .base import Service, require_unix_socket, require_visible


class EvidenceService(Service):
    """Answers EvidenceService from the registry of verifiers and the log."""

    descriptor = pb.DESCRIPTOR.services_by_name["EvidenceService"]

    def __init__(self, log: StateWriter, registry: VerifierRegistry, receipts: ReceiptIssuer) -> None:
        """Register verifiers in ``registry``; ``receipts`` issues receipts."""
        self._log = log
        self._registry = registry
        self._receipts = receipts

    def register_verifier(
        self, request: pb.RegisterVerifierRequest, call: CallContext
    ) -> pb.RegisterVerifierResponse:
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
        head = self._log.head()
        if request.leave:
            self._registry.leave(registration.record.name, record.instance)
            return pb.RegisterVerifierResponse(revision=head.revision)
        _require_same_state(request, head)
        return pb.RegisterVerifierResponse(revision=self._registry.register(registration))

    def get_receipt(self, request: pb.GetReceiptRequest, call: CallContext) -> pb.GetReceiptResponse:
        """Return the receipt of a session that the caller sees."""
        session = require_visible(self._log.get_session(request_fields.session_id(request.session_id)), call)
        receipt = self._receipts.receipt(session, call)
        return pb.GetReceiptResponse(receipt=request_fields.receipt_message(receipt))

    def list_verifiers(self, request: pb.ListVerifiersRequest, call: CallContext) -> pb.ListVerifiersResponse:
        """Return the registered verifiers with their state against the last end; this process first."""
        own = self._receipts.own_status(self._log.head().revision)
        here = pb.Verifier(
            name=own.name,
            kind=pb.VERIFIER_KIND_CONTROL,
            state=receipt_pb2.VerifierState.Name(own.state),
            revision=own.revision,
            renewed_at_ms=own.at_ms,
        )
        return pb.ListVerifiersResponse(
            verifiers=[here]
            + [
                pb.Verifier(
                    name=entry.record.name,
                    kind=pb.VerifierKind.Name(entry.kind),
                    principal=entry.record.principal,
                    state=receipt_pb2.VerifierState.Name(state),
                    revision=entry.revision,
                    staleness_ms=entry.record.staleness_ms,
                    registered_at_ms=entry.record.registered_at_ms,
                    renewed_at_ms=entry.renewed_at_ms,
                )
                for entry, state in self._registry.all()
            ]
        )


def _require_same_state(request: pb.RegisterVerifierRequest, head: Head) -> None:
    """Refuse a verifier of another state folder: its revisions are not comparable."""
    if (request.cluster_id, request.incarnation) != (head.cluster_id, head.incarnation):
        raise refused(
            "OTHER_STATE",
            "cluster_id: the verifier reads another state than this server writes; open this one's",
        )
    if request.revision > head.revision:
        raise invalid("revision", f"{request.revision} is beyond this server's, {head.revision}")
