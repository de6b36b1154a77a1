"""Readers in other processes: what they see and when, dead ones, forks, swapped files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest

from sessauth.clock import SystemClock
from sessauth.errors import StateUnusable
from sessauth.state import layout
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.state_writer import StateWriter
from tests.support.carried import begin_cluster
from tests.support.changes import opening

SMALL_MAP = 8 << 20

PRELUDE = """
import os, sys
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.state_writer import StateWriter
reader = StateReader.open(sys.argv[1])
"""


@contextmanager
def child(state_dir: Path, script: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script with an open reader in another process; it is killed at the end."""
    command = [sys.executable, "-c", PRELUDE + script, str(state_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[bytes]) -> bytes:
    """Return the next line of a child."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def send(process: subprocess.Popen[bytes], text: bytes) -> None:
    """Send a child a line."""
    assert process.stdin is not None
    process.stdin.write(text + b"\n")
    process.stdin.flush()


def test_the_brake_reaches_every_process(writer: StateWriter, state_dir: Path) -> None:
    """The writer's changes of the brake page show in another process's mapping at once."""
    script = """
for request in sys.stdin.buffer:
    print(reader.brake[0], flush=True)
"""
    with child(state_dir, script) as process:
        for _ in range(3):
            send(process, b"?")
            assert line(process) == b"0"
            writer._brake.engage("a test")
            send(process, b"?")
            assert line(process) == b"1"
            assert writer.braked == "a test"
            writer.clear_brake()


def test_dead_readers_are_reaped(writer: StateWriter, state_dir: Path) -> None:
    """A reader table that is full of killed processes' slots doesn't keep a new reader out."""
    script = f"""
held = [reader.begin() for _ in range({layout.MAX_READERS} - 8)]
print("held", flush=True)
sys.stdin.read()
"""
    with child(state_dir, script) as process:
        assert line(process) == b"held"
        process.send_signal(signal.SIGKILL)
        process.wait()
    fresh = f"""
held = [reader.begin() for _ in range({layout.MAX_READERS} // 2)]
print("served", flush=True)
"""
    with child(state_dir, fresh) as process:
        assert line(process) == b"served"
    assert writer.source().reap_readers() >= 0
    assert writer.submit(opening("1")).result().applied


def test_a_host_that_does_not_lead_reaps_dead_readers(tmp_path: Path) -> None:
    """Its sweep decides nothing, and frees the slots of killed processes all the same."""
    _, (leader, other) = begin_cluster(tmp_path, SystemClock(), ("one", "two"))
    with child(
        tmp_path / "two", 'held = reader.begin()\nprint("held", flush=True)\nsys.stdin.read()'
    ) as process:
        assert line(process) == b"held"
        process.send_signal(signal.SIGKILL)
        process.wait()
    other.writer.sweep(SystemClock().now_ms() + layout.READER_CHECK_MS)
    assert other.writer.source().reap_readers() == 0
    for member in (leader, other):
        member.writer.close()


def test_a_forked_child_denies_everything(writer: StateWriter, state_dir: Path) -> None:
    """The child's reader raises after a fork and its brake is engaged, for cached references too."""
    script = """
import warnings
warnings.simplefilter("ignore")
brake = memoryview(reader.brake)
if os.fork() == 0:
    try:
        reader.begin()
        print("read", flush=True)
    except Exception as error:
        print(type(error).__name__, brake[0], flush=True)
    os._exit(0)
os.wait()
print("parent", brake[0], bool(reader.begin().id()), flush=True)
"""
    with child(state_dir, script) as process:
        assert line(process) == b"StateError 1"
        assert line(process) == b"parent 0 True"


def test_a_verifier_in_a_forked_child_touches_nothing_of_the_parents(
    writer: StateWriter, state_dir: Path
) -> None:
    """Its checks deny without a call to LMDB: the parent's reader slot stays the parent's."""
    script = """
import warnings
warnings.simplefilter("ignore")
from sessauth.verifier.verifier import Verifier
verifier = Verifier(reader)
held = reader.begin()
before = reader.env.readers()
if os.fork() == 0:
    view = verifier.view
    print(bool(verifier.check(b"x", "read", "a")), view.has_commit_id, reader.commit_id.number, flush=True)
    try:
        verifier.view.revision
        print("read", flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
    os._exit(0)
os.wait()
print("parent", before == reader.env.readers(), held.id() > 0, flush=True)
"""
    with child(state_dir, script) as process:
        assert line(process) == b"False True 0"
        assert line(process) == b"StateError"
        assert line(process) == b"parent True True"


def test_a_forked_child_of_a_busy_writer_denies(tmp_path: Path) -> None:
    """A fork in the middle of commits leaves a child that refuses at once, and a writer that goes on."""
    script = """
import os, sys, threading, warnings
warnings.simplefilter("ignore")
from sessauth.errors import StateError
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import opening
writer = StateWriter.open(sys.argv[1], create=True)
late = opening("x")  # made here: what it imports would wait in the child for a lock that nobody there has
def call(name):
    for n in range(400):
        writer.submit(opening(f"{name}-{n}")).result()
threads = [threading.Thread(target=call, args=(n,)) for n in range(4)]
[thread.start() for thread in threads]
codes = []
for _ in range(20):
    if (pid := os.fork()) == 0:
        code = 0
        for call in (lambda: writer.submit(late), writer.sweep, writer.head, writer.source().begin):
            try:
                call()
                code = 1
            except StateError:
                pass
        writer.close()
        os._exit(code)
    codes.append(os.waitpid(pid, 0)[1])
[thread.join() for thread in threads]
print(codes.count(0), writer.head().seq, bool(writer.braked))
writer.close()
"""
    command = [sys.executable, "-c", script, str(tmp_path / "state")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert result.stdout.split() == ["20", "1600", "False"]


def test_a_reader_outlives_its_writer(state_dir: Path) -> None:
    """A reader goes on when the writer is gone, and takes the next writer for its own."""
    StateWriter.open(state_dir, create=True).close()
    reader = StateReader.open(state_dir)
    try:
        assert reader.files_unchanged()
        script = "print('there', flush=True); StateWriter.open(sys.argv[1]); print('again', flush=True)"
        with child(state_dir, script.replace("StateWriter", "reader.close(); StateWriter")) as process:
            assert line(process) == b"there"
            assert line(process) == b"again"
            assert reader.files_unchanged()
    finally:
        reader.close()


@pytest.mark.parametrize("how", ["replaced", "removed", "grown", "namespace"])
def test_a_swapped_folder_is_noticed(state_dir: Path, how: str) -> None:
    """Another file under the data file's name, or a writer that counts processes elsewhere, is not mine."""
    StateWriter.open(state_dir, create=True, map_size=SMALL_MAP).close()
    reader = StateReader.open(state_dir)
    data, owner = state_dir / layout.DATA_FILE, state_dir / layout.OWNER_FILE
    try:
        if how == "replaced":
            shutil.copy(data, state_dir / "copy")
            (state_dir / "copy").rename(data)
        elif how == "removed":
            data.unlink()
        elif how == "grown":
            os.truncate(data, data.stat().st_size * 2)
        else:
            text = owner.read_text()
            owner.unlink()
            owner.write_text(text.replace("pid:[", "pid:[1"))
        assert not reader.files_unchanged()
    finally:
        reader.close()


def test_damage_that_lmdb_finds_is_no_internal_error(writer: StateWriter, state_dir: Path) -> None:
    """A page is read when a row of it is: long after the folder was opened."""
    writer.submit(opening("one")).result()
    with pytest.raises(StateUnusable, match="restore it from a backup") as damaged, writer.source().rows():
        raise lmdb.CorruptedError("mdb_cursor_get: Located page was wrong type")
    assert damaged.value.problem == "CORRUPT"


def test_one_process_opens_a_folder_once(writer: StateWriter, state_dir: Path) -> None:
    """A reader beside the writer in one process is refused: the writer's source is the view there."""
    with pytest.raises(StateUnusable) as caught:
        StateReader.open(state_dir)
    assert caught.value.problem == "IN_USE"
    txn = writer.source().begin()
    assert txn.get(layout.HEAD_KEY, db=writer.source().meta)
    txn.abort()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
@pytest.mark.parametrize(
    ("group", "expected"), [(5151, "read WRONG_OWNER denied"), (5152, "WRONG_GROUP WRONG_OWNER denied")]
)
def test_a_group_member_reads_and_never_writes(group: int, expected: str) -> None:
    """A verifier in the folder's group opens it read-only; it can't write the data; others get nothing."""
    script = f"""
import os, sys
from sessauth.errors import StateUnusable
from sessauth.state.writer.state_writer import StateWriter
from sessauth.state.lmdb.reader import StateReader
import lmdb._envid  # loaded at the first opening, from a folder that the other user may not see
os.setgroups([]); os.setgid({group}); os.setuid(4242)
words = []
try:
    reader = StateReader.open(sys.argv[1])
    words.append("read" if reader.begin().get(b"head", db=reader.meta) else "nothing")
    reader.close()
except StateUnusable as error:
    words.append(error.problem)
try:
    StateWriter.open(sys.argv[1])
    words.append("wrote")
except StateUnusable as error:
    words.append(error.problem)
try:
    open(sys.argv[1] + "/data.mdb", "r+b")
    words.append("opened")
except PermissionError:
    words.append("denied")
print(*words)
"""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        folder = Path(name) / "state"
        StateWriter.open(folder, create=True, map_size=SMALL_MAP).close()
        for path in (folder, *folder.iterdir()):
            os.chown(path, -1, 5151)
        command = [sys.executable, "-c", script, str(folder)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == expected
