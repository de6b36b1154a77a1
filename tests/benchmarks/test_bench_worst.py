"""The most expensive requests: what they are made of."""

from __future__ import annotations

from benchmarks.stages import worst
from benchmarks.state_setup import World
from sessauth import limits
from sessauth.reasons import Reason


def test_the_worst_requests_are_judged(live_world: World) -> None:
    """Each kind fits a request and a token, and is decided by its conditions with work left."""
    seen = set()
    for workload in worst.workloads(live_world):
        (call,) = workload.calls
        assert len(call.token) <= limits.MAX_TOKEN_BYTES
        assert len(call.token) + len(call.arguments) < worst.REQUEST_BYTES
        assert workload.reason in (Reason.ALLOWED, Reason.CONDITION_FAILED), workload.name
        seen.add(workload.name)
    assert len(seen) == 12
