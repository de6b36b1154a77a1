"""Pages of a data file that stand in another one's place, and those of healthy files."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import lmdb
import pytest

from sessauth.errors import StateUnusable
from sessauth.model.change import end_session
from sessauth.state import layout
from sessauth.state.backup import backup
from sessauth.state.integrity.pages import verify_pages
from sessauth.state.lmdb.environment import open_environment
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.state_writer import StateWriter
from tests.support.state_fixture import StateFixture

PAGE = 4096
MAP = 16 << 20
CEILINGS = {
    "a row in a leaf": ["*:**"],
    "a row on a page of its own": ["*:**", *(f"read:{number:0100}" for number in range(25))],
}


@pytest.fixture(params=CEILINGS)
def ended(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder where the page with the row of an ended session was exchanged with the one before the end."""
    folder = tmp_path / "state"
    state = StateFixture(folder)
    session_id = state.open("ended", CEILINGS[request.param])
    before = row(state.writer, session_id)
    state.do(end_session("e", session_id))
    after = row(state.writer, session_id)
    state.close()
    data = bytearray((folder / layout.DATA_FILE).read_bytes())
    old, new = (data.index(value) // PAGE * PAGE for value in (before, after))
    data[old : old + PAGE], data[new : new + PAGE] = data[new : new + PAGE], data[old : old + PAGE]
    (folder / layout.DATA_FILE).write_bytes(data)
    return folder


def row(writer: StateWriter, session_id: bytes) -> bytes:
    """Return the stored row of a session."""
    with writer.source().rows() as rows:
        return rows.get(layout.SESSIONS, session_id) or b""


def test_a_reader_refuses_a_page_of_before_the_end(ended: Path) -> None:
    """It would allow the session's tokens."""
    with pytest.raises(StateUnusable, match="written there last") as caught:
        StateReader.open(ended)
    assert caught.value.problem == "CORRUPT"


def test_a_writer_finds_a_page_of_before_the_end(ended: Path) -> None:
    """Every check of the host denies then."""
    with StateWriter.open(ended, map_size=MAP) as writer:
        with pytest.raises(StateUnusable, match="written there last") as caught:
            writer.verify(60.0)
        assert caught.value.problem == "CORRUPT"
        assert "CORRUPT" in writer.braked


def test_a_backup_of_such_a_file_does_not_verify(ended: Path, tmp_path: Path) -> None:
    """A copy page by page would number the old page anew."""
    with pytest.raises(StateUnusable):
        backup(ended, tmp_path / "backup")


@pytest.fixture
def env(tmp_path: Path) -> Iterator[lmdb.Environment]:
    """An empty environment."""
    with open_environment(tmp_path, readonly=False, map_size=MAP) as opened:
        yield opened


def change(env: lmdb.Environment, random: Random, name: bytes) -> None:
    """Commit random rows of a table: short and long ones, and deletions."""
    handle = env.open_db(name)
    with env.begin(write=True, db=handle) as txn:
        for _ in range(random.randrange(60)):
            key = random.randbytes(random.choice((1, 8, 200)))
            if random.random() < 0.4:
                with txn.cursor() as cursor:
                    if cursor.set_range(key):
                        cursor.delete()
            else:
                txn.put(key, random.randbytes(random.choice((0, 8, 300, 2_100, 9_000))))
        if random.random() < 0.05:
            txn.drop(handle, delete=False)


@pytest.mark.parametrize("seed", range(4))
def test_healthy_files_of_each_shape(env: lmdb.Environment, seed: int) -> None:
    """Empty, emptied again, with long values and free pages, and compacted: nothing is found."""
    random = Random(seed)
    verify_pages(env, env.begin)
    for number in range(60):
        change(env, random, b"%d" % (number % 3))
        verify_pages(env, env.begin)
    compacted = Path(env.path()) / "compacted"
    compacted.mkdir()
    env.copy(str(compacted), compact=True)
    with open_environment(compacted, readonly=True, map_size=MAP) as other:
        verify_pages(other, other.begin)
        assert other.stat()["entries"] == 3


def test_each_page_of_a_table_is_compared_with_its_place(env: lmdb.Environment) -> None:
    """Branches, leaves and the first pages of long values, and not what was freed."""
    rows = [(b"%04d" % number, bytes(3_000 if number % 10 == 0 else 200)) for number in range(400)]
    names = ("first", "second")
    for name in names:
        handle = env.open_db(name.encode())
        for part in (rows, rows[:50]):
            with env.begin(write=True, db=handle) as txn, txn.cursor() as cursor:
                cursor.putmulti(part)
    with env.begin() as txn:
        tables = [txn.stat(env.open_db(name.encode(), txn=txn)) for name in names]
    assert all(table["depth"] == 2 and table["overflow_pages"] == 40 for table in tables)
    reached = sum(
        table["branch_pages"] + table["leaf_pages"] + table["overflow_pages"]
        for table in (env.stat(), *tables)
    )
    found: dict[int, str] = {}
    with (Path(env.path()) / layout.DATA_FILE).open("r+b", buffering=0) as file:
        for number in range(2, env.info()["last_pgno"] + 1):
            os.pwrite(file.fileno(), (number ^ 64).to_bytes(8, "little"), number * PAGE)
            try:
                verify_pages(env, env.begin, names)
            except StateUnusable as error:
                found[number] = str(error)
            os.pwrite(file.fileno(), number.to_bytes(8, "little"), number * PAGE)
    verify_pages(env, env.begin)
    assert 2 + reached <= env.info()["last_pgno"]
    assert len(found) == reached
    assert all(f"page {number} is not" in text for number, text in found.items())


def test_pages_that_lead_to_themselves(env: lmdb.Environment) -> None:
    """A walk ends at the first one."""
    with env.begin(write=True, db=env.open_db(b"table")) as txn:
        for number in range(400):
            txn.put(b"%04d" % number, bytes(200))
    data = Path(env.path()) / layout.DATA_FILE
    pages = data.read_bytes()
    (root,) = (at for at in range(2 * PAGE, len(pages), PAGE) if pages[at + 10 : at + 12] == b"\1\0")
    node = root + int.from_bytes(pages[root + 16 : root + 18], "little")
    with data.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), (root // PAGE).to_bytes(4, "little"), node)
    with pytest.raises(StateUnusable, match=f"page {root // PAGE} is not"):
        verify_pages(env, env.begin)


def test_nothing_is_found_beside_a_busy_writer(env: lmdb.Environment) -> None:
    """Pages that a walk reads are reused by no commit meanwhile."""
    ended = threading.Event()

    def write() -> None:
        random = Random(1)
        try:
            for number in range(300):
                change(env, random, b"%d" % (number % 3))
        finally:
            ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    walks = 0
    while not ended.is_set() or not walks:
        verify_pages(env, env.begin)
        walks += 1
    thread.join(60)
    verify_pages(env, env.begin)
    assert env.info()["last_txnid"] > 250
