"""Rows that all hosts of a cluster have in common, in one table: hosts, credentials, the brake, evidence.

No change writes them. The log carries them to all hosts, as it does leases.

**Hosts.** A host is granted freshness only by a row: so an end in the log finds the row of each host that may
not have it yet.

**Credentials.** A mark is stored with them: their number, and a digest that differs after each change to any
of them. One small read tells a host that nothing changed.

**The brake** of a whole cluster is one row. Each host copies it into its own brake page after the commit that
has it (``writer/committer.py``), and when its folder is opened.

**Evidence** proves a session's end: registrations of verifiers, and finished receipts. A registration is a
fact about a process that runs on this host, and belongs to it. A receipt is made of such facts.

**The position** of the folder in the carried log is one row, written in the same transaction as the group
itself. Bans and cuts of logins are in the table too (``rules/validation.py``, ``rules/logins.py``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from ...errors import Rejected
from ...model.host import (
    MAX_CREDENTIALS,
    MAX_HOSTS,
    MAX_HOSTS_OF_PRINCIPAL,
    OLDEST_FORMAT,
    SECOND_FORMAT,
    CarriedPosition,
    ClusterBrake,
    CredentialRecord,
    HostRecord,
    fault,
)
from ...model.receipt import Receipt, RegistrationRecord
from .. import layout
from ..rules.effects import corrupt
from ..rules.logins import CUTS, verify_cuts
from ..rules.validation import session_bans
from .rows import TxnRows

# The first byte of the key; the name follows.
HOST: Final = b"h"
MAX_NAME_BYTES: Final = 64
# The format that the address of a server came with.
_ADDRESS_FORMAT: Final = SECOND_FORMAT

MAX_ADDRESS_BYTES: Final = 300
# About the size of a row in a commit.
HOST_ROW_BYTES: Final = 256


class HostGroup(Protocol):
    """The members used here of the group that a row is written in."""

    @property
    def rows(self) -> TxnRows:
        """The rows of the group's transaction."""
        ...

    @property
    def writes(self) -> int:
        """The format of the carried log that is written."""
        ...

    @property
    def at_ms(self) -> int:
        """The writer's clock in ms."""
        ...

    def put_carried(self, table: str, key: bytes, value: bytes) -> None:
        """Write a row that all hosts of a cluster have in common."""
        ...

    def delete_carried(self, table: str, key: bytes) -> None:
        """Remove such a row."""
        ...


def hosts(rows: TxnRows) -> list[HostRecord]:
    """Return all hosts, by name."""
    keys = rows.keys_after(layout.EVIDENCE, b"", MAX_HOSTS + 1, HOST)
    found = (host(rows, key[len(HOST) :].decode(errors="replace")) for key in keys)
    return [record for record in found if record is not None]


def host(rows: TxnRows, name: str) -> HostRecord | None:
    """Return a host, if it is registered."""
    record = rows.decoded(layout.EVIDENCE, _key(name), HostRecord.decode, "host %s", name.encode())
    if record is not None and record.name != name:
        raise corrupt(f"host {name!r}", "it is stored under another name")
    return record


def is_current(rows: TxnRows, record: HostRecord) -> bool:
    """Return True unless the credential that registered a host was replaced by another one of its name."""
    credential = carried_credential(rows, record.principal)
    return credential is None or credential.added_at_ms <= record.registered_at_ms


def store_host(group: HostGroup, wanted: HostRecord) -> None:
    """Register a host, or its next instance.

    A bound never falls, since a proof for the longer one may be under way. Raises Rejected NAME_TAKEN if
    another principal has the name, LIMIT if there are 1,024 hosts, or four of its principal.
    """
    if group.writes < _ADDRESS_FORMAT:
        wanted = replace(wanted, address="")
    before = host(group.rows, wanted.name)
    if before is None:
        registered = hosts(group.rows)
        if len(registered) >= MAX_HOSTS:
            raise Rejected("LIMIT", f"host: {MAX_HOSTS} hosts are registered; remove some")
        names = [known.name for known in registered if known.principal == wanted.principal]
        if wanted.principal and len(names) >= MAX_HOSTS_OF_PRINCIPAL:
            raise Rejected(
                "LIMIT",
                f"host: this credential has {len(names)} hosts already ({', '.join(names)}); give each host "
                "its own, or remove some with 'sessauth cluster remove-host'",
            )
        record = replace(wanted, registered_revision=group.rows.current.revision, instances=1)
    elif before.principal != wanted.principal:
        raise Rejected("NAME_TAKEN", f"host: {wanted.name} is a host of another credential; choose a name")
    elif before.admits(wanted) and wanted.address in ("", before.address) and is_current(group.rows, before):
        return
    else:
        record = replace(
            wanted,
            staleness_ms=max(before.staleness_ms, wanted.staleness_ms),
            registered_revision=before.registered_revision,
            instances=before.instances + (before.instance != wanted.instance),
            address=wanted.address or before.address,
        )
    record = replace(record, registered_at_ms=group.at_ms, leaving=False)
    group.put_carried(layout.EVIDENCE, _key(record.name), record.encode())


