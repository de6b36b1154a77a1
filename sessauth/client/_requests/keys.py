"""Descriptions of KeyService's calls, for both clients."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from ...crypto.issuer_key import KeyRecord
from ...crypto.verifier_key import SignedVerifierKey
from ...v1 import feed_service_pb2 as feed_pb
from ...v1 import key_service_pb2 as pb
from .._messages import key_from_message
from .._transport import RpcRequest
from .fields import change, check_id


def list_keys() -> RpcRequest[list[KeyRecord]]:
    """Describe ListKeys."""
    return RpcRequest(
        "KeyService/ListKeys",
        pb.ListKeysRequest(),
        pb.ListKeysResponse,
        lambda answer: [key_from_message(each) for each in answer.keys],
    )


def verifier_keys() -> RpcRequest[list[SignedVerifierKey]]:
    """Describe ListVerifierKeys. The result is unverified."""
    return RpcRequest(
        "KeyService/ListVerifierKeys",
        pb.ListVerifierKeysRequest(),
        pb.ListVerifierKeysResponse,
        lambda answer: [
            SignedVerifierKey(bytes(each.payload), bytes(each.issuer_key_id), bytes(each.signature))
            for each in answer.keys
        ],
    )


def jwks() -> RpcRequest[bytes]:
    """Describe GetJwks."""
    return RpcRequest(
        "KeyService/GetJwks", pb.GetJwksRequest(), pb.GetJwksResponse, lambda answer: bytes(answer.jwks)
    )


def add(public_key: bytes, owner: str, request_id: str) -> RpcRequest[KeyRecord]:
    """Describe AddKey. Without a public key the server makes a pair each time: not repeatable."""
    request = pb.AddKeyRequest(
        public_key=check_id("public_key", public_key, 32) if public_key else b"",
        owner=owner,
    )
    return _change("AddKey", request, pb.AddKeyResponse, request_id, repeatable=bool(public_key))


def activate(key_id: bytes, request_id: str) -> RpcRequest[KeyRecord]:
    """Describe ActivateKey."""
    request = pb.ActivateKeyRequest(key_id=check_id("key_id", key_id, 32))
    return _change("ActivateKey", request, pb.ActivateKeyResponse, request_id)


def retire(key_id: bytes, request_id: str) -> RpcRequest[KeyRecord]:
    """Describe RetireKey."""
    request = pb.RetireKeyRequest(key_id=check_id("key_id", key_id, 32))
    return _change("RetireKey", request, pb.RetireKeyResponse, request_id)


def distrust(key_id: bytes, request_id: str) -> RpcRequest[KeyRecord]:
    """Describe DistrustKey."""
    request = pb.DistrustKeyRequest(key_id=check_id("key_id", key_id, 32))
    return _change("DistrustKey", request, pb.DistrustKeyResponse, request_id)


def admit_server(
    name: str, server_key: bytes, issuer_key: bytes, address: str, request_id: str
) -> RpcRequest[tuple[KeyRecord, KeyRecord]]:
    """Describe AdmitServer."""
    request = pb.AdmitServerRequest(
        name=name,
        server_key=check_id("server_key", server_key, 32),
        issuer_key=check_id("issuer_key", issuer_key, 32),
        address=address,
    )
    return change(
        "KeyService/AdmitServer",
        request,
        pb.AdmitServerResponse,
        lambda answer: (key_from_message(answer.server_key), key_from_message(answer.issuer_key)),
        request_id,
    )


def remove_host(name: str) -> RpcRequest[None]:
    """Describe RemoveHost."""
    request = feed_pb.RemoveHostRequest(host=name)
    return RpcRequest(
        "FeedService/RemoveHost", request, feed_pb.RemoveHostResponse, lambda answer: None, repeatable=False
    )


def _key(answer: Any) -> KeyRecord:
    return key_from_message(answer.key)


def _change(
    method: str, request: Message, answer: type[Message], request_id: str, *, repeatable: bool = True
) -> RpcRequest[KeyRecord]:
    return change(f"KeyService/{method}", request, answer, _key, request_id, repeatable=repeatable)
