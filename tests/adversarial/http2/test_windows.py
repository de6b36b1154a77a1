"""Windows of flow control that are not opened, or only a little, and answers that are not read."""

from __future__ import annotations

import time

import pytest

from sessauth.v1 import authorization_service_pb2 as checks
from tests.support import http2_frames as h2
from tests.support.attacked_server import AttackedServer
from tests.support.http2_peer import INITIAL_WINDOW
from tests.support.service import wait_until

NO_WINDOW = h2.PREFACE + h2.settings((h2.INITIAL_WINDOW_SIZE, 0))
# The worker's limit for slow readers is a second, and it looks twice a second.
ENDED_SECONDS = 4.0
MIB = 1 << 20
MESSAGE_BYTES = 12 * MIB
MEMORY_BYTES = 16 * MIB
# Messages of one caller that are received at once (transport/native.py).
RECEIVED = 16


@pytest.mark.parametrize("cold", [False, True], ids=["answered on the loop", "answered by a thread"])
def test_answers_without_a_window_are_dropped(cold: bool, attacked: AttackedServer) -> None:
    """A hundred of them; the connection serves on as soon as its client opens a window."""
    entries, request = attacked.entries(grpc_timeout="2S"), attacked.request
    if cold:
        entries, request = h2.call_entries(h2.CHECK_BATCH, attacked.credential, "2S"), attacked.cold_batch()
    with attacked.peer(opening=NO_WINDOW) as peer:
        assert peer.ping()
        streams = [peer.take_stream() for _ in range(100)]
        peer.send(b"".join(h2.headers(each, entries) + h2.data(each, request) for each in streams))
        assert peer.read(lambda: all(each in peer.answers for each in streams))
        assert peer.read(lambda: all(peer.answers[each].over for each in streams), ENDED_SECONDS)
        found = [peer.answers[each] for each in streams]
        assert {(each.body, each.status) for each in found} <= {(b"", None), (b"", "4"), (b"", "8")}
        peer.send(h2.settings((h2.INITIAL_WINDOW_SIZE, INITIAL_WINDOW)))
        assert attacked.allows(peer)


def test_an_answer_comes_in_parts_as_small_as_its_window(attacked: AttackedServer) -> None:
    """A byte at a time, by updates of the stream; then by a change of the settings."""
    with attacked.peer(opening=NO_WINDOW) as peer:
        stream = peer.take_stream()
        peer.send(h2.headers(stream, attacked.entries()) + h2.data(stream, attacked.request))
        assert peer.read(lambda: stream in peer.answers)
        for n in range(1, 6):
            peer.send(h2.window_update(stream, 1))
            assert peer.read(lambda n=n: len(peer.answers[stream].body) == n)  # type: ignore[misc]
        peer.send(h2.settings((h2.INITIAL_WINDOW_SIZE, 1_000)))
        assert attacked.decision(peer.answer(stream)).allowed


def test_a_window_may_be_negative(attacked: AttackedServer) -> None:
    """Settings may make a window negative; updates add to that."""
    with attacked.peer() as peer:
        stream = peer.take_stream()
        peer.send(h2.settings((h2.INITIAL_WINDOW_SIZE, 3)) + h2.headers(stream, attacked.entries()))
        peer.send(h2.data(stream, attacked.request))
        assert peer.read(lambda: stream in peer.answers and len(peer.answers[stream].body) == 3)
        peer.send(h2.settings((h2.INITIAL_WINDOW_SIZE, 0)) + h2.window_update(stream, 3))
        assert not peer.read(lambda: len(peer.answers[stream].body) > 3, 0.1)
        peer.send(h2.window_update(stream, 1_000))
        assert attacked.decision(peer.answer(stream)).allowed


