"""CredentialService: the callers of a cluster, which each of its hosts knows."""

from __future__ import annotations

from ...model.change import add_credential, remove_credential
from ...model.credential import CredentialRecord, fault
from ...state import layout
from ...state.writer.state_writer import StateWriter
from ...v1 import credential_service_pb2 as pb
from .. import request_fields
from ..rpc.authenticate import Authenticator
from ..rpc.call import CallContext
from ..status import invalid, refused
from ..writer.submit import submit_and_wait
from .base import Service


class CredentialService(Service):
    """Answers CredentialService from the log, and from this host's own file."""

    descriptor = pb.DESCRIPTOR.services_by_name["CredentialService"]

    def __init__(self, log: StateWriter, callers: Authenticator) -> None:
        """Write to ``log``; ``callers`` has the names that this host alone knows."""
        self._log = log
        self._callers = callers

    def add_credential(self, request: pb.AddCredentialRequest, call: CallContext) -> pb.AddCredentialResponse:
        """Let a caller call every host of the cluster."""
        request_id = self._request_id(request.request_id)
        wanted = CredentialRecord(request.name, request.role, tuple(request.audiences), request.secret_hash)
        field, rule = fault(wanted)
        if field:
            raise invalid(field, rule)
        # Two callers of one name would reach each other's sessions.
        if request.name in self._callers.credentials.file.current().entries:
            raise refused(
                "ALREADY_EXISTS", f"name: {request.name} is in this host's own file; choose another"
            )
        if any(entry.name == request.name for entry in self._callers.identities.entries):
            raise refused(
                "ALREADY_EXISTS", f"name: {request.name} is the name of a certificate in [[identities]]"
            )
        change = add_credential(
            request_id,
            wanted.name,
            wanted.role,
            wanted.secret_hash,
            audiences=wanted.audiences,
            actor=call.principal.name,
        )
        return pb.AddCredentialResponse(revision=submit_and_wait(self._log, change, call).revision)

    def remove_credential(
        self, request: pb.RemoveCredentialRequest, call: CallContext
    ) -> pb.RemoveCredentialResponse:
        """Refuse all calls of a caller, on every host."""
        request_id = self._request_id(request.request_id)
        name = request_fields.text(request.name, "name")
        change = remove_credential(request_id, name, actor=call.principal.name)
        return pb.RemoveCredentialResponse(revision=submit_and_wait(self._log, change, call).revision)

    def list_credentials(
        self, request: pb.ListCredentialsRequest, call: CallContext
    ) -> pb.ListCredentialsResponse:
        """Return the callers of the cluster, then those of this host's own file."""
        self._require_cluster()
        carried = [
            pb.Credential(
                name=record.name,
                role=record.role,
                audiences=record.audiences,
                added_at_ms=record.added_at_ms,
                added_by=record.added_by,
            )
            for record in self._log.credentials()
        ]
        own = [
            pb.Credential(
                name=name, role=entry.principal.role, audiences=entry.principal.audiences, local=True
            )
            for name, entry in sorted(self._callers.credentials.file.current().entries.items())
        ]
        return pb.ListCredentialsResponse(credentials=carried + own)

    def _request_id(self, value: str) -> str:
        self._require_cluster()
        if value.startswith(layout.SYSTEM_PREFIX):
            raise invalid("request_id", f"{layout.SYSTEM_PREFIX} begins the ids of the log's own changes")
        return request_fields.request_id(value)

    def _require_cluster(self) -> None:
        if not self._log.is_carried:
            raise refused(
                "NOT_IN_CLUSTER",
                "this server is a single host; its callers are in its own file",
            )
