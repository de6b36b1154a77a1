"""A check worker on the native server that the attacks share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sessauth.server.config.config import Config
from sessauth.server.transport.choice import choose
from tests.support.attacked_server import AttackedServer, attacked_server


@pytest.fixture(scope="session")
def native_library() -> None:
    """Skip where the native server can't be."""
    chosen = choose(Config())
    if not chosen.native:
        pytest.skip(f"workers don't serve natively: {chosen.why}")


@pytest.fixture(scope="session")
def worker(native_library: None) -> Iterator[AttackedServer]:
    """A worker whose slow readers have a second."""
    with attacked_server(SESSAUTH_LIMITS_SLOW_READER_MS="1000") as found:
        assert '"check_server": "native' in found.server.process.log
        yield found


@pytest.fixture
def attacked(worker: AttackedServer) -> Iterator[AttackedServer]:
    """The worker. At the end others have noticed nothing, and nothing of the attack has stayed."""
    with worker.unharmed():
        yield worker
