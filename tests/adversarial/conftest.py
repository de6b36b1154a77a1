"""A state folder that the attacks of a module share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.state_fixture import Realm


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    """A realm for attacks that change nothing in it."""
    yield from _realm(tmp_path_factory.mktemp("realm"))


@pytest.fixture
def fresh_realm(tmp_path: Path) -> Iterator[Realm]:
    """A realm of the test's own."""
    yield from _realm(tmp_path)


def _realm(folder: Path) -> Iterator[Realm]:
    realm = Realm(folder / "state")
    yield realm
    realm.close()
