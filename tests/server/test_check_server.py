"""The choice of the workers' server: by setting, by library, and said at the start."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from sessauth._fast import _http2 as http2
from sessauth.errors import ConfigError
from sessauth.server.config.config import Config
from sessauth.server.config.sections import ServerSettings, TcpSettings
from sessauth.server.transport import choice

MISSING = "libnghttp2.so.14: cannot open shared object file"


def _config(check_server: str) -> Config:
    return dataclasses.replace(Config(), server=ServerSettings(check_server=check_server))


def _fail() -> str:
    raise OSError(MISSING)


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the library."""
    monkeypatch.setattr(choice, "_load", _fail)


@pytest.mark.parametrize("setting", ["auto", "native"])
def test_the_native_server_is_taken_where_its_library_is(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason names the version."""
    monkeypatch.setattr(choice, "_load", lambda: "1.64.0")
    found = choice.choose(_config(setting))
    assert found.native
    assert found.why == "libnghttp2 1.64.0"


def test_without_the_library_grpc_serves(no_library: None) -> None:
    """The reason says what is missing, and how to get it."""
    found = choice.choose(_config("auto"))
    assert not found.native
    assert MISSING in found.why
    assert "Debian: libnghttp2-14" in found.why


def test_a_native_server_that_must_be_and_cannot_is_refused(no_library: None) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigError, match=r"server\.check_server: can't be native: .*libnghttp2"):
        choice.choose(_config("native"))


def test_without_openssl_grpc_serves_an_address_with_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address without TLS, and Unix sockets, need none."""
    monkeypatch.setattr(choice, "_load", lambda: "1.64.0")
    monkeypatch.setattr(choice, "_tls_problem", lambda: "libssl.so.3 is missing")
    encrypted = TcpSettings(check_address="127.0.0.1:1", certificate="c", private_key="k")
    config = _config("auto")
    assert not choice.choose(dataclasses.replace(config, tcp=encrypted)).native
    plain = TcpSettings(check_address="127.0.0.1:1", insecure_tcp=True)
    assert choice.choose(dataclasses.replace(config, tcp=plain)).native
    assert choice.choose(config).native


def test_grpcio_is_taken_where_it_is_asked_for() -> None:
    """The library is not looked at."""
    assert choice.choose(_config("grpcio")) == choice.CheckServer("grpcio", "server.check_server says so")


def test_another_word_is_refused() -> None:
    """The error lists the words."""
    with pytest.raises(ConfigError, match=r"server\.check_server: must be auto, native or grpcio"):
        ServerSettings(check_server="fast").check()


def test_a_library_that_is_none_is_not_loaded(tmp_path: Path) -> None:
    """A path that is not there, a file that is no library, and a library that is another one."""
    # Loaded once in a process, the library stays.
    script = tmp_path / "load.py"
    (tmp_path / "text.so").write_text("no library")
    for path, words in (
        (tmp_path / "gone.so", "gone.so"),
        (tmp_path / "text.so", "text.so"),
        (Path("libc.so.6"), "it has no function nghttp2_version"),
    ):
        script.write_text(
            "from sessauth._fast._http2 import load_nghttp2\n"
            f"try: load_nghttp2([{str(path)!r}])\n"
            "except OSError as error: print(error)\n"
            "else: raise SystemExit('loaded')\n"
        )
        assert words in _output(script)
    assert http2.NGHTTP2_LIBRARY == "libnghttp2.so.14"


def _output(script: Path) -> str:
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
