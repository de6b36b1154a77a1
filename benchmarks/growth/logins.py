"""An identity provider's statements at a host with many sessions: how soon they stop agents, and how many.

``python -m benchmarks.growth.logins 100000 10000`` prints the table of docs/how-to/capacity.md, for so many
other sessions and so many users with an agent each, in some three minutes. Statements go as a provider's do:
by HTTP to the program that carries them, and from there to the server. An ``End`` by id is the floor.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.growth.host import fill, row, seconds
from benchmarks.service.processes import PYTHON, Server, running
from benchmarks.service.server_home import Home
from benchmarks.stats import percentile
from sessauth.cli.demo.login_story import CEILING, GATEWAYS, CarrierConnection, DemoProvider, carrier
from sessauth.client import AsyncClient, Client
from sessauth.clock import SystemClock
from sessauth.state.lmdb import effective_status
from sessauth.state.lmdb.reader import StateReader
from sessauth.testing.local_service import toml_text
from sessauth.tokens.token import Token
from sessauth.verifier.verifier import Verifier

# Statements that are timed one by one, and ends for the floor.
SINGLY: Final = 200
_AT_ONCE: Final = 16
# Openings whose CPU is counted, of each kind: in turns, since a server works for itself too at times.
_TURNS: Final = 25
_A_TURN: Final = 20
_AUDIENCE: Final = "gateway"
_REVOKED: Final = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
_MS: Final = 1e3


def table(sessions: int, users: int) -> Iterator[str]:
    """Yield the rows as they are measured. Raises RuntimeError if another session ends, or one lives on."""
    provider = DemoProvider()
    with ExitStack() as opened:
        place = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="sa-bench-")))
        home = Home.make(place / "home")
        fill(home.folder / "state", sessions)
        settings = home.folder / "sessauth.toml"
        stated = toml_text([provider.settings(place / "corp.json")])
        settings.write_text(f"identity_providers = {stated}\n{settings.read_text()}")
        environment = {"SESSAUTH_HOME": str(home.folder), "SESSAUTH_SERVER_LOG_LEVEL": "ERROR"}
        serve = [*PYTHON, "-m", "sessauth.cli.main", "serve"]
        server = opened.enter_context(running(serve, home.target, place / "log", environment))
        client = opened.enter_context(Client(home.target, credential=home.operators[0]))
        statements = opened.enter_context(carrier(home.folder))
        yield row("CPU of an opening", _costs(server, home, provider))
        numbers = iter(range(users))
        begin = time.perf_counter()
        held = asyncio.run(_open(home, provider, users))
        yield row(
            "opened with a token",
            f"{users / (time.perf_counter() - begin):,.0f} a second, by {_AT_ONCE} at once",
        )
        gateways = [
            opened.enter_context(Verifier.embedded(home.folder / "state", audience=_AUDIENCE))
            for _ in range(GATEWAYS)
        ]

        def timed(prepare: Callable[[int], Callable[[], object]]) -> tuple[list[float], list[float]]:
            """Stop agents one by one; return ms until the answer, and until the last gateway denies."""
            answered, denied = [], []
            for number in islice(numbers, SINGLY):
                stop = prepare(number)
                _require(gateways, held[number], allowed=True)
                begin = time.perf_counter()
                stop()
                answered.append((time.perf_counter() - begin) * _MS)
                _require(gateways, held[number], allowed=False)
                denied.append((time.perf_counter() - begin) * _MS)
            return answered, denied

        def ending(number: int) -> Callable[[], object]:
            return partial(client.end, held[number].session_id)

        def logging_out(number: int) -> Callable[[], object]:
            return partial(statements.post, "/logout/corp", provider.logout(f"s{number}"))

        def revoking(number: int) -> Callable[[], object]:
            return partial(statements.post, "/events/corp", provider.event(f"u{number}", _REVOKED))

        for name, prepare in (
            ("end by id", ending),
            ("logout", logging_out),
            ("session-revoked, pushed", revoking),
        ):
            answered, denied = timed(prepare)
            yield row(f"{name}: until it is answered", _times(answered))
            yield row(f"{name}: until {GATEWAYS} gateways deny", _times(denied))
        left = list(numbers)
        before = _living(home)
        took = seconds(lambda: _revoke(statements, provider, left))
        # Each user has the session of the login, and that of the agent.
        ended = before - _living(home)
        if ended != 2 * len(left) or any(_allows(gateways[0], held[number]) for number in left):
            raise RuntimeError(f"{ended} sessions ended, not {2 * len(left)}, or not those")
        yield row(f"{len(left):,} users revoked by events, {_AT_ONCE} at once", f"{took:.1f} s")


def _costs(server: Server, home: Home, provider: DemoProvider) -> str:
    """Return the server's CPU for an opening: without a token, with a login's first, and with a later one."""
    login_s = int(time.time()) - 60
    numbers = range(_TURNS * _A_TURN)
    # As many tokens of one login as of others, so that both are verified anew.
    kinds = [
        ["" for _ in numbers],
        [provider.id_token(f"c{number}", f"c{number}", login_s) for number in numbers],
        [provider.id_token("c0", "c0", login_s) for _ in numbers],
    ]
    found: list[list[float]] = [[] for _ in kinds]
    with Client(home.target, credential=home.operators[1]) as client:
        for begin in range(0, len(numbers), _A_TURN):
            for proofs, cpu_us in zip(kinds, found, strict=True):
                before = server.cpu_us()
                for proof in proofs[begin : begin + _A_TURN]:
                    terms = {"identity_token": proof} if proof else {}
                    client.open_session(subject="agent", ceiling=[CEILING], **terms)
                cpu_us.append((server.cpu_us() - before) / _A_TURN)
    alone, of_first, of_later = map(median, found)
    return (
        f"{alone:.0f} µs; with a login's first token {of_first:.0f} µs ({of_first / alone:.1f} ×), "
        f"with a later one {of_later:.0f} µs ({of_later / alone:.1f} ×)"
    )


async def _open(home: Home, provider: DemoProvider, users: int) -> list[Token]:
    """Open an agent's session for each user, with a token of her login; return the agents' tokens."""
    held: dict[int, Token] = {}
    numbers, login_s = iter(range(users)), int(time.time()) - 60
    async with AsyncClient(home.target, credential=home.operators[1], timeout_ms=30_000) as client:

        async def work() -> None:
            for number in numbers:
                proof = provider.id_token(f"u{number}", f"s{number}", login_s)
                terms = {"subject": "agent", "ceiling": [CEILING], "identity_token": proof}
                _, held[number] = await client.open_and_mint([CEILING], [_AUDIENCE], **terms)

        await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
    return [held[number] for number in range(users)]


def _revoke(statements: CarrierConnection, provider: DemoProvider, users: list[int]) -> None:
    """Push an event for each user, by some connections at once."""

    def work(mine: list[int]) -> None:
        connection = CarrierConnection(statements.path)
        for number in mine:
            connection.post("/events/corp", provider.event(f"u{number}", _REVOKED))
        connection.close()

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(work, (users[place::_AT_ONCE] for place in range(_AT_ONCE))))


def _living(home: Home) -> int:
    with closing(StateReader.open(home.folder / "state")) as reader:
        return effective_status.take(reader, SystemClock().now_ms()).active


def _allows(gateway: Verifier, token: Token) -> bool:
    return gateway.check(token.data, "read", "files/a").allowed


def _require(gateways: list[Verifier], token: Token, *, allowed: bool) -> None:
    """Raise RuntimeError unless each gateway decides so at its first check."""
    if any(_allows(gateway, token) is not allowed for gateway in gateways):
        raise RuntimeError(f"a gateway {'denies' if allowed else 'allows'} a call")


def _times(times: list[float]) -> str:
    p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, slowest {max(times):.1f} ms"


if __name__ == "__main__":
    for line in table(int(sys.argv[1]), int(sys.argv[2])):
        print(line, flush=True)
