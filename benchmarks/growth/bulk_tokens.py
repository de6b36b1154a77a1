"""Sealed root tokens by the hundred thousand, each with one signature of its own and hardly more work.

One token comes from the issuer. The others are its bytes with another session and another token id, signed
again: exactly what the issuer would have given, without encoding the same scopes a million times.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from benchmarks import tokens
from sessauth._fast._check import Chain, signed_bytes
from sessauth.crypto.keys import IssuerKey
from sessauth.tokens.token import Issuer

SIGNATURE_BYTES: Final = 64
TOKEN_ID_BYTES: Final = 16


class _Mould:
    """The bytes of one root token, cut where its signature, its session and its own id stand."""

    def __init__(self, token: bytes) -> None:
        chain = Chain.parse(token)
        (payload,), (signature,) = chain.payloads, chain.signatures
        before, between, behind = _cut(payload, chain.session_id, chain.token_id)
        self._payload = before, between, behind
        self._token = _cut(token, signature, payload)[:2]

    def cast(self, session_id: bytes, token_id: bytes, secret: bytes) -> bytes:
        """Return the token of another session and with another id, signed anew."""
        before, between, behind = self._payload
        payload = before + session_id + between + token_id + behind
        signature = crypto_sign(signed_bytes(0, b"", payload), secret)[:SIGNATURE_BYTES]
        return signature.join(self._token) + payload


def _cut(data: bytes, first: bytes, second: bytes) -> tuple[bytes, bytes, bytes]:
    """Return what stands before, between and behind two pieces of the data."""
    at = data.index(first)
    then = data.index(second, at + len(first))
    return data[:at], data[at + len(first) : then], data[then + len(second) :]


class Mint:
    """Mints tokens of some sessions in turn, without end."""

    def __init__(
        self, seed: bytes, session_ids: Sequence[bytes], scopes: Sequence[str], salt: int = 0
    ) -> None:
        """Sign with the issuer key of ``seed``; another salt gives other tokens.

        Raises:
            RuntimeError: if what it makes is no token whose signature stands.
        """
        key = IssuerKey(seed)
        self._secret = crypto_sign_seed_keypair(seed)[1]
        self._mould = _Mould(tokens.mint(Issuer(key), session_ids[0], scopes).data)
        self._session_ids = session_ids
        self._ids = random.Random(f"{salt}/{seed.hex()}")
        self._turn = 0
        for token, session_id in zip(self.take(2), session_ids[:2], strict=False):
            made = Chain.parse(token)
            if made.verify(key.public_key) >= 0 or made.session_id != session_id:
                raise RuntimeError("a token that was minted in bulk is not what the issuer makes")
        self._turn = 0

    def take(self, count: int) -> Iterator[bytes]:
        """Yield that many new tokens, of one session after the other."""
        for _ in range(count):
            session_id = self._session_ids[self._turn % len(self._session_ids)]
            self._turn += 1
            yield self._mould.cast(session_id, self._ids.randbytes(TOKEN_ID_BYTES), self._secret)
