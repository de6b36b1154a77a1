"""The state that tests of benchmarks share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import state_setup
from benchmarks.state_setup import World


@pytest.fixture(scope="module")
def live_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A state folder with live sessions, opened as a verifier does."""
    made = state_setup.build(tmp_path_factory.mktemp("world"))
    yield made
    made.close()
