"""The pulse of an LMDB file: it says each commit's id before the commit is acknowledged, or nothing."""

from __future__ import annotations

import mmap
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest

from sessauth._fast._check import CommitId
from sessauth.model.change import resume_session, suspend_session
from sessauth.reasons import Reason
from sessauth.state import layout
from sessauth.state.lmdb import environment
from sessauth.state.lmdb.environment import open_commit_id
from sessauth.state.lmdb.reader import StateReader
from sessauth.verifier.verifier import Verifier
from tests.support.leaks import FOLDER, leaks_descriptors
from tests.support.state_fixture import StateFixture
from tests.vectors.world import AUDIENCE, NOW, SESSION, root, token

READ = "read:files/**"
VALID = token(root(READ))
ID_AT = 144
META = struct.Struct("=16x I I 8x 8x I")


@pytest.fixture
def env(tmp_path: Path) -> Iterator[lmdb.Environment]:
    """An LMDB file as the state's environment is opened, with nothing in it."""
    folder = tmp_path / "bare"
    folder.mkdir(mode=0o700)
    opened = environment.open_environment(folder, readonly=False, map_size=8 << 20)
    yield opened
    opened.close()


def data_file(env: lmdb.Environment) -> Path:
    """The file of an environment."""
    return Path(env.path()) / layout.DATA_FILE


def number_of(env: lmdb.Environment) -> int:
    """The id of the last commit, by LMDB."""
    with env.begin() as txn:
        return int(txn.id())


def commit_id_of(env: lmdb.Environment) -> CommitId:
    """The pulse of an environment's file."""
    pulse = open_commit_id(data_file(env))
    assert pulse is not None
    return pulse


def test_it_says_the_id_of_each_commit(env: lmdb.Environment) -> None:
    """It equals the id of a new transaction after each commit, of any size."""
    pulse = commit_id_of(env)
    for number in range(1, 300):
        with env.begin(write=True) as txn:
            txn.put(b"%d" % number, bytes(number * 37 % 9000))
        assert pulse.number == number_of(env) == env.info()["last_txnid"]
    assert pulse.number >= 299


def test_what_is_not_committed_does_not_move_it(env: lmdb.Environment) -> None:
    """Neither an open transaction nor an aborted or nested one moves it, and a commit of nothing may not."""
    pulse = commit_id_of(env)
    with env.begin(write=True) as txn:
        txn.put(b"a", b"1")
    number = pulse.number
    txn = env.begin(write=True)
    txn.put(b"a", b"2")
    with env.begin(write=True, parent=txn) as inner:
        inner.put(b"b", b"3")
    assert pulse.number == number == number_of(env)
    txn.abort()
    assert pulse.number == number == number_of(env)
    env.begin(write=True).commit()
    assert pulse.number == number_of(env)


def test_each_acknowledged_change_moved_it(state: StateFixture) -> None:
    """It has grown once the state's writer acknowledged a change."""
    source = state.writer.source()
    assert source.commit_id is not None
    for turn in range(20):
        before = source.commit_id.number
        state.do((resume_session if turn % 2 else suspend_session)(f"t{turn}", SESSION))
        txn = source.begin()
        assert before < source.commit_id.number == txn.id()
        txn.abort()
        assert state.reason(VALID) is (Reason.ALLOWED if turn % 2 else Reason.SESSION_SUSPENDED)


def test_a_closed_source_denies(tmp_path: Path) -> None:
    """A closed commit id is 0, and every check denies, of cached sessions too."""
    StateFixture(tmp_path / "state").close()
    reader = StateReader.open(tmp_path / "state")
    verifier = Verifier(reader, audience=AUDIENCE)
    handle = verifier.prepare(VALID)
    assert verifier._check(handle, "read", "files/a", now_ms=NOW).allowed
    assert reader.commit_id is not None
    assert reader.commit_id.number > 0
    reader.close()
    assert reader.commit_id.number == 0
    for presented in (handle, VALID):
        assert verifier._check(presented, "read", "files/a", now_ms=NOW).reason is Reason.INTERNAL_ERROR
        batch = verifier._check_batch([(presented, "read", "files/a")] * 3, now_ms=NOW)
        assert {decision.reason for decision in batch} == {Reason.INTERNAL_ERROR}


