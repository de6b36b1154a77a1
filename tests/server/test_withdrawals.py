"""CheckStream takes back what it allowed: why, when, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from sessauth.clock import SystemClock
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import key_service_pb2 as keys
from sessauth.v1 import record_pb2, token_pb2
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.service import Caller, RpcError, running, serves, wait_until
from tests.support.watching import Stream, end, item, mint, open_session, stream

Change = Callable[[Caller, Any, tokens.MintResponse], Any]


def _revoke(operator: Caller, session: Any, token: tokens.MintResponse) -> Any:
    request = tokens.RevokeRequest(session_id=session.id, block_ids=[token.block_id])
    return operator.call("TokenService/Revoke", request)


def _narrow(operator: Caller, session: Any, token: tokens.MintResponse) -> Any:
    request = sessions.NarrowSessionRequest(session_id=session.id, ceiling=["read:files/b/**"])
    return operator.call("SessionService/NarrowSession", request)


def _suspend(operator: Caller, session: Any, token: tokens.MintResponse) -> Any:
    request = sessions.SuspendSessionRequest(session_id=session.id, reason="looked into")
    return operator.call("SessionService/SuspendSession", request)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda operator, session, token: end(operator, session.id), pb.REASON_SESSION_ENDED),
        (_revoke, pb.REASON_REVOKED),
        (_narrow, pb.REASON_OUT_OF_SCOPE),
        (_suspend, pb.REASON_SESSION_SUSPENDED),
    ],
    ids=["end", "revoke", "narrow", "suspend"],
)
def test_what_ends_an_allow_is_told_at_once(operator: Caller, change: Change, reason: int) -> None:
    """The withdrawal carries the id of the call, and the denial that a check gives now, with its text."""
    session = open_session(operator)
    token = mint(operator, session.id)
    with stream(operator) as opened:
        opened.allow(7, item(token.token))
        change(operator, session, token)

        answer = opened.next()
        fresh = operator.call(
            "AuthorizationService/Check", pb.CheckRequest(item=item(token.token), audience="gw")
        ).decision

    assert (answer.id, answer.withdrawn, answer.decision.reason) == (7, True, reason)
    for field in ("decision_id",):
        answer.decision.ClearField(field)  # type: ignore[arg-type]
        fresh.ClearField(field)
    assert answer.decision == fresh


def test_a_changed_fact_withdraws_the_calls_that_its_condition_was_for(operator: Caller) -> None:
    """Only what reads the fact is taken back, and an allow that comes to be is not told."""
    fact = record_pb2.Fact(name="case", value=token_pb2.Value(text="A"), visible=True)
    session = open_session(operator, ("read:files/** where case == session.case", "list:**"), facts=[fact])
    token = mint(operator, session.id, "read:files/** where case == session.case")
    other = mint(operator, session.id, "list:**")
    in_a, in_b = b'{"case":"A"}', b'{"case":"B"}'
    with stream(operator) as opened:
        opened.allow(1, item(token.token, arguments=in_a))
        opened.allow(2, item(other.token, action=b"list"))
        assert not opened.ask(3, item(token.token, arguments=in_b)).decision.allowed

        fact.value.text = "B"
        operator.call(
            "SessionService/UpdateFacts", sessions.UpdateFactsRequest(session_id=session.id, set=[fact])
        )

        assert opened.withdrawn() == (1, pb.REASON_CONDITION_FAILED)
        assert opened.silent(item(token.token))


def test_the_end_of_a_parent_withdraws_the_calls_of_its_children(operator: Caller) -> None:
    """A child session's allow goes with its parent, and with the parent's suspension."""
    parent = open_session(operator)
    child = open_session(operator, parent_id=parent.id)
    token = mint(operator, child.id)
    with stream(operator) as opened:
        opened.allow(1, item(token.token))
        _suspend(operator, parent, token)
        assert opened.withdrawn() == (1, pb.REASON_SESSION_SUSPENDED)
        operator.call("SessionService/ResumeSession", sessions.ResumeSessionRequest(session_id=parent.id))
        opened.allow(1, item(token.token))
        end(operator, parent.id)
        assert opened.withdrawn() == (1, pb.REASON_SESSION_ENDED)


def test_a_distrusted_key_withdraws_what_it_signed() -> None:
    """Every watched call of the key's tokens is taken back."""
    with running() as service:
        operator = service.operator
        tokens_ = [mint(operator, open_session(operator).id) for _ in range(3)]
        with stream(operator) as opened:
            for number, token in enumerate(tokens_):
                opened.allow(number, item(token.token))
            operator.call("KeyService/DistrustKey", keys.DistrustKeyRequest(key_id=service.made.key_id))
            told = [opened.withdrawn() for _ in tokens_]

    assert told == [(number, pb.REASON_ISSUER_DISTRUSTED) for number in range(3)]


