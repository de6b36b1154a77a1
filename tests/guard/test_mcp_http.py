"""The HTTP side of a server of MCP: a token that stands on every request, and whose session an id is."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from sessauth.guard.services import mcp_sessions
from sessauth.guard.services.mcp_http import GuardedMcpApp
from sessauth.guard.services.mcp_sessions import McpSessions
from tests.guard.world import World

METHODS = ("GET", "POST", "DELETE")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Open a session for a request without one, as the SDK does, and answer."""
    ids = [value for name, value in scope["headers"] if name == b"mcp-session-id"]
    headers = [(b"mcp-session-id", ids[0] if ids else b"of-" + scope["path"].strip("/").encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


class Client:
    """Requests to an application in this process."""

    def __init__(self, guarded: GuardedMcpApp) -> None:
        """Ask ``guarded``."""
        self._app = guarded

    def ask(self, method: str, token: Any = None, mcp_id: str = "", path: str = "/mcp", *more: Any) -> int:
        """Return the status of the answer."""
        headers = [("authorization", f"Bearer {token.present().text}")] if token else []
        headers += [("mcp-session-id", mcp_id)] if mcp_id else []

        async def main() -> int:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://mcp") as client:
                return (await client.request(method, path, headers=[*headers, *more])).status_code

        return asyncio.run(main())


def test_every_request_needs_a_token_that_stands(world: World) -> None:
    """A stream, an answer and the end of a session too; the path of a health check may be public."""
    client = Client(GuardedMcpApp(app, world.guard(), public=["/health"]))
    token = world.token()
    assert client.ask("POST", token) == 200
    for method in METHODS:
        assert client.ask(method, None, "of-mcp") == 401
        assert client.ask(method, token, "of-mcp", "/mcp", ("authorization", "Bearer x")) == 401
        assert client.ask(method, path="/health") == 200
        assert client.ask(method, path="/health/") == 401
    world.end(token)
    assert [client.ask(method, token, "of-mcp") for method in METHODS] == [401] * 3


def test_an_id_is_of_the_session_whose_token_opened_it(world: World) -> None:
    """Another token of that session has it too. For others, and in two headers, it is not found."""
    client = Client(GuardedMcpApp(app, world.guard()))
    session = world.session()
    first, second, other = world.token(session=session), world.token(session=session), world.token()
    assert [client.ask("POST", other, "of-mcp"), client.ask("POST", first, "of-mcp")] == [404, 404]
    assert client.ask("POST", first) == 200
    for method in METHODS[:2]:
        assert client.ask(method, first, "of-mcp") == client.ask(method, second, "of-mcp") == 200
        assert client.ask(method, first, "of-mcp", "/mcp", ("mcp-session-id", "of-mcp")) == 404
    assert [client.ask(method, other, "of-mcp") for method in METHODS] == [404] * 3
    assert world.denied[-1].reason == "WRONG_SESSION"
    assert client.ask("DELETE", second, "of-mcp") == 200
    assert client.ask("POST", first, "of-mcp") == 404


def test_a_guard_that_observes_lets_all_pass(world: World) -> None:
    """And tells of it."""
    client = Client(GuardedMcpApp(app, world.guard(mode="observe")))

    assert [client.ask(method, None, "unknown") for method in METHODS] == [200] * 3
    assert [denied.reason for denied in world.denied] == ["NO_TOKEN"] * 3


@pytest.mark.parametrize("begun", [False, True])
def test_a_stream_ends_with_the_session_of_its_token(world: World, begun: bool) -> None:
    """One that has not begun is refused, the application is cancelled either way."""
    token = world.token()
    ended: list[str] = []

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            # The application may be cancelled before this returns.
            await asyncio.to_thread(world.end, token)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    sent: list[Any] = []

    async def main() -> None:
        async def send(event: Any) -> None:
            sent.append(event.get("status"))

        headers = [(b"authorization", f"Bearer {token.present().text}".encode())]
        scope = {"type": "http", "method": "GET", "path": "/mcp", "headers": headers}
        guarded = GuardedMcpApp(stream, world.guard())
        await asyncio.wait_for(guarded(scope, asyncio.sleep, send), 50)

    asyncio.run(main())
    assert (ended, sent[:1]) == (["cancelled"], [200 if begun else 401])
    assert world.denied[-1].reason == "WITHDRAWN"


def test_without_an_answer_of_the_verifier_nothing_passes(world: World) -> None:
    """Nor does what is no decision."""
    with world.dead_client() as dead:
        assert Client(GuardedMcpApp(app, world.guard(verifier=dead))).ask("GET", world.token()) == 503


def _fill(sessions: McpSessions, session: bytes, count: int) -> list[str]:
    ids = [f"{session.hex()}-{number}" for number in range(count)]
    assert all(sessions.bind(each, session) for each in ids)
    return ids


def test_a_session_forgets_its_own_ids_first() -> None:
    """However many it opens, another's stay bound; the one that was used last stays longest."""
    sessions = McpSessions()
    (kept,) = _fill(sessions, b"b", 1)
    ids = _fill(sessions, b"a", mcp_sessions.MAX_IDS_OF_ONE)
    assert sessions.bind(ids[0], b"a") and sessions.bind("one more", b"a")

    assert [sessions.owner(each) for each in (kept, ids[0], ids[1])] == [b"b", b"a", b""]
    assert not sessions.bind(kept, b"a") and sessions.bind(kept, b"b")


def test_all_sessions_have_so_many_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session that was used least recently loses one."""
    monkeypatch.setattr(mcp_sessions, "MAX_IDS", 3)
    sessions = McpSessions()
    for session in (b"a", b"b", b"c"):
        _fill(sessions, session, 1)
    assert sessions.bind(f"{b'a'.hex()}-0", b"a")
    _fill(sessions, b"d", 1)

    owners = [sessions.owner(f"{session.hex()}-0") for session in (b"a", b"b", b"c", b"d")]
    assert owners == [b"a", b"", b"c", b"d"]


@pytest.mark.parametrize(("mcp_id", "session"), [("x" * 257, b"a"), ("x", b"")])
def test_an_id_that_is_bound_to_nothing(mcp_id: str, session: bytes) -> None:
    """One that is too long, and one of nobody."""
    sessions = McpSessions()

    assert not sessions.bind(mcp_id, session)
    sessions.forget(mcp_id)
    assert sessions.owner(mcp_id) == b""
