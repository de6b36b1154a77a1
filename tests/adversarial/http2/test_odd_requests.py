"""Requests that are almost those of gRPC: what gRPC's own server refuses, ours does not allow."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support import http2_frames as h2
from tests.support.attacked_server import AttackedServer
from tests.support.http2_peer import Answer

Entries = Sequence[h2.Entry]
RESET = "reset"
ALLOWED = "allowed"
OK, INVALID, EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAUTHENTICATED = "0", "3", "8", "12", "13", "16"
NO_STATUS = "no status"


def outcome(server: AttackedServer, entries: Entries, body: bytes | None) -> str:
    """Return the outcome of a call on a connection of its own."""
    with server.peer() as peer:
        # From then on the server's settings count.
        assert peer.ping()
        return _word(server, peer.call(entries, body))


def _word(server: AttackedServer, answer: Answer) -> str:
    if answer.messages:
        return ALLOWED if server.decision(answer).allowed else "denied"
    if answer.status is None:
        return f"HTTP {answer.headers[':status']}" if answer.headers else RESET
    return answer.status


# Changed headers: our outcome, and that of gRPC's own server, recorded with grpcio 1.85.3.
HEADERS: dict[str, tuple[dict[str, str], str, str]] = {
    "none": ({}, ALLOWED, ALLOWED),
    "GET": ({"method": "GET"}, "HTTP 405", RESET),
    "PUT": ({"method": "PUT"}, "HTTP 405", RESET),
    "post": ({"method": "post"}, "HTTP 405", INTERNAL),
    "te of another kind": ({"te": "gzip"}, RESET, INTERNAL),
    "a page": ({"content_type": "text/html"}, "HTTP 415", ALLOWED),
    "no type": ({"content_type": ""}, "HTTP 415", ALLOWED),
    "a scheme of its own": ({"scheme": "ftp"}, "HTTP 400", INTERNAL),
    "a method of nobody": ({"path": "/a.B/C"}, UNIMPLEMENTED, UNIMPLEMENTED),
    "a query": ({"path": f"{h2.CHECK}?a=b"}, UNIMPLEMENTED, UNIMPLEMENTED),
    "a path in upper case": ({"path": h2.CHECK.upper()}, UNIMPLEMENTED, UNIMPLEMENTED),
    "a path without a slash": ({"path": h2.CHECK[1:]}, RESET, UNIMPLEMENTED),
    "no path": ({"path": ""}, RESET, UNIMPLEMENTED),
    "a path with a zero": ({"path": f"{h2.CHECK}\0"}, RESET, UNIMPLEMENTED),
    "a time that is over": ({"grpc_timeout": "0n"}, "4", "4"),
    "a time without a unit": ({"grpc_timeout": "1"}, INVALID, INTERNAL),
    "a unit without a time": ({"grpc_timeout": "S"}, INVALID, INTERNAL),
    "a negative time": ({"grpc_timeout": "-1S"}, INVALID, INTERNAL),
    "a fraction": ({"grpc_timeout": "1.5S"}, INVALID, INTERNAL),
    "an unknown unit": ({"grpc_timeout": "5x"}, INVALID, INTERNAL),
    "no time": ({"grpc_timeout": ""}, INVALID, INTERNAL),
    "a time of nine digits": ({"grpc_timeout": "000000005S"}, INVALID, ALLOWED),
    "digits of another script": ({"grpc_timeout": "\u0665S"}, INVALID, INTERNAL),
    "the longest time": ({"grpc_timeout": "99999999H"}, ALLOWED, ALLOWED),
    "a credential with a space behind it": ({"authorization": "Bearer x "}, UNAUTHENTICATED, UNAUTHENTICATED),
    "no credential behind its word": ({"authorization": "Bearer "}, UNAUTHENTICATED, UNAUTHENTICATED),
    "a credential with a zero": ({"authorization": "Bearer x\0"}, RESET, UNAUTHENTICATED),
    "a scheme of authorization": ({"authorization": "Basic x"}, UNAUTHENTICATED, UNAUTHENTICATED),
    "an empty credential": ({"authorization": ""}, UNAUTHENTICATED, UNAUTHENTICATED),
    "an encoding": ({"grpc_encoding": "gzip"}, ALLOWED, ALLOWED),
    # It is not used: a message that says it is compressed is refused.
    "an unknown encoding": ({"grpc_encoding": "nonsense"}, ALLOWED, INTERNAL),
    # It is dropped, and read by nobody.
    "binary metadata that is none": ({"x_bin": "***"}, ALLOWED, INTERNAL),
    "a length that is too small": ({"content_length": "4"}, RESET, ALLOWED),
    "a length that is too large": ({"content_length": "4000"}, RESET, ALLOWED),
    "a connection of HTTP/1.1": ({"connection": "close"}, RESET, ALLOWED),
    "chunks": ({"transfer_encoding": "chunked"}, RESET, ALLOWED),
    "a name in upper case": ({"Foo": "x"}, RESET, INTERNAL),
    "a line of its own": ({"x": "a\r\nb: c"}, RESET, ALLOWED),
    "metadata below the limit": ({"x": "y" * 7_000}, ALLOWED, ALLOWED),
    "metadata above the limit": ({"x": "y" * 16_384}, EXHAUSTED, EXHAUSTED),
    "metadata of several frames": ({"x": "y" * 60_000}, EXHAUSTED, EXHAUSTED),
}
WITHOUT: dict[str, tuple[str, str]] = {
    "te": ("HTTP 400", RESET),
    "content-type": ("HTTP 415", ALLOWED),
    ":path": (RESET, RESET),
    ":method": (RESET, RESET),
    ":scheme": (RESET, RESET),
    ":authority": (RESET, RESET),
    "grpc-timeout": (INVALID, INVALID),
    "authorization": (UNAUTHENTICATED, UNAUTHENTICATED),
}


@pytest.mark.parametrize("name", HEADERS)
def test_changed_headers(name: str, worker: AttackedServer) -> None:
    """Each outcome is known."""
    changed, expected, _ = HEADERS[name]
    assert outcome(worker, worker.entries(**changed), worker.request) == expected


@pytest.mark.parametrize("name", WITHOUT)
def test_missing_headers(name: str, worker: AttackedServer) -> None:
    """None is guessed."""
    assert outcome(worker, worker.entries(without=[name]), worker.request) == WITHOUT[name][0]


def test_what_grpc_refuses_is_refused() -> None:
    """But for an encoding that is not used, and metadata that nobody reads."""
    outcomes = {name: (ours, other) for name, (_, ours, other) in HEADERS.items()} | WITHOUT | BODIES

    allowed = {name for name, (ours, other) in outcomes.items() if ours == ALLOWED != other}

    assert allowed == {"an unknown encoding", "binary metadata that is none"}


@pytest.mark.parametrize("name", ["authorization", "grpc-timeout", ":path", ":method"])
@pytest.mark.parametrize("value", ["x", None], ids=["another", "the same"])
@pytest.mark.parametrize("first", [True, False])
def test_a_header_that_stands_twice_is_refused(
    name: str, value: str | None, first: bool, worker: AttackedServer
) -> None:
    """Neither of the two counts."""
    entries = worker.entries()
    place = next(i for i, entry in enumerate(entries) if entry[0] == name)
    entries.insert(place + (not first), (name, entries[place][1] if value is None else value))
    expected = {"authorization": UNAUTHENTICATED, "grpc-timeout": INVALID}.get(name, RESET)

    assert outcome(worker, entries, worker.request) == expected


def test_pseudo_headers_behind_others_are_refused(worker: AttackedServer) -> None:
    """And unknown ones everywhere."""
    entries = worker.entries()

    assert outcome(worker, [*entries[4:], *entries[:4]], worker.request) == RESET
    assert outcome(worker, [(":x", "y"), *entries], worker.request) == RESET
    assert outcome(worker, [*entries, (":x", "y")], worker.request) == RESET


@pytest.mark.parametrize("name", ["x", "authorization", ":authority", "user-agent"])
def test_values_that_are_no_text(name: str, worker: AttackedServer) -> None:
    """Bytes above 127 are metadata; they are nobody's credential."""
    entries = [each for each in worker.entries() if each[0] != name]
    where = 0 if name.startswith(":") else len(entries)
    entries.insert(where, (name, b"Bearer \xff\xfe\x80"))
    expected = {"authorization": (UNAUTHENTICATED,), ":authority": (RESET, ALLOWED)}.get(name, (ALLOWED,))

    assert outcome(worker, entries, worker.request) in expected


