"""Descriptions of CredentialService's calls, for both clients."""

from __future__ import annotations

from collections.abc import Sequence

from ...v1 import credential_service_pb2 as pb
from .._results import ListedCredential
from .._transport import RpcRequest
from .fields import change, check_id, texts


def list_all() -> RpcRequest[list[ListedCredential]]:
    """Describe ListCredentials."""
    return RpcRequest(
        "CredentialService/ListCredentials",
        pb.ListCredentialsRequest(),
        pb.ListCredentialsResponse,
        lambda answer: [_credential(each) for each in answer.credentials],
    )


def add(
    name: str, role: str, secret_hash: bytes, audiences: Sequence[str], request_id: str
) -> RpcRequest[int]:
    """Describe AddCredential."""
    request = pb.AddCredentialRequest(
        name=name,
        role=role,
        secret_hash=check_id("secret_hash", secret_hash, 32),
        audiences=texts("audiences", audiences),
    )
    return change(
        "CredentialService/AddCredential",
        request,
        pb.AddCredentialResponse,
        lambda answer: int(answer.revision),
        request_id,
    )


def remove(name: str, request_id: str) -> RpcRequest[int]:
    """Describe RemoveCredential."""
    return change(
        "CredentialService/RemoveCredential",
        pb.RemoveCredentialRequest(name=name),
        pb.RemoveCredentialResponse,
        lambda answer: int(answer.revision),
        request_id,
    )


def _credential(message: pb.Credential) -> ListedCredential:
    return ListedCredential(
        message.name,
        message.role,
        tuple(message.audiences),
        message.added_at_ms,
        message.added_by,
        message.local,
    )
