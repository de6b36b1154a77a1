"""Fixtures of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.carried import OneEngine
from tests.support.cluster_hosts import ClusterHosts, cluster_hosts
from tests.support.feeding import Cluster, cluster
from tests.support.service import home_folder


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> OneEngine:
    """The engine of servers, in memory."""
    made = OneEngine()
    for module in ("membership", "begin", "repair"):
        monkeypatch.setattr(f"sessauth.server.cluster.{module}.open_carrier", lambda *_: made)
    return made


@pytest.fixture(scope="module")
def hosts() -> Iterator[ClusterHosts]:
    """All hosts of a cluster."""
    with home_folder() as home, cluster_hosts(home) as made:
        yield made


@pytest.fixture
def fed() -> Iterator[Cluster]:
    """A cluster of one server."""
    with cluster() as made:
        yield made
