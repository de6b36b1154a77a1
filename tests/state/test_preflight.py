"""Preflight: a damaged state folder is refused by name, and never passes for one without revocations."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from sessauth.errors import StateUnusable
from sessauth.model.change import revoke
from sessauth.state import layout
from sessauth.state.host import folder as preflight
from sessauth.state.host.brake import Brake
from sessauth.state.lmdb.environment import open_environment
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import opening

ID = b"s" * 16
SMALL_MAP = 4 << 20


@pytest.fixture
def folder(state_dir: Path) -> Path:
    """A closed state folder with a session and a revocation."""
    with StateWriter.open(state_dir, create=True, map_size=SMALL_MAP) as writer:
        writer.submit(opening("1", ID)).result()
        writer.submit(revoke("2", ID, [b"b" * 32])).result()
    return state_dir


def problem(folder: Path, *, writer: bool) -> tuple[str, str]:
    """Return the word and the message with which opening a folder is refused."""
    with pytest.raises(StateUnusable) as caught:
        (StateWriter.open if writer else StateReader.open)(folder).close()
    return caught.value.problem, str(caught.value)


def sqlite(path: Path) -> None:
    """Write another program's database."""
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("create table t (x)")
    database.close()
    path.chmod(0o640)


def zeroed(folder: Path, start: int, stop: int) -> None:
    """Write zeros into the data file."""
    with (folder / "data.mdb").open("r+b") as file:
        file.seek(start)
        file.write(bytes(stop - start))


def set_owner_field(folder: Path, field: str, value: object) -> None:
    """Change one field of owner.json."""
    path = folder / layout.OWNER_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))


BREAKS: list[tuple[str, Callable[[Path], object], str]] = [
    ("data gone", lambda f: (f / "data.mdb").unlink(), "MISSING"),
    ("data empty", lambda f: os.truncate(f / "data.mdb", 0), "EMPTY"),
    ("data begins with zeros", lambda f: zeroed(f, 0, 8192), "CORRUPT"),
    ("a meta page is zeros", lambda f: zeroed(f, 4096, 8192), "CORRUPT"),
    ("data cut", lambda f: os.truncate(f / "data.mdb", 12 << 10), "CORRUPT"),
    ("data cut in the first page", lambda f: os.truncate(f / "data.mdb", 5000 - 4096 + 1), "CORRUPT"),
    ("data is text", lambda f: (f / "data.mdb").write_text("hello " * 999), "FOREIGN"),
    ("data is sqlite", lambda f: sqlite(f / "data.mdb"), "FOREIGN"),
    ("data readable by others", lambda f: (f / "data.mdb").chmod(0o644), "WRONG_MODE"),
    ("data writable by the group", lambda f: (f / "data.mdb").chmod(0o660), "WRONG_MODE"),
    ("folder open to others", lambda f: f.chmod(0o755), "WRONG_MODE"),
    ("folder writable by the group", lambda f: f.chmod(0o770), "WRONG_MODE"),
    ("lock open to others", lambda f: (f / "lock.mdb").chmod(0o666), "WRONG_MODE"),
    ("brake gone", lambda f: (f / "brake").unlink(), "MISSING"),
    ("brake cut", lambda f: os.truncate(f / "brake", 10), "CORRUPT"),
    ("brake writable by the group", lambda f: (f / "brake").chmod(0o660), "WRONG_MODE"),
    ("owner is no JSON", lambda f: (f / "owner.json").write_text("{"), "CORRUPT"),
    ("owner of a newer format", lambda f: set_owner_field(f, "format", layout.FORMAT + 1), "NEWER_FORMAT"),
    ("all files gone", lambda f: [path.unlink() for path in f.iterdir()], "EMPTY"),
    ("folder gone", shutil.rmtree, "MISSING"),
]  # fmt: skip


@pytest.mark.parametrize("writer", [True, False], ids=["writer", "reader"])
@pytest.mark.parametrize(("breaks", "word"), [b[1:] for b in BREAKS], ids=[b[0] for b in BREAKS])
def test_a_broken_folder_is_refused(
    folder: Path, breaks: Callable[[Path], object], word: str, writer: bool
) -> None:
    """Writer and reader refuse it by the same word, say where and what to do, and change nothing."""
    breaks(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}
    found, message = problem(folder, writer=writer)
    assert found == word
    assert str(folder) in message and (";" in message or "run " in message)
    after = {path: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}
    assert {path for path in before if before[path] != after.get(path)} <= {folder / "owner.json"}