def _pages(page_size: int, first: int, second: int, head: bytes = b"") -> bytes:
    """Two meta pages of a size, with the ids given."""
    pages = bytearray(2 * page_size)
    for at, number in ((0, first), (page_size, second)):
        META.pack_into(pages, at, 0xBEEFC0DE, 1, page_size)
        struct.pack_into("=Q", pages, at + ID_AT, number)
    pages[: len(head)] = head
    return bytes(pages)


@pytest.mark.parametrize("page_size", [512, 4096, 8192, 16_384, 65_536])
def test_pages_of_each_size(tmp_path: Path, page_size: int) -> None:
    """The ids are found in files with pages of the size that the head states."""
    file = tmp_path / "data.mdb"
    for first, second in ((1, 2), (3, 2), (0, 0), (2**40, 2**40 - 1)):
        file.write_bytes(_pages(page_size, first, second))
        pulse = open_commit_id(file)
        assert pulse is not None
        assert pulse.number == max(first, second)


_GOOD = _pages(4096, 1, 2)
_FOREIGN = {
    "empty": b"",
    "a head alone": _GOOD[:152],
    "no whole head": _GOOD[:151],
    "one page": _GOOD[:4096],
    "a page and a bit": _GOOD[:-1],
    "zeros": bytes(8192),
    "text": b"# a file of somebody's\n" * 1000,
    "other magic": _pages(4096, 1, 2, META.pack(0xBEEFC0DF, 1, 4096)),
    "other byte order": _pages(4096, 1, 2, META.pack(0xDEC0EFBE, 0x01000000, 0x00100000)),
    "version 2": _pages(4096, 1, 2, META.pack(0xBEEFC0DE, 2, 4096)),
    "version 999": _pages(4096, 1, 2, META.pack(0xBEEFC0DE, 999, 4096)),
    "odd pages": _pages(4096, 1, 2, META.pack(0xBEEFC0DE, 1, 4097)),
    "pages of 256": _pages(4096, 1, 2, META.pack(0xBEEFC0DE, 1, 256)),
    "pages of nothing": _pages(4096, 1, 2, META.pack(0xBEEFC0DE, 1, 0)),
    "huge pages": _pages(4096, 1, 2, META.pack(0xBEEFC0DE, 1, 1 << 17)),
    "smaller pages than it has": _pages(4096, 1, 2, META.pack(0xBEEFC0DE, 1, 2048)),
    "no second page": _GOOD[:4096] + bytes(4096),
    "another second page": _GOOD[:4096] + _pages(8192, 1, 2)[:4096],
}


@pytest.mark.parametrize("what", _FOREIGN)
def test_a_file_of_another_layout(tmp_path: Path, what: str) -> None:
    """A file with another layout has no commit id, and no descriptor of it stays open."""
    file = tmp_path / "data.mdb"
    file.write_bytes(_FOREIGN[what])
    assert open_commit_id(file) is None
    assert not Path(FOLDER).exists() or not leaks_descriptors(lambda: open_commit_id(file))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A file that can't be opened is the caller's to know of."""
    with pytest.raises(FileNotFoundError):
        open_commit_id(tmp_path / "data.mdb")


def test_without_a_pulse_checks_see_every_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A state whose file has no pulse is judged by transactions, and no change is missed."""
    monkeypatch.setattr(environment, "open_commit_id", lambda file: None)
    folder = tmp_path / "without"
    plain = StateFixture(folder)
    try:
        assert plain.writer.source().commit_id is None
        for turn in range(6):
            assert plain.reason(VALID) is (Reason.SESSION_SUSPENDED if turn % 2 else Reason.ALLOWED)
            plain.do((resume_session if turn % 2 else suspend_session)(f"t{turn}", SESSION))
    finally:
        plain.close()


