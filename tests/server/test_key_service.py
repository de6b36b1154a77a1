from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest

from sessauth.crypto.keys import IssuerKey, load_trusted_keys
from sessauth.v1 import key_service_pb2 as pb
from sessauth.v1 import record_pb2
from tests.support.service import Caller, RpcError, Service


def test_a_key_only_moves_forward(operator: Caller) -> None:
    """Prepared, active, retired, distrusted; never back."""
    key = operator.call("KeyService/AddKey", pb.AddKeyRequest()).key
    assert key.status == record_pb2.KEY_STATUS_PREPARED

    for name, kind, status in [
        ("ActivateKey", pb.ActivateKeyRequest, record_pb2.KEY_STATUS_ACTIVE),
        ("RetireKey", pb.RetireKeyRequest, record_pb2.KEY_STATUS_RETIRED),
        ("DistrustKey", pb.DistrustKeyRequest, record_pb2.KEY_STATUS_DISTRUSTED),
    ]:
        assert operator.call(f"KeyService/{name}", kind(key_id=key.id)).key.status == status
    with pytest.raises(RpcError) as refused:
        operator.call("KeyService/ActivateKey", pb.ActivateKeyRequest(key_id=key.id))
    assert (refused.value.code, refused.value.word) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATUS")


def test_private_keys_stay_in_their_folder(service: Service, operator: Caller) -> None:
    """A key that the service made lies in keys/, 0600, and no answer holds its secret."""
    key = operator.call("KeyService/AddKey", pb.AddKeyRequest()).key
    file = Path(service.made.keys_dir, f"{key.id.hex()}.pem")
    seed = IssuerKey.load(file)._seed

    answers = [
        operator.call("KeyService/ListKeys", pb.ListKeysRequest()).SerializeToString(),
        operator.call("KeyService/GetJwks", pb.GetJwksRequest()).SerializeToString(),
    ]

    assert file.stat().st_mode & 0o777 == 0o600
    assert service.made.keys_dir.stat().st_mode & 0o777 == 0o700
    assert all(seed not in answer and seed.hex().encode() not in answer for answer in answers)


def test_jwks_leaves_out_what_is_distrusted(operator: Caller) -> None:
    """The JWK set lists Ed25519 keys that may still be verified with."""
    key = operator.call("KeyService/AddKey", pb.AddKeyRequest()).key

    def listed() -> list[str]:
        answer = operator.call("KeyService/GetJwks", pb.GetJwksRequest())
        keys = json.loads(answer.jwks)["keys"]
        assert all((key["kty"], key["crv"], key["alg"]) == ("OKP", "Ed25519", "Ed25519") for key in keys)
        return [key["x"] for key in keys]

    before = listed()
    operator.call("KeyService/DistrustKey", pb.DistrustKeyRequest(key_id=key.id))

    assert len(before) - len(listed()) == 1


def test_jwks_say_whose_a_key_is(operator: Caller) -> None:
    """An issuer's own key roots its tokens and signs nothing for the service: whoever verifies must know."""
    own = IssuerKey(bytes(range(32)))
    operator.call("KeyService/AddKey", pb.AddKeyRequest(public_key=own.public_key, owner="orchestrator"))
    document = operator.call("KeyService/GetJwks", pb.GetJwksRequest()).jwks

    owners = {key["x"]: key.get("owner", "") for key in json.loads(document)["keys"]}
    assert owners[own.public_jwk()["x"]] == "orchestrator" and "" in owners.values()
    assert own.key_id not in load_trusted_keys(document) and own.key_id in load_trusted_keys(
        document, any_owner=True
    )


def test_a_foreign_key_needs_an_owner(operator: Caller) -> None:
    """A given public key has an owner; a small-order key, or one without owner, is refused."""
    public_key = IssuerKey.generate().public_key
    added = operator.call("KeyService/AddKey", pb.AddKeyRequest(public_key=public_key, owner="pipeline")).key

    assert (added.public_key, added.owner) == (public_key, "pipeline")
    for request, field in [
        (pb.AddKeyRequest(public_key=IssuerKey.generate().public_key), "owner"),
        (pb.AddKeyRequest(owner="pipeline"), "public_key"),
        (pb.AddKeyRequest(public_key=b"\x01" + bytes(31), owner="pipeline"), "public_key"),
        (pb.AddKeyRequest(public_key=b"short", owner="pipeline"), "public_key"),
    ]:
        with pytest.raises(RpcError) as refused:
            operator.call("KeyService/AddKey", request)
        assert (refused.value.code, refused.value.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_unknown_key_is_not_found(operator: Caller) -> None:
    """Moving a key that is not listed is NOT_FOUND; an id of the wrong size is INVALID_ARGUMENT."""
    with pytest.raises(RpcError) as missing:
        operator.call("KeyService/RetireKey", pb.RetireKeyRequest(key_id=bytes(32)))
    with pytest.raises(RpcError) as short:
        operator.call("KeyService/RetireKey", pb.RetireKeyRequest(key_id=bytes(31)))

    assert missing.value.code is grpc.StatusCode.NOT_FOUND
    assert (short.value.code, short.value.field) == (grpc.StatusCode.INVALID_ARGUMENT, "key_id")