def leave_host(group: HostGroup, name: str) -> None:
    """Give a host no further proof. Raises Rejected NOT_FOUND."""
    record = host(group.rows, name)
    if record is None:
        raise Rejected("NOT_FOUND", "host: no such host")
    if not record.leaving:
        group.put_carried(layout.EVIDENCE, _key(name), replace(record, leaving=True).encode())


def drop_host(group: HostGroup, record: HostRecord) -> None:
    """Remove a host, unless its row changed meanwhile."""
    if group.rows.get(layout.EVIDENCE, _key(record.name)) == record.encode():
        group.delete_carried(layout.EVIDENCE, _key(record.name))


def host_format(value: bytes) -> int:
    """Return the format of the carried log that an encoded host came with, by its fields."""
    try:
        return _ADDRESS_FORMAT if HostRecord.decode(value).address else OLDEST_FORMAT
    except ValueError:
        # Refused as no host's row.
        return OLDEST_FORMAT


def is_host_row(key: bytes, value: bytes) -> bool:
    """Return True if a leader writes such a row; an empty value removes it."""
    if key[:1] != HOST or not 1 <= len(key) - 1 <= MAX_NAME_BYTES:
        return False
    if not value:
        return True
    try:
        record = HostRecord.decode(value)
    except ValueError:
        return False
    is_bounded = len(record.address.encode()) <= MAX_ADDRESS_BYTES
    return record.name.encode() == key[1:] and bool(record.staleness_ms) and is_bounded


def _key(name: str) -> bytes:
    return HOST + name.encode()


# The first byte of the key; the name follows. Alone it is the key of the mark.
CREDENTIAL: Final = b"c"
_DIGEST_LABEL: Final = b"sessauth/credentials/v1\x00"
_DIGEST_BYTES: Final = 24


class HasRows(Protocol):
    """The member used here of a group."""

    @property
    def rows(self) -> TxnRows:
        """The rows of the group's transaction."""
        ...


@dataclass(frozen=True, slots=True)
class CredentialsMark:
    """The number of credentials, and of those of operators; a digest over all changes of them so far."""

    count: int = 0
    operators: int = 0
    digest: bytes = b""

    @classmethod
    def decode(cls, value: bytes | None) -> CredentialsMark:
        """Read the row; None is the mark of no credentials. Raises StateUnusable CORRUPT."""
        if value is None:
            return cls()
        if len(value) != 8 + _DIGEST_BYTES:
            raise corrupt("the mark of the credentials", f"it has {len(value)} bytes")
        return cls(int.from_bytes(value[:4], "big"), int.from_bytes(value[4:8], "big"), value[8:])

    def encode(self) -> bytes:
        """Return the value of the row, 32 bytes."""
        return self.count.to_bytes(4, "big") + self.operators.to_bytes(4, "big") + self.digest

    def moved(self, change: bytes, *, by: int, operator: bool) -> CredentialsMark:
        """Return the mark after an encoded change that adds a credential (``by`` 1) or removes it (-1)."""
        digest = hashlib.blake2b(_DIGEST_LABEL + self.digest + change, digest_size=_DIGEST_BYTES).digest()
        return CredentialsMark(self.count + by, self.operators + by * operator, digest)


def credential_key(name: str) -> bytes:
    """Return the key of a credential's row."""
    return CREDENTIAL + name.encode()


def credential_values(rows: TxnRows) -> dict[bytes, bytes]:
    """Return the encoded credentials by key."""
    keys = rows.keys_after(layout.EVIDENCE, CREDENTIAL, MAX_CREDENTIALS, CREDENTIAL)
    return {key: rows.get(layout.EVIDENCE, key) or b"" for key in keys}


def carried_credential(rows: TxnRows, name: str) -> CredentialRecord | None:
    """Return a credential of the cluster, None without one. Raises StateUnusable."""
    value = rows.get(layout.EVIDENCE, credential_key(name)) if name else None
    return None if value is None else read_credential(credential_key(name), value)


