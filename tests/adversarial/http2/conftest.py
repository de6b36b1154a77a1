"""A check worker that the attacks share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sessauth.errors import ConfigError
from sessauth.server.transport.requirements import require_libraries
from tests.support.attacked_server import AttackedServer, attacked_server


@pytest.fixture(scope="session")
def native_library() -> None:
    """Skip where libnghttp2 is missing."""
    try:
        require_libraries()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def worker(native_library: None) -> Iterator[AttackedServer]:
    """A worker whose slow readers have a second."""
    with attacked_server(SESSAUTH_LIMITS_SLOW_READER_MS="1000") as found:
        yield found


@pytest.fixture
def attacked(worker: AttackedServer) -> Iterator[AttackedServer]:
    """The worker. At the end others have noticed nothing, and nothing of the attack has stayed."""
    with worker.unharmed():
        yield worker
