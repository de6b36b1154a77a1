"""A closed-loop load generator: so many calls, so many in flight, on channels that stay open.

It shares the machine with the server, so beside calls per second the server's own CPU time is taken.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from grpc import aio

from benchmarks.service.processes import Server

CALL_SECONDS = 10.0
DRIVE_SECONDS = 120.0


@dataclass(frozen=True)
class Drive:
    """What one drive came to: wall time and server CPU time in us, latencies in us, and the answers."""

    wall_us: float
    cpu_us: float
    latencies_us: list[float]
    answers: list[bytes]


class Driver:
    """Calls one method of one server over channels of its own. Use it as an asynchronous context."""

    def __init__(
        self, server: Server, method: str, *, channels: int, streams: int, credential: str = ""
    ) -> None:
        """Prepare ``channels`` connections with ``streams`` calls in flight on each."""
        self._server = server
        self._metadata = (("authorization", f"Bearer {credential}"),) if credential else ()
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 1 << 24))
        self._channels = [aio.insecure_channel(server.target, options=options) for _ in range(channels)]
        self._calls = [channel.unary_unary(method, None, None) for channel in self._channels]
        self._streams = streams

    async def __aenter__(self) -> Self:
        """Connect."""
        await asyncio.wait_for(
            asyncio.gather(*(channel.channel_ready() for channel in self._channels)), CALL_SECONDS
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        await asyncio.gather(*(channel.close(None) for channel in self._channels))

    async def drive(self, requests: Sequence[bytes]) -> Drive:
        """Make one call for each request. Raises grpc's error for a call that is not answered."""
        waiting = iter(requests)
        latencies: list[float] = []
        answers: list[bytes] = []

        async def one(call: aio.UnaryUnaryMultiCallable[bytes, bytes]) -> None:
            for request in waiting:
                started = time.perf_counter_ns()
                answer = await call(request, timeout=CALL_SECONDS, metadata=self._metadata)
                latencies.append((time.perf_counter_ns() - started) / 1000)
                answers.append(answer)

        cpu, started = self._server.cpu_us(), time.perf_counter_ns()
        await asyncio.wait_for(
            asyncio.gather(*(one(call) for call in self._calls for _ in range(self._streams))), DRIVE_SECONDS
        )
        wall = (time.perf_counter_ns() - started) / 1000
        return Drive(wall, self._server.cpu_us() - cpu, latencies, answers)
