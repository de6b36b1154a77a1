from __future__ import annotations

import pytest

from sessauth.server.rpc import authenticate
from sessauth.server.rpc.authenticate import FailedSignatures


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A monotonic clock that stands still; its only element is the time in seconds."""
    time = [100.0]
    monkeypatch.setattr(authenticate.time, "monotonic", lambda: time[0])
    return time


def test_a_bucket_empties_and_refills(now: list[float]) -> None:
    """A peer is refused after its burst until it regained a whole failure."""
    failures = FailedSignatures(burst=2, per_second=4)
    peer = ("gateway", "10.0.0.1")

    assert not failures.exhausted(peer)
    failures.failed(peer)
    assert not failures.exhausted(peer)
    failures.failed(peer)
    assert failures.exhausted(peer)
    now[0] += 0.2
    assert failures.exhausted(peer)
    now[0] += 0.06
    assert not failures.exhausted(peer)
    now[0] += 3600
    failures.failed(peer)
    assert not failures.exhausted(peer)


def test_peers_do_not_share_a_bucket(now: list[float]) -> None:
    """Another gateway, and another agent behind the same one, keep their failures."""
    failures = FailedSignatures(burst=1, per_second=1)
    failures.failed(("gateway", "10.0.0.1"))

    assert failures.exhausted(("gateway", "10.0.0.1"))
    assert not failures.exhausted(("gateway", "10.0.0.2"))
    assert not failures.exhausted(("other", "10.0.0.1"))


def test_memory_is_bounded(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """More peers than the bound push out those that failed longest ago."""
    monkeypatch.setattr(authenticate, "MAX_PEERS", 3)
    failures = FailedSignatures(burst=1, per_second=1)
    for number in range(5):
        failures.failed(("gateway", str(number)))

    assert [failures.exhausted(("gateway", str(number))) for number in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]
