"""Shared parts of tests of bound tokens: a server's keys as a holder has them, and a rotation that is due."""

from __future__ import annotations

from dataclasses import replace

from sessauth.clock import SystemClock
from sessauth.crypto.keys import SignedVerifierKey, VerifierKey, VerifierKeys
from sessauth.server.process.control import Control
from sessauth.state.host.proof_keys import HostProofKeys
from sessauth.v1 import key_service_pb2 as keys_pb
from tests.support.service import Caller, Service


def verifier_keys(caller: Caller, jwks_from: Caller) -> VerifierKeys:
    """The host's keys as ``caller`` is told, verified under the issuer keys that ``jwks_from`` is told."""
    listed = caller.call("KeyService/ListVerifierKeys", keys_pb.ListVerifierKeysRequest()).keys
    jwks = jwks_from.call("KeyService/GetJwks", keys_pb.GetJwksRequest()).jwks
    signed = [SignedVerifierKey(each.payload, each.issuer_key_id, each.signature) for each in listed]
    return VerifierKeys(signed, jwks, now_ms=SystemClock().now_ms())


def current(keys: VerifierKeys) -> VerifierKey:
    """The key to prove for."""
    found = keys.current(SystemClock().now_ms())
    assert found is not None
    return found


def age_keys(service: Service, ms: int) -> None:
    """Make a running server's proof keys ``ms`` older than they are, and have it look after them."""
    control = service.control
    assert isinstance(control, Control)
    state_dir = service.made.state_dir
    with control.host_keys._lock:
        host = HostProofKeys.read(state_dir)
        aged = tuple(
            replace(key, not_before_ms=key.not_before_ms - ms, expires_at_ms=key.expires_at_ms - ms)
            for key in host.keys
        )
        replace(host, keys=aged).write(state_dir)
        control.host_keys._host = None
    control.host_keys.rotate()
