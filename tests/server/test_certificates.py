"""The certificate files of a TCP listener: their use, their refusal, their log events."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sessauth.client import Client, Tls
from sessauth.clock import FixedClock
from sessauth.errors import ConfigError, StateUnusable, Unreachable
from sessauth.server.config import Config, load
from sessauth.server.keys.certificates import Certificates, certificate_end, first_der, validity
from sessauth.server.process.control import Control
from sessauth.server.process.init import initialise
from tests.cli.conftest import COMMAND, invoke
from tests.support.authority import NEEDS_OPENSSL, OPENSSL, Authority
from tests.support.scrape import scrape
from tests.support.service import Caller, home_folder, serves, wait_until

pytestmark = NEEDS_OPENSSL
# Behind the making of all certificates here, and long before they end.
NOW_S = int(datetime.now(UTC).timestamp()) + 3_600
SETTINGS = """
[tcp]
address = "127.0.0.1:0"
certificate = "server.pem"
private_key = "server.key"
{more}
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder with a server's certificate and the CA that signed it."""
    with home_folder() as folder:
        initialise(folder)
        Authority(folder, "ca").sign("server", "DNS:localhost,IP:127.0.0.1")
        (folder / "sessauth.toml").write_text(SETTINGS.format(more=""))
        yield folder


def _files(home: Path, now_s: int = NOW_S) -> Certificates:
    return Certificates(load(home, {}), FixedClock(1000 * now_s))


def _openssl_dates(path: Path) -> tuple[int, int]:
    command = [str(OPENSSL), "x509", "-in", str(path), "-noout", "-startdate", "-enddate"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    begin, end = (line.partition("=")[2] for line in found)
    return int(ssl.cert_time_to_seconds(begin)), int(ssl.cert_time_to_seconds(end))


@pytest.mark.parametrize("days", [1, 800, 9_900, 12_000])
def test_the_validity_is_that_of_openssl(tmp_path: Path, days: int) -> None:
    """Certificates end in this century's first half (UTCTime) and later (GeneralizedTime)."""
    key, pem = tmp_path / "k", tmp_path / "c"
    new = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        str(days),
    ]
    command = [str(OPENSSL), *new, "-subj", "/CN=x", "-keyout", str(key), "-out", str(pem)]
    subprocess.run(command, check=True, capture_output=True)
    der = first_der(pem.read_bytes())

    assert validity(der) == _openssl_dates(pem)
    for cut in range(0, len(der), 7):
        with pytest.raises(ValueError):
            validity(der[:cut])


BREAKS: list[tuple[str, Callable[[Path], object]]] = [
    ("no PEM", lambda home: (home / "server.pem").write_text("nothing")),
    ("gone", lambda home: (home / "server.pem").unlink()),
    ("another's key", lambda home: (home / "server.key").write_bytes((home / "ca.key").read_bytes())),
    ("no key", lambda home: (home / "server.key").write_text("nothing")),
]


@pytest.mark.parametrize("damage", [each for _, each in BREAKS], ids=[name for name, _ in BREAKS])
def test_unusable_files_are_refused_at_the_start(home: Path, damage: Callable[[Path], object]) -> None:
    """A start names the settings; gRPC would begin, and fail every handshake."""
    damage(home)

    with pytest.raises(ConfigError, match=r"tcp\.certificate, tcp\.private_key"):
        Control(load(home, {}))