def test_a_pulse_that_says_other_than_lmdb_is_not_taken(
    state: StateFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose words are not LMDB's numbers gives the source no pulse."""
    source = state.writer.source()
    monkeypatch.setattr(environment, "open_commit_id", lambda file: CommitId(bytearray(16), 0, 8))
    folder = Path(source.env.path())
    assert environment.LmdbSource(source.env, source.tables, folder).commit_id is None


def _advance_page(file: Path, by: int) -> None:
    """Write the newer meta page again in the other's place, as the commit of a later id would."""
    with file.open("r+b") as pages:
        head = mmap.mmap(pages.fileno(), 2 * mmap.PAGESIZE)
        size = META.unpack_from(head)[2]
        ids = [struct.unpack_from("=Q", head, at + ID_AT)[0] for at in (0, size)]
        newer = ids.index(max(ids))
        page = bytearray(head[newer * size : newer * size + size])
        struct.pack_into("=Q", page, 0, 1 - newer)
        struct.pack_into("=Q", page, ID_AT, max(ids) + by)
        head[(1 - newer) * size : (2 - newer) * size] = bytes(page)
        head.flush()
        head.close()


def test_a_writer_killed_before_it_told_readers(tmp_path: Path) -> None:
    """Each check begins a transaction while a meta page is ahead of the lock file, and misses nothing."""
    folder = tmp_path / "state"
    StateFixture(folder).close()
    with toggling(folder) as change:
        # The folder is the writer's now, and has the size that it gives it.
        assert (change(), change()) == ("SESSION_SUSPENDED", "ALLOWED")
    with Verifier.embedded(folder, audience=AUDIENCE) as verifier:
        source = verifier._owned

        def reason() -> Reason:
            return verifier._check(VALID, "read", "files/a", now_ms=NOW).reason

        assert reason() is Reason.ALLOWED
        _advance_page(folder / layout.DATA_FILE, 1)
        txn = source.begin()
        assert source.commit_id.number == txn.id() + 1
        txn.abort()
        for _ in range(3):
            assert reason() is Reason.ALLOWED
        with toggling(folder) as change:
            for expected in (Reason.SESSION_SUSPENDED, Reason.ALLOWED, Reason.SESSION_SUSPENDED):
                assert change() == expected.name
                for _ in range(3):
                    assert reason() is expected
        txn = source.begin()
        assert source.commit_id.number == txn.id()
        txn.abort()


def test_a_file_that_went_back_denies_at_once(tmp_path: Path) -> None:
    """Older bytes under the map of a verifier deny its next call, whatever it mirrored, and all after."""
    folder = tmp_path / "state"
    StateFixture(folder).close()
    data = folder / layout.DATA_FILE
    before = data.read_bytes()
    with toggling(folder) as change:
        assert (change(), change()) == ("SESSION_SUSPENDED", "ALLOWED")
    with Verifier.embedded(folder, audience=AUDIENCE) as verifier:
        handle = verifier.prepare(VALID)
        assert verifier._check(handle, "read", "files/a", now_ms=NOW).allowed
        with data.open("r+b") as file:
            file.write(before)
        for presented in (handle, VALID):
            assert verifier._check(presented, "read", "files/a", now_ms=NOW).reason is Reason.STALE_STATE
        assert not verifier._owned.files_unchanged()
        assert verifier._check_batch([(VALID, "read", "files/a")], now_ms=NOW)[0].reason is Reason.STALE_STATE


@contextmanager
def toggling(folder: Path) -> Iterator[Callable[[], str]]:
    """A writer in another process; what is given has it make a change, and returns the reason behind it."""
    command = [sys.executable, "-m", "tests.support.procs.toggling_writer", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:

        def change() -> str:
            assert writer.stdin is not None and writer.stdout is not None
            writer.stdin.write("\n")
            writer.stdin.flush()
            return writer.stdout.readline().strip()

        try:
            yield change
            writer.communicate(timeout=30)
            assert writer.returncode == 0
        finally:
            writer.kill()


@pytest.mark.parametrize("turns", [1000])
def test_another_process_sees_each_change(tmp_path: Path, turns: int) -> None:
    """The first check after an acknowledgement sees the change, for 1,000 changes of another process."""
    folder = tmp_path / "state"
    StateFixture(folder).close()
    with toggling(folder) as change:
        # Two changes first, so that the folder is the writer's when it is opened.
        assert (change(), change()) == ("SESSION_SUSPENDED", "ALLOWED")
        with Verifier.embedded(folder, audience=AUDIENCE) as verifier:
            handle = verifier.prepare(VALID)
            assert verifier._check(handle, "read", "files/a", now_ms=NOW).allowed
            missed = []
            for turn in range(turns):
                acknowledged = change()
                if turn % 3 == 0:
                    found = verifier._check(handle, "read", "files/a", now_ms=NOW)
                elif turn % 3 == 1:
                    found = verifier._check(VALID, "read", "files/a", now_ms=NOW)
                else:
                    found = verifier._check_batch([(VALID, "read", "files/a")], now_ms=NOW)[0]
                if found.reason.name != acknowledged:
                    missed.append((turn, found.reason, acknowledged))
            assert missed == []
            assert verifier.signatures == 1
