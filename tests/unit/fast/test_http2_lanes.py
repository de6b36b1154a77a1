"""Operators' calls go ahead of others', and strangers' are refused, within bounds that are stated in work."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.fuzz.http2_sessions import CHECK, GOOD
from tests.fuzz.http2_world import Quiet
from tests.support.http2_calls import call, literal, request_fields
from tests.support.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    block,
    frame,
    reset,
)
from tests.support.http2_loop import LoopFixture, RawClient, kinds
from tests.unit.fast.test_http2_turns import BODY

# Seconds that are over after one turn.
ONE_TURN = 1e-7
# Requests that get a thread in one turn; of eight the last is of the lowest lane.
ADMISSIONS = 16
LANES = {b"known": 1, GOOD: 1, b"operator": 2}
REFUSAL = (16, "not accepted", b"status")
ENHANCE_YOUR_CALM = 11
# Resets of one connection: of requests as they come, by known callers and by strangers, and of any requests.
HASTY_RESETS = 2_000
STRANGERS_RESETS = 500
RESETS = 10_000
# Callers of strangers' connections that are looked up in one turn.
STRANGERS_LOOK_UPS = 32
MAX_CONTINUATIONS = 8


def _lane_of(authorization: bytes | None, facts: object) -> int:
    if authorization == b"fault":
        raise RuntimeError("injected")
    return LANES.get(authorization or b"", 0)


def _calls(path: bytes, authorization: bytes | None, count: int) -> bytes:
    fields = block(request_fields(path, authorization))
    return b"".join(
        frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, fields) for number in range(count)
    )


@pytest.fixture
def served() -> Iterator[LoopFixture]:
    """A loop with lanes that knows the caller of a check."""
    fixture = LoopFixture(
        direct=Quiet(), direct_paths=[CHECK], certificate_facts=lambda _: {}, lane_of=_lane_of
    )
    yield fixture
    fixture.close()
    assert fixture.loop.connections == 0


def _flood(served: LoopFixture, authorization: bytes | None, path: bytes = b"/flood") -> None:
    """Have 4,000 calls of 20 clients wait."""
    clients = [served.client() for _ in range(20)]
    for client in clients:
        client.send(_calls(path, authorization, 200))
    served.loop.poll(10)


@pytest.mark.parametrize("flood", [None, b"wrong", b"known"])
def test_an_operators_call_goes_ahead_of_4000_others(served: LoopFixture, flood: bytes | None) -> None:
    """It is admitted after three turns of them at most, on a connection of its own."""
    _flood(served, flood)
    before = len(served.calls)
    served.client(_calls(b"/end", b"operator", 1))

    served.until(lambda: any(each.method == "/end" for each in served.calls))

    place = next(place for place, each in enumerate(served.calls) if each.method == "/end")
    # The client is accepted in a turn, read in the next, and admitted in the one after it at the latest.
    assert place - before <= 3 * ADMISSIONS


def test_a_known_callers_call_goes_ahead_of_strangers(served: LoopFixture) -> None:
    """The bound is that of an operator's."""
    _flood(served, b"wrong")
    before = len(served.calls)
    served.client(_calls(b"/known", b"known", 1))

    served.until(lambda: any(each.method == "/known" for each in served.calls))

    place = next(place for place, each in enumerate(served.calls) if each.method == "/known")
    assert place - before <= 3 * ADMISSIONS


def test_nobody_waits_for_ever(served: LoopFixture) -> None:
    """One of eight calls that are admitted is of the lowest lane: health is asked by strangers."""
    _flood(served, b"operator")
    client = served.client()
    # A busy machine may take turns to bring the connection; they are not those of a waiting call.
    served.until(lambda: served.loop.connections == 21, client)
    before = len(served.calls)
    client.send(_calls(b"/health", None, 2))

    served.until(lambda: sum(each.method == "/health" for each in served.calls) == 2)

    place = [place for place, each in enumerate(served.calls) if each.method == "/health"]
    assert place[-1] - before <= 4 * ADMISSIONS


def test_a_fault_of_the_look_up_makes_a_stranger(served: LoopFixture) -> None:
    """The call goes on, after those of others."""
    served.client(_calls(b"/a", b"fault", 1))
    served.until(lambda: served.calls)
    assert [str(fault) for fault in served.faults] == ["injected"]


