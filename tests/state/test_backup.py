"""Backup and restore: whole or refused, and nothing is un-revoked by one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sessauth._fast import _check as kernel
from sessauth.clock import FixedClock
from sessauth.crypto.keys import KeyStatus
from sessauth.errors import Rejected, StateError, StateUnusable
from sessauth.model.change import add_key, end_session, revoke, set_key_status
from sessauth.model.session import EndCause, SessionStatus
from sessauth.state.backup import backup, backup_source, restore
from sessauth.state.integrity.verify import verify
from sessauth.state.lmdb.feed import ChangeLog
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import NOW, opening

ID = b"s" * 16
MAP = 8 << 20


def made(folder: Path, *ids: bytes) -> None:
    """Make a state folder with sessions."""
    with StateWriter.open(folder, create=True, map_size=MAP, clock=FixedClock(NOW)) as writer:
        for session_id in ids:
            writer.submit(opening(f"o{session_id.hex()}", session_id)).result()


def test_a_restore_ends_every_session(tmp_path: Path) -> None:
    """All restored sessions are ended as RESTORED, in a new incarnation, at a later revision."""
    made(tmp_path / "state", ID, b"t" * 16)
    manifest = backup(tmp_path / "state", tmp_path / "backup")
    head = restore(tmp_path / "backup", tmp_path / "new", map_size=MAP, clock=FixedClock(NOW))
    assert head.cluster_id.hex() == manifest.cluster_id
    assert head.incarnation.hex() != manifest.incarnation
    assert head.revision > manifest.revision and head.seq > manifest.seq
    with StateWriter.open(tmp_path / "new", clock=FixedClock(NOW)) as writer:
        sessions = writer.list_sessions()
        assert len(sessions) == 2
        assert {(s.status, s.end_cause) for s in sessions} == {(SessionStatus.ENDED, EndCause.RESTORED)}
        assert writer.run(lambda group: verify(group.rows)).sessions == 2


def test_a_restore_over_a_later_state_takes_nothing_back(tmp_path: Path) -> None:
    """Sessions that ended or opened since the backup, and revoked blocks and distrusted keys, stay denied."""
    public = kernel.public_key(b"k" * 32)
    later = kernel.public_key(b"l" * 32)
    made(tmp_path / "state", ID)
    with StateWriter.open(tmp_path / "state", clock=FixedClock(NOW)) as writer:
        writer.submit(add_key("k", public, status=KeyStatus.ACTIVE)).result()
    backup(tmp_path / "state", tmp_path / "backup")
    with StateWriter.open(tmp_path / "state", clock=FixedClock(NOW)) as writer:
        key_id = writer.keys()[0].id
        writer.submit(opening("late", b"l" * 16)).result()
        writer.submit(revoke("r", ID, [b"b" * 32])).result()
        writer.submit(end_session("e", ID)).result()
        writer.submit(set_key_status("d", key_id, KeyStatus.DISTRUSTED)).result()
        writer.submit(add_key("k2", later, status=KeyStatus.ACTIVE)).result()
        before = writer.head()
    head = restore(tmp_path / "backup", tmp_path / "state", clock=FixedClock(NOW))
    assert (head.revision, head.seq, head.keys_generation) > (
        before.revision, before.seq, before.keys_generation,
    )  # fmt: skip
    with StateWriter.open(tmp_path / "state", clock=FixedClock(NOW)) as writer:
        assert all(session.status is SessionStatus.ENDED for session in writer.list_sessions())
        assert {key.public_key: key.status for key in writer.keys()} == {
            public: KeyStatus.DISTRUSTED, later: KeyStatus.ACTIVE,
        }  # fmt: skip
        with pytest.raises(Rejected, match="COMPACTED"):
            ChangeLog(writer.source()).changes(before.seq - 1)


def test_a_running_reader_sees_the_restore(tmp_path: Path) -> None:
    """A verifier that stays open reads the restored state in the same files: the session has ended."""
    made(tmp_path / "state", ID)
    backup(tmp_path / "state", tmp_path / "backup")
    script = """
import sys
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.lmdb.rows import TxnRows
reader = StateReader.open(sys.argv[1])
for _ in sys.stdin:
    txn = reader.begin()
    session = TxnRows(txn, reader.tables).session(b"s" * 16)
    print(session.status.name, reader.files_unchanged(), flush=True)
    txn.abort()
