"""Progress of long commands: on a terminal, over one line, and nowhere else; in JSON there is none."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from sessauth.crypto.keys import KeyStatus
from sessauth.model.change import add_key, open_session
from sessauth.scopes.scope import Scope
from tests.support.audit_play import Play
from tests.vectors.world import ISSUER, NOW, SESSION

from .conftest import COMMAND, invoke


def on_terminal(*args: object) -> tuple[bytes, str]:
    """Run a command whose stderr is a terminal; returns what was written there, and its output."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [*COMMAND, *map(str, args)],
            stderr=theirs,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        os.close(theirs)
        theirs = -1
        shown = b""
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:
                return shown, done.stdout
            if not part:
                return shown, done.stdout
            shown += part
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Give an initialised home folder."""
    assert invoke("--home", tmp_path / "home", "init").code == 0
    return tmp_path / "home"


def test_a_terminal_sees_it_and_keeps_nothing_of_it(home: Path, tmp_path: Path) -> None:
    """Each shows what it does, clears the line, and answers as ever."""
    backup, log, pack = tmp_path / "backup", tmp_path / "log" / "audit", tmp_path / "pack"
    play = Play(log)
    play.do(add_key("1", ISSUER.public, status=KeyStatus.ACTIVE), NOW)
    play.do(open_session("2", SESSION, [Scope.parse("read:**").to_record()], subject="s", ttl_ms=1000), NOW)
    play.close()
    for args, word, answer in (
        (("state", "check"), b"verifying", "cluster id"),
        (("state", "backup", backup), b"copying and verifying", "cluster id"),
        (("state", "check", "--backup", backup), b"verifying", "cluster id"),
        (("state", "restore", backup), b"verifying and restoring", "cluster id"),
        (("audit", "verify", "--dir", log), b"verifying", "intact"),
        (("audit", "replay", "--dir", log), b"decisions", "nothing was found"),
        (
            ("evidence", "--dir", log, "--session", SESSION.hex(), "--no-server", "--out", pack),
            "writing …\r\x1b[Kwriting 1".encode(),
            "PROVEN",
        ),
        (("evidence", "verify", pack, "--key", log / "audit.pub"), b"verifying", "PROVEN"),
        (("doctor",), b"examining", "not_running"),
    ):
        shown, out = on_terminal("--home", home, *args)
        assert shown.startswith(b"\r\x1b[K" + word) and shown.endswith(b"\r\x1b[K"), args
        assert "\x1b" not in out and answer in out, args


def test_a_document_has_none_beside_it(home: Path) -> None:
    """The stderr of a program that reads JSON may be a terminal; it stays empty."""
    for place in (("--json", "state", "check"), ("state", "check", "--json")):
        shown, out = on_terminal("--home", home, *place)
        assert shown == b"" and '"revision"' in out


@pytest.mark.slow
def test_nobody_else_does(home: Path, tmp_path: Path) -> None:
    """Without a terminal stderr stays empty."""
    for args in (
        ("backup", tmp_path / "b"),
        ("check", "--backup", tmp_path / "b"),
        ("restore", tmp_path / "b"),
    ):
        ran = invoke("--home", home, "state", *args)
        assert (ran.code, ran.err) == (0, "")


@pytest.mark.slow
def test_a_backup_is_checked_before_it_is_needed(home: Path, tmp_path: Path) -> None:
    """A sound one says what it holds; a damaged one, or none, is refused by its word; no state is read."""
    backup = tmp_path / "backup"
    assert invoke("--home", home, "state", "backup", backup).code == 0
    (home / "state" / "data.mdb").unlink()

    ran = invoke("--home", home, "state", "check", "--backup", backup, "--json")
    assert (ran.code, ran.json["keys"], ran.json["sessions"]) == (0, 1, 0)

    data = bytearray((backup / "data.mdb").read_bytes())
    data[-1] ^= 1
    (backup / "data.mdb").write_bytes(data)
    for folder, word in ((backup, "CORRUPT"), (tmp_path / "none", "MISSING")):
        ran = invoke("--home", home, "state", "check", "--backup", folder, "--json")
        assert ran.code == 5 and f'"word": "{word}"' in ran.err
