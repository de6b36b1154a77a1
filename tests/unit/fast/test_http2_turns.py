"""A turn of the native server's loop is bounded: what one client sends holds up its own calls alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from sessauth._fast._codec import DirectCaller
from sessauth._fast._http2 import NativeCall
from sessauth.v1 import authorization_service_pb2 as pb
from tests.fuzz.http2_sessions import CHECK, GOOD, OTHER
from tests.fuzz.http2_world import Quiet, tokens
from tests.support.http2_calls import call, request_fields
from tests.support.http2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    block,
    frame,
    message,
    reset,
    settings,
    window_update,
)
from tests.support.http2_loop import LoopFixture, RawClient, kinds

# Requests that get a thread, or are refused, in one turn.
ADMISSIONS = 16
MIB = 1 << 20
CALLER_UNREAD = 16 * MIB
NO_WINDOW = settings((INITIAL_WINDOW_SIZE, 0))
OPEN_WINDOW = settings((INITIAL_WINDOW_SIZE, (1 << 31) - 1)) + window_update(0, 1 << 30)
ITEM = pb.CheckItem(token=tokens()[0], action=b"read", resource=b"files/a")
BODY = message(pb.CheckRequest(item=ITEM).SerializeToString())


def _stranger(stream: int, path: bytes = b"/a.B/C") -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, block(request_fields(path)))


def _strangers(count: int) -> bytes:
    return b"".join(_stranger(2 * i + 1) for i in range(count))


@pytest.fixture
def served() -> Iterator[LoopFixture]:
    """A loop that knows the caller of a check, and collects all other calls."""
    fixture = LoopFixture(direct=Quiet(), direct_paths=[CHECK], certificate_facts=lambda _: {})
    yield fixture
    fixture.close()
    assert fixture.faults == []
    assert fixture.loop.connections == 0


def test_a_turn_admits_a_few_calls_and_each_connection_in_its_turn(served: LoopFixture) -> None:
    """Two clients, one of which sends 250 calls and the other two, have the same part of a turn."""
    many, few = served.client(), served.client()
    many.send(_strangers(250))
    few.send(_stranger(1, b"/few"), _stranger(3, b"/few"))

    counts = []
    while len(served.calls) < 252:
        before = len(served.calls)
        served.loop.poll(10)
        counts.append(len(served.calls) - before)

    assert max(counts) <= ADMISSIONS
    places = [place for place, each in enumerate(served.calls) if each.method == "/few"]
    assert places[1] <= 2 * ADMISSIONS


def test_a_check_of_a_known_caller_is_answered_in_the_turn_in_which_it_comes(served: LoopFixture) -> None:
    """However many calls wait for their turn, a check that is answered on the loop does not wait."""
    many, known = served.client(), served.client()
    many.send(_strangers(250))
    served.loop.poll(10)
    assert len(served.calls) <= ADMISSIONS

    known.send(*call(1, request_fields(CHECK, GOOD), BODY))
    served.loop.poll(10)

    assert served.loop.answered == 1
    assert DATA in kinds(known)
    assert len(served.calls) <= 2 * ADMISSIONS


def test_calls_that_end_while_they_wait_are_dropped(served: LoopFixture) -> None:
    """Neither a reset nor the end of a connection leaves a call that waits."""
    client, other = served.client(), served.client()
    client.send(_strangers(200), b"".join(reset(2 * i + 1) for i in range(200)))
    served.turn()
    # Those that were reset in the same turn were never calls.
    assert served.calls == []
    client.send(*(_stranger(2 * i + 1) for i in range(200, 400)))
    served.loop.poll(10)
    taken = len(served.calls)
    assert taken <= ADMISSIONS
    client.close()
    other.send(_stranger(1))
    served.until(lambda: len(served.calls) == taken + 1)


def test_a_client_that_reads_no_answer_gets_a_mib_of_them(served: LoopFixture) -> None:
    """Its other calls wait until it reads; those of other connections go on."""
    client, other = served.client(NO_WINDOW), served.client()
    answered: set[NativeCall] = set()

    def answer_all() -> int:
        for each in served.calls:
            if each not in answered:
                answered.add(each)
                each.answer(bytes(MIB // 8))
        return len(served.calls)

    client.send(_strangers(40))
    for _ in range(20):
        served.loop.poll(0.002)
        answer_all()
    bounded = len(served.calls)
    # Those of one turn are admitted before the first of them is answered.
    assert 8 <= bounded <= 8 + ADMISSIONS

    other.send(_stranger(1))
    served.until(lambda: answer_all() > bounded)
    assert len(served.calls) == bounded + 1

    client.send(OPEN_WINDOW)
    served.until(lambda: answer_all() == 41, client)


class _Callers:
    """Two callers of checks by their credentials, whose requests need a thread."""

    def __init__(self) -> None:
        method = Quiet().method
        self._callers = {word: DirectCaller(method, (), word) for word in (GOOD, OTHER)}

    def admit(
        self, path: bytes, authorization: bytes | None, facts: Mapping[str, Any] | None
    ) -> DirectCaller | None:
        """Return the caller of a credential."""
        del path, facts
        return self._callers[authorization or b""]

    def generation(self) -> int:
        """Return one number."""
        return 1


def test_unread_answers_are_bounded_for_all_connections_of_a_caller() -> None:
    """16 MiB of one caller: a further connection of it waits, one of another caller does not."""

    def accept(call_: NativeCall) -> None:
        calls.append(call_)
        call_.answer(bytes(MIB))

    calls: list[NativeCall] = []
    fixture = LoopFixture(accept, direct=_Callers(), direct_paths=[CHECK], certificate_facts=lambda _: {})

    def ask(word: bytes) -> RawClient:
        return fixture.client(NO_WINDOW, *call(1, request_fields(CHECK, word), message(b"?")))

    clients = [ask(GOOD) for _ in range(CALLER_UNREAD // MIB)]
    fixture.until(lambda: len(calls) == len(clients))
    ask(GOOD)
    fixture.turn()
    assert len(calls) == len(clients)

    ask(OTHER)
    fixture.until(lambda: len(calls) == len(clients) + 1)

    clients[0].close()
    fixture.until(lambda: len(calls) == len(clients) + 2)
    fixture.close()
    assert fixture.faults == []
