"""Calls on a schedule: latencies from the moment that was drawn, and the frames that they go out in."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.service import http2
from benchmarks.service.http2 import Connection, frame, header_blocks, whole_number
from benchmarks.service.load_spec import CALL_SECONDS, LoadError
from benchmarks.service.open_loop import LEAD_SECONDS, pace, schedule
from tests.support.service import home_folder

MS = 1e-3


class Queue:
    """A server that answers one call after the other, on a clock that only it moves."""

    def __init__(self, takes: Callable[[int], float], *, sending: float = 0.0) -> None:
        """Take ``takes(number)`` seconds for a call, and ``sending`` of the caller's own for sending one."""
        self.now = 100.0
        self._takes = takes
        self._sending = sending
        self._free_at = 0.0
        self._due: list[tuple[float, int]] = []

    def clock(self) -> float:
        """The time."""
        return self.now

    def send(self, number: int) -> None:
        """Queue a call."""
        self.now += self._sending
        self._free_at = max(self.now, self._free_at) + self._takes(number)
        self._due.append((self._free_at, number))

    def wait(self, seconds: float) -> list[int]:
        """Let time pass until an answer comes, or so long."""
        until = self.now + seconds
        first = min((at for at, _ in self._due), default=until)
        self.now = max(self.now, min(first, until))
        done = [number for at, number in self._due if at <= self.now]
        self._due = [(at, number) for at, number in self._due if at > self.now]
        return done


def test_moments_are_drawn_by_a_seed_at_the_rate_that_was_asked_for() -> None:
    """The same seed gives the same ascending moments; the pauses have the rate's mean, and its spread."""
    moments = schedule(20_000, 4000.0, seed=3)

    assert moments == schedule(20_000, 4000.0, seed=3) != schedule(20_000, 4000.0, seed=4)
    assert moments == sorted(moments)
    assert moments[-1] / len(moments) == pytest.approx(1 / 4000, rel=0.03)
    pauses = [later - earlier for earlier, later in pairwise(moments)]
    spread = sum((pause * 4000 - 1) ** 2 for pause in pauses) / len(pauses)
    assert spread == pytest.approx(1.0, rel=0.1)


def test_a_server_with_time_to_spare_is_measured_as_it_is() -> None:
    """Calls that never meet take what the server takes."""
    queue = Queue(lambda number: 1 * MS)
    paced = pace([10 * MS * number for number in range(20)], queue, queue.clock)

    assert paced.latencies_us == pytest.approx([1000.0] * 20)
    assert paced.late_us == pytest.approx([0.0] * 20, abs=1e-3)
    assert paced.wall_us == pytest.approx(191_000.0)


def test_calls_behind_a_stall_are_seen_to_have_waited() -> None:
    """A closed loop shows one call of a stall of 100 ms, under a call each 10 ms; here eleven waited."""
    queue = Queue(lambda number: 100 * MS if number == 5 else 1 * MS)
    paced = pace([10 * MS * number for number in range(40)], queue, queue.clock)

    assert paced.late_us == pytest.approx([0.0] * 40, abs=1e-3)
    assert paced.latencies_us[5:9] == pytest.approx([100_000.0, 91_000.0, 82_000.0, 73_000.0])
    assert sum(us > 1500 for us in paced.latencies_us) == 11


def test_what_the_caller_is_late_counts_too() -> None:
    """A caller that takes 2 ms to send falls behind a call each ms; latencies are from the moments."""
    queue = Queue(lambda number: 0.0, sending=2 * MS)
    paced = pace([1 * MS * number for number in range(10)], queue, queue.clock)

    assert paced.late_us[0] == pytest.approx(0.0, abs=1e-3) and paced.late_us[-1] >= 8000
    assert all(latency >= late for latency, late in zip(paced.latencies_us, paced.late_us, strict=True))


def test_other_frames_are_no_answers_and_silence_ends() -> None:
    """A wait that gives nothing is no end; ten seconds without an answer are."""

    class Silent(Queue):
        waits = 0

        def wait(self, seconds: float) -> list[int]:
            self.waits += 1
            self.now += min(seconds, CALL_SECONDS / 4)
            return []

    queue = Silent(lambda number: 0.0)
    with pytest.raises(LoadError, match="3 calls"):
        pace([0.0, 0.0, 0.0], queue, queue.clock)

    assert queue.waits >= 4 and queue.now >= 100.0 + LEAD_SECONDS + CALL_SECONDS


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


