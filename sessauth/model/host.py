"""Records of a cluster: hosts and their beats, groups of the carried log, statements of callers, credentials.

All but credentials are signed by a host's key, over bytes that begin with a label of their kind, so that no
signature of one kind is valid for another.

- Hosts are registered by a :class:`HostRecord`. A server reports its hosts' positions in a
  :class:`ServerBeat`, written into the engine in the same step as the barrier that it belongs to. It is
  signed, so an engine can withhold an acknowledgement, never make one.
- A :class:`GroupRecord` has the changes of one commit. The leader signs it and appends it to the carried log,
  the others apply it. docs/cluster-internals.md defines the rules by which a host accepts one.
- A :class:`CallerStatement` names the caller of a call that a host forwards to the leader. The host signs it.
  ``sessauth.server.cluster.forwarding`` decides whose key it is, and for which calls it counts.
- A :class:`CredentialRecord` is a permitted caller, with only a hash of its API key. It is a change of the
  log, so every host has it. The secret is 32 random bytes: anyone may read its hash, since no guess succeeds.

A group and a statement are signed and read so:

    signed = record.signed_by(server_key)
    data = signed.encode()                       # carried by the engine
    SignedGroup.decode(data).is_signed_by(public_key)

    signed = statement.signed_by(key)
    data = signed.encode()                       # the value in the metadata
    SignedStatement.read(data)                   # the statement, if its own key signed it
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from .._fast import _check as kernel
from .._fast.codec.record import Record
from ..crypto.keys import MessageKey

# The names of hosts that are servers; no follower can have such a name.
SERVER_PREFIX: Final = "server/"
INSTANCE_BYTES: Final = 16
# Each is listed in every receipt, and calls a server twice a second.
MAX_HOSTS: Final = 1_024
# Names that one credential may register: each needs one of its own, and a replaced machine another name.
MAX_HOSTS_OF_PRINCIPAL: Final = 4
# Follows a server's name: that of the beat that lists its hosts.
LIST_SUFFIX: Final = "/hosts"
_BEAT_LABEL: Final = b"sessauth/beat/v1\x00"


@dataclass(frozen=True, slots=True)
class HostRecord(Record):
    """A host that may allow for ``staleness_ms`` after the moment before which its last proof began.

    ``principal`` registered it; empty: it is a server. It first registered at ``registered_revision``;
    ``instances`` is the number of instances (16 bytes each) that had the name. While ``leaving`` it gets no
    further proof. ``address`` (HOST:PORT) is where a server says that it can be reached.
    """

    name: str
    principal: str
    instance: bytes
    staleness_ms: int
    registered_revision: int = 0
    registered_at_ms: int = 0
    instances: int = 1
    leaving: bool = False
    address: str = ""

    def admits(self, wanted: HostRecord) -> bool:
        """Return True if this row lets a host have proofs for its requested bound."""
        return (
            not self.leaving
            and (self.principal, self.instance) == (wanted.principal, wanted.instance)
            and self.staleness_ms >= wanted.staleness_ms
        )


@dataclass(frozen=True, slots=True)
class HostApplied(Record):
    """The number of the last record that an instance of a host holds, and the latest format that it reads."""

    name: str
    instance: bytes
    applied: int
    reads: int = 0


@dataclass(frozen=True, slots=True)
class ServerBeat(Record):
    """A server's own number of the last record, and the hosts that asked it for a barrier within their bound.

    ``number`` rises with each beat of a process, which has run for ``age_ms`` and ``reads`` a format of the
    carried log, as its hosts do; 0: the oldest. ``at_ms`` is its wall clock, ``not_leading`` the reason that
    keeps it from leading though no server does, and ``clock_differs`` names servers with other clocks. Hosts
    without changes are in an earlier beat of the same ``process``, whose number is ``listed``.
    """

    cluster_id: bytes
    server: str
    number: int
    age_ms: int
    applied: int
    hosts: tuple[HostApplied, ...] = ()
    reads: int = 0
    at_ms: int = 0
    not_leading: str = ""
    clock_differs: str = ""
    process: bytes = b""
    listed: int = 0

    def with_hosts(self, other: ServerBeat | None) -> ServerBeat | None:
        """Return this beat with the hosts that ``other`` lists for it; None if they are not known by that.

        A later list of the same process does as well: it has each host that may be fresh by either.
        """
        if not self.listed:
            return self
        if other is None or other.process != self.process or not other.number == other.listed >= self.listed:
            return None
        return replace(self, hosts=other.hosts)

    def signed_by(self, key: MessageKey) -> SignedBeat:
        """Return this beat, signed by the server's key."""
        payload = self.encode()
        return SignedBeat(payload, key.key_id, key.sign(_BEAT_LABEL + payload))


