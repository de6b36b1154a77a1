"""Signatures, block ids and which keys may be named (sections 3.1 to 3.3 of the format)."""

from __future__ import annotations

import hashlib

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

LABEL = b"sessauth/block/v1\x00"
_P = 2**255 - 19
_Y8_BYTES = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
_Y8 = int.from_bytes(_Y8_BYTES, "little")
_SMALL_ORDER = frozenset((0, 1, _P - 1, _P, _P + 1, _Y8, _P - _Y8))


def digest(data: bytes) -> bytes:
    """H: BLAKE2b with 32 bytes of output and no key."""
    return hashlib.blake2b(data, digest_size=32).digest()


def signed_bytes(index: int, previous_signature: bytes, payload: bytes) -> bytes:
    """Return the bytes that the signature of block ``index`` covers."""
    return LABEL + bytes([index]) + previous_signature + payload


def acceptable_key(key: bytes) -> bool:
    """Return True if a 32-byte ``next_key`` is canonical and not of small order."""
    y = int.from_bytes(key, "little") & (2**255 - 1)
    return y < _P and y not in _SMALL_ORDER


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """PyNaCl's plain verification, which is the strict predicate of 3.3."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True