class Peer:
    """The other end of a connection, in a thread: what it reads, frame by frame."""

    def __init__(self, path: Path, settings: bytes) -> None:
        """Listen, and greet with ``settings``."""
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(1)
        self._settings = settings
        self.preface = b""
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()

    def _accept(self) -> None:
        self.socket, _ = self._listening.accept()
        self.socket.settimeout(10)
        self.preface = self._exactly(len(http2.PREFACE))
        self.socket.sendall(frame(http2.SETTINGS, 0, 0, self._settings))

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += self.socket.recv(count - len(data))
        return data

    def frame(self) -> tuple[int, int, int, bytes]:
        """The next frame: kind, flags, stream, payload."""
        head = self._exactly(http2.FRAME_HEAD)
        return (
            head[3],
            head[4],
            int.from_bytes(head[5:], "big"),
            self._exactly(int.from_bytes(head[:3], "big")),
        )

    def close(self) -> None:
        """Hang up."""
        self.socket.close()
        self._listening.close()


@contextmanager
def connected(settings: bytes = b"") -> Iterator[tuple[Peer, Connection]]:
    """A connection and its peer, behind the greeting."""
    with home_folder() as folder:
        peer = Peer(folder / "peer.sock", settings)
        connection = Connection(str(folder / "peer.sock"), [("a", "1")])
        peer.thread.join(10)
        assert peer.preface == http2.PREFACE
        kinds = [peer.frame()[0] for _ in range(3)]
        assert kinds == [http2.SETTINGS, http2.WINDOW_UPDATE, http2.SETTINGS]
        yield peer, connection
        connection.close()
        peer.close()


def answers(connection: Connection, count: int) -> list[tuple[int, bytes]]:
    """Receive until so many calls are answered."""
    connection.socket.settimeout(10)
    done: list[tuple[int, bytes]] = []
    while len(done) < count:
        done += [(number, bytes(answer.body)) for number, answer in connection.receive()]
    connection.socket.setblocking(False)
    return done


def test_an_answer_comes_back_with_the_number_of_its_call() -> None:
    """Answers of two calls, the second first, in pieces that end anywhere."""
    with connected() as (peer, connection):
        connection.send(7, b"seven")
        connection.send(9, b"nine")
        sent = [peer.frame() for _ in range(4)]
        assert [(kind, stream) for kind, _, stream, _ in sent] == [(1, 1), (0, 1), (1, 3), (0, 3)]
        assert [payload for *_, payload in sent] == [
            header_blocks([("a", "1")])[0],
            b"seven",
            b"\xbe",
            b"nine",
        ]
        assert sent[1][1] & http2.END_STREAM and sent[3][1] & http2.END_STREAM
        for stream in (3, 1):
            whole = frame(http2.DATA, 0, stream, b"answer of %d" % stream) + frame(
                http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, stream, b"\xbe"
            )
            for at in range(0, len(whole), 7):
                peer.socket.sendall(whole[at : at + 7])

        assert answers(connection, 2) == [(9, b"answer of 3"), (7, b"answer of 1")]


def test_no_more_calls_are_open_than_the_server_allows() -> None:
    """The second call of a connection that allows one goes out when the first is answered."""
    one_stream = http2.MAX_CONCURRENT_STREAMS.to_bytes(2, "big") + (1).to_bytes(4, "big")
    with connected(one_stream) as (peer, connection):
        connection.send(0, b"first")
        connection.send(1, b"second")
        assert [peer.frame()[3] for _ in range(2)][1] == b"first"
        peer.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.socket.recv(1)
        peer.socket.settimeout(10)
        peer.socket.sendall(frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, b"\xbe"))
        assert answers(connection, 1) == [(0, b"")]

        assert [peer.frame()[3] for _ in range(2)] == [b"\xbe", b"second"]


def test_no_more_bytes_are_sent_than_the_server_has_room_for() -> None:
    """Bytes beyond the connection's window wait until the server grants more."""
    with connected() as (peer, connection):
        for number in range(5):
            connection.send(number, bytes(16_000))
        got = [len(peer.frame()[3]) for _ in range(8)]
        assert got.count(16_000) == 4
        peer.socket.sendall(frame(http2.WINDOW_UPDATE, 0, 0, (16_000).to_bytes(4, "big")))
        connection.socket.settimeout(10)
        assert connection.receive() == []

        assert [len(peer.frame()[3]) for _ in range(2)] == [1, 16_000]


def test_a_ping_is_answered_and_an_end_is_seen() -> None:
    """The server's ping comes back; a reset call is told from an answered one; hanging up raises."""
    with connected() as (peer, connection):
        connection.send(4, b"x")
        peer.frame(), peer.frame()
        peer.socket.sendall(frame(http2.PING, 0, 0, b"12345678") + frame(http2.RST_STREAM, 0, 1, bytes(4)))
        connection.socket.settimeout(10)
        ((number, answer),) = connection.receive()
        assert (number, answer.reset) == (4, True)
        assert peer.frame() == (http2.PING, http2.ACK, 0, b"12345678")
        peer.socket.close()

        with pytest.raises(LoadError):
            connection.receive()
