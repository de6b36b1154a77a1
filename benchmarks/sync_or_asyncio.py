"""Compare grpc's sync and asyncio servers on an empty echo over a Unix socket.

Prints calls per second and, since the client may be what is slow on a small machine, the server's
own CPU per call, as paired rounds (A B A B). Evidence for docs/decisions/0001-sync-or-asyncio.md.

    python benchmarks/sync_or_asyncio.py [--rounds 5] [--seconds 1.5] [--payload 400]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc import aio

METHOD = "/echo.Echo/Call"


def _handlers(function: object) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        "echo.Echo", {"Call": grpc.unary_unary_rpc_method_handler(function)}
    )


def _serve_sync(address: str) -> None:
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((_handlers(lambda request, context: request),))
    server.add_insecure_port(address)
    server.start()
    sys.stdin.readline()
    server.stop(0)


async def _serve_asyncio(address: str) -> None:
    async def echo(request: bytes, context: object) -> bytes:
        return request

    server = aio.server()
    server.add_generic_rpc_handlers((_handlers(echo),))
    server.add_insecure_port(address)
    await server.start()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await server.stop(0)


def _serve(kind: str, address: str) -> None:
    """Serve until a line arrives on stdin, then print the CPU seconds this process used since ready."""
    before = time.process_time()
    if kind == "sync":
        _serve_sync(address)
    elif kind == "asyncio":
        asyncio.run(_serve_asyncio(address))
    else:
        import uvloop

        uvloop.run(_serve_asyncio(address))
    print(json.dumps({"cpu": time.process_time() - before}))


async def _drive(address: str, seconds: float, payload: bytes, channels: int, streams: int) -> int:
    calls = 0
    end = time.monotonic() + seconds

    async def one(channel: aio.Channel) -> None:
        nonlocal calls
        call = channel.unary_unary(METHOD)
        while time.monotonic() < end:
            answer = await call(payload, timeout=5)
            assert answer == payload
            calls += 1

    async with contextlib.AsyncExitStack() as stack:
        options = (("grpc.use_local_subchannel_pool", 1),)
        opened = [
            await stack.enter_async_context(aio.insecure_channel(address, options=options))
            for _ in range(channels)
        ]
        for channel in opened:
            await asyncio.wait_for(channel.channel_ready(), 5)
        await asyncio.gather(*(one(channel) for channel in opened for _ in range(streams)))
    return calls


def _round(kind: str, seconds: float, payload: bytes, channels: int, streams: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix:{folder}/echo.sock"
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve", kind, address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        while not Path(folder, "echo.sock").exists():
            time.sleep(0.02)
        started = time.monotonic()
        calls = asyncio.run(_drive(address, seconds, payload, channels, streams))
        elapsed = time.monotonic() - started
        answer, _ = server.communicate("stop\n", timeout=20)
    return calls / elapsed, 1e6 * json.loads(answer)["cpu"] / calls


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs=2, metavar=("KIND", "ADDRESS"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--payload", type=int, default=400)
    arguments = parser.parse_args()
    if arguments.serve:
        _serve(*arguments.serve)
        return
    kinds = ["sync", "asyncio"]
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: F401

        kinds.append("uvloop")
    payload = os.urandom(arguments.payload)
    for channels, streams in ((1, 1), (4, 8)):
        results: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for _ in range(arguments.rounds):
            for kind in kinds:
                results[kind].append(_round(kind, arguments.seconds, payload, channels, streams))
        print(f"{channels} channels x {streams} calls in flight, {arguments.payload} bytes")
        for kind, rows in results.items():
            rate = statistics.median(row[0] for row in rows)
            cpu = statistics.median(row[1] for row in rows)
            print(f"  {kind:8} {rate:8.0f} calls/s   server CPU {cpu:6.0f} us/call")


if __name__ == "__main__":
    main()
