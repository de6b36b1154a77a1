"""Request digests and stage ``proof`` (sections 8.1 and 9.9 of the format)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from nacl.bindings import crypto_scalarmult
from nacl.exceptions import RuntimeError as SodiumError

from .constants import ProofKind, Reason
from .crypto import digest, verify
from .model import Block, OracleHost, OracleRequest, OracleVerifierKey
from .text import BadText, read_proof_text
from .wire import Malformed, decode

WINDOW_MS = 30_000
MAX_TIME_MS = 2**53 - 1
_LENGTHS = {"verifier_id": 16, "key_id": 32, "nonce": 16}
_TAG_LENGTHS = {int(ProofKind.ED25519): 64, int(ProofKind.MAC): 32}


def request_digest(action: bytes, resource: bytes, arguments: bytes) -> bytes:
    """Return the digest of a request's parts that holder and approver know, 32 bytes."""
    parts = (action, resource, arguments or b"{}")
    sized = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return digest(b"sessauth/request/v1\x00" + sized)


def proven(proof: Mapping[str, Any], last_signature: bytes, digest_of_request: bytes) -> bytes:
    """Return the bytes that a proof covers."""
    return b"".join(
        (
            b"sessauth/proof/v1\x00",
            bytes([proof["kind"]]),
            last_signature,
            proof["verifier_id"],
            proof["key_id"],
            digest_of_request,
            proof["time_ms"].to_bytes(8, "big"),
            proof["nonce"],
        )
    )


def agreed(secret: bytes, public_key: bytes) -> bytes | None:
    """X25519, or None where it gives zeros."""
    try:
        shared = crypto_scalarmult(secret, public_key)
    except SodiumError:
        return None
    return shared if any(shared) else None


def mac_key(
    shared: bytes, proof_key: bytes, verifier_key: bytes, next_key: bytes, verifier_id: bytes
) -> bytes:
    """The key of a holder's MACs, from what X25519 gave."""
    label = b"sessauth/proof-mac/v1\x00"
    return digest(label + shared + proof_key + verifier_key + next_key + verifier_id + digest(verifier_key))


def mac(key: bytes, message: bytes) -> bytes:
    """BLAKE2b under a key."""
    return hashlib.blake2b(message, key=key, digest_size=32).digest()


def judge_proof(block: Block, request: OracleRequest, host: OracleHost | None, now_ms: int) -> Reason | None:
    """Points 1 to 5, for a chain whose last block is this bound one; None goes on."""
    if not request.proof:
        return Reason.PROOF_REQUIRED
    counting = (
        () if host is None else tuple(k for k in host.keys if k.not_before_ms <= now_ms < k.expires_at_ms)
    )
    if host is None or host.counts_from_ms is None or not counting:
        return Reason.PROOF_UNAVAILABLE
    proof = _read(request.proof)
    if proof is None or proof["verifier_id"] != host.verifier_id:
        return Reason.BAD_PROOF
    key = next((k for k in counting if digest(k.public_key) == proof["key_id"]), None)
    if key is None or (proof["kind"] == ProofKind.MAC and not block.proof_key):
        return Reason.BAD_PROOF
    if abs(proof["time_ms"] - now_ms) > WINDOW_MS or proof["time_ms"] < host.counts_from_ms:
        return Reason.STALE_PROOF
    return None if _tag_is_right(proof, block, request, host, key) else Reason.BAD_PROOF


def take_nonce(block: Block, request: OracleRequest, host: OracleHost | None) -> Reason | None:
    """Point 6, by what the view says was taken before; None goes on."""
    proof = _read(request.proof)
    taken = host is None or proof is None or (block.signature, proof["nonce"]) in host.taken
    return Reason.REPLAYED if taken else None


def _read(data: bytes) -> dict[str, Any] | None:
    """The fields of a proof, from its bytes or its text; None for what is none."""
    try:
        if data.startswith(b"sessauth_proof_"):
            data = read_proof_text(data.decode("ascii"))
        proof: dict[str, Any] = decode("Proof", data)
    except (BadText, Malformed, UnicodeDecodeError):
        return None
    sizes_right = all(len(proof[name]) == length for name, length in _LENGTHS.items())
    if not sizes_right or len(proof["tag"]) != _TAG_LENGTHS.get(proof["kind"], -1):
        return None
    return proof if proof["time_ms"] <= MAX_TIME_MS else None


def _tag_is_right(
    proof: Mapping[str, Any], block: Block, request: OracleRequest, host: OracleHost, key: OracleVerifierKey
) -> bool:
    asked = request_digest(request.action, request.resource, request.arguments)
    message = proven(proof, block.signature, asked)
    if proof["kind"] == ProofKind.ED25519:
        return verify(block.next_key, message, proof["tag"])
    shared = agreed(key.secret, block.proof_key)
    if shared is None:
        return False
    secret = mac_key(shared, block.proof_key, key.public_key, block.next_key, host.verifier_id)
    return hmac.compare_digest(mac(secret, message), proof["tag"])
