"""Damaged pages of a data file: nothing is allowed by them that must not be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DAMAGES = int(os.environ.get("SESSAUTH_DAMAGES", "300"))


@pytest.mark.timeout(max(300, DAMAGES))
def test_no_damage_allows_what_must_be_denied(tmp_path: Path) -> None:
    """A reader and a server's writer refuse the folder, die, or deny each revoked or ended token."""
    command = [sys.executable, "-m", "tests.support.procs.damaged_states", str(tmp_path), "1", str(DAMAGES)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout)
    assert found["wrong"] == []
    ends = found["ends"]
    assert sum(ends.values()) == 2 * DAMAGES
    # The damages are of a kind that matters.
    assert sum(number for name, number in ends.items() if name.endswith(("refused", "died"))) > DAMAGES / 5
