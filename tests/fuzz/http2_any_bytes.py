"""Any bytes on a connection: the loop lives on, and allows only what the oracle allows.

A loop that answers checks directly serves sessions of ``http2_sessions`` over Unix sockets, some in TLS.
Threads answer, end and cancel the other calls meanwhile. Run by hand for a number of seconds, from a seed:

    python -m tests.fuzz.http2_any_bytes --seconds 60 --seed 1
"""

from __future__ import annotations

import argparse
import queue
import random
import ssl
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any, Final

from google.protobuf.message import DecodeError

from sessauth._fast._http2 import NativeCall
from sessauth.v1 import authorization_service_pb2 as pb
from tests.fuzz.check_any_bytes import changed
from tests.fuzz.http2_sessions import BATCH, CHECK, GOOD, OTHER, UNKNOWN, Material, session
from tests.fuzz.http2_world import Broken, Injected, World, tokens
from tests.support.http2_calls import call, frames, request_fields
from tests.support.http2_frames import DATA, PREFACE, message
from tests.support.http2_loop import LoopFixture, RawClient
from tests.support.tls_pair import PLAIN, client_settings

PATIENCE_S: Final = 20.0
_LIMITS: Final = {"max_message": 1 << 12, "max_headers": 1 << 11}
_SETTINGS: Final = client_settings()


class Workers:
    """Threads that receive, answer, end, cancel and forget calls, in any order."""

    def __init__(self, seed: str, count: int) -> None:
        """Start them."""
        self.calls: queue.SimpleQueue[NativeCall | None] = queue.SimpleQueue()
        self.found: Counter[str] = Counter()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(f"{seed} {i}"),), daemon=True)
            for i in range(count)
        ]
        for each in self._threads:
            each.start()

    def stop(self) -> None:
        """Let each end."""
        for _ in self._threads:
            self.calls.put(None)
        for each in self._threads:
            each.join()

    def _run(self, rng: random.Random) -> None:
        held: list[NativeCall] = []
        while (call_ := self.calls.get()) is not None:
            held.append(call_)
            for _ in range(rng.choice((0, 1, 3))):
                act(rng, rng.choice(held), self.found)
            if len(held) > 8 or rng.random() < 0.3:
                del held[rng.randrange(len(held))]
        for call_ in held:
            act(rng, call_, self.found)


def act(rng: random.Random, call_: NativeCall, found: Counter[str]) -> None:
    """Do one thing to a call; its callbacks raise now and then, or do another thing."""

    def called_back(*_: object) -> None:
        turn = rng.random()
        if turn < 0.05:
            raise Injected
        if turn < 0.3:
            act(rng, call_, found)

    kind = rng.choice(("receive", "receive", "answer", "send", "send", "end", "cancel", "look"))
    found[kind] += 1
    if kind == "receive":
        call_.receive(called_back)
    elif kind == "answer":
        call_.answer(bytes(rng.choice((0, 5, 70_000))))
    elif kind == "send":
        call_.send(bytes(rng.choice((0, 5, 20_000))), called_back)
    elif kind == "end":
        call_.end(rng.choice((0, 5, 13)), rng.choice(("", "é%\n" * 9)), rng.choice((None, b"", bytes(50))))
    elif kind == "cancel":
        call_.cancel()
    else:
        _ = call_.peer(), call_.certificate_facts(), call_.metadata, call_.method, call_.deadline
        call_.notice_end(called_back)


class Client:
    """A client of a session, in TLS or without. What it sends in TLS is changed before or behind it."""

    def __init__(self, rng: random.Random, fixture: LoopFixture, *, tls: bool) -> None:
        """Connect."""
        self.raw = RawClient(fixture.path, b"")
        self._rng, self._loop = rng, fixture.loop
        self._tls: ssl.SSLObject | None = None
        self._breaks = False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._taken = 0
        self._plain = bytearray()
        if tls:
            self._tls = _SETTINGS.wrap_bio(self._incoming, self._outgoing)
            self._breaks = rng.random() < 0.2
            for _ in range(5):
                with suppress(ssl.SSLError):
                    self._tls.do_handshake()
                self._flush()
                self._loop.poll(1e-6)
                self._take()

    def send(self, data: bytes) -> None:
        """Send a piece as far as the socket takes it."""
        if self._tls is None:
            self.raw.send(data)
            return
        with suppress(ssl.SSLError):
            self._tls.write(data)
        self._flush()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if self._breaks and data and self._rng.random() < 0.2:
            data = changed(self._rng, data)
        self.raw.send(data)

    def _take(self) -> None:
        self.raw.read()
        self._incoming.write(bytes(self.raw.received[self._taken :]))
        self._taken = len(self.raw.received)

    def received(self) -> bytes:
        """Return all that has come."""
        if self._tls is None:
            self.raw.read()
            return bytes(self.raw.received)
        self._take()
        with suppress(ssl.SSLError):
            while piece := self._tls.read(1 << 16):
                self._plain += piece
        return bytes(self._plain)


