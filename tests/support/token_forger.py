"""Makes and signs chains for tests, right or wrong, with the oracle's encoder and PyNaCl.

Everything is derived from names, so the same calls give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from tests.oracle.canonical import canonical_decimal
from tests.oracle.constants import Ending
from tests.oracle.crypto import digest, signed_bytes
from tests.oracle.model import BILLION, JsonOperand, Scalar
from tests.oracle.scope_reader import read_conditions, read_scope
from tests.oracle.wire import encode

Record = dict[str, Any]
# By session id: layers of scopes, as wire dicts.
Ceilings = Mapping[bytes, Sequence[Sequence[Mapping[str, Any]]]]


@dataclass(frozen=True, slots=True)
class Key:
    """An Ed25519 key pair. Only for tests: the secret is in plain sight."""

    seed: bytes
    public: bytes
    secret: bytes

    @property
    def id(self) -> bytes:
        """The key id: the digest of the public key."""
        return digest(self.public)

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        return crypto_sign(message, self.secret)[:64]


@cache
def key(name: str) -> Key:
    """The key pair of a name."""
    seed = digest(b"sessauth test key " + name.encode())
    public, secret = crypto_sign_seed_keypair(seed)
    return Key(seed, public, secret)


def id16(name: str) -> bytes:
    """The 16-byte id of a name."""
    return digest(b"sessauth test id " + name.encode())[:16]


def scope(text_or_record: str | Record) -> Record:
    """A scope record from text; a record stays as it is."""
    return read_scope(text_or_record) if isinstance(text_or_record, str) else text_or_record


def where(text_or_records: str | Sequence[Record]) -> list[Record]:
    """Condition records from text; records stay as they are."""
    if not text_or_records:
        return []
    return read_conditions(text_or_records) if isinstance(text_or_records, str) else list(text_or_records)


def value_record(value: Scalar) -> dict[str, Any]:
    """The wire dict of a text, a truth, a number (in billionths) or an operand of type JSON."""
    if isinstance(value, JsonOperand):
        return {"json": value.form} if value.form else {"digest": value.digest}
    if isinstance(value, Decimal):
        return {"decimal": canonical_decimal(value)}
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, bool):
        return {"truth": value}
    units, nanos = divmod(value, BILLION)
    return {"number": {"units": units, "nanos": nanos}}


def ending(kind: str, next_key: Key | None = None, proof_key: bytes = b"", may_seal: bool = False) -> Record:
    """The fields of an ending: ``sealed``, ``open`` or ``bound``."""
    record: Record = {"ending": int(Ending[kind.upper()])}
    if next_key is not None:
        record["next_key"] = next_key.public
    if proof_key:
        record["proof_key"] = proof_key
    if may_seal:
        record["may_seal"] = True
    return record


def sign(payloads: Sequence[bytes], signers: Sequence[Key]) -> list[bytes]:
    """The signatures of a chain of payloads, each by its signer."""
    signatures: list[bytes] = []
    previous = bytes(64)
    for index, (payload, signer) in enumerate(zip(payloads, signers, strict=True)):
        previous = signer.sign(signed_bytes(index, previous, payload))
        signatures.append(previous)
    return signatures


def assemble(payloads: Sequence[bytes], signatures: Sequence[bytes], version: int = 1) -> bytes:
    """The presented form of signed payloads."""
    blocks = [{"signature": s, "payload": p} for s, p in zip(signatures, payloads, strict=True)]
    return encode("Token", {"version": version, "blocks": blocks})


def make(blocks: Sequence[Mapping[str, Any]], signers: Sequence[Key]) -> bytes:
    """A token of block records, each signed by its signer."""
    payloads = [encode("Block", block) for block in blocks]
    return assemble(payloads, sign(payloads, signers))
