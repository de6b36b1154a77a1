from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.server_fixture import ServerFixture


@pytest.fixture
def server() -> Iterator[ServerFixture]:
    """A server process with two check workers, clients of each, and an embedded verifier behind it."""
    with ServerFixture() as made:
        yield made
