"""Fixtures of the state tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import NOW

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
