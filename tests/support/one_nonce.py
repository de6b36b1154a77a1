"""Right Ed25519 signatures that a holder may make on purpose: all with one nonce, so with one first half.

Whoever does so gives away its own key and nothing else, so a holder who wants tokens to collide can.
"""

from __future__ import annotations

import hashlib

from nacl.bindings import crypto_scalarmult_ed25519_base_noclamp

from tests.oracle.crypto import signed_bytes
from tests.oracle.wire import encode
from tests.support.token_forger import Key, Record, assemble

_ORDER = 2**252 + 27742317777372353535851937790883648493


def _scalar(digest: bytes) -> int:
    return int.from_bytes(digest, "little") % _ORDER


def _secret(of: Key) -> int:
    half = bytearray(hashlib.sha512(of.seed).digest()[:32])
    half[0] &= 248
    half[31] = half[31] & 63 | 64
    return int.from_bytes(half, "little")


def sign_with(signer: Key, nonce: int, message: bytes) -> bytes:
    """The signature of a message with a nonce of the signer's choice."""
    first = crypto_scalarmult_ed25519_base_noclamp(nonce.to_bytes(32, "little"))
    challenge = _scalar(hashlib.sha512(first + signer.public + message).digest())
    return first + ((nonce + challenge * _secret(signer)) % _ORDER).to_bytes(32, "little")


def children(
    parents: list[bytes], signatures: list[bytes], signer: Key, blocks: list[Record], nonce: int
) -> list[bytes]:
    """A token for each last block, below the signed payloads given: all signed with one nonce."""
    tokens = []
    for block in blocks:
        payload = encode("Block", block)
        signature = sign_with(signer, nonce, signed_bytes(len(parents), signatures[-1], payload))
        tokens.append(assemble([*parents, payload], [*signatures, signature]))
    return tokens
