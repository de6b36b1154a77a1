"""A state folder that the attacks of a module share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.state_fixture import StateFixture


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateFixture]:
    """A state for attacks that change nothing in it."""
    yield from _state(tmp_path_factory.mktemp("state"))


@pytest.fixture
def fresh_state(tmp_path: Path) -> Iterator[StateFixture]:
    """A state of the test's own."""
    yield from _state(tmp_path)


def _state(folder: Path) -> Iterator[StateFixture]:
    state = StateFixture(folder / "state")
    yield state
    state.close()
