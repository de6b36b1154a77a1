"""Calls by grpc's own clients: single ones, whose answers are held, and streams in closed loops.

The streams' client takes a large part of a core for itself, so the server's own CPU time per call stands
beside calls per second.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from itertools import cycle, islice
from types import TracebackType
from typing import Self

import grpc
from grpc import aio

from benchmarks.service.load_spec import CALL_SECONDS, DRIVE_SECONDS, Call, Drive, Load, LoadError, Target

OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 1 << 24))


def answer(call: Call, *, streaming: bool = False) -> bytes:
    """Make one call, or send one message of a stream, and return its answer. Raises WrongDecision."""
    request, headers = call.requests[0], metadata(call)
    with channel(call.targets[0]) as opened:
        if streaming:
            open_stream = opened.stream_stream(call.method, None, None)
            answers = open_stream(iter([request]), timeout=CALL_SECONDS, metadata=headers)
            made: bytes = next(iter(answers))
        else:
            ask = opened.unary_unary(call.method, None, None)
            made = ask(request, timeout=CALL_SECONDS, metadata=headers)
    call.require([made])
    return made


def channel(target: Target) -> grpc.Channel:
    """Return a channel of its own connection."""
    if target.certificate is None:
        return grpc.insecure_channel(target.address, OPTIONS)
    files = () if target.client is None else (target.client.private_key, target.client.certificate)
    credentials = grpc.ssl_channel_credentials(
        target.certificate.read_bytes(), *(file.read_bytes() for file in files)
    )
    return grpc.secure_channel(target.address, credentials, OPTIONS)


def metadata(call: Call) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call."""
    return (("authorization", f"Bearer {call.credential}"),) if call.credential else ()


class StreamDriver:
    """Drives bidirectional streams over channels that stay open between drives. Use it as a context."""

    def __init__(self) -> None:
        """Prepare; channels are opened by the first drive of a call."""
        self._runner = asyncio.Runner()
        self._opened: dict[tuple[str, tuple[Target, ...], Load], list[aio.Channel]] = {}

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
        opened = [channel for channels in self._opened.values() for channel in channels]
        await asyncio.gather(*(channel.close(None) for channel in opened))

    def drive(self, call: Call, load: Load, count: int) -> Drive:
        """Send ``count`` messages and hold every answer."""
        return self._runner.run(self._drive(call, load, count))

    async def _drive(self, call: Call, load: Load, count: int) -> Drive:
        key = (call.method, call.targets, load)
        if key not in self._opened:
            targets = islice(cycle(call.targets), load.connections)
            self._opened[key] = [aio.insecure_channel(target.address, options=OPTIONS) for target in targets]
            ready = asyncio.gather(*(channel.channel_ready() for channel in self._opened[key]))
            await asyncio.wait_for(ready, CALL_SECONDS)
        latencies: list[float] = []
        answers: list[bytes] = []
        requests = islice(cycle(call.requests), count)
        loops = [
            _stream(channel, call, requests, load.streams, latencies, answers)
            for channel in self._opened[key]
        ]
        cpu, started = call.server.cpu_us(), time.perf_counter_ns()
        await asyncio.wait_for(asyncio.gather(*loops), DRIVE_SECONDS)
        wall = (time.perf_counter_ns() - started) / 1000
        cpu = call.server.cpu_us() - cpu
        call.require(answers)
        return Drive(len(answers), wall, cpu, latencies)


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
    stream = open_stream(None, timeout=DRIVE_SECONDS, metadata=metadata(call))
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