def test_a_check_is_answered_on_the_loop_behind_the_look_up(served: LoopFixture) -> None:
    """The first one of a connection, and those after it, which need no look-up."""
    client = served.client()
    for number in range(3):
        client.send(*call(2 * number + 1, request_fields(CHECK, GOOD), BODY))
        served.until(lambda number=number: served.loop.answered == number + 1, client)
    assert DATA in kinds(client)
    assert served.calls == []


def test_a_strangers_call_is_refused_without_python() -> None:
    """It is counted; a call that is not counted is one as any other."""
    counted: list[bytes] = []

    def counts(path: bytes) -> bool:
        counted.append(path)
        return path == b"/guarded"

    served = LoopFixture(lane_of=_lane_of, counts_refusal=counts, refusal=REFUSAL)
    client, known = served.client(_calls(b"/guarded", b"wrong", 3)), served.client()
    known.send(_calls(b"/guarded", b"known", 1))
    served.until(lambda: len(served.calls) == 1, client, known)
    assert counted == [b"/guarded"] * 3
    assert kinds(client).count(HEADERS) == 3
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 7, block(request_fields(b"/health", None))))
    served.until(lambda: len(served.calls) == 2, client)
    served.close()
    assert served.faults == []


def _goaway_error(client: RawClient) -> int | None:
    payloads = [payload for kind, _, _, payload in client.read() if kind == GOAWAY]
    return int.from_bytes(payloads[-1][4:8], "big") if payloads else None


def _begun_and_reset(first: int, count: int, authorization: bytes | None = None) -> bytes:
    fields = block(request_fields(b"/a", authorization))
    return b"".join(
        frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, fields) + reset(2 * number + 1)
        for number in range(first, first + count)
    )


@pytest.mark.parametrize(
    ("begins", "bound", "make"),
    [
        (None, STRANGERS_RESETS, _begun_and_reset),
        (b"wrong", STRANGERS_RESETS, _begun_and_reset),
        (b"known", HASTY_RESETS, _begun_and_reset),
        (b"known", RESETS, lambda first, count: reset(1) * count),
    ],
    ids=["no credential", "wrong credential", "known caller", "streams that have ended"],
)
def test_resets_are_bounded(
    served: LoopFixture, begins: bytes | None, bound: int, make: Callable[[int, int], bytes]
) -> None:
    """Then the connection is closed with ENHANCE_YOUR_CALM; others are served."""
    client, other = served.client(_calls(b"/a", begins, 1)), served.client()
    served.until(lambda: len(served.calls) == 1)
    sent = 1
    while not client.ended and sent < 4 * bound:
        # No more than a turn reads of a stranger: none of the requests comes without its reset.
        if client.send(make(sent, 50)):
            sent += 50
        served.turn(1)
        client.read()

    assert client.ended
    assert sent > bound
    assert _goaway_error(client) == ENHANCE_YOUR_CALM
    assert len(served.calls) == 1
    other.send(_calls(b"/a", b"known", 1))
    served.until(lambda: len(served.calls) == 2)


def _many_begun_and_reset(authorization: bytes) -> bytes:
    """Return 2,000 requests in 60 KB: the fields of all but the first are those of the table."""
    fields = request_fields(b"/a", authorization)
    added = b"".join(literal(*field, 0x40) for field in fields)
    # The newest entry is 62.
    known = bytes(0x80 + 62 + place for place in reversed(range(len(fields))))
    return b"".join(
        frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, known if number else added)
        + reset(2 * number + 1)
        for number in range(2_000)
    )


@pytest.mark.parametrize("authorization", [b"wrong", b"known"])
def test_an_operators_call_waits_for_no_flood_of_resets(served: LoopFixture, authorization: bytes) -> None:
    """It is admitted in the turn in which it comes, however much the others have sent."""
    flood = _many_begun_and_reset(authorization)
    operator = served.client(_calls(b"/end", b"operator", 1))
    served.until(lambda: len(served.calls) == 1)
    for number in range(1, 20):
        # Each of them has more to read than a turn has time for.
        for _ in range(8):
            served.connect(flood)
        fields = block(request_fields(b"/end", b"operator"))
        operator.send(frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, fields))
        served.loop.poll(ONE_TURN)
        assert sum(each.method == "/end" for each in served.calls) == number + 1


