"""Addresses of the decision point, and the enforcement points that may ask there."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from sessauth.errors import ConfigError, UsageError
from sessauth.gateways.authzen import AuthZenApp, AuthZenEvaluator, caller_check
from sessauth.gateways.http_server import address_of, bind, release, server_of
from sessauth.server.keys.credentials import CredentialFile
from tests.guard.world import World


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.org:0"])
def test_others_reach_no_address_by_default(address: str) -> None:
    """Tokens would travel in the clear, and anyone could ask."""
    with pytest.raises(UsageError, match="others reach"):
        bind(address)


@pytest.mark.parametrize("address", ["localhost:x", "127.0.0.1:70000", "127.0.0.1:"])
def test_an_address_of_another_form_is_refused(address: str) -> None:
    """A path has a slash or no colon."""
    with pytest.raises(UsageError, match="HOST:PORT"):
        bind(address)


def test_loopback_and_an_address_that_may_be_reached() -> None:
    """The port that the system chose is in the address."""
    for address, reachable in (("127.0.0.1:0", False), ("localhost:0", False), ("0.0.0.0:0", True)):
        with bind(address, reachable=reachable) as bound:
            assert int(address_of(bound).rpartition(":")[2]) > 0


def test_a_socket_is_closed_to_others_and_removed(tmp_path: Path) -> None:
    """One that a process left behind is replaced, one that is served is not."""
    path = tmp_path / "pdp.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()

    bound = bind(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert address_of(bound) == str(path)
    with pytest.raises(ConfigError, match="can't be listened on"):
        bind(str(path))
    release(bound, str(path))
    assert not path.exists()
    with pytest.raises(ConfigError):
        bind(str(tmp_path / "no" / "folder.sock"))


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """Its path is taken."""
    path = tmp_path / "notes"
    path.write_text("kept")

    with pytest.raises(ConfigError):
        bind(str(path))
    assert path.read_text() == "kept"


def test_a_certificate_that_can_not_be_used(world: World, tmp_path: Path) -> None:
    """The command ends before it listens."""
    app = AuthZenApp(AuthZenEvaluator(world.server.verifier), "https://pdp.example")

    with pytest.raises(ConfigError, match="certificate"):
        server_of(app, certificate=tmp_path / "none.pem", key=tmp_path / "none.key")


def test_gateways_of_the_audience_may_ask(tmp_path: Path) -> None:
    """Another role and another audience may not; an unknown credential is none."""
    file = tmp_path / "credentials.toml"
    credentials = CredentialFile(file)
    texts = {
        name: credentials.add(name, role, audiences)
        for name, role, audiences in (
            ("any", "gateway", ()),
            ("shop", "gateway", ("shop", "desk")),
            ("other", "gateway", ("desk",)),
            ("boss", "operator", ()),
        )
    }
    check = caller_check(file, "shop")

    assert [check(texts[name]) for name in ("any", "shop", "other", "boss")] == [True, True, False, False]
    assert check(texts["any"] + "x") is None
    assert caller_check(tmp_path / "missing.toml", "shop")(texts["any"]) is None
