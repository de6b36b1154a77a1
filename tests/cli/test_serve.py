"""The settings that ``sessauth serve`` serves by."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.server.config import Config, load
from sessauth.server.process import control

from .conftest import Run, invoke


def test_workers_of_the_command_line_serve_an_address_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option counts over the environment, and whenever the settings are read again; none is refused."""
    served: list[Config] = []
    monkeypatch.setattr(control, "serve", served.append)
    monkeypatch.setenv("SESSAUTH_SERVER_WORKERS", "0")
    (tmp_path / "sessauth.toml").write_text('[tcp]\ncheck_address = "127.0.0.1:0"\ninsecure_tcp = true\n')

    refused = invoke("--home", tmp_path, "serve")
    assert refused.code != 0 and "tcp.check_address" in refused.err
    assert invoke("--home", tmp_path, "serve", "--workers", 2).code == 0

    assert [config.server.workers for config in served] == [2]
    assert load(tmp_path).server.workers == 2


def test_other_commands_do_not_ask_who_serves_an_address(run: Run, tmp_path: Path) -> None:
    """A server that was started with workers is asked, and its folder is read, without the option."""
    assert run("init").code == 0
    settings = tmp_path / "home" / "sessauth.toml"
    settings.write_text('[tcp]\ncheck_address = "127.0.0.1:0"\ninsecure_tcp = true\n')

    assert run("credential", "list").code == 0
