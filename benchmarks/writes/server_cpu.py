"""The server's CPU time of a session's life over gRPC, against empty echoes of grpcio in the same rounds.

Half of the scope texts that are minted were never seen before: agents' scopes often name an id, so a cache by
text would flatter.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from grpc import aio

from benchmarks.measure import Measurement
from benchmarks.service import grpcio_echo
from benchmarks.service.processes import PYTHON, Server, running
from benchmarks.service.server_home import Home
from benchmarks.state_setup import CEILING
from benchmarks.tokens import AUDIENCE, HOUR_MS, eight_scopes
from benchmarks.writes.change_kinds import WAIT_SECONDS
from sessauth.client import AsyncClient

OPEN_MINT: Final = "writes/open-mint-cpu"
AT_ONCE: Final = "writes/open-with-token-cpu"
END: Final = "writes/end-cpu"
REVOKE: Final = "writes/revoke-cpu"
ECHO: Final = "floor/echo-call-cpu"
TWO_ECHOES: Final = "floor/two-echo-calls-cpu"
OPEN: Final = "writes/open-cpu"
ROWS: Final = {OPEN: ECHO, OPEN_MINT: TWO_ECHOES, AT_ONCE: OPEN, REVOKE: ECHO, END: ECHO}
ROUNDS: Final = {True: 15, False: 11}
CALLS: Final = {True: 128, False: 512}
CALLERS: Final = 16
ECHO_BYTES: Final = 100

Work = Callable[[int, Any], Awaitable[Any]]


def measurements(folder: Path, *, quick: bool, only: str = "") -> Iterator[Measurement]:
    """Yield the rows whose names hold ``only``."""
    if not any(only in name for name in ROWS):
        return
    home = Home.make(folder / "home-server-cpu")
    environment = {
        "SESSAUTH_HOME": str(home.folder),
        "SESSAUTH_SERVER_LOG_LEVEL": "WARNING",
        "SESSAUTH_SERVER_WORKERS": "0",
    }
    command = [*PYTHON, "-m", "sessauth.cli.main", "serve"]
    socket = folder / "echo-cpu.sock"
    echo_command = [*PYTHON, "-m", "benchmarks.service.grpcio_echo", "--socket", str(socket)]
    with (
        running(command, home.target, folder / "server-cpu.log", environment) as server,
        running(echo_command, f"unix:{socket}", folder / "echo-cpu.log") as echo,
    ):
        rounds = asyncio.run(_rounds(home, server, echo, ROUNDS[quick], CALLS[quick]))
    floors = {
        ECHO: [each["echo"] for each in rounds],
        TWO_ECHOES: [2 * each["echo"] for each in rounds],
        OPEN: [each["open"] for each in rounds],
    }
    ours = {
        OPEN: floors[OPEN],
        OPEN_MINT: [each["open"] + each["mint"] for each in rounds],
        AT_ONCE: [each["at-once"] for each in rounds],
        REVOKE: [each["revoke"] for each in rounds],
        END: [each["end"] for each in rounds],
    }
    for name, floor in ROWS.items():
        if only in name:
            yield Measurement(name, floor, tuple(ours[name]), tuple(floors[floor]))


async def _rounds(
    home: Home, server: Server, echo: Server, rounds: int, calls: int
) -> list[dict[str, float]]:
    """Return the CPU time of a call in us by kind, round by round; the first round is not counted."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                AsyncClient(home.target, credential=each, timeout_ms=int(WAIT_SECONDS * 1000))
            )
            for each in home.operators
        ]
        channels = [
            await stack.enter_async_context(
                aio.insecure_channel(echo.target, options=(("grpc.use_local_subchannel_pool", 1),))
            )
            for _ in clients
        ]
        method = grpcio_echo.unary(ECHO_BYTES)
        asks = [channel.unary_unary(method) for channel in channels]
        numbers = itertools.count()
        opened: list[bytes] = []
        terms: Any = {
            "subject": "agent-7", "purpose": "triage", "ceiling": list(CEILING), "ttl_ms": HOUR_MS
        }  # fmt: skip

        async def ask(caller: int, _: Any) -> None:
            await asks[caller % len(asks)](bytes(ECHO_BYTES), timeout=WAIT_SECONDS)

        async def open_session(caller: int, _: Any) -> None:
            opened.append((await clients[caller % len(clients)].open_session(**terms)).id)

        async def open_with_token(caller: int, _: Any) -> None:
            client = clients[caller % len(clients)]
            await client.open_and_mint(
                _scopes(next(numbers)), [AUDIENCE], mint={"ttl_ms": HOUR_MS // 2}, **terms
            )

        async def mint(caller: int, session_id: bytes) -> None:
            client = clients[caller % len(clients)]
            await client.mint(session_id, _scopes(next(numbers)), [AUDIENCE], ttl_ms=HOUR_MS // 2)

        async def revoke(caller: int, session_id: bytes) -> None:
            await clients[caller % len(clients)].revoke(session_id, [os.urandom(32)])

        async def end(caller: int, session_id: bytes) -> None:
            await clients[caller % len(clients)].end(session_id)

        found = []
        for _ in range(1 + rounds):
            opened.clear()
            nothing = [None] * calls
            found.append(
                {
                    "echo": await _drive(echo, ask, nothing),
                    "open": await _drive(server, open_session, nothing),
                    "mint": await _drive(server, mint, opened),
                    "at-once": await _drive(server, open_with_token, nothing),
                    "revoke": await _drive(server, revoke, opened),
                    "end": await _drive(server, end, opened),
                }
            )
        return found[1:]


async def _drive(server: Server, work: Work, items: Sequence[Any]) -> float:
    """Have callers work off ``items``; return the server's CPU time of one in us."""
    waiting = iter(list(items))

    async def caller(number: int) -> None:
        for item in waiting:
            await work(number, item)

    before = server.cpu_us()
    await asyncio.gather(*map(caller, range(CALLERS)))
    return (server.cpu_us() - before) / len(items)


def _scopes(number: int) -> list[str]:
    """Return eight scopes, of which every second names something that no one named before."""
    texts = list(map(str, eight_scopes()))
    return [
        text.replace(":", f":mcp/case-{number}-{index}/", 1) if index % 2 else text
        for index, text in enumerate(texts)
    ]