def read_credential(key: bytes, value: bytes) -> CredentialRecord:
    """Return the credential of a row. Raises StateUnusable for one that no change writes."""
    try:
        record = CredentialRecord.decode(value)
    except ValueError as error:
        raise corrupt(f"credential {key[1:]!r}", error) from error
    wrong, rule = fault(record)
    if wrong or key != credential_key(record.name):
        raise corrupt(f"credential {key[1:]!r}", f"{wrong} {rule}" if wrong else "it is another's")
    return record


def credentials(rows: TxnRows) -> list[CredentialRecord]:
    """Return all credentials, by name. Raises StateUnusable for a row that no change writes."""
    return [read_credential(key, value) for key, value in credential_values(rows).items()]


def decode_changed(
    values: Mapping[bytes, bytes], before: Mapping[bytes, bytes], known: Mapping[bytes, CredentialRecord]
) -> dict[bytes, CredentialRecord]:
    """Return the credentials of rows by key; those whose value is as ``before`` are the ``known`` ones."""
    return {
        key: known[key] if before.get(key) == value else read_credential(key, value)
        for key, value in values.items()
    }


def replace_credentials(group: HasRows, values: Mapping[bytes, bytes], mark: bytes | None) -> None:
    """Have this folder hold these rows, by key, and this mark in the place of those that it has."""
    rows = group.rows
    for key in (CREDENTIAL, *credential_values(rows)):
        rows.delete(layout.EVIDENCE, key)
    for key, value in values.items():
        rows.put(layout.EVIDENCE, key, value)
    if mark is not None:
        rows.put(layout.EVIDENCE, CREDENTIAL, mark)


def verify_credentials(rows: TxnRows) -> int:
    """Return the number of credentials; raises StateUnusable or ValueError at a wrong row."""
    found = credentials(rows)
    mark = CredentialsMark.decode(rows.get(layout.EVIDENCE, CREDENTIAL))
    operators = sum(record.is_operator for record in found)
    if (mark.count, mark.operators) != (len(found), operators):
        raise ValueError(
            f"{len(found)} credentials, {operators} of operators, where their mark says {mark.count} and "
            f"{mark.operators}"
        )
    return len(found)


# The whole key.
BRAKE: Final = b"b"
MAX_REASON_BYTES: Final = 256
# About the size of the row in a commit.
BRAKE_ROW_BYTES: Final = 512


def cluster_brake(rows: TxnRows) -> ClusterBrake | None:
    """Return the brake of the cluster; None if it is not set. Raises StateUnusable CORRUPT."""
    return rows.decoded(layout.EVIDENCE, BRAKE, ClusterBrake.decode, "the cluster's brake")


def set_brake(group: HostGroup, reason: str, principal: str) -> None:
    """Have every host of the cluster deny every check; does nothing if it is set for this reason."""
    before = cluster_brake(group.rows)
    if before is None or before.reason != reason:
        group.put_carried(layout.EVIDENCE, BRAKE, ClusterBrake(reason, principal, group.at_ms).encode())


def release_brake(group: HostGroup) -> None:
    """Let checks allow again, where no other brake is set."""
    if cluster_brake(group.rows) is not None:
        group.delete_carried(layout.EVIDENCE, BRAKE)


def is_brake_row(key: bytes, value: bytes) -> bool:
    """Return True if a leader writes such a row; an empty value removes it."""
    if key != BRAKE:
        return False
    if not value:
        return True
    try:
        record = ClusterBrake.decode(value)
    except ValueError:
        return False
    return len(record.reason.encode()) <= MAX_REASON_BYTES


def page_reason(rows: TxnRows) -> str | None:
    """Return the text for the brake page; None: the brake of the cluster is not set."""
    brake = cluster_brake(rows)
    if brake is None:
        return None
    return f"cluster frozen by {brake.principal}" + (f": {brake.reason}" if brake.reason else "")


# The first format that has these rows.
EVIDENCE_FORMAT: Final = 3
# The first byte of a key is its kind.
REGISTRATION: Final = b"e"
RECEIPT: Final = b"r"
# The time since which registrations are stored here, in ms since 1970; without it, since the beginning.
SINCE_KEY: Final = b"s"
# About the size of a row in a commit.
EVIDENCE_ROW_BYTES: Final = 512