def serve(
    rng: random.Random, fixture: LoopFixture, world: World, found: Counter[str], *, tls: bool
) -> Client:
    """Let a client send a session while the loop polls; the connection stays."""
    knows = rng.random() < 0.7
    material = Material(tokens(), (GOOD, OTHER, UNKNOWN) if knows else (UNKNOWN, OTHER))
    pieces, sort = session(rng, material)
    client = Client(rng, fixture, tls=tls)
    for piece in pieces:
        client.send(piece)
        for kind in _kinds_of(piece):
            found[f"frame {kind}" if kind < 10 else "frame of another type"] += 1
        if rng.random() < 0.9 or len(pieces) > 99:
            fixture.loop.poll(1e-6)
    for _ in range(3):
        fixture.loop.poll(1e-6)
    found[f"session {sort}{' tls' if tls else ''}"] += 1
    allowed = sum(decision.allowed for decision in decisions(client.received()))
    if allowed and not knows:
        raise Broken("allowed without the credential of a caller for that audience")
    found["allows received"] += allowed
    return client


def _kinds_of(piece: bytes) -> list[int]:
    data = piece.removeprefix(PREFACE)
    return [kind for kind, _, _, _ in frames(data)]


def decisions(data: bytes) -> list[Any]:
    """Return the decisions in what a client received."""
    bodies: dict[int, bytes] = {}
    for kind, _, stream, payload in frames(data):
        if kind == DATA:
            bodies[stream] = bodies.get(stream, b"") + payload
    out: list[Any] = []
    for body in bodies.values():
        with suppress(DecodeError):
            out.append(pb.CheckResponse.FromString(body[5:]).decision)
    return out


def good_client(fixture: LoopFixture, stream: int = 1) -> None:
    """Require that the loop allows a good call still. Raises Broken."""
    item = pb.CheckItem(token=tokens()[0], action=b"read", resource=b"files/a")
    sent = call(stream, request_fields(CHECK, GOOD), message(pb.CheckRequest(item=item).SerializeToString()))
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        # A callback may raise instead, which accepts the call.
        client = RawClient(fixture.path)
        client.send(*sent)
        for _ in range(40):
            fixture.loop.poll(0.001)
            client.read()
            if any(decision.allowed for decision in decisions(bytes(client.received))):
                client.close()
                return
        client.close()
    raise Broken("a good client gets no answer")


def play(seed: int, rounds: int) -> Counter[str]:
    """Serve so many sessions on one loop, then end it. Raises Broken."""
    rng = random.Random(seed)
    world = World(rng)
    found: Counter[str] = Counter()
    workers = Workers(f"{seed}", 2)
    tls = rng.random() < 0.25

    def accept(call_: NativeCall) -> None:
        if rng.random() < 0.02:
            raise Injected
        if rng.random() < 0.2:
            act(rng, call_, found)
        workers.calls.put(call_)

    fixture = LoopFixture(
        accept,
        tls=(lambda: PLAIN) if tls else None,
        direct=world,
        direct_paths=(CHECK, BATCH),
        certificate_facts=lambda _: {},
        **_LIMITS,
    )
    open_clients: list[Client] = []
    try:
        for _ in range(rounds):
            open_clients.append(serve(rng, fixture, world, found, tls=tls))
            while len(open_clients) > rng.choice((0, 3, 9)):
                open_clients.pop(rng.randrange(len(open_clients))).raw.close()
            found += world.hold()
        if not tls:
            good_client(fixture)
        found += world.hold()
        found["direct answers"] += fixture.loop.answered
        for client in open_clients[::2]:
            client.raw.close()
        ends_rudely = rng.random() < 0.5
        if not ends_rudely:
            fixture.loop.stop()
            fixture.turn(3)
    finally:
        workers_end = threading.Thread(target=workers.stop)
        workers_end.start()
        fixture.close()
        workers_end.join()
        fixture.turn(2)
        for client in open_clients:
            client.raw.close()
    if fixture.loop.connections:
        raise Broken(f"{fixture.loop.connections} connections are left")
    if wrong := [error for error in fixture.faults if not isinstance(error, Injected)]:
        raise Broken(f"a fault: {wrong[0]!r}") from wrong[0]
    return found + workers.found


def run(seed: int, seconds: float, loops: int = sys.maxsize, sessions: int = 40) -> Counter[str]:
    """Play loops until the time is over, or so many. Raises Broken, which names the seed."""
    found: Counter[str] = Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until and found["loops"] < loops:
        try:
            found += play(seed, sessions)
        except Exception as error:
            raise Broken(f"seed {seed}, {sessions} sessions: {error!r}") from error
        found["loops"] += 1
        seed += 1
    return found


def main() -> int:
    """Run by hand; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    seed = options.seed
    while time.monotonic() < until:
        found = run(seed, min(30.0, until - time.monotonic()))
        sys.stdout.write(f"seed {seed}: {dict(sorted(found.items()))}\n")
        sys.stdout.flush()
        seed += found["loops"]
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
