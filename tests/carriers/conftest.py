"""Engines that the tests of a module share, and carriers to them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from sessauth.carriers.etcd.carrier import EtcdCarrier
from sessauth.carriers.postgres.postgres_carrier import PostgresCarrier
from sessauth.clock import FixedClock
from sessauth.state.replication.carrier import Carrier
from tests.support.etcd_cluster import EtcdCluster, etcd_cluster
from tests.support.log_writer import until
from tests.support.memory_carrier import MemoryCarrier, MemoryEngine
from tests.support.postgres_server import PostgresServer, postgres_server


class Engine(Protocol):
    """An engine as the conformance suite uses it."""

    def open(self, server: str = "one") -> Carrier:
        """Connect a server."""
        ...

    def lapse(self) -> None:
        """Return once a lease of one second has lapsed that nobody holds."""
        ...


class _Memory:
    def __init__(self) -> None:
        self._clock = FixedClock(1_000_000)
        self.engine = MemoryEngine(self._clock)

    def open(self, server: str = "one") -> Carrier:
        return MemoryCarrier(self.engine, server)

    def lapse(self) -> None:
        self._clock.advance(1_000)


class _Real:
    def __init__(self, open_carrier: Callable[[], EtcdCarrier | PostgresCarrier]) -> None:
        self._open = open_carrier

    def open(self, server: str = "one") -> Carrier:
        return self._open()

    def lapse(self) -> None:
        carrier = self._open()
        until(lambda: carrier.leader() is None)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """One member, for tests in which none fails."""
    with etcd_cluster(tmp_path_factory.mktemp("etcd"), 1, {"unsafe-no-fsync": "true"}) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server, for tests in which it does not fail."""
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["memory", "etcd", "postgres"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each kind of engine, with an empty log."""
    if request.param == "memory":
        yield _Memory()
        return
    cluster_id, opened = secrets.token_bytes(16), list[EtcdCarrier | PostgresCarrier]()

    def open_carrier() -> EtcdCarrier | PostgresCarrier:
        if request.param == "etcd":
            single: EtcdCluster = request.getfixturevalue("single")
            opened.append(EtcdCarrier(single.addresses, cluster_id))
        else:
            postgres: PostgresServer = request.getfixturevalue("postgres")
            opened.append(postgres.carrier(cluster_id))
        return opened[-1]

    yield _Real(open_carrier)
    for carrier in opened:
        carrier.close()
