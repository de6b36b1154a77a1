"""EvidenceService: who judges, and the receipts of sessions that ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ...model.log_records import Head
from ...state.writer.state_writer import StateWriter
from ...v1 import evidence_service_pb2 as pb
from ...v1 import receipt_pb2
from .. import request_fields
from ..evidence.enrolled_verifier import VerifierKind
from ..evidence.receipts import ReceiptIssuer
from ..evidence.registry import RegistrationRequest, VerifierRegistry, checked
from ..rpc.access import WORKER
from ..rpc.call import CallContext
from ..status import invalid, refused
from ..writer.submit import reachable

UNIX: Final = "unix:"


class EvidenceService:
    """Answers EvidenceService from the table of verifiers and the log."""

    def __init__(self, log: StateWriter, enrolment: VerifierRegistry, evidence: ReceiptIssuer) -> None:
        """Enrol in ``enrolment``; receipts are made by ``evidence``."""
        self._log = log
        self._enrolment = enrolment
        self._evidence = evidence

    def register_verifier(
        self, request: pb.RegisterVerifierRequest, call: CallContext
    ) -> pb.RegisterVerifierResponse:
        """Enrol a verifier, or renew that. What it judges by must be this very state."""
        worker = call.principal.role == WORKER
        if worker and not call.context.peer().startswith(UNIX):
            raise refused("PERMISSION_DENIED", "workers call over the Unix socket")
        asked = checked(
            RegistrationRequest(
                request.name,
                VerifierKind.WORKER if worker else VerifierKind.EMBEDDED,
                call.principal.name,
                request.instance,
                request.staleness_ms,
                request.revision,
                request.process_id,
                request.process_started,
            )
        )
        head = self._log.head()
        if request.leave:
            self._enrolment.leave(asked.name, asked.instance)
            return pb.RegisterVerifierResponse(revision=head.revision)
        _require_same_state(request, head)
        return pb.RegisterVerifierResponse(revision=self._enrolment.hear(asked))

    def get_receipt(self, request: pb.GetReceiptRequest, call: CallContext) -> pb.GetReceiptResponse:
        """Return a session's receipt; an issuer reaches its own sessions'."""
        session = reachable(self._log.get_session(request_fields.session_id(request.session_id)), call)
        receipt = self._evidence.receipt(session, call)
        return pb.GetReceiptResponse(receipt=request_fields.receipt_message(receipt))

    def list_verifiers(self, request: pb.ListVerifiersRequest, call: CallContext) -> pb.ListVerifiersResponse:
        """Return who is enrolled, and where each stands against the last end; this process first."""
        own = self._evidence.own(self._log.head().revision)
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
                for entry, state in self._enrolment.all()
            ]
        )

    def methods(self) -> Mapping[str, Callable[..., object]]:
        """Return the RPCs of the service by name."""
        return {
            "RegisterVerifier": self.register_verifier,
            "GetReceipt": self.get_receipt,
            "ListVerifiers": self.list_verifiers,
        }


def _require_same_state(request: pb.RegisterVerifierRequest, head: Head) -> None:
    """Refuse what was read from another folder: its revisions say nothing of this one."""
    if (request.cluster_id, request.incarnation) != (head.cluster_id, head.incarnation):
        raise refused(
            "OTHER_STATE",
            "cluster_id: the verifier reads another state than this server writes; open this one's",
        )
    if request.revision > head.revision:
        raise invalid("revision", f"{request.revision} is beyond this server's, {head.revision}")
