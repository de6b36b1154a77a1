from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.server_fixture import ServerFixture


@pytest.fixture(scope="module")
def server() -> Iterator[ServerFixture]:
    """A server process with two check workers, clients of each, and an embedded verifier behind it.

    All tests of a module share it, each by sessions of its own.
    """
    with ServerFixture() as made:
        yield made


@pytest.fixture
def own_server() -> Iterator[ServerFixture]:
    """One for a test that ends or stops a process."""
    with ServerFixture() as made:
        yield made