@dataclass(frozen=True, slots=True)
class SignedBeat(Record):
    """An encoded ServerBeat, the id of a server's key, and its 64-byte signature."""

    payload: bytes
    key_id: bytes
    signature: bytes

    @classmethod
    def read(cls, data: bytes, public_keys: dict[bytes, bytes]) -> ServerBeat | None:
        """Return the beat if one of the keys, by id, signed it; None if it proves nothing."""
        try:
            signed = cls.decode(data)
            key = public_keys.get(signed.key_id)
            if key is None or len(signed.signature) != 64:
                return None
            if not kernel.verify(key, _BEAT_LABEL + signed.payload, signed.signature):
                return None
            return ServerBeat.decode(signed.payload)
        except ValueError:
            return None


def server_instance(key_id: bytes) -> bytes:
    """Return the instance of a server: it is the one that has this key."""
    return key_id[:INSTANCE_BYTES]


# Formats of records. Each change kind and carried row has the format that it came with, in
# state/writer/group.py.
OLDEST_FORMAT: Final = 1
SECOND_FORMAT: Final = 2
FORMAT: Final = 3
_GROUP_LABEL: Final = b"sessauth/group/v1\x00"
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
        return SignedGroup(payload, key.key_id, key.sign(_GROUP_LABEL + payload))


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
        return len(self.signature) == 64 and kernel.verify(
            public_key, _GROUP_LABEL + self.payload, self.signature
        )


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


ID_BYTES: Final = 16
# With base64 and the caller's other metadata it must stay below the limit of a gRPC server.
MAX_STATEMENT_BYTES: Final = 4_096
# One bit for each item of a batch of 1,024.
MAX_PROOF_BYTES: Final = 128
_CALLER_LABEL: Final = b"sessauth/caller/v1\x00"


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
        return SignedStatement(payload, key.public_key, key.sign(_CALLER_LABEL + payload))

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
        return kernel.verify(self.public_key, _CALLER_LABEL + self.payload, self.signature)


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


ROLES: Final = ("operator", "issuer", "gateway", "auditor", "approver", "follower", "security-events")
OPERATOR: Final = "operator"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}", re.ASCII)
AUDIENCE: Final = re.compile(r"[^\x00-\x1f\x7f\"\\]{1,256}")
HASH_BYTES: Final = 32
# Every host reads all of them again when one changes.
MAX_CREDENTIALS: Final = 4_096
MAX_AUDIENCES: Final = 64
MAX_AUDIENCE_BYTES: Final = 4_096
_CREDENTIAL_LABEL: Final = b"sessauth/credential/v1\x00"


@dataclass(frozen=True, slots=True)
class CredentialRecord(Record):
    """A credential of a cluster. ``secret_hash``: BLAKE2b-256 of the secret.

    ``added_by`` is the caller that added it; empty: the host that began the cluster had it.
    """

    name: str
    role: str
    audiences: tuple[str, ...] = ()
    secret_hash: bytes = b""
    added_at_ms: int = 0
    added_by: str = ""

    @property
    def is_operator(self) -> bool:
        """True if its caller administers the cluster."""
        return self.role == OPERATOR


def credential_digest(record: CredentialRecord) -> bytes:
    """Return BLAKE2b-256 over name, role, audiences and secret, independent of who added it and when."""
    plain = CredentialRecord(record.name, record.role, record.audiences, record.secret_hash)
    return hashlib.blake2b(_CREDENTIAL_LABEL + plain.encode(), digest_size=32).digest()


def fault(record: CredentialRecord) -> tuple[str, str]:
    """Return the field of a credential that is wrong, and the rule that it breaks; empty: none is."""
    if not NAME.fullmatch(record.name):
        return "name", "must be 1 to 64 letters, digits, '.' or '-', beginning with a letter or digit"
    if record.role not in ROLES:
        return "role", f"must be one of {', '.join(ROLES)}"
    if not all(AUDIENCE.fullmatch(audience) for audience in record.audiences):
        return "audiences", "must be 1 to 256 characters without quotes, '\\' and control characters"
    bytes_in_all = sum(len(audience.encode()) for audience in record.audiences)
    if len(record.audiences) > MAX_AUDIENCES or bytes_in_all > MAX_AUDIENCE_BYTES:
        return "audiences", f"must be {MAX_AUDIENCES} of {MAX_AUDIENCE_BYTES} bytes together at most"
    if len(record.secret_hash) != HASH_BYTES:
        return "secret_hash", f"must be {HASH_BYTES} bytes"
    return "", ""
