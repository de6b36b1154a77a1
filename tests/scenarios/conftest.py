from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.server_fixture import House


@pytest.fixture
def house() -> Iterator[House]:
    """A server process with two check workers, clients of each, and an embedded verifier behind it."""
    with House() as made:
        yield made