def test_only_a_writer_without_a_folder_is_sent_to_init(tmp_path: Path) -> None:
    """A verifier with a wrong path is asked for the right one: init would make a second service."""
    messages = {writer: problem(tmp_path / "none", writer=writer)[1] for writer in (True, False)}

    assert "run init" in messages[True] and "run init" not in messages[False]
    assert "is this the path of the service's state folder" in messages[False]


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A file is not a folder; a folder with other files is not made into a state folder."""
    (tmp_path / "file").touch()
    assert problem(tmp_path / "file", writer=True)[0] == "NOT_A_FOLDER"
    (tmp_path / "home").mkdir(mode=0o750)
    (tmp_path / "home" / "thesis.tex").touch()
    with pytest.raises(StateUnusable) as caught:
        StateWriter.open(tmp_path / "home", create=True)
    assert caught.value.problem == "FOREIGN"
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["thesis.tex"]


def test_another_programs_lmdb_is_refused(tmp_path: Path) -> None:
    """An LMDB environment with other tables is not taken over."""
    script = """
import lmdb, sys
env = lmdb.open(sys.argv[1], max_dbs=2, lib_version=0, mode=0o640)
env.open_db(b"theirs")
"""
    (tmp_path / "state").mkdir(mode=0o750)
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "state")], check=True)
    for create in (True, False):
        with pytest.raises(StateUnusable) as caught:
            StateWriter.open(tmp_path / "state", create=create)
        assert caught.value.problem in ("FOREIGN", "MISSING")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("name", ["", "data.mdb", "brake", "owner.json"])
def test_another_users_file_is_refused(folder: Path, name: str) -> None:
    """The writer owns its folder, and all files belong to the folder's owner."""
    os.chown(folder / name, 4242, -1)
    assert problem(folder, writer=True)[0] == "WRONG_OWNER"
    assert problem(folder, writer=False)[0] == "WRONG_OWNER"


