"""Readers of one folder in one process: they share an environment, and each is closed by itself."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sessauth import Reason, Verifier
from sessauth.audit.write.stream import AuditOptions
from sessauth.errors import StateError, StateUnusable
from sessauth.state import layout
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.state_writer import StateWriter
from tests.support.cases import CASES
from tests.support.recorded import records
from tests.support.state_fixture import StateFixture
from tests.support.tree import ROOT
from tests.vectors.world import AUDIENCE, NOW, root, token

MAP = 8 << 20
VALID = token(root("read:files/**"))
ROUNDS = max(20, CASES // 400)
PLACES = ("state", "link", "relative")
# What is done with which of four readers; a fork is of all.
STEPS = st.lists(
    st.tuples(st.sampled_from(["open", "close", "drop", "fork"]), st.integers(0, 3), st.sampled_from(PLACES)),
    max_size=14,
)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder with a state that nobody writes, and a link to it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        StateWriter.open(folder / "state", create=True, map_size=MAP).close()
        (folder / "link").symlink_to(folder / "state")
        yield folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with the session and the issuer of the vectors."""
    opened = StateFixture(tmp_path / "state")
    opened.verifier.close()
    opened.writer.close()
    return tmp_path / "state"


@pytest.fixture(scope="module", autouse=True)
def in_a_process_without_tracing() -> None:
    """Tracing that another file's tests began starts threads in each forked child, which may end it."""
    if "opentelemetry.sdk.trace" not in sys.modules:
        return
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, check=False, cwd=ROOT, timeout=280, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    pytest.skip("passed in a process of its own, where no tracing begins threads in children")


def _place(home: Path, place: str) -> Path:
    return Path(os.path.relpath(home / "state")) if place == "relative" else home / place


def _lock_files(home: Path) -> int:
    """Return how often this process has the lock file open: LMDB opens it once an environment."""
    count = 0
    for each in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{each}") == str(
                (home / "state").resolve() / layout.LOCK_FILE
            )
        except OSError:
            continue
    return count


def _reads(reader: StateReader) -> bool:
    """Return True if a reader reads; a closed or inherited one must raise StateError."""
    try:
        return reader.head().seq >= 0 and reader.files_unchanged()
    except StateError:
        return False


def _in_child(work: Callable[[], bool]) -> bool:
    """Fork, and return what ``work`` returns in the child."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if work() else 1
        except BaseException:  # noqa: BLE001 - the child goes no further
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@settings(max_examples=ROUNDS, deadline=None)
@given(steps=STEPS)
@example(steps=[("open", 0, "state"), ("open", 1, "state"), ("close", 0, "state"), ("drop", 1, "state")])
def test_any_order_of_opens_closes_and_forks(home: Path, steps: list[tuple[str, int, str]]) -> None:
    """An open reader reads until it is closed itself; LMDB's files are open while there is one, and once."""
    # What an earlier example dropped may still wait for the collector.
    gc.collect()
    inherited = _lock_files(home)
    readers: dict[int, StateReader] = {}
    closed: list[StateReader] = []

    def child() -> bool:
        before = _lock_files(home)
        if any(map(_reads, readers.values())):
            return False
        own, other = StateReader.open(home / "state"), StateReader.open(home / "link")
        for reader in readers.values():
            reader.close()
        own.close()
        second = _reads(other) and not _reads(own) and _lock_files(home) == before + 1
        other.close()
        return second and _lock_files(home) == before

    try:
        for step, number, place in steps:
            if step == "open" and number not in readers:
                readers[number] = StateReader.open(_place(home, place))
            elif step == "close" and number in readers:
                reader = readers.pop(number)
                reader.close()
                closed.append(reader)
            elif step == "drop":
                readers.pop(number, None)
                gc.collect()
            elif step == "fork":
                assert _in_child(child)
            assert all(map(_reads, readers.values()))
            assert not any(map(_reads, closed))
            assert _lock_files(home) == inherited + bool(readers)
    finally:
        # A failure here must not be that of the next example.
        for reader in (*readers.values(), *closed):
            reader.close()
    assert _lock_files(home) == inherited == 0
    StateWriter.open(home / "state").close()


def test_one_closes_twice_and_the_other_reads(home: Path) -> None:
    """A second close takes nothing from a reader that is still open."""
    first, second = StateReader.open(home / "state"), StateReader.open(home / "state")
    assert first.env is second.env

    for _ in range(2):
        first.close()
    assert _reads(second) and not _reads(first)
    second.close()


