"""``sessauth capacity``: options reach the formulas, and its last lines are settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Run


@pytest.mark.slow
def test_the_command_prints_settings(run: Run, tmp_path: Path) -> None:
    """Its lines are a part of sessauth.toml; its options reach the formulas."""
    few = run("capacity", "--sessions-per-second", 1, "--json").json
    more = run("capacity", "--sessions-per-second", 10, "--decisions-per-second", 50, "--json").json
    (tmp_path / "wrong.scopes").write_text("nothing")
    wrong = run("capacity", "--sessions-per-second", 1, "--ceiling-file", tmp_path / "wrong.scopes")
    lines = run("capacity", "--sessions-per-second", 1).out.splitlines()

    assert more["stored_sessions"] == 10 * few["stored_sessions"]
    assert more["audit_bytes_per_day"] > few["audit_bytes_per_day"] > 0
    assert few["settings"] == {"server": {"map_size_bytes": few["map_size_bytes"]}}
    assert (wrong.code, "line 1" in wrong.err) == (2, True)
    assert lines[-2] == "[server]"
    assert lines[-1].startswith("map_size_bytes = ")
    for option in ("--sessions-per-second", "--audit-days"):
        no_number = run("capacity", "--sessions-per-second", 1, option, "nan")
        assert (no_number.code, option in no_number.err) == (2, True)
