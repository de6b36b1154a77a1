"""A grpcio that the server can't stand on is refused at the start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessauth.errors import ConfigError
from sessauth.server.process.init import initialise
from sessauth.server.transport import core, self_test
from sessauth.server.transport.self_test import require_transport
from tests.support.service import home_folder, wait_until

ROOT = Path(__file__).parents[2]


def _threads() -> int:
    """The number of threads of servers."""
    return sum(thread.name.startswith("sessauth-") for thread in threading.enumerate())


def test_this_grpcio_does_what_is_needed() -> None:
    """Nothing is raised, and what was opened for it is closed."""
    before = _threads()

    require_transport()
    require_transport()

    assert wait_until(lambda: _threads() <= before)


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_a_proxy_in_the_environment_is_not_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of this process to itself needs no proxy."""
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    before = _threads()

    require_transport()

    assert wait_until(lambda: _threads() <= before)


def test_a_name_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what is missing, in which grpcio, and which ones were tested."""
    monkeypatch.setattr(core, "NAMES", (*core.NAMES, "SomethingElse"))

    with pytest.raises(ConfigError, match="SomethingElse") as refused:
        require_transport()

    assert grpc.__version__ in str(refused.value)
    assert core.TESTED in str(refused.value)


def _something_else(call: Any, event: Any) -> None:
    call._on_message(b"something else")


def _no_details(call: Any, code: int, details: str, status: Any, *, first: bool) -> None:
    END(call, code, details, None, first=first)


END = core.GrpcCall.end


@pytest.mark.parametrize(
    ("owner", "name", "replaced"),
    [
        (core.GrpcCall, "_received", _something_else),
        (core.GrpcCall, "end", _no_details),
        (core, "wall_clock", lambda: 1e12),
    ],
)
def test_a_name_that_does_something_else_is_noticed(
    owner: Any, name: str, replaced: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message, a status or a deadline that is not what was sent."""
    monkeypatch.setattr(self_test, "SECONDS", 0.5)
    monkeypatch.setattr(owner, name, replaced)

    with pytest.raises(ConfigError, match=re.escape(core.TESTED)):
        require_transport()


def test_a_call_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start is refused when its time is over."""
    monkeypatch.setattr(self_test, "SECONDS", 0.3)
    monkeypatch.setattr(core.GrpcCall, "receive", lambda call, on_message: None)

    with pytest.raises(ConfigError, match="DEADLINE_EXCEEDED"):
        require_transport()


def test_serve_does_not_start_on_another_grpcio() -> None:
    """The command says it in one line, and opens nothing."""
    code = (
        "import sys; from sessauth.server.transport import core; core.NAMES = ('Gone',);"
        "from sessauth.cli.main import main; sys.argv[1:] = ['serve']; main()"
    )
    with home_folder() as home:
        made = initialise(home)
        answer = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "SESSAUTH_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        opened = made.socket.exists()

    assert answer.returncode != 0
    assert "it has no Gone" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not opened


def test_the_package_asks_for_what_was_tested() -> None:
    """The error names the range that pip installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    assert core.TESTED in project["dependencies"]
