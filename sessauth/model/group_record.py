"""The record of a group: appended by a cluster's leader to the carried log, signed, and applied by others.

    signed = record.signed_by(server_key)
    data = signed.encode()                       # carried by the engine
    SignedGroup.decode(data).is_signed_by(public_key)

docs/cluster-internals.md defines the rules by which a host takes a record.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from .._fast import _check as kernel
from .._fast.codec.record import Record
from ..crypto.signing_key import MessageKey

# Formats of records. Each change kind and carried row has the format that it came with, in
# state/writer/group.py.
OLDEST_FORMAT: Final = 1
FORMAT: Final = 2
_LABEL: Final = b"sessauth/group/v1\x00"
_DIGEST_LABEL: Final = b"sessauth/group-digest/v1\x00"
# Keys of servers are in the table of issuer keys. No credential has a name with this prefix, so no token of a
# session can have such a key as its root.
SERVER_OWNER: Final = "sessauth/server/"


class ServerKey(MessageKey):
    """An Ed25519 key that signs a server's groups."""

    __slots__ = ()

    made_by = "sessauth cluster begin"


@dataclass(frozen=True, slots=True)
class CarriedRow(Record):
    """A row that no change writes, at the end of the group; ``removed``: it is not there."""

    table: str
    key: bytes
    value: bytes = b""
    removed: bool = False


@dataclass(frozen=True, slots=True)
class GroupRecord(Record):
    """The changes of one commit of the leader, and the rows that it wrote beside them.

    ``after_seq`` is the seq of the head before the group, ``previous`` the digest of the record before (32
    bytes; empty for number 1), ``head_digest`` and ``revision`` are those of the head after the group.
    ``at_ms`` is the leader's clock. ``engine_id`` names the engine that carries it; ``begins_engine``: an
    operator had the log go on there.
    """

    format: int
    cluster_id: bytes
    incarnation: bytes
    term: int
    number: int
    previous: bytes
    server: str
    after_seq: int
    changes: tuple[bytes, ...] = ()
    rows: tuple[CarriedRow, ...] = ()
    at_ms: int = 0
    head_digest: bytes = b""
    revision: int = 0
    engine_id: str = ""
    begins_engine: bool = False

    def signed_by(self, key: MessageKey) -> SignedGroup:
        """Return this record, signed by a server's key."""
        payload = self.encode()
        return SignedGroup(payload, key.key_id, key.sign(_LABEL + payload))


@dataclass(frozen=True, slots=True)
class SignedGroup(Record):
    """An encoded GroupRecord, the id of a server's key, and its 64-byte signature."""

    payload: bytes = field(repr=False)
    key_id: bytes
    signature: bytes = field(repr=False)

    def record(self) -> GroupRecord:
        """Return the record, of any signer; raises ValueError if it is none."""
        return GroupRecord.decode(self.payload)

    def is_signed_by(self, public_key: bytes) -> bool:
        """Return True if this is a signature of ``public_key`` (32 bytes)."""
        return len(self.signature) == 64 and kernel.verify(public_key, _LABEL + self.payload, self.signature)


def record_digest(encoded: bytes) -> bytes:
    """Return the BLAKE2b-256 by which the next record names an encoded SignedGroup."""
    return hashlib.blake2b(_DIGEST_LABEL + encoded, digest_size=32).digest()


@dataclass(frozen=True, slots=True)
class CarriedPosition(Record):
    """The end of the carried log that a folder holds: number, digest, term and engine of the record.

    ``format`` is that of the cluster's records from there on, 0 for the oldest.
    ``adopted`` is the number of the last record by which an operator had the log go on; 0: there is none.
    """

    number: int = 0
    digest: bytes = b""
    term: int = 0
    engine_id: str = ""
    format: int = 0
    adopted: int = 0

    @property
    def writes(self) -> int:
        """The format that the cluster writes."""
        return self.format or OLDEST_FORMAT


@dataclass(frozen=True, slots=True)
class ClusterBrake(Record):
    """The brake of a whole cluster while it is set: why, by which caller, and when (ms since 1970)."""

    reason: str
    principal: str
    at_ms: int