@pytest.mark.slow
def test_time_withdraws_too(operator: Caller) -> None:
    """A lease that nobody renews, a token's end and a session's: told when they come, by nobody's change."""
    leased = open_session(operator, lease_ms=1500)
    short = open_session(operator, ttl_ms=1500)
    long = open_session(operator)
    presented = [
        mint(operator, leased.id),
        mint(operator, short.id),
        mint(operator, long.id, ttl_ms=1500),
        mint(operator, long.id),
    ]
    with stream(operator) as opened:
        for number, token in enumerate(presented):
            opened.allow(number, item(token.token))
        told = dict(opened.withdrawn() for _ in range(3))
        assert opened.silent(item(presented[3].token))

    assert told[0] == pb.REASON_LEASE_LAPSED
    assert told[1] in (pb.REASON_SESSION_EXPIRED, pb.REASON_EXPIRED)
    assert told[2] == pb.REASON_EXPIRED


def test_a_lease_that_is_renewed_withdraws_nothing(operator: Caller) -> None:
    """The first deadline passes unsaid while the lease is kept, and lapsing is told."""
    session = open_session(operator, lease_ms=2000)
    token = mint(operator, session.id)
    with stream(operator) as opened:
        opened.allow(1, item(token.token))
        until = time.monotonic() + 3.0
        while time.monotonic() < until:
            operator.call("SessionService/KeepAlive", sessions.KeepAliveRequest(session_id=session.id))
            time.sleep(0.2)
        assert opened.silent(item(token.token))
        assert opened.withdrawn() == (1, pb.REASON_LEASE_LAPSED)


def test_changes_elsewhere_say_nothing(operator: Caller) -> None:
    """Sessions that come and go, revoked siblings and renewed facts leave a watched call alone."""
    session = open_session(operator)
    token, sibling = mint(operator, session.id), mint(operator, session.id)
    with stream(operator) as opened:
        opened.allow(1, item(token.token))
        for _ in range(20):
            other = open_session(operator)
            end(operator, other.id)
        _revoke(operator, session, sibling)
        operator.call(
            "SessionService/NarrowSession",
            sessions.NarrowSessionRequest(session_id=session.id, ceiling=["read:files/a/**"]),
        )
        assert opened.silent(item(token.token))
        end(operator, session.id)
        assert opened.withdrawn() == (1, pb.REASON_SESSION_ENDED)


def test_what_was_denied_or_not_watched_is_not_withdrawn(operator: Caller) -> None:
    """Only allows that were to be watched are taken back; the others of the stream get their answers."""
    session = open_session(operator)
    token = mint(operator, session.id)
    with stream(operator) as opened:
        opened.allow(1, item(token.token), watch=False)
        opened.allow(2, item(token.token))
        opened.allow(3, item(token.token), watch=False)
        assert not opened.ask(4, item(token.token, action=b"write")).decision.allowed
        end(operator, session.id)
        assert opened.withdrawn() == (2, pb.REASON_SESSION_ENDED)
        assert opened.silent(item(token.token))


def test_an_id_that_is_used_again_is_of_the_new_call(operator: Caller) -> None:
    """The earlier call is watched no longer: not if the new one is denied, nor if it is not to be watched."""
    first, second = open_session(operator), open_session(operator)
    old, new = (mint(operator, each.id) for each in (first, second))
    with stream(operator) as opened:
        for number in (1, 2, 3):
            opened.allow(number, item(old.token))
        opened.allow(1, item(new.token))
        opened.allow(2, item(new.token), watch=False)
        assert not opened.ask(3, item(new.token, action=b"write")).decision.allowed
        end(operator, first.id)
        assert opened.silent(item(new.token))
        end(operator, second.id)
        assert opened.withdrawn() == (1, pb.REASON_SESSION_ENDED)
        assert opened.silent(item(new.token))


def test_many_calls_are_taken_back_by_one_look(operator: Caller) -> None:
    """A thousand watched calls of one session go with it, each once, by one state."""
    session = open_session(operator)
    token = mint(operator, session.id)
    with stream(operator) as opened:
        for number in range(1000):
            opened.send(number, item(token.token, resource=b"files/%d" % number))
        assert all(opened.next().decision.allowed for _ in range(1000))
        end(operator, session.id)
        told = [opened.next() for _ in range(1000)]
        assert opened.silent(item(token.token))

    assert sorted(answer.id for answer in told) == list(range(1000))
    assert {answer.withdrawn for answer in told} == {True}
    assert len({answer.decision.revision for answer in told}) == 1
    assert len({answer.decision.decision_id for answer in told}) == 1000


