"""Calls at moments that are drawn beforehand, whether or not earlier ones were answered.

A closed loop waits for a slow server and so asks it less: a stall of 100 ms costs it one slow call. Here each
call has its moment, and its latency is counted from that moment, so that the calls which had to wait behind a
stall are seen to have waited, and so is what this process itself was late.
"""

from __future__ import annotations

import gc
import random
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from benchmarks.service.h2load import HEADERS, PREFIX_BYTES, framed
from benchmarks.service.http2 import Answer, Connection
from benchmarks.service.load_spec import CALL_SECONDS, Call, Drive, LoadError

US: Final = 1e6
# From the decision to begin to the first call's moment, in seconds.
LEAD_SECONDS: Final = 0.002


def schedule(count: int, per_second: float, seed: int) -> list[float]:
    """Return ``count`` moments in seconds from the beginning: callers that know nothing of each other.

    The pauses are drawn from an exponential distribution. The same seed gives the same moments.
    """
    source = random.Random(seed)
    moments, at = [], 0.0
    for _ in range(count):
        at += source.expovariate(per_second)
        moments.append(at)
    return moments


class Wire(Protocol):
    """Connection that calls are sent over."""

    def send(self, number: int) -> None:
        """Send call ``number``; never waits."""
        ...

    def wait(self, seconds: float) -> list[int]:
        """Wait at most so long; returns the calls that were answered."""
        ...


@dataclass(frozen=True)
class Paced:
    """Times of the answers and of the sends, in us from each call's moment; and the wall time in us."""

    latencies_us: list[float]
    late_us: list[float]
    wall_us: float


def pace(moments: Sequence[float], wire: Wire, clock: Callable[[], float] = time.perf_counter) -> Paced:
    """Send each call at its moment, or as soon after it as can be. Raises LoadError if answers stay away."""
    count = len(moments)
    latencies, late = [0.0] * count, [0.0] * count
    start = clock() + LEAD_SECONDS
    sent = answered = 0
    last = start
    while answered < count:
        while sent < count and start + moments[sent] <= (now := clock()):
            late[sent] = (now - start - moments[sent]) * US
            wire.send(sent)
            sent, last = sent + 1, now
        until = start + moments[sent] if sent < count else last + CALL_SECONDS
        done = wire.wait(max(0.0, until - clock()))
        if done:
            last = clock()
            for number in done:
                latencies[number] = (last - start - moments[number]) * US
            answered += len(done)
        elif sent == count and clock() >= until:
            raise LoadError(f"{count - answered} calls without an answer")
    return Paced(latencies, late, (last - start - moments[0]) * US)


class Connections:
    """Calls in turn over several connections; keeps the answers."""

    def __init__(self, opened: Sequence[Connection], bodies: Sequence[bytes]) -> None:
        """Send ``bodies`` in turn."""
        self._opened = opened
        self._bodies = bodies
        self.answers: dict[int, Answer] = {}

    def send(self, number: int) -> None:
        """Send call ``number`` over its connection."""
        body = self._bodies[number % len(self._bodies)]
        self._opened[number % len(self._opened)].send(number, body)

    def wait(self, seconds: float) -> list[int]:
        """Wait at most so long, with the precision of select; returns the calls that were answered."""
        by_socket = {connection.socket: connection for connection in self._opened}
        blocked = [connection.socket for connection in self._opened if connection.blocked]
        readable, writable, _ = select.select(by_socket, blocked, (), seconds)
        for each in writable:
            by_socket[each].flush()
        done = [item for each in readable for item in by_socket[each].receive()]
        self.answers.update(done)
        return [number for number, _ in done]


class OpenLoop:
    """Drives calls of one kind at a given rate over connections that stay open."""

    def __init__(self, call: Call, connections: int) -> None:
        """Connect. The first target must be a Unix socket. Raises OSError or LoadError."""
        kind, _, path = call.targets[0].address.partition(":")
        if kind != "unix":
            raise LoadError(f"{call.targets[0].address}: calls on a schedule go to a Unix socket")
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", call.method),
            (":authority", "localhost"),
        ]
        for header in HEADERS:
            name, _, value = header.partition(": ")
            headers.append((name, value))
        if call.credential:
            headers.append(("authorization", f"Bearer {call.credential}"))
        self._call = call
        self._bodies = [framed(request) for request in call.requests]
        self._connections = [Connection(path, headers) for _ in range(connections)]

    def close(self) -> None:
        """Disconnect."""
        for connection in self._connections:
            connection.close()

    def drive(self, moments: Sequence[float]) -> Drive:
        """Make the calls and hold every answer. Raises WrongDecision and LoadError.

        What the server refused because it was too busy has no latency, and is counted.
        """
        wire = Connections(self._connections, self._bodies)
        enabled = gc.isenabled()
        gc.disable()
        cpu = self._call.server.cpu_us()
        try:
            paced = pace(moments, wire)
        finally:
            if enabled:
                gc.enable()
        cpu = self._call.server.cpu_us() - cpu
        answered = sorted(
            number for number, answer in wire.answers.items() if answer.body and not answer.reset
        )
        self._call.require([bytes(wire.answers[number].body[PREFIX_BYTES:]) for number in answered])
        return Drive(
            calls=len(answered),
            wall_us=paced.wall_us,
            cpu_us=cpu,
            latencies_us=[paced.latencies_us[number] for number in answered],
            refused=len(moments) - len(answered),
            late_us=tuple(paced.late_us),
        )