BODIES: dict[str, tuple[str, str]] = {
    "flag 1": (UNIMPLEMENTED, INTERNAL),
    "flag 2": (UNIMPLEMENTED, INVALID),
    "two messages": (ALLOWED, ALLOWED),
    "half of a second prefix": (ALLOWED, ALLOWED),
    "half of a second message": (ALLOWED, ALLOWED),
    "a prefix that is too long": (INVALID, INVALID),
    "a prefix that is too short": (INVALID, INVALID),
    "a prefix above the limit": (EXHAUSTED, EXHAUSTED),
    "the longest prefix": (EXHAUSTED, EXHAUSTED),
    "half of a prefix": (INVALID, INVALID),
    "nothing": (INVALID, INVALID),
    "no frame": (INVALID, INVALID),
    "an empty message": (INVALID, INVALID),
    "no message of that type": (INVALID, INVALID),
    "zeros": (INVALID, INVALID),
}


def _body(name: str, request: bytes) -> bytes | None:
    n = len(request) - 5
    made: dict[str, bytes | None] = {
        "flag 1": b"\1" + request[1:],
        "flag 2": b"\2" + request[1:],
        "two messages": request + request,
        "half of a second prefix": request + b"\0\0",
        "half of a second message": request + request[:20],
        "a prefix that is too long": b"\0" + (n + 1).to_bytes(4, "big") + request[5:],
        "a prefix that is too short": b"\0" + (n - 1).to_bytes(4, "big") + request[5:],
        "a prefix above the limit": b"\0" + ((12 << 20) + 1).to_bytes(4, "big") + request[5:],
        "the longest prefix": b"\0\xff\xff\xff\xff" + request[5:],
        "half of a prefix": b"\0\0",
        "nothing": b"",
        "no frame": None,
        "an empty message": bytes(5),
        "no message of that type": h2.message(b"\xff" * 50),
        "zeros": bytes(1_000),
    }
    return made[name]


@pytest.mark.parametrize("name", BODIES)
def test_changed_bodies(name: str, worker: AttackedServer) -> None:
    """The first whole message counts, and only one that is not compressed."""
    assert outcome(worker, worker.entries(), _body(name, worker.request)) == BODIES[name][0]