def test_bytes_beyond_the_window_end_the_stream(attacked: AttackedServer) -> None:
    """A stream that waits behind others has the first window and no more."""
    with attacked.peer() as peer:
        streams = [peer.take_stream() for _ in range(RECEIVED + 4)]
        entries = h2.call_entries(h2.LIST_ALLOWED, attacked.credential)
        peer.send(b"".join(h2.headers(each, entries) for each in streams))
        peer.send(h2.data(streams[-1], b"\0" + MIB.to_bytes(4, "big") + bytes(MIB // 2), 0))
        answer = peer.answer(streams[-1])
        assert answer.status is None
        assert h2.FLOW_CONTROL_ERROR in (peer.goaway, answer.reset)


@pytest.mark.parametrize("known", [True, False])
def test_messages_that_are_not_received_yet_take_a_window_each(known: bool, attacked: AttackedServer) -> None:
    """A caller who sends 200 large messages at once has sixteen of them received."""
    credential = attacked.credential if known else attacked.server.credentials["auditor"]
    entries = h2.call_entries(h2.CHECK_BATCH, credential)
    before, most = attacked.memory_bytes(), 0
    with attacked.peer() as peer:
        if known:
            assert attacked.allows(peer)
        streams = [peer.take_stream() for _ in range(200)]
        peer.send(b"".join(h2.headers(each, entries) for each in streams))
        head = b"\0" + MESSAGE_BYTES.to_bytes(4, "big")
        bodies = dict.fromkeys(streams, head + bytes(MIB))
        peer.send_bodies(bodies, 1.0)
        most = attacked.memory_bytes() - before
    assert most < RECEIVED * MIB + len(streams) * INITIAL_WINDOW + MEMORY_BYTES


def test_a_peer_that_reads_nothing_is_ended(attacked: AttackedServer) -> None:
    """It can't send more than its answers have room for, and has a second; nothing of it stays."""
    before, sockets = attacked.memory_bytes(), attacked.sockets()
    with attacked.peer(polite=False) as peer:
        peer.read(lambda: False, 0.05)
        part_of = [h2.headers(2 * n + 1, attacked.entries()) + h2.data(2 * n + 1, attacked.request)
                   for n in range(20_000)]  # fmt: skip
        sent = next((n for n, part in enumerate(part_of) if not peer.send(part, 0.3)), len(part_of))
        assert sent < len(part_of)
        assert attacked.memory_bytes() - before < MEMORY_BYTES
        began = time.monotonic()
        assert wait_until(lambda: attacked.sockets() <= sockets, ENDED_SECONDS)
        assert time.monotonic() - began < ENDED_SECONDS


def test_memory_of_large_answers_is_released(attacked: AttackedServer) -> None:
    """A hundred connections that had an answer of 30 KiB each, and are idle."""
    entries = h2.call_entries(h2.CHECK_BATCH, attacked.credential)
    request = attacked.batch(256)
    peers = []
    before = attacked.memory_bytes()
    try:
        for _ in range(100):
            peers.append(attacked.peer())
            answer = peers[-1].call(entries, request)
            assert answer.status == "0"
            assert len(answer.body) > 1_000
        assert attacked.memory_bytes() - before < 100 * 48_000 + MEMORY_BYTES // 4
    finally:
        for peer in peers:
            peer.close()


@pytest.mark.parametrize("sent", ["nothing", "half a message", "a message"])
def test_a_deadline_ends_a_call_that_its_client_does_not(sent: str, attacked: AttackedServer) -> None:
    """Its place is free then."""
    first = checks.CheckStreamRequest(id=1, item=attacked.allowed.item, audience="gw").SerializeToString()
    body = {"nothing": b"", "half a message": h2.message(first)[:9], "a message": h2.message(first)}[sent]
    with attacked.peer() as peer:
        began = time.monotonic()
        peer.send(h2.headers(1, h2.call_entries(h2.STREAM, attacked.credential, "300m")))
        peer.send(h2.data(1, body, 0))
        answer = peer.answer(1)
        # A stream whose thread waits for the next message is cancelled by that.
        assert answer.status == "4" or (sent == "a message" and answer.reset == h2.CANCEL)
        assert len(answer.messages) == (sent == "a message")
        assert 0.3 <= time.monotonic() - began < 2.0
        peer.next_stream = 3
        assert attacked.allows(peer)
