"""KeyService and CredentialService: the life of issuer keys, and the callers of a whole cluster.

Private keys never travel.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from ...crypto.keys import KeyRecord, KeyStatus, SignedVerifierKey, key_id, public_jwk
from ...errors import UsageError
from ...model.change import add_credential, add_key, remove_credential, set_key_status
from ...model.host import SERVER_OWNER, CredentialRecord, fault, server_instance
from ...state import layout
from ...state.lmdb.cluster_rows import MAX_ADDRESS_BYTES
from ...state.writer.state_writer import StateWriter
from ...v1 import credential_service_pb2 as credential_pb
from ...v1 import key_service_pb2 as key_pb
from ...v1 import token_pb2
from .. import request_fields
from ..evidence.host_evidence import HostEvidence
from ..keys.issuer_keyring import KeyRing, ProofKeyRotator, signable
from ..log import event
from ..rpc.authenticate import Authenticator, PeerIdentity
from ..rpc.call import CallContext
from ..sections import ADDRESS, RESERVED, ProofSettings
from ..sections import NAME as SERVER_NAME
from ..status import invalid, refused
from ..writer.port import change_from, submit_and_wait
from .base import Service

R = TypeVar("R")


@dataclass(eq=False)
class KeyService(Service):
    """Answers KeyService from the log and the key folder; new private keys go to ``keyring``.

    ``proof_keys`` are the host's own. Those of other hosts are signed for as long as ``proofs`` permits here,
    if ``parts`` accepts the connection. ``hosts`` are those of the cluster.
    """

    descriptor = key_pb.DESCRIPTOR.services_by_name["KeyService"]

    writer: StateWriter
    keyring: KeyRing
    proof_keys: ProofKeyRotator
    proofs: ProofSettings
    parts: PeerIdentity
    hosts: HostEvidence | None
    # A name is found free and taken in two steps.
    _admitting: threading.Lock = field(default_factory=threading.Lock, init=False)

    def list_keys(self, request: key_pb.ListKeysRequest, call: CallContext) -> key_pb.ListKeysResponse:
        """Return all issuer keys with their status."""
        return key_pb.ListKeysResponse(keys=[request_fields.key_message(key) for key in self.writer.keys()])

    def get_jwks(self, request: key_pb.GetJwksRequest, call: CallContext) -> key_pb.GetJwksResponse:
        """Return the public keys that are not distrusted as a JWK set, each with its owner if it has one.

        An owned key roots its owner's sessions and signs nothing for the service.
        """
        keys = [
            {**public_jwk(key.public_key), **({"owner": key.owner} if key.owner else {})}
            for key in self.writer.keys()
            if key.status != KeyStatus.DISTRUSTED
        ]
        return key_pb.GetJwksResponse(jwks=json.dumps({"keys": keys}, separators=(",", ":")).encode())

    def list_verifier_keys(
        self, request: key_pb.ListVerifierKeysRequest, call: CallContext
    ) -> key_pb.ListVerifierKeysResponse:
        """Return the host's keys for proofs, signed by an issuer key of the service."""
        return key_pb.ListVerifierKeysResponse(keys=map(_message, self.proof_keys.signed()))

    def sign_verifier_key(
        self, request: key_pb.SignVerifierKeyRequest, call: CallContext
    ) -> key_pb.SignVerifierKeyResponse:
        """Sign the public half of a follower's key: holders may make proofs for it.

        Nothing of it is stored. The signature says no more than that the host follows this cluster: a proof
        for its key is worthless at another host, whichever verifier id the key states.
        """
        if not self.writer.is_carried:
            raise refused("NOT_IN_CLUSTER", "this server is a single host, which signs its own keys alone")
        problem = self.parts.problem(call.context)
        if problem:
            raise refused("OTHER_HOST", problem)
        head, keys, now_ms = self.writer.head(), self.writer.keys(), self.writer.now_ms()
        key = signable(request.payload, head.cluster_id, now_ms, self.proofs.key_lifetime_ms)
        issuers = {issuer.id: issuer for issuer in keys}
        signed = self.keyring.sign_proof_key(key, issuers)
        event(
            logging.INFO,
            "verifier_key_signed",
            principal=call.principal.name,
            verifier_id=key.verifier_id.hex(),
            key_id=key.key_id.hex(),
        )
        return key_pb.SignVerifierKeyResponse(key=_message(signed))

    def add_key(self, request: key_pb.AddKeyRequest, call: CallContext) -> key_pb.AddKeyResponse:
        """List a key as PREPARED: the request's, or a new one of the service's own."""
        request_id = request_fields.request_id(request.request_id)
        owner = request_fields.text(request.owner, "owner")
        if owner.startswith(RESERVED):
            raise invalid("owner", f"{RESERVED} begins the names of the cluster's own servers")
        if request.public_key:
            public_key = request.public_key
            if not owner:
                raise invalid("owner", "is required with public_key: whose sessions the key may root")
        elif owner:
            raise invalid("public_key", "is required with owner: the server makes keys only for itself")
        else:
            public_key = self.keyring.make(request_id).public_key
        try:
            added = key_id(public_key)
        except UsageError as error:
            raise invalid("public_key", str(error)) from error
        change = add_key(request_id, public_key, owner=owner, actor=call.principal.name)
        outcome = submit_and_wait(self.writer, change, call)
        return key_pb.AddKeyResponse(
            key=request_fields.key_message(self._key(added)), revision=outcome.revision
        )

    def activate_key(
        self, request: key_pb.ActivateKeyRequest, call: CallContext
    ) -> key_pb.ActivateKeyResponse:
        """Let a prepared key root tokens."""
        return self._move(key_pb.ActivateKeyResponse, request, KeyStatus.ACTIVE, call)

    def retire_key(self, request: key_pb.RetireKeyRequest, call: CallContext) -> key_pb.RetireKeyResponse:
        """Accept the tokens that a key has signed so far, and none later."""
        return self._move(key_pb.RetireKeyResponse, request, KeyStatus.RETIRED, call)

    def distrust_key(
        self, request: key_pb.DistrustKeyRequest, call: CallContext
    ) -> key_pb.DistrustKeyResponse:
        """Deny every token that a key rooted, at once."""
        return self._move(key_pb.DistrustKeyResponse, request, KeyStatus.DISTRUSTED, call)

    def admit_server(
        self, request: key_pb.AdmitServerRequest, call: CallContext
    ) -> key_pb.AdmitServerResponse:
        """Add the keys of another server of the cluster, active: it may lead, and root tokens."""
        request_id = request_fields.request_id(request.request_id)
        if not self.writer.is_carried:
            raise refused("NOT_IN_CLUSTER", "this server is a single host; begin a cluster with it first")
        if not SERVER_NAME.fullmatch(request.name):
            raise invalid("name", "must be 1 to 32 of a-z, 0-9, '.' and '-'")
        address = request.address
        if address and not (len(address) <= MAX_ADDRESS_BYTES and ADDRESS.fullmatch(address)):
            raise invalid("address", "must be HOST:PORT")
        with self._admitting:
            return self._admit(request, request_id, call)

    def _admit(
        self, request: key_pb.AdmitServerRequest, request_id: str, call: CallContext
    ) -> key_pb.AdmitServerResponse:
        self._require_free(request)
        mark = hashlib.blake2b(request_id.encode(), digest_size=16).hexdigest()
        keys, revision = [], 0
        for name, public_key, owner in (
            ("server_key", request.server_key, SERVER_OWNER + request.name),
            ("issuer_key", request.issuer_key, ""),
        ):
            try:
                added = key_id(public_key)
            except UsageError as error:
                raise invalid(name, str(error)) from error
            change = add_key(
                f"admit/{mark}/{name}",
                public_key,
                owner=owner,
                status=KeyStatus.ACTIVE,
                actor=call.principal.name,
            )
            revision = submit_and_wait(self.writer, change, call).revision
            keys.append(request_fields.key_message(self._key(added)))
            if name == "server_key" and self.hosts is not None:
                self.hosts.register_server(request.name, server_instance(added), request.address)
        return key_pb.AdmitServerResponse(server_key=keys[0], issuer_key=keys[1], revision=revision)

    def _require_free(self, request: key_pb.AdmitServerRequest) -> None:
        """Raise NAME_TAKEN if another key may sign as this server, now or once it is activated."""
        for key in self.writer.keys():
            if (
                key.owner == SERVER_OWNER + request.name
                and key.public_key != request.server_key
                and key.status in (KeyStatus.PREPARED, KeyStatus.ACTIVE)
            ):
                raise refused(
                    "NAME_TAKEN",
                    f"name: server {request.name} has the key {key.id.hex()}; retire or distrust it first",
                )

    def _move(
        self,
        response: Callable[..., R],
        request: key_pb.ActivateKeyRequest | key_pb.RetireKeyRequest | key_pb.DistrustKeyRequest,
        status: KeyStatus,
        call: CallContext,
    ) -> R:
        wanted = request_fields.digest(request.key_id, "key_id")
        change = change_from(request, call, set_key_status, wanted, status)
        outcome = submit_and_wait(self.writer, change, call)
        return response(key=request_fields.key_message(self._key(wanted)), revision=outcome.revision)

    def _key(self, wanted: bytes) -> KeyRecord:
        for key in self.writer.keys():
            if key.id == wanted:
                return key
        raise refused("NOT_FOUND", "key_id: no such key")