class EvidenceGroup(Protocol):
    """The members used here of the group that a row is written in."""

    full: bool
    dirty: bool

    @property
    def rows(self) -> TxnRows:
        """The rows of the group's transaction."""
        ...

    def put_carried(self, table: str, key: bytes, value: bytes) -> None:
        """Write a row that all hosts of a cluster have in common."""
        ...


def registrations(rows: TxnRows) -> list[RegistrationRecord]:
    """Return all registrations, by name."""
    keys = rows.keys_after(layout.EVIDENCE, b"", layout.MAX_REGISTRATIONS, REGISTRATION)
    records = []
    for key in keys:
        try:
            record = RegistrationRecord.decode(rows.get(layout.EVIDENCE, key) or b"")
        except ValueError as error:
            raise corrupt(f"registration {key[1:]!r}", error) from error
        if record.name.encode() != key[1:]:
            raise corrupt(f"registration {key[1:]!r}", "it is stored under another name")
        records.append(record)
    return records


def receipt(rows: TxnRows, session_id: bytes) -> Receipt | None:
    """Return a session's finished receipt, if it is stored."""
    key, name = RECEIPT + session_id, "the receipt of session %s"
    finished = rows.decoded(layout.EVIDENCE, key, Receipt.decode, name, session_id)
    if finished is not None and finished.session_id != session_id:
        raise corrupt(f"the receipt of session {session_id.hex()}", "it is another's")
    return finished


def since_ms(rows: TxnRows) -> int:
    """Return the time before which registrations are not known, in ms since 1970; 0: all are known."""
    return int.from_bytes(rows.get(layout.EVIDENCE, SINCE_KEY) or b"", "big")


def store_registration(group: EvidenceGroup, record: RegistrationRecord) -> None:
    """Write a registration, in the place of one of the same name."""
    group.rows.put(layout.EVIDENCE, REGISTRATION + record.name.encode(), record.encode())
    group.dirty = True


def drop_registration(group: EvidenceGroup, record: RegistrationRecord) -> None:
    """Remove a registration, unless a later one, of the same or another instance, has its name."""
    key = REGISTRATION + record.name.encode()
    if group.rows.get(layout.EVIDENCE, key) == record.encode():
        group.rows.delete(layout.EVIDENCE, key)
        group.dirty = True


def store_since(rows: TxnRows, at_ms: int) -> None:
    """Write that registrations from before ``at_ms`` are not known here."""
    rows.put(layout.EVIDENCE, SINCE_KEY, at_ms.to_bytes(8, "big"))


def drop_receipt(rows: TxnRows, session_id: bytes) -> None:
    """Remove the receipt of a purged session."""
    rows.delete(layout.EVIDENCE, RECEIPT + session_id)


def store_receipt(group: EvidenceGroup, finished: Receipt) -> None:
    """Write a session's receipt, which can be made again: not if the session is gone or the map is full."""
    if not group.full and group.rows.session(finished.session_id) is not None:
        group.put_carried(layout.EVIDENCE, RECEIPT + finished.session_id, finished.encode())


def _pairs(rows: TxnRows, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the rows whose keys begin with ``prefix``."""
    after = b""
    while keys := rows.keys_after(layout.EVIDENCE, after, 512, prefix):
        yield from ((key, rows.get(layout.EVIDENCE, key) or b"") for key in keys)
        after = keys[-1]


def verify_evidence(rows: TxnRows) -> tuple[int, int]:
    """Return the numbers of registrations and receipts; raises StateUnusable or ValueError at a wrong one."""
    count, after = 0, RECEIPT
    while keys := rows.keys_after(layout.EVIDENCE, after, 512, RECEIPT):
        for key in keys:
            if rows.session(key[1:]) is None:
                raise ValueError(f"the receipt of session {key[1:].hex()} without the session")
            count += receipt(rows, key[1:]) is not None
        after = keys[-1]
    hosts(rows)
    cluster_brake(rows)
    verify_credentials(rows)
    session_bans(rows)
    verify_cuts(_pairs(rows, CUTS))
    return len(registrations(rows)), count


def read_position(rows: TxnRows) -> CarriedPosition | None:
    """Return the place; None if the folder belongs to no cluster. Raises StateUnusable CORRUPT."""
    data = rows.get(layout.META, layout.CARRIED_KEY)
    if data is None:
        return None
    try:
        return CarriedPosition.decode(data)
    except ValueError as error:
        raise corrupt("the place in the carried log", error) from error


def write_position(rows: TxnRows, position: CarriedPosition) -> None:
    """Write the place."""
    rows.put(layout.META, layout.CARRIED_KEY, position.encode())
