"""The command line in this process, and a real server of its own to talk to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sessauth.cli.main import cli
from sessauth.client import Client
from sessauth.crypto.keys import IssuerKey
from sessauth.errors import Unavailable

COMMAND = [sys.executable, "-m", "sessauth.cli.main"]


@dataclass(frozen=True)
class Ran:
    """Result of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The answer as JSON."""
        return json.loads(self.out)


Run = Callable[..., Ran]


def invoke(*args: object, stdin: str | bytes | None = None) -> Ran:
    """Run the command line in this process."""
    result = CliRunner().invoke(cli, [str(arg) for arg in args], input=stdin, prog_name="sessauth")
    return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run commands without a server, in a folder of their own."""
    for name in [name for name in os.environ if name.startswith("SESSAUTH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SESSAUTH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return invoke


@pytest.fixture
def issuer_key(tmp_path: Path) -> Path:
    """Give a private issuer key file."""
    path = tmp_path / "issuer.pem"
    IssuerKey.generate().save(path)
    return path


@dataclass(frozen=True)
class Service:
    """A running server and its home folder."""

    home: Path
    process: subprocess.Popen[bytes]

    def __call__(self, *args: object, stdin: str | bytes | None = None) -> Ran:
        """Run a command against this server, which a busy machine may let wait."""
        return invoke("--home", self.home, "--timeout-ms", 10_000, *args, stdin=stdin)


def start_service(home: Path) -> Service:
    """Initialise a home folder if it is new, serve it, and wait until it answers."""
    if not home.exists():
        ran = invoke("--home", home, "init")
        assert ran.code == 0, ran.err
    process = subprocess.Popen([*COMMAND, "--home", str(home), "serve"], stderr=subprocess.DEVNULL)
    client = Client(str(home / "run" / "sessauth.sock"), timeout_ms=1000)
    give_up = time.monotonic() + 60
    with client:
        while True:
            try:
                client.list_keys()
                return Service(home, process)
            except Unavailable:
                assert process.poll() is None, "the server did not start"
                assert time.monotonic() < give_up, "the server did not answer"
                time.sleep(0.05)


def stop_service(service: Service) -> None:
    """Drain a server and wait until it is gone."""
    service.process.terminate()
    assert service.process.wait(30) == 0


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """Give a server that the tests of this process share; each opens sessions of its own."""
    # A Unix socket's path is short, and pytest's folders may not be.
    with tempfile.TemporaryDirectory(prefix="sessauth-") as folder:
        running = start_service(Path(folder) / "home")
        yield running
        stop_service(running)


@pytest.fixture
def home() -> Iterator[Path]:
    """Give an initialised home folder with a short path."""
    with tempfile.TemporaryDirectory(prefix="sessauth-") as folder:
        home = Path(folder) / "home"
        assert invoke("--home", home, "init").code == 0
        yield home
