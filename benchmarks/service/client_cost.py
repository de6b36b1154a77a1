"""The cost of both clients over a bare stub of grpc, at the same worker, in rounds that alternate.

    python -m benchmarks.service.client_cost

The stub sends bytes that were made before and returns the answer's bytes. The client's check takes its parts
and returns a decision. One call is under way at a time.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import grpc
from grpc import aio

from benchmarks.service import rows_table
from benchmarks.service.clients import AUTHORIZATION
from benchmarks.service.load_spec import CALL_SECONDS, Call
from benchmarks.service.processes import on_cores
from benchmarks.service.server_home import require_allowed
from benchmarks.service.servers import Cores, running_places
from benchmarks.workloads import WrongDecision
from sessauth.client import AsyncClient, Client, RemoteDecision
from sessauth.client._target import CHANNEL_OPTIONS
from sessauth.v1 import authorization_service_pb2 as pb

CALLS: Final = 300
ROUNDS: Final = 21
_OPTIONS: Final = list(CHANNEL_OPTIONS)
_TIMEOUT_MS: Final = int(CALL_SECONDS * 1000)


class Round(NamedTuple):
    """The median times of a call in one round, in us."""

    stub_us: float
    client_us: float


def blocking_rounds(call: Call, rounds: int = ROUNDS, count: int = CALLS) -> list[Round]:
    """Return rounds of grpc's stub and ``Client.check``, ``count`` calls each. Raises WrongDecision."""
    target = call.targets[0].address
    headers = _headers(call)
    with (
        grpc.insecure_channel(target, _OPTIONS) as channel,
        Client(target, call.credential, timeout_ms=_TIMEOUT_MS) as client,
    ):
        ask = channel.unary_unary(call.method)

        def by_stub(request: bytes) -> bytes:
            answer: bytes = ask(request, timeout=CALL_SECONDS, metadata=headers)
            return answer

        def by_client(item: pb.CheckItem) -> RemoteDecision:
            return client.check(item.token, item.action, item.resource, item.arguments)

        def round_of() -> Round:
            requests = list(islice(cycle(call.requests), count))
            answers, stub_us = _timed(by_stub, requests)
            decisions, client_us = _timed(by_client, _items(requests))
            _require(answers, decisions)
            return Round(stub_us, client_us)

        return [round_of() for _ in range(1 + rounds)][1:]


def asyncio_rounds(call: Call, rounds: int = ROUNDS, count: int = CALLS) -> list[Round]:
    """Return rounds of grpc.aio's stub and ``AsyncClient.check``, as :func:`blocking_rounds`."""
    return asyncio.run(_asyncio_rounds(call, rounds, count))


async def _asyncio_rounds(call: Call, rounds: int, count: int) -> list[Round]:
    target = call.targets[0].address
    headers = _headers(call)
    async with (
        aio.insecure_channel(target, options=_OPTIONS) as channel,
        AsyncClient(target, call.credential, timeout_ms=_TIMEOUT_MS) as client,
    ):
        ask = channel.unary_unary(call.method)

        async def by_stub(request: bytes) -> bytes:
            answer: bytes = await ask(request, timeout=CALL_SECONDS, metadata=headers)
            return answer

        async def by_client(item: pb.CheckItem) -> RemoteDecision:
            return await client.check(item.token, item.action, item.resource, item.arguments)

        async def round_of() -> Round:
            requests = list(islice(cycle(call.requests), count))
            answers, stub_us = await _timed_async(by_stub, requests)
            decisions, client_us = await _timed_async(by_client, _items(requests))
            _require(answers, decisions)
            return Round(stub_us, client_us)

        return [await round_of() for _ in range(1 + rounds)][1:]


def _headers(call: Call) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {call.credential}"),)


def _items(requests: Iterable[bytes]) -> list[pb.CheckItem]:
    return [pb.CheckRequest.FromString(each).item for each in requests]


def _timed(ask: Callable[[Any], Any], parts: Iterable[Any]) -> tuple[list[Any], float]:
    clock, answers, times = time.perf_counter_ns, [], []
    for part in parts:
        started = clock()
        answers.append(ask(part))
        times.append(clock() - started)
    return answers, median(times) / 1000


async def _timed_async(
    ask: Callable[[Any], Coroutine[Any, Any, Any]], parts: Iterable[Any]
) -> tuple[list[Any], float]:
    clock, answers, times = time.perf_counter_ns, [], []
    for part in parts:
        started = clock()
        answers.append(await ask(part))
        times.append(clock() - started)
    return answers, median(times) / 1000


def _require(answers: list[bytes], decisions: list[RemoteDecision]) -> None:
    require_allowed(answers)
    if not all(decisions):
        raise WrongDecision("a client's check was denied")


def main() -> None:
    """Print the medians of the rounds, and that of their ratios."""
    cores = Cores.of(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory(prefix="sa-") as folder,
        on_cores(cores.generator),
        running_places(Path(folder), {rows_table.WORKER}, cores) as places,
    ):
        place = places.found[rows_table.WORKER]
        call = Call(
            place.server, place.targets, AUTHORIZATION + "Check", place.requests.checks(), require_allowed,
            place.credential,
        )  # fmt: skip
        for name, rounds in (("Client", blocking_rounds(call)), ("AsyncClient", asyncio_rounds(call))):
            stub, client = (median(times) for times in zip(*rounds, strict=True))
            ratio = median(each.client_us / each.stub_us for each in rounds)
            print(f"{name:12} stub {stub:6.1f} us   client {client:6.1f} us   ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
