"""Libraries that the server needs: a start without one says what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sessauth._fast import _http2 as http2
from sessauth.errors import ConfigError
from sessauth.server.config import Config, from_dict
from sessauth.server.process.control import Control
from sessauth.server.transport import requirements

MISSING = "libnghttp2.so.14: cannot open shared object file"
TLS = {"certificate": "c", "private_key": "k"}


def _fail() -> str:
    raise OSError(MISSING)


def test_without_libnghttp2_nothing_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error is the first one, and names the package of each distribution."""
    monkeypatch.setattr(requirements, "_load", _fail)
    with pytest.raises(ConfigError) as refused:
        Control(from_dict({"home": str(tmp_path / "not here")}))
    for words in (MISSING, "apt-get install libnghttp2-14", "dnf install libnghttp2", "apk add nghttp2-libs"):
        assert words in str(refused.value)


@pytest.mark.parametrize(
    ("tcp", "needed"),
    [
        ({}, False),
        ({"address": "127.0.0.1:1", "insecure_tcp": True}, False),
        ({"address": "127.0.0.1:1", **TLS}, True),
        ({"check_address": "127.0.0.1:1", **TLS}, True),
    ],
)
def test_openssl_is_needed_for_tls_alone(
    tcp: dict[str, object], needed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unix sockets, and addresses without TLS, need none."""
    monkeypatch.setattr(requirements, "_load", lambda: "1.64.0")
    monkeypatch.setattr(requirements, "_tls_problem", lambda: "libssl.so.3 is missing")
    config: Config = from_dict({"server": {"workers": 1}, "tcp": tcp})
    if not needed:
        assert requirements.require_libraries(config) == "1.64.0"
        return
    with pytest.raises(ConfigError, match=r"libssl\.so\.3 is missing.*apt-get install libssl3"):
        requirements.require_libraries(config)


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