@pytest.mark.parametrize("damage", [each for _, each in BREAKS], ids=[name for name, _ in BREAKS])
def test_unusable_files_are_not_reloaded(
    home: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    """The last good set stays in use, one error says so, and good files count again."""
    files = _files(home)
    files.load()
    before = {name: (home / name).read_bytes() for name in ("server.pem", "server.key")}

    with caplog.at_level("INFO", "sessauth.server"):
        assert files.reload() is None
        damage(home)
        assert [files.reload() for _ in range(3)] == [None] * 3
    events = [each.message for each in caplog.records]
    assert events == ["certificates_not_reloaded"]

    caplog.clear()
    for name, data in before.items():
        (home / f"{name}.new").write_bytes(data)
        (home / f"{name}.new").chmod(0o600)
        (home / f"{name}.new").replace(home / name)
    with caplog.at_level("INFO", "sessauth.server"):
        assert files.reload() is not None
        assert files.reload() is None
    assert [each.message for each in caplog.records] == ["certificates_reloaded"]


def test_a_key_that_others_can_read_is_not_reloaded(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is it used at a start."""
    files = _files(home)
    files.load()
    (home / "new.key").write_bytes((home / "server.key").read_bytes())
    (home / "new.key").chmod(0o644)
    (home / "new.key").replace(home / "server.key")

    with caplog.at_level("INFO", "sessauth.server"):
        assert files.reload() is None
    assert [each.message for each in caplog.records] == ["certificates_not_reloaded"]
    with pytest.raises(StateUnusable, match="chmod 0600"):
        _files(home).load()
    with pytest.raises(StateUnusable, match="chmod 0600"):
        Certificates(load(home, {})).context()


@pytest.mark.parametrize(
    ("days", "events"), [(0, []), (3, ["certificate_expired"]), (-1, ["certificate_not_yet_valid"])]
)
def test_a_certificate_that_does_not_count_now_is_said(
    home: Path, caplog: pytest.LogCaptureFixture, days: int, events: list[str]
) -> None:
    """An expired one, and one whose time has not come, are an error at the start and at a change."""
    with caplog.at_level("INFO", "sessauth.server"):
        files = _files(home, NOW_S + 86_400 * days)
        files.load()
        (home / "server.pem").touch()
        assert files.reload() is not None

    assert [each.message for each in caplog.records] == [*events, *events, "certificates_reloaded"]
    assert {each.levelname for each in caplog.records[:-1]} <= {"ERROR"}


def test_the_context_follows_the_files(home: Path) -> None:
    """It is the same one until they change; each new connection looks at them."""
    found = Certificates(load(home, {}), FixedClock(1000 * NOW_S))
    first = found.context()

    assert found.context() is first
    (home / "server.pem").touch()
    second = found.context()
    assert second is not first
    assert found.context() is second
    (home / "server.key").write_text("nothing")
    assert found.context() is second


def test_the_native_loop_tries_the_files(home: Path) -> None:
    """The loop makes a connection to itself before it serves."""
    found = Certificates(load(home, {}))
    assert found.problem() == ""

    (home / "server.key").write_bytes((home / "ca.key").read_bytes())
    assert "private key mismatch" in found.problem()
    with pytest.raises(ConfigError, match=r"tcp\.certificate, tcp\.private_key"):
        found.context()
    (home / "server.key").unlink()
    assert "server.key" in found.problem()


def test_a_key_with_a_passphrase_is_refused(home: Path) -> None:
    """Nobody types it, and no terminal is asked."""
    plain, locked = home / "server.key", home / "locked.key"
    command = [str(OPENSSL), "pkey", "-in", str(plain), "-aes256", "-passout", "pass:x", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    locked.chmod(0o600)
    locked.replace(plain)

    with pytest.raises(ConfigError, match=r"tcp\.private_key"):
        Certificates(load(home, {})).context()


def _settings(home: Path, more: str) -> Config:
    (home / "sessauth.toml").write_text(SETTINGS.format(more=more))
    return load(home, {})


def test_the_end_of_the_certificate_is_a_metric(home: Path) -> None:
    """The page says when it ends; without TLS it says 0."""
    control = Control(_settings(home, '[metrics]\naddress = "127.0.0.1:0"\n'))
    control.start()
    try:
        assert control.metrics is not None
        page = scrape(control.metrics.port)
    finally:
        control.stop()

    _, end = _openssl_dates(home / "server.pem")
    assert page.value("sessauth_tls_certificate_end_seconds") == end
    (home / "sessauth.toml").write_text("")
    assert certificate_end(load(home, {})) == 0


def test_the_command_line_trusts_what_the_machine_trusts(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """--tls alone requires a server's certificate that is signed by a CA of the machine."""
    control = Control(load(home, {}))
    control.start()
    command = (
        *("--target", f"localhost:{control.tcp_port}", "--credential-file", home / "operator.credential"),
        *("--timeout-ms", 10_000, "--tls", "keys", "list"),
    )
    try:
        monkeypatch.setenv("SSL_CERT_FILE", str(home / "ca.pem"))
        assert invoke(*command).code == 0
        Authority(tmp_path, "stranger")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "stranger.pem"))
        refused = invoke(*command)
    finally:
        control.stop()

    assert refused.code == 4
    assert "TLS" in refused.err


def test_a_client_without_a_certificate_hears_of_tls(home: Path) -> None:
    """``tcp.client_ca`` makes certificates mandatory, also beside an API key; the error says so."""
    control = Control(_settings(home, 'client_ca = "ca.pem"\n'))
    control.start()
    credential = (home / "operator.credential").read_text().strip()
    target = f"localhost:{control.tcp_port}"
    try:
        with (
            Client(target, credential, tls=Tls(home / "ca.pem"), timeout_ms=3_000) as client,
            pytest.raises(Unreachable, match=r"handshake of TLS .* \(tcp.client_ca\)"),
        ):
            client.list_keys()
        certificate, key = home / "server.pem", home / "server.key"
        with Client(
            target, credential, tls=Tls(home / "ca.pem", certificate, key), timeout_ms=20_000
        ) as client:
            assert client.list_keys()
    finally:
        control.stop()


def test_stderr_holds_nothing_but_json(home: Path) -> None:
    """Also when handshakes fail, of which gRPC writes lines of its own."""
    (home / "sessauth.toml").write_text(SETTINGS.format(more="").replace("127.0.0.1:0", f"unix:{home}/tls"))
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen([*COMMAND, "--home", str(home), "serve", "--workers", "1"], stderr=log)
    operator = Caller(f"unix:{home}/run/sessauth.sock", (home / "operator.credential").read_text().strip())
    worker = Caller(f"unix:{home}/run/check-0.sock", operator.credential)
    plain = Caller(f"unix:{home}/tls", operator.credential, timeout=1.0)
    try:
        assert wait_until(lambda: serves(operator) and serves(worker))
        assert not serves(plain)
    finally:
        process.terminate()
        assert process.wait(60) == 0
        for caller in (operator, worker, plain):
            caller.close()

    lines = (home / "server.log").read_text().splitlines()
    assert len(lines) > 2
    assert all(isinstance(json.loads(line), dict) for line in lines)
