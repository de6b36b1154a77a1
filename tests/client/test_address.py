from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.client import Client, Tls
from sessauth.client._target import load_credential, resolve_credential, resolve_target, resolve_targets
from sessauth.client._transport import resolve_endpoint
from sessauth.errors import ConfigError, UsageError
from sessauth.server.config import default_home as server_home

SECRET = "sessauth_key_operator_c2VjcmV0"


def _write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_target_defaults_to_the_socket_of_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a target, calls go to run/sessauth.sock of $SESSAUTH_HOME."""
    monkeypatch.delenv("SESSAUTH_TARGET", raising=False)
    monkeypatch.setenv("SESSAUTH_HOME", "/srv/agents")

    assert resolve_target(None) == "unix:/srv/agents/run/sessauth.sock"


def test_target_from_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """$SESSAUTH_TARGET stands in for an absent target, and an explicit one wins over it."""
    monkeypatch.setenv("SESSAUTH_TARGET", "auth.example:7443")

    assert resolve_target(None) == "auth.example:7443"
    assert resolve_target("/run/a.sock") == "unix:/run/a.sock"


@pytest.mark.parametrize("path", ["./a.sock", "unix:a.sock", "run/a.sock"])
def test_relative_socket_becomes_absolute(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A relative socket path counts from the working directory of the moment."""
    monkeypatch.chdir(tmp_path)

    assert resolve_target(path) == f"unix:{tmp_path / path.removeprefix('unix:')}"


def test_a_path_is_a_socket(tmp_path: Path) -> None:
    """A Path is taken where its text is, a relative one too, and alone or among several."""
    one, two = tmp_path / "one.sock", Path("two.sock")
    endpoint = resolve_endpoint(one, "", None, None, False, two)
    assert (endpoint.targets, endpoint.check_targets) == ((f"unix:{one}",), (f"unix:{two.absolute()}",))
    assert resolve_targets([one, two]) == (f"unix:{one}", f"unix:{two.absolute()}")


def test_socket_path_too_long_is_said() -> None:
    """A path that no Unix socket can have is refused as such, not as a server that is down."""
    with pytest.raises(ConfigError, match=r"107 bytes.*SESSAUTH_HOME"):
        resolve_target("/" + "x" * 120)


@pytest.mark.parametrize("target", ["", "localhost"])
def test_target_that_is_nothing(target: str) -> None:
    """An empty target, and a host without a port, are refused."""
    with pytest.raises(ConfigError, match="target"):
        resolve_target(target)


def test_credential_file_is_read_and_stripped(tmp_path: Path) -> None:
    """A credential file holds one line; white space around it does not count."""
    assert load_credential(_write(tmp_path / "c", f"{SECRET}\n")) == SECRET


def test_credential_file_that_others_may_read(tmp_path: Path) -> None:
    """A credential that every user may read is refused with the command that repairs it."""
    with pytest.raises(ConfigError, match="chmod 600"):
        load_credential(_write(tmp_path / "c", SECRET, 0o644))


@pytest.mark.parametrize(
    "content", ["", "hello", "sessauth_key_", f"{SECRET} {SECRET}", "sessauth_key_é", SECRET * 500]
)
def test_credential_file_with_other_contents(tmp_path: Path, content: str) -> None:
    """Contents that are no credential are refused and never repeated in the message."""
    with pytest.raises(ConfigError, match="credential") as refused:
        load_credential(_write(tmp_path / "c", content))

    assert content in ("", "sessauth_key_") or content not in str(refused.value)


def test_credential_file_that_is_missing(tmp_path: Path) -> None:
    """A missing file that was named is an error, not an anonymous call."""
    with pytest.raises(ConfigError, match="No such file"):
        resolve_credential(None, tmp_path / "none", "unix:/run/a.sock")


def test_credential_beside_a_local_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local service's operator credential is found from its socket, unless another one is named."""
    monkeypatch.delenv("SESSAUTH_CREDENTIAL_FILE", raising=False)
    target = f"unix:{tmp_path}/run/sessauth.sock"
    assert resolve_credential(None, None, target) == ""

    _write(tmp_path / "operator.credential", SECRET)
    assert resolve_credential(None, None, target) == SECRET
    assert resolve_credential("", None, target) == ""

    named = _write(tmp_path / "other", f"{SECRET}2")
    monkeypatch.setenv("SESSAUTH_CREDENTIAL_FILE", str(named))
    assert resolve_credential(None, None, target) == f"{SECRET}2"


def test_plain_tcp_is_refused() -> None:
    """TCP without TLS needs a switch, for checks too, since it shows tokens to the network."""
    with pytest.raises(ConfigError, match="insecure_tcp"):
        Client("127.0.0.1:7000")
    with pytest.raises(ConfigError, match="insecure_tcp"):
        Client("/run/a.sock", check_target="127.0.0.1:7000")

    Client("127.0.0.1:7000", insecure_tcp=True).close()


def test_tls_files(tmp_path: Path) -> None:
    """A TLS file that can't be read, and a key without its certificate, are refused at once."""
    with pytest.raises(ConfigError, match=r"can't read .*ca\.pem"):
        Client("auth.example:7443", "", tls=Tls(authority=tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match=r"tls\.certificate, tls\.key"):
        Client("auth.example:7443", "", tls=Tls(key=tmp_path / "key.pem"))


@pytest.mark.parametrize("timeout_ms", [0, -1, 3_600_001])
def test_timeout_is_never_infinite(timeout_ms: int) -> None:
    """A deadline is between a millisecond and an hour."""
    with pytest.raises(UsageError, match="timeout_ms"):
        Client("/run/a.sock", timeout_ms=timeout_ms)


@pytest.mark.parametrize("stated", ["", "/srv/agents"])
def test_client_and_server_agree_on_the_home(stated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client with nothing configured looks where a server with nothing configured is."""
    monkeypatch.setenv("SESSAUTH_HOME", stated)
    monkeypatch.delenv("SESSAUTH_TARGET", raising=False)

    assert resolve_target(None) == f"unix:{server_home()}/run/sessauth.sock"
