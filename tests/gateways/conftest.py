"""The server of the guard's tests, and Envoy in front of an upstream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateways.envoy import Gateway, Upstream, program
from tests.guard.conftest import guard_server as guard_server
from tests.guard.conftest import world as world
from tests.support.server_fixture import ServerFixture


@pytest.fixture(scope="session")
def envoy() -> str:
    """Give the path of Envoy; skips the test without it."""
    return program()


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """Give an API that records what reaches it."""
    with Upstream().serve() as served:
        yield served


@pytest.fixture(scope="session")
def running_gateway(
    envoy: str, guard_server: ServerFixture, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Give Envoy with the sample configuration, and its authorizer."""
    made = Gateway(guard_server, tmp_path_factory.mktemp("envoy"), upstream)
    try:
        made.start_authorizer()
        made.start_envoy()
        yield made
    finally:
        made.close()


@pytest.fixture
def gateway(running_gateway: Gateway) -> Gateway:
    """Give the running gateway, with nothing recorded yet."""
    running_gateway.upstream.requests.clear()
    return running_gateway


@pytest.fixture
def fresh(envoy: str, guard_server: ServerFixture, upstream: Upstream, tmp_path: Path) -> Iterator[Gateway]:
    """Give a gateway of the test's own, not started."""
    upstream.requests.clear()
    made = Gateway(guard_server, tmp_path, upstream)
    try:
        yield made
    finally:
        made.close()
