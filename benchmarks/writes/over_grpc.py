"""The same changes over gRPC: a server process, and callers on one event loop.

The server counts its fsyncs for itself, so they are counted from outside: LMDB numbers its commits.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.measure import NS_PER_US
from benchmarks.service.processes import Server
from benchmarks.service.server_home import Home
from benchmarks.state_setup import CEILING
from benchmarks.tokens import AUDIENCE, HOUR_MS, eight_scopes
from benchmarks.writes.change_kinds import END, OPEN_MINT, REVOKE, REVOKED_IN, WAIT_SECONDS
from benchmarks.writes.rounds import Drive
from sessauth.client import AsyncClient
from sessauth.state.lmdb.reader import StateReader


class Service:
    """Callers of a running server. Use it as an asynchronous context."""

    def __init__(self, home: Home, server: Server) -> None:
        """Call the server of ``home`` as its operators, each by a connection of its own."""
        self._server = server
        self._reader = StateReader.open(home.folder / "state")
        self._clients = [
            AsyncClient(
                home.target,
                credential=credential,
                timeout_ms=int(WAIT_SECONDS * 1000),
            )
            for credential in home.operators
        ]
        self._stack = AsyncExitStack()
        self._scopes = eight_scopes()
        self._revoked_in: Sequence[bytes] = ()

    async def __aenter__(self) -> Service:
        """Connect, and open the sessions to revoke in."""
        for client in self._clients:
            await self._stack.enter_async_context(client)
        self._revoked_in = await self._opened(REVOKED_IN)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        await self._stack.aclose()
        self._reader.close()

    def commits(self) -> int:
        """Return how often the state was committed since it was made."""
        transaction = self._reader.begin()
        try:
            return int(transaction.id())
        finally:
            transaction.abort()

    async def round(self, kind: str, callers: int, count: int) -> Drive:
        """Have ``callers`` make ``count`` changes of one kind, each the next when its last one is durable."""
        work = self._work(kind)
        items = iter(await self._prepare(kind, count))
        latencies: list[float] = []

        async def caller(number: int) -> None:
            client = self._clients[number % len(self._clients)]
            for item in items:
                started = time.perf_counter_ns()
                await work(client, item)
                latencies.append((time.perf_counter_ns() - started) / NS_PER_US)

        commits, cpu, begun = self.commits(), self._server.cpu_us(), time.perf_counter_ns()
        await asyncio.gather(*(caller(number) for number in range(callers)))
        wall = (time.perf_counter_ns() - begun) / NS_PER_US
        return Drive(count, wall, self.commits() - commits, latencies, self._server.cpu_us() - cpu)

    async def _opened(self, count: int) -> list[bytes]:
        sessions = await asyncio.gather(
            *(self._open(self._clients[number % len(self._clients)]) for number in range(count))
        )
        return list(sessions)

    async def _open(self, client: AsyncClient) -> bytes:
        session = await client.open_session(
            subject="agent-7", purpose="triage", ceiling=list(CEILING), ttl_ms=HOUR_MS
        )
        return session.id

    async def _prepare(self, kind: str, count: int) -> Sequence[Any]:
        if kind == OPEN_MINT:
            return [None] * count
        if kind == REVOKE:
            return [(self._revoked_in[number % REVOKED_IN], os.urandom(32)) for number in range(count)]
        opened: list[bytes] = []
        # No more at once than the server has places for.
        while len(opened) < count:
            opened += await self._opened(min(REVOKED_IN, count - len(opened)))
        return opened

    def _work(self, kind: str) -> Callable[[AsyncClient, Any], Awaitable[None]]:
        async def open_and_mint(client: AsyncClient, _: None) -> None:
            await client.mint(await self._open(client), self._scopes, [AUDIENCE], ttl_ms=HOUR_MS // 2)

        async def end(client: AsyncClient, session_id: bytes) -> None:
            await client.end(session_id)

        async def revoke(client: AsyncClient, item: tuple[bytes, bytes]) -> None:
            await client.revoke(item[0], [item[1]])

        each: Mapping[str, Callable[[AsyncClient, Any], Awaitable[None]]] = {
            OPEN_MINT: open_and_mint,
            END: end,
            REVOKE: revoke,
        }
        return each[kind]
