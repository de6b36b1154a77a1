"""Rows that a session's end is proven by: who is enrolled, and receipts that are finished.

They are this host's own and no part of what changes make: an enrolment is a fact about a process that runs
here, and a receipt is made of such facts. Followers have neither. Like leases they are written beside the
log.
"""

from __future__ import annotations

from typing import Final, Protocol

from ...errors import InvalidReceipt
from ...model.receipt import Receipt
from ...model.registration import RegistrationRecord
from .. import layout
from ..rules.cost_rows import corrupt
from .rows import TxnRows

# The first format that has these rows.
FORMAT: Final = 3
# What stands in front of a key says what it is the key of.
ENROLMENT: Final = b"e"
RECEIPT: Final = b"r"
# From when on enrolments were kept here, in ms since 1970; without it, from the beginning.
SINCE_KEY: Final = b"s"
# About what a row weighs in a commit.
ROW_BYTES: Final = 512


class EvidenceGroup(Protocol):
    """What is used here of the group that a row is written in."""

    full: bool
    dirty: bool

    @property
    def rows(self) -> TxnRows:
        """The rows of the group's transaction."""
        ...


def enrolments(rows: TxnRows) -> list[RegistrationRecord]:
    """Return who is enrolled, by name."""
    keys = rows.keys_after(layout.EVIDENCE, b"", layout.MAX_ENROLMENTS, ENROLMENT)
    found = []
    for key in keys:
        try:
            record = RegistrationRecord.decode(rows.get(layout.EVIDENCE, key) or b"")
        except ValueError as error:
            raise corrupt(f"enrolment {key[1:]!r}", error) from error
        if record.name.encode() != key[1:]:
            raise corrupt(f"enrolment {key[1:]!r}", "it stands under another name")
        found.append(record)
    return found


def receipt(rows: TxnRows, session_id: bytes) -> Receipt | None:
    """Return a session's finished receipt, if it was kept."""
    data = rows.get(layout.EVIDENCE, RECEIPT + session_id)
    if data is None:
        return None
    try:
        found = Receipt.decode(data)
    except InvalidReceipt as error:
        raise corrupt(f"the receipt of session {session_id.hex()}", error) from error
    if found.session_id != session_id:
        raise corrupt(f"the receipt of session {session_id.hex()}", "it is another's")
    return found


def since_ms(rows: TxnRows) -> int:
    """Return the time up to which who was enrolled was not kept, in ms since 1970; 0: there is none."""
    return int.from_bytes(rows.get(layout.EVIDENCE, SINCE_KEY) or b"", "big")


def keep_enrolment(group: EvidenceGroup, record: RegistrationRecord) -> None:
    """Write an enrolment, in the place of one of the same name."""
    group.rows.put(layout.EVIDENCE, ENROLMENT + record.name.encode(), record.encode())
    group.dirty = True


def drop_enrolment(group: EvidenceGroup, record: RegistrationRecord) -> None:
    """Remove an enrolment, unless a later one, of another instance or of the same, has its name by now."""
    key = ENROLMENT + record.name.encode()
    if group.rows.get(layout.EVIDENCE, key) == record.encode():
        group.rows.delete(layout.EVIDENCE, key)
        group.dirty = True


def keep_since(rows: TxnRows, at_ms: int) -> None:
    """Note that who was enrolled before ``at_ms`` is not known here."""
    rows.put(layout.EVIDENCE, SINCE_KEY, at_ms.to_bytes(8, "big"))


def forget_session(rows: TxnRows, session_id: bytes) -> None:
    """Remove what is kept of a session that is purged."""
    rows.delete(layout.EVIDENCE, RECEIPT + session_id)


def keep_receipt(group: EvidenceGroup, finished: Receipt) -> None:
    """Write a session's receipt, unless the session is gone or there is no room: it can be made again."""
    if not group.full and group.rows.session(finished.session_id) is not None:
        group.rows.put(layout.EVIDENCE, RECEIPT + finished.session_id, finished.encode())
        group.dirty = True


def verify_evidence(rows: TxnRows) -> tuple[int, int]:
    """Return how many enrolments and receipts there are; raises StateUnusable at one that is wrong."""
    count, after = 0, RECEIPT
    while keys := rows.keys_after(layout.EVIDENCE, after, 512, RECEIPT):
        for key in keys:
            if rows.session(key[1:]) is None:
                raise ValueError(f"the receipt of session {key[1:].hex()} without the session")
            count += receipt(rows, key[1:]) is not None
        after = keys[-1]
    return len(enrolments(rows)), count
