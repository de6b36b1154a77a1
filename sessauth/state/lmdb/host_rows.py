"""Rows of a cluster's hosts, which the log carries to all of them.

A host is granted freshness only by a row: so an end in the log finds the row of each host that may not have
it yet.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Protocol

from ...errors import Rejected
from ...model.group_record import OLDEST_FORMAT
from ...model.host import MAX_HOSTS, MAX_HOSTS_OF_PRINCIPAL, HostRecord
from .. import layout
from ..rules.cost_rows import corrupt
from . import credential_rows
from .rows import TxnRows

# The first byte of the key; the name follows.
HOST: Final = b"h"
MAX_NAME_BYTES: Final = 64
# The format that the address of a server came with.
_ADDRESS_FORMAT: Final = 2

MAX_ADDRESS_BYTES: Final = 300
# About the size of a row in a commit.
ROW_BYTES: Final = 256


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
    credential = credential_rows.credential(rows, record.principal)
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
