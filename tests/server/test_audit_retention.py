"""Retention by the settings of a server: it removes, records, and verifies intact."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.audit import layout
from sessauth.errors import ConfigError
from sessauth.server.config import from_dict
from sessauth.server.process.control import Control
from sessauth.server.process.init import initialise
from tests.cli.conftest import invoke
from tests.support.service import home_folder, wait_until

AUDIT = {"enabled": True, "rotate_bytes": 4_096, "checkpoint_ms": 100, "fsync_ms": 0}


def _run(home: Path, **audit: int) -> None:
    """Serve until the audit has begun, and drain."""
    control = Control(from_dict({"home": str(home), "audit": {**AUDIT, **audit}}))
    control.start()
    try:
        if audit:
            assert wait_until(lambda: _number(home) <= 2)
    finally:
        control.stop()


def _number(home: Path) -> int:
    return sum(map(len, layout.files(home / "audit").values()))


def test_a_server_removes_what_its_settings_say() -> None:
    """Streams of earlier runs go, which the state folder vouched for; the log stays intact."""
    with home_folder() as home:
        initialise(home)
        for _ in range(4):
            _run(home)
        assert _number(home) == 4

        _run(home, keep_files=2)

        assert _number(home) == 2
        verified = invoke("--home", home, "audit", "verify")
        assert verified.code == 0, verified.out
        (newest,) = (path for path in (home / "audit").glob("*.jsonl") if b"expired" in path.read_bytes())
        newest.unlink()
        assert invoke("--home", home, "audit", "verify").code == 1


@pytest.mark.parametrize(("key", "value"), [("keep_days", -1), ("keep_files", -2), ("keep_bytes", 4_096)])
def test_a_limit_out_of_range_is_refused(key: str, value: int) -> None:
    """The error names the key."""
    with pytest.raises(ConfigError, match=f"audit.{key}"):
        from_dict({"home": "/h", "audit": {**AUDIT, key: value}})
