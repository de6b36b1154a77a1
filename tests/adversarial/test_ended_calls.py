"""A connection forgets the calls that ended on it, however they ended."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from sessauth.limits import MAX_BATCH_ITEMS
from sessauth.v1 import authorization_service_pb2 as checks
from tests.support.pool_calls import CountedCalls
from tests.support.service import Caller, Service, running
from tests.support.watching import item as allowed_item
from tests.support.watching import mint, open_session

CALLS = 5_000
AT_ONCE = 100
BATCH = "/sessauth.v1.AuthorizationService/CheckBatch"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A server whose cyclic collector never runs: what only it would let go of is kept."""
    gc.disable()
    try:
        # Room for all at once, so that they end while they wait or run and are not refused before.
        with running(limits={"queue_places": 4 * AT_ONCE}) as found:
            assert found.control is not None
            found.control.serving.accounting._meter = CountedCalls()  # type: ignore[assignment]
            yield found
    finally:
        gc.enable()


@pytest.fixture(scope="module")
def item(service: Service) -> checks.CheckItem:
    """A call that is allowed."""
    operator = service.operator
    return allowed_item(mint(operator, open_session(operator).id).token)


def _twenty(caller: Caller, item: checks.CheckItem) -> int:
    """The number of 20 good calls on the same connection that are allowed."""
    request = checks.CheckRequest(item=item, audience="gw")
    return sum(caller.call("AuthorizationService/Check", request).decision.allowed for _ in range(20))


def _begin(caller: Caller, item: checks.CheckItem, seconds: float) -> list[Any]:
    """Begin as many batches at once as take longer than that: the largest, for a fast server."""
    rpc = caller.channel.unary_unary(BATCH)
    one = checks.CheckItem(token_index=1, action=item.action, resource=item.resource)
    batch = checks.CheckBatchRequest(items=[one] * MAX_BATCH_ITEMS, tokens=[item.token], audience="gw")
    request = batch.SerializeToString()
    return [rpc.future(request, timeout=seconds, metadata=caller.metadata) for _ in range(AT_ONCE)]


def _ended(service: Service, code: str) -> int:
    """The number of batches that ended with that code at the server."""
    assert service.control is not None
    counted: Any = service.control.serving.accounting._meter
    return int(counted[BATCH, code])


def test_a_connection_serves_on_after_thousands_of_cancelled_calls(
    service: Service, item: checks.CheckItem
) -> None:
    """5,000 cancelled calls on one connection, then 20 good ones: all answered."""
    caller = service.operator
    for _ in range(CALLS // AT_ONCE):
        calls = _begin(caller, item, 30.0)
        # They are there when one is answered.
        calls[0].result()
        for call in calls:
            call.cancel()

    assert _ended(service, "CANCELLED") > CALLS // 10
    assert _twenty(caller, item) == 20


def test_a_connection_serves_on_after_thousands_of_expired_calls(
    service: Service, item: checks.CheckItem
) -> None:
    """5,000 calls whose deadline passes on one connection, then 20 good ones: all answered."""
    caller = service.operator
    before = _ended(service, "CANCELLED") + _ended(service, "DEADLINE_EXCEEDED")
    # A fast machine answers within a deadline that a slow one has not sent a call in.
    for number in range(CALLS // AT_ONCE):
        for call in _begin(caller, item, (0.002, 0.005, 0.01, 0.02)[number % 4]):
            call.exception()

    assert _ended(service, "CANCELLED") + _ended(service, "DEADLINE_EXCEEDED") - before > CALLS // 10
    assert _twenty(caller, item) == 20
