"""Clients of real check workers: connections that last, and workers that are replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from sessauth.client import AsyncClient, Client
from sessauth.errors import Unavailable
from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.service import Service, running, serves, wait_until

CHECK = "/sessauth.v1.AuthorizationService/Check"


# gRPC's longest pause between attempts to connect is a second, give or take a fifth; a busy machine adds.
RECONNECTED_SECONDS = 3.0
CLIENTS = 20


@dataclass
class Workers:
    """A service with two check workers, and a token that reads files."""

    service: Service
    token: bytes

    @property
    def targets(self) -> list[str]:
        """The workers' addresses."""
        folder = self.service.made.socket.parent
        return [f"unix:{folder / f'check-{index}.sock'}" for index in range(2)]

    @property
    def credential(self) -> str:
        """The operator's credential."""
        return self.service.made.credential_file.read_text().strip()

    def kill(self) -> threading.Event:
        """Kill the first worker; returns the event of its successor's readiness."""
        assert self.service.control is not None
        worker = self.service.control.supervisor.workers[0]
        os.kill(worker.pid, signal.SIGKILL)
        assert wait_until(lambda: not worker.ready.is_set())
        return worker.ready

    def ready(self) -> bool:
        """Return True if both workers answer."""
        return all(serves(self.service.caller(self.credential, target=target)) for target in self.targets)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """Give a service with two check workers."""
    with running(server={"workers": 2}) as service, Client(str(service.made.socket)) as client:
        session = client.open_session(subject="agent", ceiling=["read:files/**"])
        workers = Workers(service, client.mint(session.id, ["read:files/**"], ["gateway"]).data)
        assert wait_until(workers.ready)
        yield workers


Ask = Callable[[], bool]


@contextmanager
def blocking(target: str, credential: str, check_target: list[str], token: bytes) -> Iterator[Ask]:
    """Give a check by the blocking client."""
    with Client(target, credential, check_target=check_target) as client:
        yield lambda: bool(client.check(token, "read", "files/a", audience="gateway"))


@contextmanager
def awaiting(target: str, credential: str, check_target: list[str], token: bytes) -> Iterator[Ask]:
    """Give a check by the asyncio client."""
    with asyncio.Runner() as runner:

        async def opened() -> AsyncClient:
            return AsyncClient(target, credential, check_target=check_target)

        client = runner.run(opened())

        async def check() -> bool:
            return bool(await client.check(token, "read", "files/a", audience="gateway"))

        try:
            yield lambda: runner.run(check())
        finally:
            runner.run(client.close())


ASKING = {"sync": blocking, "async": awaiting}


def test_a_stub_that_calls_without_a_pause_keeps_its_connection(workers: Workers) -> None:
    """Each call costs frames beside its message: window updates, pings. They are no flood."""
    item = pb.CheckItem(token=workers.token, action=b"read", resource=b"files/a")
    request = pb.CheckRequest(item=item, audience="gateway").SerializeToString()
    metadata = (("authorization", f"Bearer {workers.credential}"),)
    with grpc.insecure_channel(workers.targets[0]) as channel:
        check = channel.unary_unary(CHECK)
        answers = {check(request, timeout=10, metadata=metadata)[2:4] for _ in range(6_000)}

    assert answers == {b"\x08\x01"}


@pytest.mark.parametrize("client", ASKING)
def test_checks_go_on_at_the_successor_of_a_killed_worker(workers: Workers, client: str) -> None:
    """The client connects again by itself, soon after the successor listens."""
    assert wait_until(workers.ready)
    target = str(workers.service.made.socket)
    with ASKING[client](target, workers.credential, workers.targets[:1], workers.token) as ask:
        assert ask()
        replaced = workers.kill()
        failed = 0
        ready_s = 0.0
        for _ in range(1_000):
            ready_s = ready_s or (time.monotonic() if replaced.is_set() else 0.0)
            try:
                assert ask()
            except Unavailable:
                failed += 1
            else:
                break

        # It may answer a moment before the control process has read that it is ready.
        assert replaced.wait(60)
        assert time.monotonic() - (ready_s or time.monotonic()) < RECONNECTED_SECONDS
        assert failed < 1_000 and ask()


@pytest.mark.parametrize("client", ASKING)
def test_no_check_fails_while_another_worker_serves(workers: Workers, client: str) -> None:
    """A lost answer is asked for at the next target; the successor gets its share again."""
    assert wait_until(workers.ready)
    target = str(workers.service.made.socket)
    with ASKING[client](target, workers.credential, workers.targets, workers.token) as ask:
        assert all(ask() for _ in range(10))
        replaced = workers.kill()
        while not replaced.is_set():
            assert ask()
        assert all(ask() for _ in range(100))


@pytest.mark.slow
def test_clients_that_lost_their_worker_do_not_come_back_at_once(tmp_path: Path) -> None:
    """Each waits a time of its own between attempts, and no client makes many."""
    attempts: list[float] = []
    calls: list[grpc.Future] = []
    path = str(tmp_path / "s")

    def hang_up() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            attempts.append(time.monotonic())
            connection.close()

    with socket.socket(socket.AF_UNIX) as listening, ExitStack() as stack:
        listening.bind(path)
        listening.listen(4 * CLIENTS)
        thread = threading.Thread(target=hang_up)
        thread.start()
        for _ in range(CLIENTS):
            client = stack.enter_context(Client(path, ""))
            check = client._transport.channels.controls[0].channel.unary_unary(CHECK)
            calls.append(check.future(b"", timeout=4, wait_for_ready=True))
        assert {call.code() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()

    late = [moment for moment in attempts if moment > attempts[0] + 1.5]
    busiest = max(bisect_left(late, moment + 0.01) - index for index, moment in enumerate(late))
    assert len(late) >= CLIENTS and busiest < CLIENTS / 2
    # 0.1 s, 0.16 s and so on up to 1 s, less a fifth: at most nine in the first four seconds.
    assert len(attempts) <= 10 * CLIENTS
