"""Bound tokens' calls that cost something: proven at the host that was asked, decided by the leader."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
import pytest

from sessauth._fast.codec import base64url
from sessauth.approvals.approver import ApproverKey
from sessauth.reasons import Reason
from sessauth.state.replication.carrier import AppendStatus
from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.cluster_hosts import COMMIT, ClusterHosts, Door, item_of
from tests.support.service import RpcError, wait_until
from tests.support.watching import mint, open_session

DOORS = ("leader", "leader's worker", "server", "server's worker", "follower", "follower's worker")
# Those of hosts that do not lead.
AWAY = DOORS[2:]
ONCE = "read:files/** needs uses(1)"
TWICE = "read:files/** needs uses(2)"


class LostAnswer(grpc.RpcError):
    """A connection that ended before the answer came."""

    def code(self) -> grpc.StatusCode:
        """Return UNAVAILABLE."""
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        """Return the text of gRPC."""
        return "Socket closed"

    def trailing_metadata(self) -> tuple[()]:
        """Return nothing."""
        return ()


class Unanswered:
    """A channel whose calls are answered, and whose answers are lost."""

    def __init__(self, channel: grpc.Channel) -> None:
        """Lose the answers of ``channel``."""
        self._channel = channel

    def unary_unary(self, name: str) -> Callable[..., bytes]:
        """Return an RPC that is made, and fails."""
        call: Any = self._channel.unary_unary(name)

        def lose(*request: Any, **options: Any) -> bytes:
            call(*request, **options)
            raise LostAnswer

        return lose


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest, hosts: ClusterHosts) -> Door:
    """Each process that may be asked."""
    return hosts.doors[request.param]


@pytest.fixture(params=AWAY)
def away(request: pytest.FixtureRequest, hosts: ClusterHosts) -> Door:
    """Each process of a host that does not lead."""
    return hosts.doors[request.param]


def neighbour(hosts: ClusterHosts, door: Door) -> Door:
    """Return the other process of a host."""
    return next(other for other in hosts.doors.values() if other is not door and other.config is door.config)


def test_a_proven_call_counts_once(hosts: ClusterHosts, door: Door) -> None:
    """The proof counts once on its host, the use once in the cluster."""
    token = hosts.bound(TWICE)
    proof = hosts.proof(token, door)
    assert door.reason(token, proof) is Reason.ALLOWED
    for other in (door, neighbour(hosts, door)):
        assert other.reason(token, proof) is Reason.REPLAYED
    assert door.reason(token, hosts.proof(token, door)) is Reason.ALLOWED
    for other in hosts.doors.values():
        assert other.reason(token, hosts.proof(token, other)) is Reason.USES_EXHAUSTED


def test_one_of_many_at_once_has_the_proof(hosts: ClusterHosts, away: Door) -> None:
    """Both processes of a host are asked several times with one proof: one call is allowed."""
    token = hosts.bound("read:files/** needs uses(4)")
    proof = hosts.proof(token, away)
    doors = [away, neighbour(hosts, away)] * 6
    with ThreadPoolExecutor(len(doors)) as pool:
        reasons = list(pool.map(lambda door: door.reason(token, proof), doors))
    assert Counter(reasons) == {Reason.ALLOWED: 1, Reason.REPLAYED: len(doors) - 1}
    left = [away.reason(token, hosts.proof(token, away)) for _ in range(4)]
    assert left == [Reason.ALLOWED] * 3 + [Reason.USES_EXHAUSTED]


def test_a_proof_is_for_one_host(hosts: ClusterHosts, door: Door) -> None:
    """At every other host it proves nothing, and uses nothing up; a call without one is denied."""
    token = hosts.bound(ONCE)
    proof = hosts.proof(token, door)
    for other in hosts.doors.values():
        if other.config is not door.config:
            assert other.reason(token, proof) is Reason.BAD_PROOF
        assert other.reason(token) is Reason.PROOF_REQUIRED
    assert door.reason(token, proof) is Reason.ALLOWED


def test_a_denied_call_has_used_its_proof_up(hosts: ClusterHosts, away: Door) -> None:
    """The nonce is gone before the leader is asked, whatever that says."""
    token = hosts.bound(ONCE)
    spent, late = hosts.proof(token, away), hosts.proof(token, away)
    assert [away.reason(token, proof) for proof in (spent, late)] == [Reason.ALLOWED, Reason.USES_EXHAUSTED]
    assert [away.reason(token, proof) for proof in (spent, late)] == [Reason.REPLAYED] * 2


def test_permits_and_releases(hosts: ClusterHosts, away: Door) -> None:
    """A permit that was given for a proven call is committed once, or released, without another proof."""
    token = hosts.bound(TWICE)
    released, committed = (
        away.check(token, hosts.proof(token, away), permit_ms=60_000).permit for _ in range(2)
    )
    away.caller.call("AuthorizationService/Release", pb.ReleaseRequest(permit=released))

    def commits(permit: bytes) -> bool:
        request = pb.CommitRequest(permit=permit, item=item_of(token), audience="gw")
        return bool(away.caller.call(COMMIT, request).decision.allowed)

    assert [commits(permit) for permit in (released, committed, committed)] == [False, True, False]


def test_an_approval_is_asked_for_at_the_leader(hosts: ClusterHosts, away: Door) -> None:
    """A proven call that needs a person is denied, with the one approval that was requested for it."""
    key = base64url.encode(ApproverKey.generate().public_key)
    token = hosts.bound(f'read:files/** needs approval(1, "{key}")')
    decisions = [away.check(token, hosts.proof(token, away)) for _ in range(2)]
    decisions.append(hosts.doors["leader"].check(token, hosts.proof(token, hosts.doors["leader"])))
    assert {Reason(decision.reason) for decision in decisions} == {Reason.APPROVAL_REQUIRED}
    assert len({decision.approval.id for decision in decisions}) == 1 and decisions[0].approval.id


def test_a_batch_mixes_both(hosts: ClusterHosts, away: Door) -> None:
    """Free, costly, proven and not: each item is judged by its own."""
    costly, free = hosts.bound(TWICE), hosts.bound("read:files/**")
    session = open_session(hosts.one.operator)
    sealed = mint(hosts.one.operator, session.id, ONCE).token
    assert wait_until(lambda: hosts.hold(session.revision))
    used, same = hosts.proof(free, away), hosts.proof(costly, away)
    assert away.reason(free, used) is Reason.ALLOWED
    given = away.reasons(
        item_of(free, hosts.proof(free, away)),
        item_of(costly, same),
        item_of(sealed),
        item_of(costly),
        item_of(costly, same),
        item_of(free, used),
        item_of(costly, hosts.proof(costly, away)),
        item_of(costly, hosts.proof(costly, away)),
        item_of(sealed),
        item_of(sealed, action=b"write"),
    )
    assert given == [
        Reason.ALLOWED,
        Reason.ALLOWED,
        Reason.ALLOWED,
        Reason.PROOF_REQUIRED,
        Reason.REPLAYED,
        Reason.REPLAYED,
        Reason.ALLOWED,
        Reason.USES_EXHAUSTED,
        Reason.USES_EXHAUSTED,
        Reason.OUT_OF_SCOPE,
    ]


def test_a_retry_is_charged_once(hosts: ClusterHosts, away: Door) -> None:
    """Its first proof at the same host, and a new one elsewhere: allowed, and paid for once."""
    token, first = hosts.bound(TWICE), secrets.token_bytes(16)
    proof = hosts.proof(token, away)
    caller = away.caller
    names = [name for name, other in hosts.doors.items() if other.caller.credential == caller.credential]
    assert away.reason(token, proof, retry_id=first) is Reason.ALLOWED
    assert away.reason(token, proof, retry_id=first) is Reason.ALLOWED
    for name in names:
        again = hosts.proof(token, hosts.doors[name])
        assert hosts.doors[name].reason(token, again, retry_id=first) is Reason.ALLOWED
    assert away.reason(token, hosts.proof(token, away)) is Reason.ALLOWED
    assert away.reason(token, hosts.proof(token, away)) is Reason.USES_EXHAUSTED


def test_a_used_proof_is_good_for_its_retry_alone(hosts: ClusterHosts, away: Door) -> None:
    """Under another retry id, under none, and for a call that was never allowed it is a replay."""
    token = hosts.bound(ONCE)
    first, second, third = (secrets.token_bytes(16) for _ in range(3))
    proof, late = hosts.proof(token, away), hosts.proof(token, away)
    assert away.reason(token, proof, retry_id=first) is Reason.ALLOWED
    assert away.reason(token, proof, retry_id=second) is Reason.REPLAYED
    assert away.reason(token, proof) is Reason.REPLAYED
    assert away.reason(token, late, retry_id=third) is Reason.USES_EXHAUSTED
    assert away.reason(token, late, retry_id=third) is Reason.REPLAYED
    assert away.reason(token, hosts.proof(token, away), retry_id=first) is Reason.ALLOWED


def test_without_a_leader_the_proof_is_gone(
    hosts: ClusterHosts, away: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is asked, nothing is charged; the same proof is worth nothing afterwards."""
    token = hosts.bound(ONCE)
    proof, batched = hosts.proof(token, away), hosts.proof(token, away)
    calls = away.control.part._calls  # type: ignore[attr-defined]
    with monkeypatch.context() as patched:
        patched.setattr(calls, "_leader", lambda: None)
        if "worker" in away.name:
            assert away.reason(token, proof) is Reason.NEEDS_SERVER
        else:
            with pytest.raises(RpcError) as refused:
                away.reason(token, proof)
            assert refused.value.word == "NOT_LEADER"
        assert away.reasons(item_of(token, batched)) == [Reason.NEEDS_SERVER]
    assert away.reason(token, proof) is Reason.REPLAYED
    assert away.reason(token, batched) is Reason.REPLAYED
    assert away.reason(token, hosts.proof(token, away)) is Reason.ALLOWED


