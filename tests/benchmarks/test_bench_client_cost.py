"""Rounds of a bare stub and of a client's check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from benchmarks.service.client_cost import Round, asyncio_rounds, blocking_rounds
from benchmarks.service.load_spec import Call, Target
from benchmarks.service.server_home import require_allowed
from benchmarks.workloads import WrongDecision
from sessauth.client import Client
from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.service import running

CHECK = "/sessauth.v1.AuthorizationService/Check"
ROUNDS: list[Callable[..., list[Round]]] = [blocking_rounds, asyncio_rounds]
Make = Callable[[bytes], Call]


@pytest.fixture(scope="module")
def make_call() -> Iterator[Make]:
    """Give a function that returns the call of a check of a resource."""
    with running() as service, Client(str(service.made.socket)) as client:
        session = client.open_session(subject="agent", ceiling=["read:files/**"])
        token = client.mint(session.id, ["read:files/**"], ["gateway"]).data
        credential = service.add("gateway", "gateway", ("gateway",)).credential

        def make(resource: bytes) -> Call:
            item = pb.CheckItem(token=token, action=b"read", resource=resource)
            requests = (pb.CheckRequest(item=item).SerializeToString(),)
            target = Target(f"unix:{service.made.socket}")
            server: Any = None
            return Call(server, (target,), CHECK, requests, require_allowed, credential)

        yield make


@pytest.mark.parametrize("rounds", ROUNDS)
def test_each_round_has_both_times(make_call: Make, rounds: Callable[..., list[Round]]) -> None:
    """They are medians in us."""
    made = rounds(make_call(b"files/a"), rounds=2, count=5)

    assert len(made) == 2
    assert all(10 < us < 10_000_000 for each in made for us in each)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_denial_is_no_measurement(make_call: Make, rounds: Callable[..., list[Round]]) -> None:
    """Denials take another path."""
    with pytest.raises(WrongDecision):
        rounds(make_call(b"logs"), rounds=1, count=5)
