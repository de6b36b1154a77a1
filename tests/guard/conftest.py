"""A server for the tests of a worker process, and a fresh record of calls for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guard.world import World
from tests.support.server_fixture import ServerFixture


@pytest.fixture(scope="session")
def guard_server() -> Iterator[ServerFixture]:
    """Give a server with a worker, its clients and an embedded verifier."""
    with ServerFixture(1) as server:
        yield server


@pytest.fixture
def world(guard_server: ServerFixture) -> World:
    """Give the server, with nothing run yet."""
    return World(guard_server)
