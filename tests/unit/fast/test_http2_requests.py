"""Requests of the native server that are wrong, come at once or never end, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sessauth._fast._codec import DirectCaller, DirectMethod
from sessauth._fast._http2 import NativeCall
from tests.support import bulk_sessions
from tests.support.http2_calls import call, request_fields
from tests.support.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    RESET,
    block,
    frame,
    message,
    reset,
)
from tests.support.http2_loop import MAX_HEADERS, MAX_MESSAGE, LoopFixture, kinds

FIELDS = request_fields(b"/a.B/C")
OPEN = frame(HEADERS, END_HEADERS, 1, block(FIELDS))
CANCELLED = reset(1)
CANCEL = 8


@pytest.fixture
def served() -> Iterator[LoopFixture]:
    """A loop whose calls are collected."""
    fixture = LoopFixture()
    yield fixture
    fixture.close()
    assert fixture.loop.connections == 0


def test_each_message_of_a_stream_is_judged(served: LoopFixture) -> None:
    """A compressed or oversized message is refused behind a good one that came in the same frame, too."""
    for bad in (message(b"x", 1), b"\0" + (MAX_MESSAGE + 1).to_bytes(4, "big") + b"x"):
        client = served.client(OPEN, frame(DATA, 0, 1, message(b"good") + bad))
        (call_,) = served.calls
        got: list[bytes | None] = []
        call_.receive(got.append)
        served.turn()
        call_.receive(got.append)
        served.until(lambda: HEADERS in kinds(client))  # noqa: B023

        assert got[:1] == [b"good"]
        assert b"x" not in got
        served.calls.clear()
        client.close()


def test_messages_that_are_received_from_their_callback(served: LoopFixture) -> None:
    """Thousands that came at once are delivered one after the other, not within one another."""
    count = 4_000
    client = served.client(OPEN, frame(DATA, 0, 1, message(b"") * (count // 2)))
    client.send(frame(DATA, END_STREAM, 1, message(b"") * (count // 2)))
    (call_,) = served.calls
    got: list[bytes | None] = []

    def receive(data: bytes | None) -> None:
        got.append(data)
        if data is not None:
            call_.receive(receive)

    call_.receive(receive)
    served.until(lambda: None in got)

    assert got == [b""] * count + [None]
    assert served.faults == []


def test_a_call_that_is_refused_by_an_error_is_not_accepted_again() -> None:
    """Though its messages go on, and the client does not read."""
    accepted: list[NativeCall] = []

    def accept(call_: NativeCall) -> None:
        accepted.append(call_)
        raise ValueError("not accepted")

    fixture = LoopFixture(accept)
    client = fixture.client(OPEN, frame(DATA, 0, 1, message(b"x")), frame(DATA, END_STREAM, 1, message(b"y")))
    fixture.until(lambda: RESET in kinds(client))
    fixture.close()

    assert len(accepted) == len(fixture.faults) == 1


def test_a_failure_of_generations_forgets_each_caller() -> None:
    """A number that is returned after a failure is never the one that the failure was counted by."""
    found: list[int | None] = []
    method = DirectMethod("check", bulk_sessions.checker(), lambda decision, token: "")

    class Direct:
        number: int | None = None

        def admit(self, path: bytes, authorization: bytes | None, facts: object) -> DirectCaller:
            del path, authorization, facts
            found.append(self.number)
            return DirectCaller(method, (), None)

        def generation(self) -> int:
            if self.number is None:
                raise OSError("unknown")
            return self.number

    direct = Direct()
    fixture = LoopFixture(direct=direct, direct_paths=[b"/a.B/C"])
    client = fixture.client()
    for place, direct.number in enumerate((5, 5, None, 6, 6)):
        # No request: the caller is found, and the call is accepted.
        client.send(*call(2 * place + 1, FIELDS, message(b"?")))
        fixture.until(lambda: len(fixture.calls) == place + 1)  # noqa: B023
    fixture.close()

    assert found == [5, None, 6]


def test_too_many_headers_are_dropped(served: LoopFixture) -> None:
    """A block in continuations is bounded by its bytes, and the next stream has nothing of it."""
    big = block([*FIELDS, *((b"x-%d" % i, b"v" * 900) for i in range(MAX_HEADERS // 800))])
    client = served.client(
        frame(HEADERS, 0, 1, big[:4_000]),
        *(frame(CONTINUATION, 0, 1, big[at : at + 8_000]) for at in range(4_000, len(big), 8_000)),
        frame(CONTINUATION, END_HEADERS, 1),
    )
    served.until(lambda: HEADERS in kinds(client))
    client.send(*call(3, FIELDS, message(b"")))
    served.until(lambda: served.calls)

    assert [name for name, _ in served.calls[0].metadata] == []


def test_a_bad_header_behind_good_ones_frees_the_stream(served: LoopFixture) -> None:
    """nghttp2 resets it before its headers are complete."""
    for stream in range(1, 201, 2):
        fields = [*FIELDS, (b"authorization", b"x"), (b"Upper", b"case")]
        client = served.client(frame(HEADERS, END_HEADERS, stream, block(fields))) if stream == 1 else client  # noqa: F821
        client.send(frame(HEADERS, END_HEADERS, stream, block(fields)))
    served.turn()
    assert served.calls == []


def test_closing_with_calls_in_each_state(served: LoopFixture) -> None:
    """Each ends once, and those that come back late do nothing."""
    bodies = (b"", message(b"x"), message(b"x" * 9_000)[:3_000])
    client = served.client()
    for place, body in enumerate(bodies * 10):
        stream = 2 * place + 1
        client.send(frame(HEADERS, END_HEADERS, stream, block(FIELDS)), frame(DATA, 0, stream, body))
    served.until(lambda: len(served.calls) == 30)
    ended: list[bool] = []
    for place, each in enumerate(served.calls):
        each.notice_end(ended.append)
        each.receive(lambda _: None)
        if place % 3 == 0:
            each.send(b"x" * 70_000, lambda: None)
        elif place % 3 == 1:
            each.answer(b"x" * 70_000)
    served.loop.close()
    served.turn()

    assert len(ended) == 30
    for each in served.calls:
        each.answer(b"x")
        each.cancel()


def test_a_flood_of_garbage_closes_each_connection(served: LoopFixture) -> None:
    """Failed connections of one batch of events are freed once."""
    clients = [served.client(OPEN) for _ in range(40)]
    for place, client in enumerate(clients):
        client.send(frame(9, 0, 1, b"x") if place % 2 else b"\xff" * 64)
        if place % 3 == 0:
            client.close()
    served.until(lambda: served.loop.connections == 0)

    assert sum(GOAWAY in kinds(client) for client in clients[1::3]) > 0
