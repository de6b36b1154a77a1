"""The rows of MCP: the median time of a tool's call by the SDK's own client, in process and over HTTP."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.envoy.gateway import token_of
from benchmarks.host_info import ROOT
from benchmarks.mcp.server import TOOL, server
from benchmarks.measure import Measurement, not_measured, singles
from benchmarks.service.processes import PYTHON, READY_SECONDS, running
from benchmarks.service.server_home import Home
from benchmarks.workloads import WrongDecision

WAYS: Final = ("in-process", "http")
ROWS: Final = {f"mcp/{way}": f"floor/mcp-{way}" for way in WAYS}
ARGUMENTS: Final = {"owner": "acme", "repo": "web", "per_page": 50}
ANSWER: Final = "acme/web: 50 issues"
VERSION: Final = "2026-07-28"
# Rounds, and calls of each.
QUICK: Final = (7, 100)
FULL: Final = (21, 300)
NOT_INSTALLED: Final = "the MCP SDK is not installed (the extra mcp)"

# Times of calls in us, by way and whether a guard judged them.
Times = defaultdict[tuple[str, bool], list[list[float]]]


def measurements(folder: Path, *, quick: bool, only: str = "") -> Iterator[Measurement]:
    """Run servers with and without a guard, call them in turns, and yield the rows that hold ``only``."""
    wanted = [name for name in ROWS if only in name]
    if not wanted:
        return
    if find_spec("mcp") is None:
        yield from (not_measured(name, ROWS[name], NOT_INSTALLED) for name in wanted)
        return
    own = folder / "mcp"
    own.mkdir()
    home = Home.make(own / "home")
    serve = [*PYTHON, "-m", "sessauth.cli.main", "serve"]
    environment = {"SESSAUTH_HOME": str(home.folder)}
    times: Times = defaultdict(list)
    with ExitStack() as stack:
        stack.enter_context(running(serve, home.target, own / "server.log", environment))
        urls = {guarded: stack.enter_context(_served(home, own, guarded)) for guarded in (False, True)}
        asyncio.run(_call(home, urls, times, *(QUICK if quick else FULL)))
    for name in wanted:
        way = name.removeprefix("mcp/")
        ours, floor = times[way, True], times[way, False]
        measured = Measurement(
            name=name,
            floor=ROWS[name],
            rounds=tuple(map(median, ours)),
            floor_rounds=tuple(map(median, floor)),
        )
        yield replace(measured, **singles([us for each in ours for us in each]))


async def _call(home: Home, urls: dict[bool, str], times: Times, rounds: int, count: int) -> None:
    """Call each server in turns. Raises WrongDecision unless each call has its answer."""
    async with AsyncExitStack() as stack:
        clients = {}
        for guarded in (False, True):
            for way in WAYS:
                transport = await _transport(stack, home, urls[guarded], way, guarded)
                clients[way, guarded] = await stack.enter_async_context(_client(transport))
        for number in range(rounds + 1):
            for place, client in clients.items():
                taken = []
                for _ in range(count):
                    start = time.perf_counter_ns()
                    result = await client.call_tool(TOOL, ARGUMENTS)
                    taken.append((time.perf_counter_ns() - start) / 1000)
                    if result.content[0].text != ANSWER:
                        raise WrongDecision(f"mcp: {result.content[0].text}")
                # The first round warms up.
                if number:
                    times[place].append(taken)


def _client(transport: Any) -> Any:
    from mcp import Client

    return Client(transport, mode=VERSION)


async def _transport(stack: AsyncExitStack, home: Home, url: str, way: str, guarded: bool) -> Any:
    import httpx2
    from mcp.client._memory import InMemoryTransport
    from mcp.client.streamable_http import streamable_http_client

    from sessauth.guard.mcp_client import SessauthAuth, authorized
    from sessauth.guard.mcp_terms import Credentials

    credentials = Credentials(token_of(home))
    if way == "in-process":
        transport: Any = InMemoryTransport(server(home.folder / "state" if guarded else None))
        return authorized(transport, credentials) if guarded else transport
    auth = SessauthAuth(credentials, origin=url) if guarded else None
    http = await stack.enter_async_context(httpx2.AsyncClient(auth=auth))
    return streamable_http_client(url, http_client=http)


@contextmanager
def _served(home: Home, folder: Path, guarded: bool) -> Iterator[str]:
    """Run a server in a process of its own, and give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*PYTHON, "-m", "benchmarks.mcp.server", "--port", str(port)]
    command += ["--state", str(home.folder / "state")] if guarded else []
    with (folder / f"mcp-{guarded}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError((folder / f"mcp-{guarded}.log").read_text())
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()