def test_an_unknown_outcome_is_known_by_the_retry(
    hosts: ClusterHosts, away: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader charged, and its answer was lost: the same bytes again are answered, and paid for once."""
    token, first = hosts.bound(ONCE), secrets.token_bytes(16)
    proof = hosts.proof(token, away)
    calls = away.control.part._calls  # type: ignore[attr-defined]
    with monkeypatch.context() as patched:
        connected = calls._connected
        patched.setattr(calls, "_connected", lambda address: Unanswered(connected(address)))
        with pytest.raises(RpcError) as refused:
            away.reason(token, proof, retry_id=first)
        assert refused.value.word == "OUTCOME_UNKNOWN"
    assert away.reason(token, proof, retry_id=first) is Reason.ALLOWED
    assert away.reason(token, hosts.proof(token, away)) is Reason.USES_EXHAUSTED


def test_a_lead_that_is_lost_while_the_call_is_judged(hosts: ClusterHosts) -> None:
    """The proof may be used up by then: it is not handed on, and the caller makes another one."""
    door = hosts.doors["leader"]
    token = hosts.bound(ONCE)
    proof = hosts.proof(token, door)
    hosts.engine.answers.append((AppendStatus.FENCED, False))
    with pytest.raises(RpcError) as refused:
        door.reason(token, proof)
    assert refused.value.word == "NOT_LEADER"

    def allows() -> bool:
        with suppress(RpcError):
            return door.reason(token, hosts.proof(token, door)) is Reason.ALLOWED
        return False

    assert wait_until(allows)
    assert door.reason(token, hosts.proof(token, door)) is Reason.USES_EXHAUSTED
