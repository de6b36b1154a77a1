"""Thousands of connections, and fewer descriptors than connections."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.support import http2_frames as h2
from tests.support.attacked_server import AttackedServer, attacked_server
from tests.support.service import wait_until

# By hand 10,000: SESSAUTH_CONNECTIONS=10000.
CONNECTIONS = int(os.environ.get("SESSAUTH_CONNECTIONS", "2000"))
# What an idle connection may take in the worker, its share of buffers and tables included.
CONNECTION_BYTES = 24_000
# Descriptors of the test itself.
OTHERS = 500
FEW = 256
SLOWEST_MS = 2_000.0


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Have that number of descriptors, here and in processes that are started meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if count > hard:
        pytest.skip(f"{count} descriptors are needed, and {hard} is the limit")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_idle_connections_cost_memory_only(native_library: None) -> None:
    """Each a few kilobytes, others are served as before, and all of it is given back."""
    needed = max(CONNECTIONS + OTHERS, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    with descriptors(needed), attacked_server() as worker:
        with worker.unharmed() as witness, ExitStack() as connections:
            before, sockets = worker.memory_bytes(), worker.sockets()
            peers = [connections.enter_context(worker.peer()) for _ in range(CONNECTIONS)]
            assert wait_until(lambda: worker.sockets() >= sockets + CONNECTIONS)
            assert worker.allows(peers[-1])
            each = (worker.memory_bytes() - before) / CONNECTIONS
            began, spent = time.monotonic(), worker.cpu_seconds()
            time.sleep(1.0)
            busy = (worker.cpu_seconds() - spent) / (time.monotonic() - began)
            assert each < CONNECTION_BYTES
        assert witness.slowest_ms < SLOWEST_MS
    print(  # noqa: T201
        f"{CONNECTIONS} connections: {each:.0f} bytes each, {busy:.0%} of a core with checks, "
        f"slowest check {witness.slowest_ms:.0f} ms"
    )


@pytest.fixture(scope="module")
def small(native_library: None) -> Iterator[AttackedServer]:
    """A worker with few descriptors."""
    with ExitStack() as stack:
        with descriptors(FEW):
            found = stack.enter_context(attacked_server())
        yield found


def test_connections_beyond_the_limit_are_closed_at_once(small: AttackedServer) -> None:
    """Those that are open are served, and new ones as soon as there is room."""
    with small.unharmed(), ExitStack() as stack:
        peers = [stack.enter_context(small.peer()) for _ in range(2 * FEW)]
        assert wait_until(lambda: small.sockets() > FEW // 2)
        closed = sum(peer.read_end(0.005) for peer in peers)
        assert FEW < closed < 2 * FEW - FEW // 2
        assert small.allows(next(peer for peer in peers if not peer.closed))
    with small.peer() as peer:
        assert small.allows(peer)


def test_without_descriptors_connections_wait_and_nothing_spins(small: AttackedServer) -> None:
    """Accepting pauses and goes on; calls are answered meanwhile."""
    soft, hard = resource.prlimit(small.pid, resource.RLIMIT_NOFILE)
    waiting: list[socket.socket] = []
    with small.peer() as peer:
        assert small.allows(peer)
        used = len(os.listdir(f"/proc/{small.pid}/fd"))
        resource.prlimit(small.pid, resource.RLIMIT_NOFILE, (used, hard))
        try:
            for _ in range(20):
                waiting.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                waiting[-1].connect(str(small.target))
                waiting[-1].sendall(h2.PREFACE + h2.settings())
            spent, began = small.cpu_seconds(), time.monotonic()
            while time.monotonic() - began < 1.2:
                assert small.allows(peer)
                time.sleep(0.1)
            assert small.cpu_seconds() - spent < 0.6
        finally:
            resource.prlimit(small.pid, resource.RLIMIT_NOFILE, (soft, hard))
        for each in waiting:
            each.settimeout(5.0)
            assert each.recv(9)[3] == h2.SETTINGS
            with suppress(OSError):
                each.close()
        assert small.allows(peer)
    assert small.server.pids() == [small.pid]