def test_a_turn_looks_up_few_callers_of_strangers(served: LoopFixture) -> None:
    """Connections of strangers alone come after all others, and have each their turn."""
    looked_up: list[bytes | None] = []

    def lane_of(authorization: bytes | None, facts: object) -> int:
        looked_up.append(authorization)
        return _lane_of(authorization, facts)

    loop = LoopFixture(lane_of=lane_of, counts_refusal=lambda path: True, refusal=REFUSAL)
    strangers = [loop.client(_calls(b"/a", b"wrong", 1)) for _ in range(40)]
    known = loop.client(_calls(b"/a", b"known", 1))
    loop.until(lambda: len(looked_up) == 41)
    looked_up.clear()
    fields = block(request_fields(b"/a", b"wrong"))
    for client in strangers:
        client.send(
            b"".join(frame(HEADERS, END_HEADERS | END_STREAM, 2 * each + 1, fields) for each in range(1, 11))
        )
    fields = block(request_fields(b"/a", b"known"))
    known.send(
        b"".join(frame(HEADERS, END_HEADERS | END_STREAM, 2 * each + 1, fields) for each in range(1, 9))
    )

    loop.loop.poll(ONE_TURN)

    # One of eight is of the lowest that wait.
    assert looked_up[:9].count(b"known") == 8
    assert looked_up.count(b"wrong") == STRANGERS_LOOK_UPS
    loop.until(lambda: len(looked_up) == 40 * 10 + 8, *strangers)
    loop.until(lambda: all(kinds(each).count(HEADERS) == 11 for each in strangers))
    loop.close()
    assert loop.faults == []


@pytest.mark.parametrize(("authorization", "least"), [(b"wrong", 5), (b"known", 3)])
def test_each_of_many_connections_has_its_turn(served: LoopFixture, authorization: bytes, least: int) -> None:
    """A turn reads some of them, and the next one goes on after these."""
    clients = [served.client(_calls(b"/a", authorization, 1)) for _ in range(60)]
    served.until(lambda: len(served.calls) == 60)
    fields = block([*request_fields(b"/b", authorization), (b"x", bytes(b"x" * 12_000))])
    for client in clients:
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, fields))
    turns = 0
    while len(served.calls) < 120:
        served.loop.poll(ONE_TURN)
        turns += 1
    # 720 KB, of which a turn reads 8 KiB, or 256 KiB of known callers.
    assert turns >= least


def test_resets_of_calls_that_run_are_not_bounded(served: LoopFixture) -> None:
    """A gateway that gives up thousands of calls is no attacker."""
    client = served.client()
    fields = block(request_fields(b"/a", b"known"))
    for number in range(0, HASTY_RESETS + 500, 100):
        streams = [2 * each + 1 for each in range(number, number + 100)]
        before = len(served.calls)
        client.send(*(frame(HEADERS, END_HEADERS, each, fields) for each in streams))
        served.until(lambda before=before: len(served.calls) == before + 100)
        client.send(*(reset(each) for each in streams))
        served.turn(2)
        client.read()

    assert not client.ended


@pytest.mark.parametrize(("frames", "ends"), [(MAX_CONTINUATIONS, False), (MAX_CONTINUATIONS + 1, True)])
@pytest.mark.parametrize("piece", [1, 7, 1 << 16], ids=["byte by byte", "in pieces", "at once"])
def test_continuation_frames_in_a_row_are_bounded(
    served: LoopFixture, frames: int, ends: bool, piece: int
) -> None:
    """They are counted before the library sees them, wherever the bytes are cut."""
    fields = block(request_fields(b"/a", b"known"))
    data = frame(HEADERS, END_STREAM, 1, fields[:5])
    for number in range(1, frames + 1):
        last = number == frames
        part = fields[5:] if last else b""
        data += frame(CONTINUATION, END_HEADERS if last else 0, 1, part)
    client = served.client()
    for start in range(0, len(data), piece):
        client.send(data[start : start + piece])
        served.turn(1)

    served.until(lambda: client.ended if ends else served.calls, client)

    assert bool(served.calls) is not ends
