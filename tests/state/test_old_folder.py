"""Folders and backups of earlier formats, which lack the later tables: read, raised, restored."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import StateUnusable
from sessauth.model.change import Head
from sessauth.model.session import SessionStatus
from sessauth.state import layout
from sessauth.state.backup import MANIFEST_FILE, backup, restore
from sessauth.state.integrity.verify import verify
from sessauth.state.lmdb.environment import open_environment
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.lmdb.rows import TxnRows
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import NOW, opening
from tests.support.costs import spending, use

ID = b"s" * 16
MAP = 8 << 20


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder as a writer of format 1 left it, with one session."""
    folder = tmp_path / "old"
    with StateWriter.open(folder, create=True, map_size=MAP, clock=FixedClock(NOW)) as writer:
        assert writer.submit(opening("o", ID)).result().applied
    env = open_environment(folder, readonly=False, map_size=MAP)
    handles = {name: env.open_db(name.encode(), create=False) for name in layout.TABLES}
    with env.begin(write=True) as txn:
        for name in layout.LATER_TABLES:
            txn.drop(handles[name], delete=True)
        head = Head.decode(bytes(txn.get(layout.HEAD_KEY, db=handles[layout.META])))
        txn.put(layout.HEAD_KEY, replace(head, format=1).encode(), db=handles[layout.META])
    env.close()
    return folder


def names(folder: Path) -> set[str]:
    """Return the names of the tables that a folder has."""
    env = open_environment(folder, readonly=True, map_size=MAP)
    with env.begin() as txn, txn.cursor() as cursor:
        found = {bytes(key).decode() for key in cursor.iternext(keys=True, values=False)}
    env.close()
    return found


def test_a_reader_does_without_the_later_tables(old: Path) -> None:
    """An embedded verifier's reader opens it and changes nothing; what is not there has no rows."""
    reader = StateReader.open(old)
    with reader.reading() as txn:
        rows = TxnRows(txn, reader.tables)
        assert rows.permit(ID, b"p" * 16) is None and rows.approval(ID, b"a" * 16) is None
        assert rows.keys_after(layout.APPROVALS, b"", 10) == []
        counts = verify(rows)
        assert (counts.sessions, counts.permits, counts.approvals) == (1, 0, 0)
        assert rows.head().format == 1
    reader.close()
    assert not set(layout.LATER_TABLES) & names(old)


def test_a_writer_raises_it(old: Path) -> None:
    """Opened for writing it gets the tables and says its format, keeps its rows, and can be spent from."""
    with StateWriter.open(old, map_size=MAP, clock=FixedClock(NOW)) as writer:
        head = writer.head()
        assert (head.format, head.min_reader_format, head.seq) == (layout.FORMAT, layout.MIN_READER_FORMAT, 1)
        permit = {"permit_id": b"p" * 16, "permit_deadline_ms": NOW + 1_000}
        change = spending(ID, uses=[use(1)], **permit)
        assert writer.decide(lambda group: group.submit(change), 512).result().applied
        assert writer.run(lambda group: verify(group.rows)).permits == 1
    with StateWriter.open(old, map_size=MAP, clock=FixedClock(NOW)) as writer:
        assert writer.permit(ID, b"p" * 16) is not None
    assert names(old) == set(layout.TABLES)


def test_a_reader_stays_open_while_it_is_raised(old: Path) -> None:
    """A reader of another process that was open before goes on reading, and sees what is spent."""
    script = """
import sys
from sessauth.state import layout
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.lmdb.rows import TxnRows
reader = StateReader.open(sys.argv[1])
for _ in sys.stdin:
    with reader.reading() as txn:
        rows = TxnRows(txn, reader.tables)
        print(rows.head().seq, rows.uses(b"s" * 16, b"b" * 32, 0), reader.files_unchanged(), flush=True)
"""
    command = [sys.executable, "-c", script, str(old)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None

        def answer() -> str:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("?\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        assert answer() == "1 0 True"
        with StateWriter.open(old, map_size=MAP, clock=FixedClock(NOW)) as writer:
            change = spending(ID, uses=[use(5)])
            assert writer.decide(lambda group: group.submit(change), 512).result().applied
            assert answer() == "2 1 True"


def test_the_owner_still_speaks_to_readers_of_format_1(old: Path) -> None:
    """The owner's file names the format that a reader must know, not the writer's."""
    with StateWriter.open(old, map_size=MAP, clock=FixedClock(NOW)):
        assert f'"format": {layout.MIN_READER_FORMAT}' in (old / layout.OWNER_FILE).read_text()


def test_an_old_backup_is_restored(old: Path, tmp_path: Path) -> None:
    """A backup without the later tables is whole: restored over what was spent since, it has nothing open."""
    backup(old, tmp_path / "backup")
    with StateWriter.open(old, map_size=MAP, clock=FixedClock(NOW)) as writer:
        change = spending(ID, uses=[use(5)], permit_id=b"p" * 16, permit_deadline_ms=NOW + 1_000)
        assert writer.decide(lambda group: group.submit(change), 512).result().applied
    restore(tmp_path / "backup", old, map_size=MAP, clock=FixedClock(NOW))
    with StateWriter.open(old, map_size=MAP, clock=FixedClock(NOW)) as writer:
        session = writer.get_session(ID)
        assert session is not None and session.status is SessionStatus.ENDED
        counts = writer.run(lambda group: verify(group.rows))
        assert (counts.counters, counts.permits, counts.approvals) == (0, 0, 0)


def test_a_backup_of_a_later_format_is_refused(old: Path, tmp_path: Path) -> None:
    """A program does not restore a format that it does not know."""
    backup(old, tmp_path / "backup")
    manifest = tmp_path / "backup" / MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace('"format": 1', f'"format": {layout.FORMAT + 1}'))
    with pytest.raises(StateUnusable) as caught:
        restore(tmp_path / "backup", old, clock=FixedClock(NOW))
    assert caught.value.problem == "NEWER_FORMAT"
