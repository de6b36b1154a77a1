"""Fixtures of the state tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.state.writer.state_writer import StateWriter
from tests.support.carried_play import Play, begin_play
from tests.support.changes import NOW
from tests.support.state_fixture import StateFixture

SMALL_MAP = 32 << 20


@pytest.fixture
def clock() -> FixedClock:
    """A clock that stands still."""
    return FixedClock(NOW)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """Return the path of a state folder that does not exist yet."""
    return tmp_path / "state"


@pytest.fixture
def writer(state_dir: Path, clock: FixedClock) -> Iterator[StateWriter]:
    """A writer on a new state folder."""
    with StateWriter.open(state_dir, create=True, map_size=SMALL_MAP, clock=clock) as opened:
        yield opened


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    point = tmp_path / "mounted"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", str(point)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a tmpfs can't be mounted here")
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateFixture]:
    """A folder with the session and the issuer of the vectors, its writer, and a verifier in this process."""
    made = StateFixture(tmp_path / "state")
    yield made
    made.close()


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """A follower that lacks records of its leader; what is refused leaves no trace."""
    with begin_play(tmp_path_factory.mktemp("cluster")) as begun:
        yield begun
