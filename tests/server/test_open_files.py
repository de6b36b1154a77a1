"""Files that give authority are held to their mode and owner, at the start and by ``state check`` alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from sessauth.audit.recording.change_follower import POSITION_FILE, ChangeFollower
from sessauth.cli.main import cli
from sessauth.errors import StateUnusable
from sessauth.server.config import load
from sessauth.server.keys import local_files
from sessauth.server.process.control import Control
from sessauth.server.process.init import initialise
from sessauth.state.lmdb.feed import ChangeLog
from tests.support.service import home_folder, running

SETTINGS = """
[tcp]
address = "127.0.0.1:0"
certificate = "server.pem"
private_key = "server.key"
client_ca = "ca.pem"
[audit]
enabled = true
"""

# Where it lies under the home folder, a mode that opens it, and the one to give it.
OPEN = [
    (".", 0o777, 0o755),
    (".", 0o775, 0o755),
    ("run", 0o777, 0o750),
    ("sessauth.toml", 0o666, 0o644),
    ("sessauth.toml", 0o664, 0o644),
    ("operator.credential", 0o644, 0o600),
    ("state/credentials.toml", 0o666, 0o640),
    ("state/credentials.toml", 0o644, 0o640),
    ("state/credentials.toml", 0o660, 0o640),
    ("keys", 0o755, 0o700),
    ("keys/*.pem", 0o644, 0o600),
    ("keys/*.pem", 0o640, 0o600),
    ("server.key", 0o644, 0o600),
    ("server.key", 0o660, 0o600),
    ("server.pem", 0o666, 0o644),
    ("ca.pem", 0o664, 0o644),
    ("state/local.json", 0o620, 0o600),
    ("state/audit.json", 0o660, 0o640),
    (f"audit/{POSITION_FILE}", 0o666, 0o600),
]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """An initialised home folder whose files are all there, each with its mode."""
    with home_folder() as folder:
        initialise(folder)
        (folder / "sessauth.toml").write_text(SETTINGS)
        for name, mode in (("server.pem", 0o644), ("ca.pem", 0o644), ("server.key", 0o600)):
            (folder / name).touch()
            (folder / name).chmod(mode)
        (folder / "state" / "local.json").touch(0o600)
        (folder / "state" / "audit.json").touch(0o640)
        (folder / "audit").mkdir(mode=0o750)
        (folder / "audit" / POSITION_FILE).touch(0o600)
        yield folder


def _refused(action: Callable[[], object]) -> StateUnusable:
    with pytest.raises(StateUnusable) as caught:
        action()
    return caught.value


@pytest.mark.parametrize(("name", "mode", "right"), OPEN)
def test_an_open_file_is_refused(home: Path, name: str, mode: int, right: int) -> None:
    """The start and ``state check`` name the file and what to type; typed, that file is no hindrance."""
    path = home if name == "." else next(home.glob(name))
    config = load(home, {})
    local_files.check(config)
    before = path.stat().st_mode & 0o777
    path.chmod(mode)
    try:
        error = _refused(lambda: Control(config))
        checked = CliRunner().invoke(cli, ["--home", str(home), "state", "check"])
        assert error.problem == "WRONG_MODE"
        assert str(error).endswith(f"run chmod {right:04o} {path}")
        assert f"{mode:04o}" in str(error)
        assert (checked.exit_code, checked.stderr) == (5, f"sessauth: {error}\n")
        path.chmod(right)
        local_files.check(config)
    finally:
        path.chmod(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user, which only root may")
@pytest.mark.parametrize("name", [".", "sessauth.toml", "state/credentials.toml", "keys/*.pem", "server.key"])
def test_a_file_of_another_user_is_refused(home: Path, name: str) -> None:
    """The start names the file, whose it is, and the command to type."""
    path = home if name == "." else next(home.glob(name))
    os.chown(path, 54321, -1)
    try:
        error = _refused(lambda: Control(load(home, {})))
    finally:
        os.chown(path, os.geteuid(), -1)

    assert error.problem == "WRONG_OWNER"
    assert "54321" in str(error)
    assert str(error).endswith(f"run chown {os.geteuid()} {path}")


def test_a_home_that_others_can_change_is_not_initialised() -> None:
    """Init refuses it before it makes a key."""
    with home_folder() as folder:
        folder.chmod(0o777)

        error = _refused(lambda: initialise(folder))

        assert str(error).endswith(f"run chmod 0755 {folder}")
        assert list((folder / "keys").iterdir()) == []


def test_how_far_changes_are_recorded_is_the_services_alone(tmp_path: Path) -> None:
    """The file that says it is 0600 whatever the umask; one of an earlier version becomes so."""
    with running() as service:
        assert service.control is not None
        source = service.control.writer.source()
        path = tmp_path / POSITION_FILE
        path.touch(0o644)
        before = os.umask(0)
        try:
            ChangeFollower(ChangeLog(source), tmp_path).store_position(0)
        finally:
            os.umask(before)

    assert path.stat().st_mode & 0o777 == 0o600
