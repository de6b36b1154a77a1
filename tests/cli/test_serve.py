"""The settings that ``sessauth serve`` serves by."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.server.config import Config
from sessauth.server.process import control
from tests.cli.conftest import invoke


def test_workers_of_the_command_line_serve_an_address_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option counts before the settings are held against each other, and over the environment."""
    served: list[Config] = []
    monkeypatch.setattr(control, "serve", served.append)
    monkeypatch.setenv("SESSAUTH_SERVER_WORKERS", "0")
    (tmp_path / "sessauth.toml").write_text('[tcp]\ncheck_address = "127.0.0.1:0"\ninsecure_tcp = true\n')

    refused = invoke("--home", tmp_path, "serve")
    assert refused.code != 0 and "tcp.check_address" in refused.err
    assert invoke("--home", tmp_path, "serve", "--workers", 2).code == 0

    assert [config.server.workers for config in served] == [2]
