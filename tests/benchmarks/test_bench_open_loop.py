"""Calls on a schedule: latencies from the moment that was drawn, and the frames that they go out in."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final

import pytest

from benchmarks.service.h2load import NotUsable, framed
from benchmarks.service.load_spec import Call, Drive, LoadError, Target
from benchmarks.service.open_loop import OpenLoop, Planned, header_blocks, schedule, whole_number
from benchmarks.service.processes import Server
from benchmarks.workloads import WrongDecision
from tests.support.service import home_folder

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK = END_STREAM = 1
END_HEADERS = 4
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MS = 1000.0
ANSWER: Final = b"answer"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of HTTP/2."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def whole_answer(stream: int, message: bytes = ANSWER) -> bytes:
    """Headers, a message, and trailers."""
    head = frame(HEADERS, END_HEADERS, stream, b"\x88")
    return (
        head
        + frame(DATA, 0, stream, framed(message))
        + frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x88")
    )


class Peer:
    """A server of one connection, in a thread, that answers each call as ``answers(number, stream)`` says."""

    def __init__(self, path: Path, answers: Callable[[int, int], bytes], settings: bytes = b"") -> None:
        """Listen, and greet with ``settings``."""
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(1)
        self._answers = answers
        self._settings = settings
        self._read = b""
        # Header blocks, messages, and the largest number of calls that were open at once.
        self.blocks: list[bytes] = []
        self.messages: list[bytes] = []
        self.pings: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _exactly(self, count: int) -> bytes:
        while len(self._read) < count:
            data = self._socket.recv(65_536)
            if not data:
                raise EOFError
            self._read += data
        taken, self._read = self._read[:count], self._read[count:]
        return taken

    def _serve(self) -> None:
        self._socket, _ = self._listening.accept()
        try:
            assert self._exactly(len(PREFACE)) == PREFACE
            self._socket.sendall(frame(SETTINGS, 0, 0, self._settings))
            while True:
                head = self._exactly(9)
                payload = self._exactly(int.from_bytes(head[:3], "big"))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                if kind == HEADERS:
                    self.blocks.append(payload)
                elif kind == PING:
                    assert flags & ACK
                    self.pings.append(payload)
                elif kind == DATA:
                    assert flags & END_STREAM
                    self.messages.append(payload)
                    self._socket.sendall(self._answers(len(self.messages) - 1, stream))
        except (EOFError, OSError):
            return
        finally:
            self._socket.close()

    def close(self) -> None:
        """Hang up."""
        self._listening.close()
        self._thread.join(10)


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> OpenLoop:
    """The generator, compiled."""
    try:
        return OpenLoop.prepare(tmp_path_factory.mktemp("open-loop"))
    except NotUsable as why:
        pytest.skip(str(why))


@contextmanager
def peer_and_call(
    answers: Callable[[int, int], bytes], settings: bytes = b"", requests: Sequence[bytes] = (b"x",)
) -> Iterator[tuple[Peer, Call]]:
    """A peer, and calls of it that want ``ANSWER``."""

    def require(messages: Sequence[bytes]) -> None:
        if any(message != ANSWER for message in messages):
            raise WrongDecision("another answer")

    with home_folder() as folder:
        peer = Peer(folder / "peer.sock", answers, settings)
        target = f"unix:{folder / 'peer.sock'}"
        server = Server(target, (os.getpid(),))
        yield peer, Call(server, (Target(target),), "/a.B/C", tuple(requests), require, "credential")
        peer.close()


def drive(loop: OpenLoop, call: Call, moments: Sequence[float]) -> Drive:
    """Make calls at these moments over one connection, with the requests in turn."""
    chosen = [number % len(call.requests) for number in range(len(moments))]
    return loop.drive(call, 1, Planned(moments, call.requests, chosen))


def test_moments_are_drawn_by_a_seed_at_the_rate_that_was_asked_for() -> None:
    """The same seed gives the same ascending moments; the pauses have the rate's mean, and its spread."""
    moments = schedule(20_000, 4000.0, seed=3)

    assert moments == schedule(20_000, 4000.0, seed=3) != schedule(20_000, 4000.0, seed=4)
    assert moments == sorted(moments)
    assert moments[-1] / len(moments) == pytest.approx(1 / 4000, rel=0.03)
    pauses = [later - earlier for earlier, later in pairwise(moments)]
    spread = sum((pause * 4000 - 1) ** 2 for pause in pauses) / len(pauses)
    assert spread == pytest.approx(1.0, rel=0.1)


def test_numbers_and_headers_are_as_the_standard_says() -> None:
    """The examples of RFC 7541, appendix C."""
    assert whole_number(10, 5, 0) == b"\x0a"
    assert whole_number(1337, 5, 0) == b"\x1f\x9a\x0a"
    assert whole_number(42, 8, 0) == b"\x2a"
    first, later = header_blocks([("custom-key", "custom-header")])
    assert first == bytes.fromhex("400a637573746f6d2d6b65790d637573746f6d2d686561646572")
    assert later == b"\xbe"


