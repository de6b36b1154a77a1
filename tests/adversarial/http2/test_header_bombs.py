"""Header blocks that are small on the wire and large in memory."""

from __future__ import annotations

from tests.support import http2_frames as h2
from tests.support.attacked_server import AttackedServer
from tests.support.http2_peer import Peer

EXHAUSTED = "8"
MEMORY_BYTES = 16 << 20
# Of the worker for 20 bombs, which took 4 s when each was unpacked; the checks of others are among it.
BOMBS_SECONDS = 1.0
# The first entry of the dynamic table (RFC 7541, 2.3.3).
NEWEST = b"\xbe"


def _stored(name: str, value: str) -> bytes:
    """A literal that the table keeps."""
    return b"\x40" + h2.text(name) + h2.text(value)


def _refused(peer: Peer, attacked: AttackedServer, more: bytes) -> bool:
    stream = peer.take_stream()
    encoded = h2.block(attacked.entries()) + more
    parts = [encoded[i : i + h2.FRAME_BYTES] for i in range(0, len(encoded), h2.FRAME_BYTES)]
    sent = b"".join(
        h2.frame(
            h2.CONTINUATION if i else h2.HEADERS, h2.END_HEADERS if i + 1 == len(parts) else 0, stream, part
        )
        for i, part in enumerate(parts)
    )
    peer.send(sent + h2.data(stream, attacked.request))
    return peer.answer(stream).status == EXHAUSTED


def test_a_bomb_of_one_large_entry_is_not_unpacked(attacked: AttackedServer) -> None:
    """4 KiB in the table, 100,000 times a request of a byte each: 400 MB that never are, 20 times."""
    before = attacked.memory_bytes()
    with attacked.peer() as peer:
        assert not _refused(peer, attacked, _stored("x", "y" * 4_000))
        spent = attacked.cpu_seconds()
        for _ in range(20):
            assert not _refused(peer, attacked, NEWEST * 100_000)
            assert peer.answers[peer.next_stream - 2].reset == h2.INTERNAL_ERROR
        assert attacked.cpu_seconds() - spent < BOMBS_SECONDS
        assert attacked.allows(peer)
    assert attacked.memory_bytes() - before < MEMORY_BYTES


def test_a_bomb_in_trailers_is_none_either(attacked: AttackedServer) -> None:
    """Nothing behind the message of a call is unpacked."""
    with attacked.peer() as peer:
        entries = h2.block(h2.call_entries(h2.LIST_ALLOWED, attacked.credential))
        peer.send(h2.frame(h2.HEADERS, h2.END_HEADERS, 1, entries + _stored("x", "y" * 4_000)))
        peer.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, NEWEST * h2.FRAME_BYTES))
        assert peer.answer(1).reset == h2.INTERNAL_ERROR
        peer.next_stream = 3
        assert attacked.allows(peer)


def test_a_number_of_small_headers_is_a_large_one(attacked: AttackedServer) -> None:
    """An entry counts 32 bytes more than its text."""
    with attacked.peer() as peer:
        assert _refused(peer, attacked, _stored("x", "") + NEWEST * 500)
        assert _refused(peer, attacked, h2.block([("x", "")]) * 500)
        assert attacked.allows(peer)


def test_a_table_that_changes_with_each_header(attacked: AttackedServer) -> None:
    """Evicted entries, a table of size zero and back: each call has its own headers, as they were sent."""
    *entries, (name, credential) = attacked.entries()
    plain = h2.block(entries)
    grown = h2.integer(0, 5, 0x20) + h2.integer(4_096, 5, 0x20)
    with attacked.peer() as peer:
        for number in range(50):
            fill = b"".join(_stored(f"x-{number}-{i}", "y" * (number * i % 97)) for i in range(60))
            for value, status in (credential, "0"), (f"{credential}x", "16"):
                stream = peer.take_stream()
                block = grown + plain + fill + _stored(str(name), str(value))
                peer.send(h2.frame(h2.HEADERS, h2.END_HEADERS, stream, block))
                peer.send(h2.data(stream, attacked.request))
                assert peer.answer(stream).status == status
                # The credential is now the newest entry.
                stream = peer.take_stream()
                peer.send(h2.frame(h2.HEADERS, h2.END_HEADERS, stream, plain + NEWEST))
                peer.send(h2.data(stream, attacked.request))
                assert peer.answer(stream).status == status


def test_answers_to_a_client_without_a_table(attacked: AttackedServer) -> None:
    """A client may want no table, and change its mind."""
    with attacked.peer(opening=h2.PREFACE + h2.settings((h2.TABLE_SIZE, 0))) as peer:
        peer.next_stream = 1
        assert attacked.allows(peer)
        peer.send(h2.settings((h2.TABLE_SIZE, 1 << 31), (h2.TABLE_SIZE, 17)))
        for _ in range(5):
            assert attacked.allows(peer)