def test_threads_open_and_close_at_once(home: Path) -> None:
    """Eight threads open, read and close 40 times each; nothing is refused, and nothing stays open."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(40):
                reader = StateReader.open(home / "state")
                assert _reads(reader)
                reader.close()
                assert not _reads(reader)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    before = _lock_files(home)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: work(), range(8)))
    assert failures == [] and _lock_files(home) == before


def test_a_fork_while_threads_open(home: Path) -> None:
    """A child opens its own, whatever a thread of its parent was in the middle of."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            StateReader.open(home / "state").close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(20):
            assert _in_child(lambda: _reads(StateReader.open(home / "state")))
    finally:
        stop.set()
        thread.join()


def test_a_second_reader_leaves_the_processs_locks(home: Path) -> None:
    """Another process takes no slot of this one for a dead process's, after an open and a close beside it."""
    first = StateReader.open(home / "state")
    reading = first.begin()
    StateReader.open(home / "link").close()
    slots = first.env.readers()
    assert str(os.getpid()) in slots
    script = """
import sys
from sessauth.state.lmdb.reader import StateReader
reader = StateReader.open(sys.argv[1])
print(reader.reap_readers())
reader.close()
"""
    command = [sys.executable, "-c", script, str(home / "state")]
    done = subprocess.run(command, check=True, cwd=ROOT, timeout=60, capture_output=True, text=True)

    assert done.stdout == "0\n"
    assert first.env.readers() == slots
    reading.abort()
    first.close()


@pytest.mark.parametrize("first", ["reader", "writer"])
def test_writer_and_reader_of_one_process_refuse_each_other(home: Path, first: str) -> None:
    """The writer's source is the view there, and its locks are the process's."""
    kinds = [StateReader.open, StateWriter.open]
    if first == "writer":
        kinds.reverse()
    opened = kinds[0](home / "state")
    with pytest.raises(StateUnusable) as caught:
        kinds[1](home / "state")
    assert caught.value.problem == "IN_USE"
    opened.close()
    kinds[1](home / "state").close()


def test_replaced_files_are_not_shared(tmp_path: Path) -> None:
    """A reader of files that were replaced is not handed on; once it is closed, the new ones are opened."""
    folder = tmp_path / "state"
    StateWriter.open(folder, create=True, map_size=MAP).close()
    old = StateReader.open(folder)
    shutil.copy(folder / layout.DATA_FILE, folder / "copy")
    (folder / "copy").rename(folder / layout.DATA_FILE)

    assert not old.files_unchanged()
    with pytest.raises(StateUnusable) as caught:
        StateReader.open(folder)
    assert caught.value.problem == "IN_USE"
    old.close()
    new = StateReader.open(folder)
    assert _reads(new)
    new.close()


def test_a_refused_reader_leaves_the_others(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An opening that fails behind LMDB gives back what it shared, and no more."""
    first = StateReader.open(home / "state")
    with monkeypatch.context() as patch:
        patch.setattr(layout, "FORMAT", 0)
        with pytest.raises(StateUnusable):
            StateReader.open(home / "state")
    assert _reads(first)
    first.close()
    StateWriter.open(home / "state").close()


def test_two_verifiers_have_nothing_else_in_common(state: Path, tmp_path: Path) -> None:
    """Audience, cache, counters and audit stream are each one's own; a close of one is none of the other."""
    one = Verifier.embedded(state, audience=AUDIENCE, audit=AuditOptions(tmp_path / "one"))
    two = Verifier.embedded(state, audience="another", audit=AuditOptions(tmp_path / "two"))

    def ask(verifier: Verifier) -> Reason:
        return verifier._check(VALID, "read", "files/a", now_ms=NOW).reason

    assert [ask(one), ask(two), ask(one)] == [Reason.ALLOWED, Reason.WRONG_AUDIENCE, Reason.ALLOWED]
    assert one.cached_chains == 1 and two.cache is not one.cache
    one.close()
    assert [ask(one), ask(two)] == [Reason.INTERNAL_ERROR, Reason.WRONG_AUDIENCE]
    two.close()
    assert ask(two) is Reason.INTERNAL_ERROR
    assert [len(records(tmp_path / name, "decision")) for name in ("one", "two")] == [2, 2]


def test_both_see_what_another_process_writes(home: Path) -> None:
    """A change that another process made is in the next read of each reader."""
    readers = [StateReader.open(home / "state") for _ in range(2)]
    before = [reader.head().revision for reader in readers]
    script = """
import sys
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import opening
with StateWriter.open(sys.argv[1], map_size=int(sys.argv[2])) as writer:
    writer.submit(opening("one")).result().raise_if_rejected()
"""
    subprocess.run(
        [sys.executable, "-c", script, str(home / "state"), str(MAP)], check=True, cwd=ROOT, timeout=60
    )

    after = [reader.head().revision for reader in readers]
    assert after[0] == after[1] > before[0] == before[1]
    assert all(map(_reads, readers))
    for reader in readers:
        reader.close()
