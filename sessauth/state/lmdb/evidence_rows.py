"""Rows that prove a session's end: registrations of verifiers, and finished receipts.

The same table has hosts (``host_rows``), credentials (``credential_rows``) and bans (``rules/bans``).

No change writes them. A registration is a fact about a process that runs on this host, and belongs to it. A
receipt is made of such facts; in a cluster the log carries it to all hosts, as it does leases.
"""

from __future__ import annotations

from typing import Final, Protocol

from ...model.receipt import Receipt
from ...model.registration import RegistrationRecord
from .. import layout
from ..rules.bans import session_bans
from ..rules.cost_rows import corrupt
from .brake_row import cluster_brake
from .credential_rows import verify_credentials
from .host_rows import hosts
from .rows import TxnRows

# The first format that has these rows.
FORMAT: Final = 3
# The first byte of a key is its kind.
REGISTRATION: Final = b"e"
RECEIPT: Final = b"r"
# The time since which registrations are stored here, in ms since 1970; without it, since the beginning.
SINCE_KEY: Final = b"s"
# About the size of a row in a commit.
ROW_BYTES: Final = 512


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
    return len(registrations(rows)), count
