"""Makes proofs for tests, right or wrong, with the oracle's functions, and the kernel's keys of its hosts.

Everything is derived from names, so the same calls give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacl.bindings import crypto_scalarmult_base

from sessauth._fast._check import ProofKeys, ReplayTable
from tests.oracle import proofs
from tests.oracle.constants import ProofKind
from tests.oracle.crypto import digest
from tests.oracle.decode import parse_chain
from tests.oracle.model import Chain, OracleHost, OracleRequest, OracleVerifierKey
from tests.oracle.wire import encode
from tests.support.token_forger import Key, id16, key

ED25519, MAC = int(ProofKind.ED25519), int(ProofKind.MAC)
SLOTS = 1 << 14


@dataclass(frozen=True, slots=True)
class Agreement:
    """An X25519 key pair. Only for tests: the secret is in plain sight."""

    secret: bytes
    public: bytes

    @property
    def id(self) -> bytes:
        """The key id: the digest of the public key."""
        return digest(self.public)


def agreement(name: str) -> Agreement:
    """The X25519 key pair of a name."""
    secret = digest(b"sessauth test agreement " + name.encode())
    return Agreement(secret, crypto_scalarmult_base(secret))


def verifier_key(name: str, not_before_ms: int, expires_at_ms: int) -> OracleVerifierKey:
    """The key of a host that has this name."""
    pair = agreement(name)
    return OracleVerifierKey(pair.public, pair.secret, not_before_ms, expires_at_ms)


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of a bound token: the secrets of its ``next_key`` and, if it has one, ``proof_key``."""

    next: Key
    proof: Agreement | None = None

    def tag(self, fields: dict[str, Any], message: bytes, host_key: bytes) -> bytes:
        """The right tag of a proof's kind over a message."""
        if fields["kind"] != MAC or self.proof is None:
            return self.next.sign(message)
        shared = proofs.agreed(self.proof.secret, host_key)
        assert shared is not None
        secret = proofs.mac_key(shared, self.proof.public, host_key, self.next.public, fields["verifier_id"])
        return proofs.mac(secret, message)


def holder(name: str, proof: str = "") -> Holder:
    """The holder whose keys have these names."""
    return Holder(key(name), agreement(proof) if proof else None)


def fields(
    kind: int,
    token: bytes | Chain,
    request: OracleRequest,
    who: Holder,
    host_id: bytes,
    host_key: bytes,
    time_ms: int,
    nonce: bytes,
    **said: Any,
) -> dict[str, Any]:
    """A proof's fields. What is ``said`` stands in it and is covered by the tag, unless a tag is said too."""
    chain = parse_chain(token) if isinstance(token, bytes) else token
    made: dict[str, Any] = {
        "kind": kind,
        "verifier_id": host_id,
        "key_id": digest(host_key),
        "time_ms": time_ms,
        "nonce": nonce,
        **said,
    }
    if "tag" not in said:
        asked = proofs.request_digest(request.action, request.resource, request.arguments)
        made["tag"] = who.tag(made, proofs.proven(made, chain.blocks[-1].signature, asked), host_key)
    return made


def prove(*given: Any, **said: Any) -> bytes:
    """The encoded proof of ``fields``."""
    return encode("Proof", fields(*given, **said))


def nonce(name: str) -> bytes:
    """The nonce of a name."""
    return id16("nonce " + name)


def proof_keys(host: OracleHost | None, folder: Path, now_ms: int, *, slots: int = SLOTS) -> ProofKeys | None:
    """The kernel's keys of a host, with a new table in a folder in which is taken what the host says.

    ``now_ms`` is when it was taken, by holders that have nothing else to do with the tests.
    """
    if host is None:
        return None
    table = None
    if host.counts_from_ms is not None:
        path = folder / "replay"
        path.unlink(missing_ok=True)
        table = ReplayTable.create(path, slots, host.counts_from_ms)
        for signature, taken in sorted(host.taken):
            assert table.insert(signature, taken, digest(taken), now_ms, now_ms) == 1
    keys = [(k.public_key, k.secret, k.not_before_ms, k.expires_at_ms) for k in host.keys]
    return ProofKeys(host.verifier_id, keys, table)
