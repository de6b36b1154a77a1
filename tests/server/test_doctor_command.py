"""``sessauth doctor`` as it is typed: exit codes, and which server it asks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessauth.server.config import from_dict
from sessauth.server.doctor import examination
from sessauth.server.doctor.finding import ERROR
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.process.init import initialise
from sessauth.server.transport.native import bind_problem
from sessauth.v1 import session_service_pb2 as sessions
from tests.cli.conftest import COMMAND, invoke
from tests.support.service import home_folder, running

# The package reads the state in a process of its own.
pytestmark = pytest.mark.slow

MAP_BYTES = 4 << 20


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A sound home, which no test changes."""
    with home_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SESSAUTH_SERVER_MAP_SIZE_BYTES", str(MAP_BYTES))
        initialise(folder / "h")
        yield folder / "h"


def test_the_command_exits_by_severity(made: Path) -> None:
    """0, 1 and 2; in JSON each finding has its severity."""
    with home_folder() as folder:
        shutil.copytree(made, folder / "h")
        warned = invoke("--home", folder / "h", "doctor", "--json")
        (folder / "h" / "keys").chmod(0o755)
        failed = invoke("--home", folder / "h", "doctor", "--json")
        lines = invoke("--home", folder / "h", "doctor").out

    assert (warned.code, warned.json["errors"]) == (1, 0)
    assert [each["id"] for each in warned.json["findings"]] == ["not_running"]
    assert failed.code == 2
    assert (failed.json["findings"][0]["id"], failed.json["findings"][0]["severity"]) == ("open_file", ERROR)
    assert "run chmod 0700" in lines
    assert lines.startswith("ERROR  open_file: ")


def test_a_running_server_is_asked() -> None:
    """A sound one has no finding; orphans of a removed issuer are found while it runs."""
    with running() as service:
        issuer = service.add("builder", "issuer")
        issuer.call(
            "SessionService/OpenSession", sessions.OpenSessionRequest(subject="s", ceiling=["read:a"])
        )
        home = service.made.home
        assert CredentialFile(home / "state" / "credentials.toml").remove("builder")
        # In a process of its own: this one writes the state.
        command = [*COMMAND, "--home", str(home), "doctor", "--json"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)

        other = service.add("desk", "issuer").credential
        (home / "desk.credential").write_text(other)
        (home / "desk.credential").chmod(0o600)
        refused = invoke("--home", home, "--credential-file", home / "desk.credential", "doctor", "--json")

    found = json.loads(ran.stdout)
    assert ran.returncode == 1, ran.stderr
    assert [each["id"] for each in found["findings"]] == ["orphaned_sessions"]
    assert "'builder' (1)" in found["findings"][0]["words"]
    # A server that answers is not to be killed.
    ids = [each["id"] for each in refused.json["findings"]]
    assert "not_asked" in ids and "not_answering" not in ids


def test_another_hosts_server_does_not_answer_for_this_one(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment may name a server for the other commands; an option for it is refused."""
    with running() as service:
        monkeypatch.setenv("SESSAUTH_HOME", str(made))
        monkeypatch.setenv("SESSAUTH_TARGET", str(service.made.socket))
        monkeypatch.setenv("SESSAUTH_CREDENTIAL_FILE", str(service.made.credential_file))
        ran = invoke("doctor", "--json")
        named = invoke("--target", service.made.socket, "doctor")

    assert [each["id"] for each in ran.json["findings"]] == ["not_running"]
    assert (named.code, "--target" in named.err) == (2, True)


@pytest.mark.parametrize("name", ["x" * 70, "a..b", "a\0b"])
def test_a_name_that_no_host_can_have(name: str) -> None:
    """It can't be listened on, which is the finding."""
    assert bind_problem(f"{name}:80")


def test_a_place_that_can_not_be_made(tmp_path: Path) -> None:
    """Below a file, at a dangling link, where a socket should be; a folder that is to be made is none."""
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    sound = from_dict({"home": str(tmp_path / "new" / "home"), "audit": {"enabled": True}})
    config = from_dict(
        {
            "home": str(tmp_path),
            "server": {"run_dir": "file/run", "workers": 1},
            "usage": {"dir": "link"},
            "audit": {"dir": "file", "enabled": True},
        }
    )
    in_the_way = from_dict({"home": str(tmp_path), "server": {"run_dir": "."}})
    in_the_way.socket.write_text("")

    assert [examination._problem(folder, 0) for _, folder in examination._folders(sound)] == [""] * 3
    problems = [examination._problem(folder, 0) for _, folder in examination._folders(config)]
    assert [problem.rpartition(" is ")[2] for problem in problems] == [
        "no folder",
        "a link to nothing",
        "no folder",
    ]
    assert examination._is_in_the_way(in_the_way.socket)
    assert examination._is_own_file(tmp_path / "file", os.geteuid())
    assert examination._is_own_file(tmp_path / "none yet", os.geteuid())
    assert not examination._is_own_file(tmp_path / "file", os.geteuid() + 1)
    assert not examination._is_own_file(tmp_path / "link", os.geteuid())
    tmp_path.chmod(0o777)
    assert examination._is_open_to_all(tmp_path)


def test_two_settings_of_one_address() -> None:
    """Each can be bound alone; together they can't."""
    one, same, every = ("127.0.0.1", 7443), ("127.0.0.1", 7443), ("0.0.0.0", 7443)
    free, other = ("127.0.0.1", 0), ("10.0.0.1", 7443)
    for pair, found in (((one, same), 1), ((one, every), 1), ((one, other), 0), ((free, free), 0)):
        stated = dict(zip(("tcp.address", "metrics.address"), pair, strict=True))
        assert len(list(examination._shared_ports(stated))) == found


def test_another_users_folder(tmp_path: Path) -> None:
    """The mode decides, for a user that the machine does not know as well."""
    for mode, may in ((0o700, False), (0o707, True)):
        tmp_path.chmod(mode)
        assert examination._allows(tmp_path.stat(), 4_000_000_000) is may
