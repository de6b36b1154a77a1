"""The rules of changes to a cluster's credentials."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import StateUnusable
from sessauth.model.change import Change, add_credential, remove_credential
from sessauth.model.host import MAX_AUDIENCES, MAX_CREDENTIALS, ROLES, CredentialRecord
from sessauth.state import layout
from sessauth.state.backup import backup, restore
from sessauth.state.integrity.verify import verify
from sessauth.state.lmdb import cluster_rows
from sessauth.state.lmdb.cluster_rows import CREDENTIAL, CredentialsMark, credential_key
from sessauth.state.writer.group import Group
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import NOW, MemoryRows

HASH = b"h" * 32
WRONG = (StateUnusable, ValueError)


def adding(name: str = "ann", role: str = "gateway", change_id: str = "", **given: Any) -> Change:
    """Return a change that adds a caller."""
    given = {"secret_hash": HASH, **given}
    return add_credential(change_id or f"add-{name}", name, role, actor="o", **given)


def mark_of(rows: MemoryRows) -> CredentialsMark:
    """Return the mark."""
    return CredentialsMark.decode(rows.get(layout.EVIDENCE, CREDENTIAL))


def test_a_caller_is_added_once_and_removed_once() -> None:
    """Its row says who added it and when; the mark is another one after each change."""
    rows = MemoryRows()
    marks = [mark_of(rows)]
    assert rows.do(adding(audiences=["gw"])).applied
    marks.append(mark_of(rows))
    assert rows.do(adding(change_id="again")).rejection == "ALREADY_EXISTS"
    assert mark_of(rows) == marks[-1]
    stored = CredentialRecord.decode(rows.get(layout.EVIDENCE, credential_key("ann")) or b"")
    assert stored == CredentialRecord("ann", "gateway", ("gw",), HASH, NOW, "o")
    assert rows.do(remove_credential("r", "ann")).applied
    marks.append(mark_of(rows))
    assert rows.do(remove_credential("r2", "ann")).rejection == "NOT_FOUND"
    assert rows.get(layout.EVIDENCE, credential_key("ann")) is None
    assert rows.do(adding(change_id="anew", audiences=["gw"])).applied
    marks.append(mark_of(rows))
    assert [mark.count for mark in marks] == [0, 1, 0, 1]
    assert len({mark.digest for mark in marks}) == 4


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("name", {"name": ""}),
        ("name", {"name": "a/b"}),
        ("name", {"name": "sessauth/worker"}),
        ("name", {"name": "a" * 65}),
        ("role", {"role": "worker"}),
        ("role", {"role": ""}),
        ("audiences", {"audiences": ['a"b']}),
        ("audiences", {"audiences": [""]}),
        ("audiences", {"audiences": ["a"] * (MAX_AUDIENCES + 1)}),
        ("audiences", {"audiences": ["ä" * 256] * 10}),
        ("secret_hash", {"secret_hash": b"h" * 31}),
        ("secret_hash", {"secret_hash": b""}),
    ],
)
def test_what_no_caller_may_have(field: str, given: dict[str, Any]) -> None:
    """A name of the server's own, a role that no credential gives, and hashes of other lengths."""
    rows = MemoryRows()
    outcome = rows.do(adding(**{"change_id": "c", **given}))
    assert outcome.rejection == "INVALID" and outcome.detail.startswith(f"{field}: ")
    assert mark_of(rows).count == 0


def test_the_last_operator_stays() -> None:
    """Another one may go, and a caller of another role; the log itself removes all where a folder leaves."""
    rows = MemoryRows()
    for number, role in enumerate(ROLES):
        rows.do(adding(f"c{number}", role))
    assert rows.do(remove_credential("1", "c0")).rejection == "LAST_OPERATOR"
    assert rows.do(remove_credential("sessauth/leave/1", "c0", actor="o")).rejection == "LAST_OPERATOR"
    assert rows.do(adding("second", "operator")).applied
    assert rows.do(remove_credential("2", "c0")).applied
    assert rows.do(remove_credential("3", "second")).rejection == "LAST_OPERATOR"
    assert rows.do(remove_credential("4", "c1")).applied
    assert rows.do(remove_credential("sessauth/leave/2", "second", actor=layout.SYSTEM_ACTOR)).applied


def test_their_number_is_bounded() -> None:
    """Each host reads all of them."""
    rows = MemoryRows()
    full = CredentialsMark(MAX_CREDENTIALS, 1, b"d" * 24)
    rows.tables[layout.EVIDENCE][CREDENTIAL] = full.encode()
    assert rows.do(adding()).rejection == "LIMIT"


def test_a_damaged_mark_counts_for_no_other() -> None:
    """Neither is a caller added beside it, nor the last operator's rule judged by it."""
    rows = MemoryRows()
    assert rows.do(adding()).applied
    rows.tables[layout.EVIDENCE][CREDENTIAL] = b"cut"
    for change in (adding("bo"), remove_credential("r", "ann")):
        with pytest.raises(StateUnusable, match="mark"):
            rows.do(change)


def opened(folder: Path, *, create: bool = False) -> StateWriter:
    """Open a folder for writing."""
    return StateWriter.open(folder, create=create, map_size=8 << 20, clock=FixedClock(NOW))


def test_a_restore_brings_no_caller_back(tmp_path: Path) -> None:
    """The folder's own stay as they are: one in the backup may have been removed since."""
    folder = tmp_path / "state"
    with opened(folder, create=True) as writer:
        for name in ("gone", "stays"):
            assert writer.submit(adding(name)).result().applied
        assert [record.name for record in writer.credentials()] == ["gone", "stays"]
    backup(folder, tmp_path / "backup")
    with opened(folder) as writer:
        assert writer.submit(remove_credential("r", "gone")).result().applied

    restore(tmp_path / "backup", folder, map_size=8 << 20)
    restore(tmp_path / "backup", tmp_path / "new", map_size=8 << 20)

    with opened(folder) as writer:
        assert [record.name for record in writer.credentials()] == ["stays"]
        writer.run(lambda group: verify(group.rows))
    with opened(tmp_path / "new") as writer:
        assert writer.credentials() == []
        writer.run(lambda group: verify(group.rows))


def put(group: Group, values: dict[bytes, bytes], mark: bytes | None) -> None:
    """Write rows as they are."""
    cluster_rows.replace_credentials(group, values, mark)
    group.dirty = True


def test_rows_that_no_change_writes_are_found(tmp_path: Path) -> None:
    """A row without its mark, of another name, or of a role that none gives."""
    key, worker = credential_key("ann"), CredentialRecord("ann", "worker", (), HASH).encode()
    good = CredentialRecord("ann", "gateway", (), HASH).encode()
    mark = CredentialsMark(1, 0, b"d" * 24).encode()
    with opened(tmp_path / "state", create=True) as writer:
        for values, of in (
            ({key: good}, None),
            ({key: worker}, mark),
            ({credential_key("bo"): good}, mark),
            ({}, mark),
            ({}, b"cut"),
        ):
            writer.run(partial(put, values=values, mark=of))
            with (
                writer.source().rows() as rows,
                pytest.raises((StateUnusable, ValueError), match="credential"),
            ):
                cluster_rows.verify_credentials(rows)
        writer.run(partial(put, values={key: good}, mark=mark))
        writer.run(lambda group: verify(group.rows))