"""
    command = [sys.executable, "-c", script, str(tmp_path / "state")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        for expected in ("ACTIVE True", "ENDED True"):
            process.stdin.write("?\n")
            process.stdin.flush()
            assert process.stdout.readline().strip() == expected
            restore(tmp_path / "backup", tmp_path / "state", map_size=MAP, clock=FixedClock(NOW))


def test_a_backup_is_taken_while_the_writer_runs(tmp_path: Path) -> None:
    """The writer's process and another one write a whole, private backup, into a new folder only."""
    made(tmp_path / "state", ID)
    with StateWriter.open(tmp_path / "state") as writer:
        backup_source(writer.source(), tmp_path / "one")
        script = "import sys; from sessauth.state.backup import backup; backup(sys.argv[1], sys.argv[2])"
        command = [sys.executable, "-c", script, str(tmp_path / "state"), str(tmp_path / "two")]
        subprocess.run(command, check=True, timeout=60)
        with pytest.raises(StateError, match="exists already"):
            backup_source(writer.source(), tmp_path / "one")
        assert writer.submit(opening("after")).result().applied
    for name in ("one", "two"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o700
        assert {p.stat().st_mode & 0o777 for p in (tmp_path / name).iterdir()} == {0o600}
        restore(tmp_path / name, tmp_path / f"{name}-restored", map_size=MAP)


def test_another_clusters_backup_is_refused(tmp_path: Path) -> None:
    """A backup goes into its own cluster's folder or a new one, unless forced."""
    made(tmp_path / "a", ID)
    made(tmp_path / "b", b"t" * 16)
    backup(tmp_path / "a", tmp_path / "backup")
    with pytest.raises(StateUnusable) as caught:
        restore(tmp_path / "backup", tmp_path / "b")
    assert caught.value.problem == "FOREIGN"
    with StateWriter.open(tmp_path / "b", clock=FixedClock(NOW)) as writer:
        session = writer.get_session(b"t" * 16)
        assert session is not None and session.status is SessionStatus.ACTIVE
    restore(tmp_path / "backup", tmp_path / "b", force=True)


def test_a_forced_restore_keeps_no_strangers_key(tmp_path: Path) -> None:
    """A folder of another cluster leaves none of its issuer keys, but what it holds against ours."""
    shared, ours, strange = (kernel.public_key(letter * 32) for letter in (b"k", b"l", b"m"))
    for name, keys in (("a", (shared, ours)), ("b", (shared, strange))):
        made(tmp_path / name)
        with StateWriter.open(tmp_path / name, clock=FixedClock(NOW)) as writer:
            for key in keys:
                writer.submit(add_key(f"k{key.hex()[:8]}", key, status=KeyStatus.ACTIVE)).result()
            if name == "b":
                writer.submit(set_key_status("d", writer.keys()[0].id, KeyStatus.DISTRUSTED)).result()
                distrusted = writer.keys()[0].public_key
    backup(tmp_path / "a", tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "b", force=True, clock=FixedClock(NOW))
    with StateWriter.open(tmp_path / "b", clock=FixedClock(NOW)) as writer:
        found = {key.public_key: key.status for key in writer.keys()}
    expected = KeyStatus.DISTRUSTED if distrusted == shared else KeyStatus.ACTIVE
    assert found == {shared: expected, ours: KeyStatus.ACTIVE}


@pytest.mark.parametrize("how", ["no manifest", "data changed", "data cut", "data empty", "manifest cut"])
def test_a_damaged_backup_is_refused(tmp_path: Path, how: str) -> None:
    """A backup that is not what its manifest says restores nothing, and the folder stays as it was."""
    made(tmp_path / "state", ID)
    backup(tmp_path / "state", tmp_path / "backup")
    data, manifest = tmp_path / "backup" / "data.mdb", tmp_path / "backup" / "manifest.json"
    if how == "no manifest":
        manifest.unlink()
    elif how == "manifest cut":
        manifest.write_text(manifest.read_text()[:50])
    elif how == "data changed":
        raw = bytearray(data.read_bytes())
        raw[-100] ^= 1
        data.write_bytes(raw)
    else:
        os.truncate(data, 0 if how == "data empty" else data.stat().st_size - 4096)
    with pytest.raises(StateUnusable):
        restore(tmp_path / "backup", tmp_path / "state")
    reader = StateReader.open(tmp_path / "state")
    assert ChangeLog(reader).head().seq == 1
    reader.close()


def test_a_restore_needs_the_writer_to_be_stopped(tmp_path: Path) -> None:
    """While a server runs on the folder, a restore into it is refused."""
    made(tmp_path / "state", ID)
    backup(tmp_path / "state", tmp_path / "backup")
    with StateWriter.open(tmp_path / "state"), pytest.raises(StateUnusable) as caught:
        restore(tmp_path / "backup", tmp_path / "state")
    assert caught.value.problem == "IN_USE"
