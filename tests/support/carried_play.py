"""A follower that lacks two records, and records of anybody that it is to refuse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from sessauth.clock import FixedClock
from sessauth.crypto.keys import IssuerKey, KeyStatus, MessageKey
from sessauth.errors import RecordRefused
from sessauth.model.change import add_key, end_session, set_key_status
from sessauth.model.host import SERVER_OWNER, GroupRecord, ServerKey, SignedGroup
from sessauth.state.integrity.verify import verify
from sessauth.state.replication.carried_log import apply_records
from tests.support.carried import Member, begin_cluster
from tests.support.changes import NOW, opening

KEYS = {name: ServerKey(name.encode().ljust(32, b"k")) for name in ("one", "two")}
PAST = {
    KeyStatus.PREPARED: ServerKey(b"p" * 32),
    KeyStatus.RETIRED: ServerKey(b"r" * 32),
    KeyStatus.DISTRUSTED: ServerKey(b"d" * 32),
}
ISSUER, STRANGER = IssuerKey(b"i" * 32), ServerKey(b"s" * 32)
SESSION, OTHER = b"s" * 16, b"o" * 16


@dataclass
class Play:
    """Two servers; the second one lacks the last two records of the first."""

    one: Member
    two: Member
    next: bytes
    second: bytes

    @property
    def record(self) -> GroupRecord:
        """The record that the second server lacks first."""
        return SignedGroup.decode(self.next).record()

    def altered(self, key: MessageKey = KEYS["one"], **fields: Any) -> bytes:
        """Return that record with other fields, signed by a key."""
        return replace(self.record, **fields).signed_by(key).encode()

    def refuse(self, *records: bytes) -> str:
        """Have records refused; return the word. Nothing is written, no brake is engaged, work goes on."""
        tables, number, head = self.two.tables(), self.two.number, self.two.writer.head()
        with pytest.raises(RecordRefused) as refused:
            self.two.writer.run(lambda group: apply_records(group, records))
        assert (self.two.tables(), self.two.number, self.two.writer.head()) == (tables, number, head)
        assert not self.two.writer.braked
        return refused.value.fault


@contextmanager
def begin_play(folder: Path) -> Iterator[Play]:
    """Servers with keys in each status; at the end the true records are applied, and lead to equal rows."""
    engine, (one, two) = begin_cluster(folder, FixedClock(NOW), ("one", "two"))
    owner = SERVER_OWNER + "one"
    for status, key in PAST.items():
        first = KeyStatus.PREPARED if status is KeyStatus.PREPARED else KeyStatus.ACTIVE
        change = add_key(f"add-{status.name}", key.public_key, owner=owner, status=first)
        one.writer.submit(change).result().raise_if_rejected()
        if status is not first:
            moved = set_key_status(f"move-{status.name}", key.key_id, status)
            one.writer.submit(moved).result().raise_if_rejected()
    issuer = add_key("issuer", ISSUER.public_key, owner="one", status=KeyStatus.ACTIVE)
    one.writer.submit(issuer).result().raise_if_rejected()
    for session_id in (SESSION, OTHER):
        change = opening(session_id.hex(), session_id, lease_ms=60_000)
        one.writer.submit(change).result().raise_if_rejected()
    two.follow()
    at = two.number
    one.writer.submit(end_session("end", SESSION)).result().raise_if_rejected()
    one.writer.submit(end_session("end-other", OTHER)).result().raise_if_rejected()
    yield Play(one, two, engine.records[at + 1], engine.records[at + 2])
    two.follow()
    assert two.tables() == one.tables() and two.number == at + 2
    two.writer.run(lambda group: verify(group.rows))
    for member in (one, two):
        member.writer.close()
