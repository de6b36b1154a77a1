"""Closed loops in Python: an asyncio client of grpc, for where h2load is not there and for streams.

It takes a large part of a core for itself, so the server's own CPU time per call stands beside calls per
second.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from types import TracebackType
from typing import Self

import grpc
from grpc import aio

from benchmarks.service.load_spec import CALL_SECONDS, DRIVE_SECONDS, Call, Drive, Load, LoadError, Target

OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 1 << 24))


class _Opened:
    """The channels of one kind of call, which stay open between drives."""

    def __init__(self, call: Call, load: Load) -> None:
        self.channels = [_channel(target) for target in islice(cycle(call.targets), load.connections)]

    async def ready(self) -> None:
        """Connect."""
        await asyncio.wait_for(
            asyncio.gather(*(channel.channel_ready() for channel in self.channels)), CALL_SECONDS
        )


def _channel(target: Target) -> aio.Channel:
    if target.certificate is None:
        return aio.insecure_channel(target.address, options=OPTIONS)
    credentials = grpc.ssl_channel_credentials(target.certificate.read_bytes())
    return aio.secure_channel(target.address, credentials, options=OPTIONS)


class AsyncioDriver:
    """Drives unary calls, or with ``streams`` bidirectional ones. Use it as a context."""

    def __init__(self, *, streaming: bool = False) -> None:
        """Prepare; channels are opened by the first drive of a call."""
        self.name = "asyncio client, streams" if streaming else "asyncio client"
        self._streaming = streaming
        self._runner = asyncio.Runner()
        self._opened: dict[tuple[str, tuple[Target, ...], Load], _Opened] = {}

    def __enter__(self) -> Self:
        """Open the event loop."""
        self._runner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect and close the event loop."""
        self._runner.run(self._close())
        self._runner.__exit__(kind, error, trace)

    async def _close(self) -> None:
        opened = [channel for each in self._opened.values() for channel in each.channels]
        await asyncio.gather(*(channel.close(None) for channel in opened))

    def drive(self, call: Call, load: Load, count: int) -> Drive:
        """Make ``count`` calls, or messages of streams, and hold every answer."""
        return self._runner.run(self._drive(call, load, count))

    def answer(self, call: Call) -> bytes:
        """Make one call with the first request; returns its answer, which was held."""
        return self._runner.run(self._answer(call))

    async def _answer(self, call: Call) -> bytes:
        async with _channel(call.targets[0]) as channel:
            answers: list[bytes] = []
            one = iter(call.requests[:1])
            if self._streaming:
                await _stream(channel, call, one, 1, [], answers)
            else:
                await _unary(channel, call, one, [], answers)
            call.require(answers)
            return answers[0]

    async def _drive(self, call: Call, load: Load, count: int) -> Drive:
        key = (call.method, call.targets, load)
        if key not in self._opened:
            self._opened[key] = _Opened(call, load)
            await self._opened[key].ready()
        channels = self._opened[key].channels
        latencies: list[float] = []
        answers: list[bytes] = []
        requests = islice(cycle(call.requests), count)
        if self._streaming:
            loops = [
                _stream(channel, call, requests, load.streams, latencies, answers) for channel in channels
            ]
        else:
            loops = [
                _unary(channel, call, requests, latencies, answers)
                for channel in channels
                for _ in range(load.streams)
            ]
        cpu, started = call.server.cpu_us(), time.perf_counter_ns()
        await asyncio.wait_for(asyncio.gather(*loops), DRIVE_SECONDS)
        wall = (time.perf_counter_ns() - started) / 1000
        cpu = call.server.cpu_us() - cpu
        call.require(answers)
        return Drive(len(answers), wall, cpu, latencies)


def _metadata(call: Call) -> Sequence[tuple[str, str]]:
    return (("authorization", f"Bearer {call.credential}"),) if call.credential else ()


async def _unary(
    channel: aio.Channel, call: Call, requests: Iterator[bytes], latencies: list[float], answers: list[bytes]
) -> None:
    """Make calls one after the other, as long as there are requests."""
    ask = channel.unary_unary(call.method, None, None)
    metadata = _metadata(call)
    for request in requests:
        started = time.perf_counter_ns()
        answer = await ask(request, timeout=CALL_SECONDS, metadata=metadata)
        latencies.append((time.perf_counter_ns() - started) / 1000)
        answers.append(answer)


async def _stream(
    channel: aio.Channel,
    call: Call,
    requests: Iterator[bytes],
    inflight: int,
    latencies: list[float],
    answers: list[bytes],
) -> None:
    """Send messages over one stream, at most ``inflight`` without their answers, which come in order."""
    open_stream = channel.stream_stream(call.method, None, None)
    stream = open_stream(None, timeout=DRIVE_SECONDS, metadata=_metadata(call))
    sent: deque[int] = deque()
    for request in islice(requests, inflight):
        sent.append(time.perf_counter_ns())
        await stream.write(request)
    while sent:
        answer = await stream.read()
        if not isinstance(answer, bytes):
            raise LoadError(f"{call.method}: the stream ended too early")
        latencies.append((time.perf_counter_ns() - sent.popleft()) / 1000)
        answers.append(answer)
        for request in islice(requests, 1):
            sent.append(time.perf_counter_ns())
            await stream.write(request)
    await stream.done_writing()
    if isinstance(await stream.read(), bytes):
        raise LoadError(f"{call.method}: an answer that nobody asked for")