def test_a_watch_beyond_the_limit_is_denied_and_the_others_stand(operator: Caller) -> None:
    """Too many calls, or too heavy ones: a denial that names `watch`; what is let go of makes room."""
    with running(limits={"watched_calls": 2, "watched_bytes": 20_000}) as service:
        caller = service.operator
        session = open_session(caller)
        token = mint(caller, session.id, "read:files/** free *")
        with stream(caller) as opened:
            opened.allow(1, item(token.token))
            heavy = opened.ask(2, item(token.token, arguments=b'{"a":"' + b"x" * 20_000 + b'"}')).decision
            opened.allow(2, item(token.token))
            third = opened.ask(3, item(token.token)).decision
            opened.allow(3, item(token.token), watch=False)
            opened.allow(2, item(token.token))
            opened.allow(2, item(token.token), watch=False)
            opened.allow(3, item(token.token))
            end(caller, session.id)
            told = sorted(opened.withdrawn() for _ in range(2))

    for decision in (heavy, third):
        assert (decision.allowed, decision.reason) == (False, pb.REASON_MALFORMED_REQUEST)
        assert decision.failed.argument == "watch"
        assert "limits.watched_calls" in decision.explanation
    assert told == [(1, pb.REASON_SESSION_ENDED), (3, pb.REASON_SESSION_ENDED)]


def test_the_brake_withdraws_everything() -> None:
    """While the brake is engaged every check is denied, so nothing that is watched stands."""
    with running() as service:
        caller = service.operator
        assert service.control is not None
        token = mint(caller, open_session(caller).id)
        with stream(caller) as opened:
            opened.allow(1, item(token.token))
            service.control.writer._brake.engage("a test")
            assert opened.withdrawn() == (1, pb.REASON_STATE_BRAKED)
            service.control.writer.clear_brake()
            opened.allow(1, item(token.token))


def test_a_host_that_goes_stale_withdraws_everything() -> None:
    """Once the freshness bound passed every check is denied, and the server is not ready."""
    with running() as service:
        caller = service.operator
        assert service.control is not None
        follower = service.control.writer._brake
        token = mint(caller, open_session(caller).id)
        steady = SystemClock()
        follower.fresh_until(steady.steady_ms() + 30_000)
        with stream(caller) as opened:
            opened.allow(1, item(token.token))
            assert serves(caller)
            follower.deny_now()
            assert opened.withdrawn() == (1, pb.REASON_STALE_STATE)
            assert opened.ask(2, item(token.token)).decision.reason == pb.REASON_STALE_STATE
            assert wait_until(lambda: not serves(caller))
            follower.fresh_until(steady.steady_ms() + 1_000)
            opened.allow(3, item(token.token))
            assert opened.withdrawn() == (3, pb.REASON_STALE_STATE)


def test_a_mistake_of_the_gateway_ends_the_stream(operator: Caller) -> None:
    """INVALID_ARGUMENT ends a watched stream as it does a plain one: nothing is watched behind it."""
    token = mint(operator, open_session(operator).id)
    with stream(operator) as opened:
        opened.allow(1, item(token.token))
        opened.send(2, item(token.token, action=b""))
        with pytest.raises(RpcError) as refused:
            opened.next()

    assert (refused.value.word, refused.value.field) == ("INVALID_ARGUMENT", "item.action")


def test_under_changes_and_ids_used_again_each_withdrawal_follows_its_allow(operator: Caller) -> None:
    """While a session is suspended and resumed all the time: answer, then perhaps a withdrawal, and so on."""
    session = open_session(operator)
    call = item(mint(operator, session.id).token)
    asked, ids = 600, 7
    stop = threading.Event()

    def trouble() -> None:
        while not stop.is_set():
            _suspend(operator, session, tokens.MintResponse())
            operator.call(
                "SessionService/ResumeSession", sessions.ResumeSessionRequest(session_id=session.id)
            )

    troubling = threading.Thread(target=trouble)
    troubling.start()
    allowed: dict[int, bool] = {}

    def take(opened: Stream) -> pb.CheckStreamResponse:
        answer = opened.next()
        assert allowed.get(answer.id, False) or not answer.withdrawn
        allowed[answer.id] = answer.decision.allowed
        return answer

    with stream(operator) as opened:
        for number in range(asked):
            opened.send(number % ids, call)
        answers = 0
        while answers < asked:
            answers += not take(opened).withdrawn
        stop.set()
        troubling.join(30)
        opened.send(ids, call)
        while take(opened).id != ids:
            continue
        assert allowed[ids]
        end(operator, session.id)
        while any(allowed.values()):
            assert take(opened).withdrawn
        assert opened.silent(call)