def _message(key: SignedVerifierKey) -> token_pb2.SignedVerifierKey:
    return token_pb2.SignedVerifierKey(
        payload=key.payload, issuer_key_id=key.issuer_key_id, signature=key.signature
    )


@dataclass(eq=False)
class CredentialService(Service):
    """Answers CredentialService from the log, and from this host's own file.

    ``callers`` has the names that this host alone knows.
    """

    descriptor = credential_pb.DESCRIPTOR.services_by_name["CredentialService"]

    writer: StateWriter
    callers: Authenticator

    def add_credential(
        self, request: credential_pb.AddCredentialRequest, call: CallContext
    ) -> credential_pb.AddCredentialResponse:
        """Let a caller call every host of the cluster."""
        request_id = self._request_id(request.request_id)
        wanted = CredentialRecord(request.name, request.role, tuple(request.audiences), request.secret_hash)
        wrong, rule = fault(wanted)
        if wrong:
            raise invalid(wrong, rule)
        # Two callers of one name would reach each other's sessions.
        if request.name in self.callers.credentials.file.current().entries:
            raise refused(
                "ALREADY_EXISTS", f"name: {request.name} is in this host's own file; choose another"
            )
        if any(entry.name == request.name for entry in self.callers.identities.entries):
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
        return credential_pb.AddCredentialResponse(
            revision=submit_and_wait(self.writer, change, call).revision
        )

    def remove_credential(
        self, request: credential_pb.RemoveCredentialRequest, call: CallContext
    ) -> credential_pb.RemoveCredentialResponse:
        """Refuse all calls of a caller, on every host."""
        request_id = self._request_id(request.request_id)
        name = request_fields.text(request.name, "name")
        change = remove_credential(request_id, name, actor=call.principal.name)
        return credential_pb.RemoveCredentialResponse(
            revision=submit_and_wait(self.writer, change, call).revision
        )

    def list_credentials(
        self, request: credential_pb.ListCredentialsRequest, call: CallContext
    ) -> credential_pb.ListCredentialsResponse:
        """Return the callers of the cluster, then those of this host's own file."""
        self._require_cluster()
        carried = [
            credential_pb.Credential(
                name=record.name,
                role=record.role,
                audiences=record.audiences,
                added_at_ms=record.added_at_ms,
                added_by=record.added_by,
            )
            for record in self.writer.credentials()
        ]
        own = [
            credential_pb.Credential(name=name, role=entry.role, audiences=entry.audiences, local=True)
            for name, entry in sorted(self.callers.credentials.file.current().entries.items())
        ]
        return credential_pb.ListCredentialsResponse(credentials=carried + own)

    def _request_id(self, value: str) -> str:
        self._require_cluster()
        if value.startswith(layout.SYSTEM_PREFIX):
            raise invalid("request_id", f"{layout.SYSTEM_PREFIX} begins the ids of the log's own changes")
        return request_fields.request_id(value)

    def _require_cluster(self) -> None:
        if not self.writer.is_carried:
            raise refused("NOT_IN_CLUSTER", "this server is a single host; its callers are in its own file")
