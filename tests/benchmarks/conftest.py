"""What the benchmarks measure against, made once: compiled floors and a real state folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

# The wheel is tested from another folder, where only the package and the tests are.
pytest.importorskip("benchmarks.measure", reason="the benchmarks are not part of the installed package")

from benchmarks import floors, world


@pytest.fixture(scope="session")
def floor_module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The compiled floors."""
    return floors.build(tmp_path_factory.mktemp("floor"))


@pytest.fixture(scope="session")
def live_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[world.World]:
    """A state folder with live sessions, opened as a verifier does."""
    made = world.build(tmp_path_factory.mktemp("world"))
    yield made
    made.close()
