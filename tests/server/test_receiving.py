"""Calls whose message has not come: how many, how long, and who gives way to whom."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from sessauth.server.rpc.pool import PATIENCE_SECONDS, BoundedPool, PoolShare
from sessauth.server.status import word_of
from sessauth.server.transport import native as module
from sessauth.server.transport.native import MAX_RECEIVING, Receiving
from sessauth.server.transport.rpc import Plan, Rpc
from tests.support.service import wait_until


class _Rpc:
    """A call without a connection, which notes what becomes of it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.accepted_at = self.receiving_since = time.monotonic()
        self.ended = self.begun = False
        self.word = ""

    def receive(self) -> None:
        self.begun = True


class _Party:
    """One principal in one pool, and the calls that it makes."""

    def __init__(
        self, receiving: Receiving, pool: BoundedPool, *, strangers: bool = False, streams: bool = False
    ) -> None:
        self.receiving = receiving
        self.ran: list[bytes | None] = []
        self.share = PoolShare(pool, strangers=strangers)
        self.plan = Plan(
            self.share, streams, lambda _, message: self.ran.append(message), self._refuse, receiving.deliver
        )

    def call(self) -> Any:
        rpc = _Rpc(self.plan)
        self.receiving.begin(cast("Rpc", rpc))
        return rpc

    def _refuse(self, rpc: Rpc, error: Exception) -> None:
        cast("Any", rpc).word = word_of(error)


@pytest.fixture
def receiving() -> Receiving:
    """Calls have two seconds."""
    return Receiving(2_000)


@pytest.fixture
def pool() -> BoundedPool:
    """A pool of 201 places, of which a caller has 101."""
    return BoundedPool("test", 1, 200)


def test_of_one_caller_a_bounded_number_is_received_and_waits(
    receiving: Receiving, pool: BoundedPool
) -> None:
    """Beyond those that are received they wait; beyond half of the pool they are refused."""
    party, other = _Party(receiving, pool), _Party(receiving, pool)
    calls = [party.call() for _ in range(150)]

    assert [call.begun for call in calls] == [number < MAX_RECEIVING for number in range(150)]
    assert [call.word for call in calls] == [""] * 101 + ["OVERLOADED"] * 49
    assert other.call().begun
    assert (receiving.waiting, pool.in_flight) == (102, 0)


def test_a_message_makes_room_for_the_next_and_has_its_call_run(
    receiving: Receiving, pool: BoundedPool
) -> None:
    """Calls are received in the order in which they came, and run with their message."""
    party = _Party(receiving, pool)
    calls = [party.call() for _ in range(MAX_RECEIVING + 2)]

    receiving.deliver(calls[3], b"3")
    assert (calls[-2].begun, calls[-1].begun) == (True, False)
    receiving.deliver(calls[-2], b"last but one")
    assert calls[-1].begun
    assert wait_until(lambda: party.ran == [b"3", b"last but one"] and party.share.in_flight == 0)
    assert receiving.waiting == MAX_RECEIVING
    pool.shutdown()


def test_a_message_that_does_not_come_in_time_is_not_waited_for(
    receiving: Receiving, pool: BoundedPool
) -> None:
    """Those that came before are refused, with what waits behind them; those that came later stay."""
    party = _Party(receiving, pool)
    calls = [party.call() for _ in range(MAX_RECEIVING + 1)]
    for call in calls:
        call.accepted_at -= 3.0
    later = party.call()

    now = time.monotonic()
    receiving.expire(now)
    receiving.expire(now + 1.0)

    assert {call.word for call in calls} == {"DEADLINE_EXCEEDED"}
    assert (later.word, later.begun, receiving.waiting) == ("", True, 1)


def test_a_call_gives_way_once_it_had_its_time(receiving: Receiving, pool: BoundedPool) -> None:
    """The oldest reception ends for a later call, behind its time, and only if one waits."""
    party = _Party(receiving, pool)
    calls = [party.call() for _ in range(MAX_RECEIVING)]
    calls[0].receiving_since -= PATIENCE_SECONDS

    assert calls[0].word == ""
    second, third = party.call(), party.call()

    assert (calls[0].word, calls[1].word) == ("OVERLOADED", "")
    assert (second.begun, third.begun) == (True, False)


def test_the_newest_stranger_has_the_oldest_ones_place(receiving: Receiving, pool: BoundedPool) -> None:
    """However many half-sent calls there are, one whose message comes is answered."""
    party = _Party(receiving, pool, strangers=True)
    calls = [party.call() for _ in range(500)]

    assert [call.word for call in calls] == ["OVERLOADED"] * (500 - MAX_RECEIVING) + [""] * MAX_RECEIVING
    receiving.deliver(calls[-1], b"probe")
    assert wait_until(lambda: party.ran == [b"probe"])
    assert receiving.waiting == MAX_RECEIVING - 1
    pool.shutdown()


def test_of_all_callers_a_bounded_number_waits(
    receiving: Receiving, pool: BoundedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond it who waits already is refused, and who does not yet may have one."""
    monkeypatch.setattr(module, "MAX_WAITING", 20)
    first, second = _Party(receiving, pool), _Party(receiving, pool)
    for _ in range(20):
        assert first.call().word == ""

    assert first.call().word == "OVERLOADED"
    assert [second.call().word for _ in range(2)] == ["", "OVERLOADED"]


def test_a_full_part_of_a_pool_refuses_before_and_behind_the_message(receiving: Receiving) -> None:
    """A call is refused when it comes, or when its message comes, if there is no place then."""
    pool = BoundedPool("test", 1, 2)
    party = _Party(receiving, pool)
    waiting = [party.call(), party.call()]
    party.share.in_flight = 2

    assert party.call().word == "OVERLOADED"
    receiving.deliver(waiting[0], b"")
    party.share.in_flight = 1
    receiving.deliver(waiting[1], b"1")

    assert (waiting[0].word, waiting[1].word) == ("OVERLOADED", "")
    assert wait_until(lambda: party.ran == [b"1"])
    pool.shutdown()


def test_a_call_that_ends_without_a_message_was_cancelled_or_is_wrong(
    receiving: Receiving, pool: BoundedPool
) -> None:
    """A later event tells the two apart; a stream without messages is submitted."""
    unary, stream = _Party(receiving, pool), _Party(receiving, pool, streams=True)
    cancelled, wrong, empty = unary.call(), unary.call(), stream.call()
    for call in (cancelled, wrong, empty):
        receiving.deliver(call, None)
    cancelled.ended = True

    receiving.expire(time.monotonic())
    assert (cancelled.word, wrong.word) == ("CANCELLED", "")
    receiving.expire(time.monotonic() + 1.0)

    assert (wrong.word, empty.word) == ("INVALID_ARGUMENT", "")
    assert wait_until(lambda: stream.ran == [None])
    assert (unary.ran, receiving.waiting) == ([], 0)
    pool.shutdown()


def test_a_call_that_is_over_while_it_waits_behind_is_passed_over(
    receiving: Receiving, pool: BoundedPool
) -> None:
    """Its client is gone: the next one is received in its place."""
    party = _Party(receiving, pool)
    calls = [party.call() for _ in range(MAX_RECEIVING + 2)]
    calls[-2].ended = True

    receiving.deliver(calls[0], b"")

    assert (calls[-2].word, calls[-2].begun, calls[-1].begun) == ("CANCELLED", False, True)
    pool.shutdown()
