"""Clients of real check workers: connections that last, and workers that are replaced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import pytest

from sessauth.client import Client
from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.service import Service, running, serves, wait_until

CHECK = "/sessauth.v1.AuthorizationService/Check"


@dataclass
class Worker:
    """A service with one check worker, and a token that reads files."""

    service: Service
    token: bytes

    @property
    def target(self) -> str:
        """The worker's address."""
        return f"unix:{self.service.made.socket.parent / 'check-0.sock'}"

    @property
    def credential(self) -> str:
        """The operator's credential."""
        return self.service.made.credential_file.read_text().strip()

    def client(self) -> Client:
        """Return a client whose checks go to the worker."""
        return Client(str(self.service.made.socket), self.credential, check_target=self.target)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """Give a service with one check worker."""
    with running(server={"workers": 1}) as service, Client(str(service.made.socket)) as client:
        session = client.open_session(subject="agent", ceiling=["read:files/**"])
        worker = Worker(service, client.mint(session.id, ["read:files/**"], ["gateway"]).data)
        assert wait_until(lambda: serves(service.caller(worker.credential, target=worker.target)))
        yield worker


def test_a_stub_that_calls_without_a_pause_keeps_its_connection(worker: Worker) -> None:
    """Each call costs frames beside its message: window updates, pings. They are no flood."""
    item = pb.CheckItem(token=worker.token, action=b"read", resource=b"files/a")
    request = pb.CheckRequest(item=item, audience="gateway").SerializeToString()
    metadata = (("authorization", f"Bearer {worker.credential}"),)
    with grpc.insecure_channel(worker.target) as channel:
        check = channel.unary_unary(CHECK)
        answers = {check(request, timeout=10, metadata=metadata)[2:4] for _ in range(6_000)}

    assert answers == {b"\x08\x01"}