def test_a_brake_page_that_this_user_can_not_reach(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one that is missing: it would be made anew."""

    def refused(path: Path, **_: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", refused)
        with pytest.raises(StateUnusable, match="service's user") as error:
            Brake(folder / layout.BRAKE_FILE)
    assert error.value.problem == "WRONG_MODE"


def test_a_lock_that_is_no_file(folder: Path) -> None:
    """It can't be taken, and is named."""
    (folder / layout.WRITER_LOCK_FILE).unlink(missing_ok=True)
    (folder / layout.WRITER_LOCK_FILE).mkdir()
    with pytest.raises(StateUnusable, match=r"writer\.lock can't be opened"):
        StateWriter.open(folder)


def test_a_reader_in_another_pid_namespace_is_refused(folder: Path) -> None:
    """LMDB tells live readers by process id, so all count in one namespace; the writer sets it anew."""
    set_owner_field(folder, "pid_namespace", "pid:[1]")
    found, message = problem(folder, writer=False)
    assert found == "PID_NAMESPACE" and "container" in message
    StateWriter.open(folder).close()
    StateReader.open(folder).close()


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_network_file_system_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A view over the network goes wrong, so neither side opens one."""
    monkeypatch.setattr(preflight, "file_system_kind", lambda _: kind)
    assert problem(folder, writer=True)[0] == "NETWORK_FS"
    assert problem(folder, writer=False)[0] == "NETWORK_FS"


def test_the_nearest_mount_decides(tmp_path: Path) -> None:
    """The kind of a folder is that of the longest mount point above it, later mounts hiding earlier ones."""
    table = tmp_path / "mountinfo"
    table.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        f"2 1 0:40 / {tmp_path} rw shared:1 - xfs x rw\n"
        f"3 1 0:41 / {tmp_path}/a\\040b rw - nfs4 server:/ rw\n"
        f"4 1 0:42 / {tmp_path}/over rw - tmpfs x rw\n"
        f"5 1 0:43 / {tmp_path}/over rw - nfs x rw\n"
    )
    kinds = [
        preflight.file_system_kind(tmp_path / name, table) for name in ("a", "a b/state", "over/x", "over2")
    ]
    assert kinds == ["xfs", "nfs4", "nfs", "xfs"]
    assert preflight.file_system_kind(Path("/elsewhere"), table) == "ext4"


def test_a_read_only_file_system_is_refused(tmpfs: Path) -> None:
    """A held view of a read-only mount does not see changes made elsewhere."""
    StateWriter.open(tmpfs / "state", create=True, map_size=SMALL_MAP).close()
    subprocess.run(["mount", "-o", "remount,ro", str(tmpfs)], check=True)
    assert problem(tmpfs / "state", writer=False)[0] == "READ_ONLY_FS"


def test_a_full_file_system_is_refused(tmpfs: Path) -> None:
    """The writer does not start where it could not write."""
    StateWriter.open(tmpfs / "state", create=True, map_size=SMALL_MAP).close()
    (tmpfs / "filler").write_bytes(bytes(os.statvfs(tmpfs).f_bavail * 4096 - 8192))
    found, message = problem(tmpfs / "state", writer=True)
    assert found == "NO_SPACE" and "free" in message


def test_a_map_without_address_space_is_no_damage(tmp_path: Path) -> None:
    """A process that may not map the file is told its limit, and not to restore a backup."""
    with pytest.raises(StateUnusable, match="ulimit -v") as refused:
        open_environment(tmp_path, readonly=False, map_size=1 << 47)
    assert refused.value.problem == "NO_MEMORY"


def test_overwritten_pages_are_never_a_smaller_list(folder: Path, tmp_path: Path) -> None:
    """A full read of a file with an overwritten page refuses, dies, or finds all rows."""
    script = """
import sys
from sessauth.errors import StateUnusable
from sessauth.state.writer.state_writer import StateWriter
from sessauth.state.integrity.verify import verify
try:
    with StateWriter.open(sys.argv[1]) as writer:
        print(writer.run(lambda group: verify(group.rows)), writer.is_revoked(b"s" * 16, b"b" * 32))
except StateUnusable as error:
    print("refused", error.problem)
"""

    def read(target: Path) -> tuple[int, str]:
        command = [sys.executable, "-c", script, str(target)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return result.returncode, result.stdout.strip()

    code, whole = read(folder)
    assert code == 0 and "revoked=1" in whole and whole.endswith("True")
    used = (folder / "data.mdb").stat().st_blocks * 512 // 4096
    rng, refused = random.Random(5), 0
    for page in {0, 1, *rng.sample(range(2, used), 8)}:
        target = tmp_path / f"copy-{page}"
        shutil.copytree(folder, target)
        with (target / "data.mdb").open("r+b") as file:
            file.seek(page * 4096)
            file.write(rng.choice([bytes(4096), rng.randbytes(4096)]))
        code, found = read(target)
        assert code < 0 or found == whole or found.startswith("refused") or (code == 1 and not found), found
        refused += found != whole
        shutil.rmtree(target)
    assert refused >= 3


@pytest.mark.parametrize("writer", [True, False], ids=["writer", "reader"])
@pytest.mark.parametrize("name", [layout.OWNER_FILE, layout.BRAKE_FILE])
def test_a_pipe_in_the_place_of_a_file_does_not_block(folder: Path, name: str, writer: bool) -> None:
    """Nobody writes into it, so that reading it would wait for ever: it is refused."""
    path = folder / name
    mode = path.stat().st_mode & 0o777
    path.unlink()
    os.mkfifo(path)
    path.chmod(mode)
    # A writer writes its own owner's file anew.
    if (name, writer) != (layout.OWNER_FILE, True):
        assert problem(folder, writer=writer)[0] in ("FOREIGN", "CORRUPT")


@pytest.mark.parametrize("writer", [True, False], ids=["writer", "reader"])
@pytest.mark.parametrize("start", [64, 8192])
def test_pages_of_zeros_are_corrupt(folder: Path, start: int, writer: bool) -> None:
    """A fault that LMDB finds only when a table is opened or read has the same word."""
    zeroed(folder, start, 4096 if start < 4096 else 4096 * 400)
    if start < 4096:
        zeroed(folder, 4096 + start, 8192)
    assert problem(folder, writer=writer)[0] == "CORRUPT"