def test_later_calls_refer_to_the_headers_of_the_first() -> None:
    """The newest header has the lowest number of the table's own part."""
    _, later = header_blocks([("a", "1"), ("b", "2"), ("c", "3")])

    assert later == bytes((0x80 | 64, 0x80 | 63, 0x80 | 62))


def test_calls_behind_a_stall_are_seen_to_have_waited(loop: OpenLoop) -> None:
    """A closed loop shows one call of a stall of 300 ms, under a call each 10 ms; here thirty waited."""

    def answers(number: int, stream: int) -> bytes:
        if number == 5:
            time.sleep(0.3)
        return whole_answer(stream)

    with peer_and_call(answers) as (_, call):
        made = drive(loop, call, [0.01 * number for number in range(60)])

    assert made.calls == len(made.latencies_us) == 60 and made.refused == 0
    for number in range(5, 30):
        assert made.latencies_us[number] >= (300 - 10 * (number - 5) - 1) * MS
        # The stall of the server is none of the generator, which sends the calls behind it at their times.
        # To a nanosecond: it is a difference of floats.
        assert round(min(made.late_us), 3) >= 0 and median(made.late_us) < 100 * MS
    assert made.wall_us >= 590 * MS
    # Those before the stall did not wait, but for what else this machine does.
    assert min(made.latencies_us[:5]) < 100 * MS


def test_each_call_sends_its_request_and_the_credential_is_in_the_first(loop: OpenLoop) -> None:
    """Requests in the order of the plan, behind their lengths; nothing of it stays on the disk."""
    with peer_and_call(lambda _, stream: whole_answer(stream), requests=(b"one", b"two")) as (peer, call):
        drive(loop, call, [0.0, 0.001, 0.002])
        assert peer.messages == [framed(b"one"), framed(b"two"), framed(b"one")]
        assert b"Bearer credential" in peer.blocks[0]
        assert peer.blocks[1] == peer.blocks[2] and len(peer.blocks[1]) < 16
    assert not loop._plan.exists()


def test_another_answer_stops_the_run_and_a_refusal_is_counted(loop: OpenLoop) -> None:
    """A call without a message, or a reset one, was refused: it has no latency."""

    def refusing(number: int, stream: int) -> bytes:
        if number == 1:
            return frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x88")
        if number == 2:
            return frame(RST_STREAM, 0, stream, bytes(4))
        return whole_answer(stream)

    with peer_and_call(refusing) as (_, call):
        made = drive(loop, call, [0.0] * 4)
    assert (made.calls, made.refused, len(made.latencies_us)) == (2, 2, 2)
    with (
        peer_and_call(lambda _, stream: whole_answer(stream, b"denied")) as (_, call),
        pytest.raises(WrongDecision),
    ):
        drive(loop, call, [0.0])


def test_a_server_that_leaves_is_no_measurement(loop: OpenLoop) -> None:
    """Neither one that says so nor one that is not there."""
    with (
        peer_and_call(lambda *_: frame(GOAWAY, 0, 0, bytes(8))) as (_, call),
        pytest.raises(LoadError, match="close the connection"),
    ):
        drive(loop, call, [0.0])
    with pytest.raises(LoadError, match="connected"):
        drive(loop, call, [0.0])


def test_no_more_calls_are_open_than_the_server_allows(loop: OpenLoop) -> None:
    """The second of a server that allows one goes out when the first is answered."""
    one_stream = (3).to_bytes(2, "big") + (1).to_bytes(4, "big")
    began: list[float] = []

    def answers(number: int, stream: int) -> bytes:
        began.append(time.monotonic())
        time.sleep(0.02)
        return whole_answer(stream)

    with peer_and_call(answers, one_stream) as (peer, call):
        made = drive(loop, call, [0.0] * 5)
        assert made.calls == len(peer.messages) == 5
    assert all(later - earlier >= 0.019 for earlier, later in pairwise(began))


def test_no_more_bytes_are_sent_than_the_server_has_room_for(loop: OpenLoop) -> None:
    """Bytes beyond the connection's window wait until the server grants more."""
    received: list[int] = []

    def answers(number: int, stream: int) -> bytes:
        received.append(number)
        more = frame(WINDOW_UPDATE, 0, 0, (16_005).to_bytes(4, "big")) if number >= 3 else b""
        return whole_answer(stream) + more

    with peer_and_call(answers, requests=(bytes(16_000),)) as (peer, call):
        made = drive(loop, call, [0.0] * 6)
        assert made.calls == 6 and {len(message) for message in peer.messages} == {16_005}


def test_a_ping_is_answered(loop: OpenLoop) -> None:
    """The server's ping comes back with its bytes."""
    ping = frame(PING, 0, 0, b"12345678")
    with peer_and_call(lambda _, stream: ping + whole_answer(stream)) as (peer, call):
        drive(loop, call, [0.0, 0.05])
        assert peer.pings[0] == b"12345678"
