"""The caller of a call that a host of a cluster forwards: stated to the leader, and signed by the host.

    signed = statement.signed_by(key)
    data = signed.encode()                       # the value in the metadata
    SignedStatement.read(data)                   # the statement, if its own key signed it

Whose key that is, and for which calls it counts, ``sessauth.server.cluster.forwarding`` decides.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from .._fast import _check as kernel
from .._fast.codec.record import Record
from ..crypto.signing_key import MessageKey
from .host import INSTANCE_BYTES

ID_BYTES: Final = 16
# With base64 and the caller's other metadata it must stay below the limit of a gRPC server.
MAX_STATEMENT_BYTES: Final = 4_096
# One bit for each item of a batch of 1,024.
MAX_PROOF_BYTES: Final = 128
_LABEL: Final = b"sessauth/caller/v1\x00"


class HostKey(MessageKey):
    """An Ed25519 key that signs the statements of a follower's process. It is in memory alone."""

    __slots__ = ()

    made_by = "sessauth follow"

    @property
    def instance(self) -> bytes:
        """The instance under which the host is registered, 16 bytes: it names this key."""
        return self.key_id[:INSTANCE_BYTES]


class ItemProof(Enum):
    """The result of checking an item's proof, by the host that was asked, whose keys it is made for."""

    NOT_JUDGED = 0
    PROVEN = 1
    """It was verified, and its nonce was consumed."""
    REPLAYED = 2
    """It was verified, and its nonce had been consumed before: by the call that this one repeats, or else."""


@dataclass(frozen=True, slots=True)
class CallerStatement(Record):
    """A caller as ``host`` authenticated it, for one call to the leader of one term.

    ``request_digest`` is BLAKE2b-256 of the encoded request. ``proven`` has a bit for each item whose proof
    the host verified and whose nonce it consumed, ``replayed`` for each whose nonce had been consumed before.
    ``credential`` is the digest of the caller's credential in the cluster; empty: only the host has one.
    """

    cluster_id: bytes
    host: str
    term: int
    method: str
    request_digest: bytes
    principal: str
    role: str
    audiences: tuple[str, ...]
    issued_at_ms: int
    id: bytes
    proven: bytes = b""
    replayed: bytes = b""
    credential: bytes = b""

    def signed_by(self, key: MessageKey) -> SignedStatement:
        """Return this statement, signed."""
        payload = self.encode()
        return SignedStatement(payload, key.public_key, key.sign(_LABEL + payload))

    def proof_of(self, index: int) -> ItemProof:
        """Return the host's own result for the proof of item ``index``."""
        if _has_bit(self.proven, index):
            return ItemProof.PROVEN
        return ItemProof.REPLAYED if _has_bit(self.replayed, index) else ItemProof.NOT_JUDGED


@dataclass(frozen=True, slots=True)
class SignedStatement(Record):
    """An encoded CallerStatement, a public key (32 bytes), and its 64-byte signature."""

    payload: bytes
    public_key: bytes
    signature: bytes

    @property
    def key_id(self) -> bytes:
        """The id of the key, 32 bytes."""
        return kernel.digest(self.public_key)

    @classmethod
    def read(cls, data: bytes) -> tuple[SignedStatement, CallerStatement]:
        """Return a statement, of any signer. Raises ValueError for other bytes."""
        if len(data) > MAX_STATEMENT_BYTES:
            raise ValueError("too long")
        signed = cls.decode(data)
        statement = CallerStatement.decode(signed.payload)
        if (len(signed.public_key), len(signed.signature), len(statement.id)) != (32, 64, ID_BYTES):
            raise ValueError("a part has another length")
        for bits in (statement.proven, statement.replayed):
            if len(bits) > MAX_PROOF_BYTES or bits[-1:] == b"\x00":
                raise ValueError("the bits of proofs have another form")
        return signed, statement

    def is_genuine(self) -> bool:
        """Return True if the key that it names signed it."""
        return kernel.verify(self.public_key, _LABEL + self.payload, self.signature)


def new_statement_id() -> bytes:
    """Return a random id, 16 bytes."""
    return os.urandom(ID_BYTES)


def item_bits(proofs: Iterable[ItemProof], wanted: ItemProof) -> bytes:
    """Return a bit for each item whose proof is ``wanted``."""
    bits = 0
    for index, proof in enumerate(proofs):
        bits |= (proof is wanted) << index
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _has_bit(bits: bytes, index: int) -> bool:
    byte, bit = divmod(index, 8)
    return byte < len(bits) and bool(bits[byte] >> bit & 1)
