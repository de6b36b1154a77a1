"""The server and the credential that the command line finds without options."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from sessauth.server.config import config as server_config
from sessauth.server.process.control import Control
from tests.cli.conftest import Run


@pytest.mark.parametrize("by_option", [False, True])
def test_sockets_outside_the_home_folder_are_found(
    run: Run, monkeypatch: pytest.MonkeyPatch, by_option: bool
) -> None:
    """The home folder names socket and credential even if server.run_dir is elsewhere."""
    with tempfile.TemporaryDirectory(prefix="sa-") as folder:
        home, run_dir = Path(folder) / "home", Path(folder) / "sockets"
        assert run("--home", home, "init").code == 0
        (home / "sessauth.toml").write_text(f'[server]\nrun_dir = "{run_dir}"\n')
        control = Control(server_config.load(home))
        control.start()
        try:
            monkeypatch.setenv("SESSAUTH_HOME", str(home if not by_option else Path(folder) / "none"))
            options = ("--home", home) if by_option else ()
            listed = run(*options, "session", "list", "--json")
            assert (listed.code, listed.err) == (0, "")
            assert listed.json["sessions"] == []
            monkeypatch.setenv("SESSAUTH_TARGET", str(run_dir / "nobody.sock"))
            assert run(*options, "session", "list").code == (0 if by_option else 4)
        finally:
            control.stop()
