"""Services over HTTP behind a guard: middleware and FastAPI, with uvicorn and httpx over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fastapi
import httpx
import pytest
import websockets.sync.client as websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sessauth.decisions.outward import Outward
from sessauth.errors import UsageError
from sessauth.guard import Guard
from sessauth.guard.asgi import GuardMiddleware
from sessauth.guard.fastapi import requires
from sessauth.guard.services.call_table import CallTable
from tests.guard.http_shop import ROUTES, plain_app, serving
from tests.guard.shop import CEILING, Answer, ShopStories, as_json
from tests.guard.world import World
from tests.support.server_fixture import AUDIENCE


def answer_of(response: Any) -> Answer:
    """Return an answer or a refusal as a client reads it."""
    if response.status_code == 200:
        return Answer(response.json()["result"])
    content = as_json(response.text)
    if "detail" in content:
        content = content["detail"]
    outward = Outward[content["error"].upper()]
    assert response.status_code == outward.http
    assert response.headers.get("www-authenticate", "") == outward.challenge
    decision = content.get("decision", "")
    assert response.headers.get("x-sessauth-decision", "") == decision
    return Answer(content["message"], outward, decision)


class HttpStories(ShopStories):
    """Requests to a service over HTTP."""

    def app(self, world: World, guard: Guard) -> Any:
        """Return the service behind ``guard``."""
        raise NotImplementedError

    def call(
        self,
        world: World,
        guard: Guard,
        name: str,
        arguments: dict[str, Any],
        headers: list[tuple[str, str]],
    ) -> Answer:
        """Send a request."""
        with serving(self.app(world, guard)) as url, httpx.Client(base_url=url, timeout=20) as client:
            order_id, *_ = (str(arguments["order_id"]).replace("/", "%2F"),)
            match name:
                case "read":
                    response = client.get(f"/orders/{order_id}", headers=headers)
                case "refund":
                    body = {"amount": arguments["amount"]}
                    response = client.post(f"/orders/{order_id}/refund", json=body, headers=headers)
                case _:
                    response = client.delete(f"/orders/{order_id}", headers=headers)
        return answer_of(response)

    def judged(self, name: str, arguments: dict[str, Any]) -> tuple[str, str, bytes]:
        """Return the call by the table."""
        body = b'{"amount":%d}' % arguments["amount"]
        return ROUTES.call("POST", f"/orders/{arguments['order_id']}/refund", b"", body)

    # A client normalises these paths, or the application serves none of them.
    @pytest.mark.parametrize("order_id", ["a/b", "%2e%2e", "*", "a%5Cb"])
    def test_a_value_can_not_be_more_than_its_segment(self, world: World, order_id: str) -> None:
        """A place of the resource is one plain segment."""
        token = self._token(world, "read:orders/**")
        with serving(self.app(world, self._guard(world))) as url:
            headers = dict(self._headers(token))
            path = order_id.replace("/", "%2F")
            response = httpx.get(f"{url}/orders/{path}", headers=headers)

        assert response.status_code in (401, 403, 404)
        assert world.ran == []


class TestMiddleware(HttpStories):
    """The middleware in front of an application."""

    __test__ = True
    table = ROUTES

    def app(self, world: World, guard: Guard) -> Any:
        """Put the service behind the middleware."""
        return GuardMiddleware(plain_app(world), guard, public=["/health"])


class TestFastApi(HttpStories):
    """The dependency in each path operation."""

    __test__ = True
    table = CallTable()

    def app(self, world: World, guard: Guard) -> Any:
        """Have each path operation depend on the guard."""
        app = fastapi.FastAPI()
        read_order = fastapi.Depends(requires(guard, "read", "orders/{order_id}"))
        write_order = fastapi.Depends(requires(guard, "write", "orders/{order_id}"))

        @app.get("/orders/{order_id}", dependencies=[read_order])
        def read(order_id: str) -> dict[str, str]:
            return {"result": world.run("read", order_id=order_id)}

        @app.post("/orders/{order_id}/refund", dependencies=[write_order])
        def refund(order_id: str, amount: int = fastapi.Body(embed=True)) -> dict[str, str]:
            return {"result": world.run("refund", order_id=order_id, amount=amount)}

        purges = fastapi.Depends(requires(guard, "purge", "orders/{order_id}"))

        @app.delete("/orders/{order_id}", dependencies=[purges])
        def purge(order_id: str) -> dict[str, str]:
            return {"result": world.run("purge", order_id=order_id)}

        return app


@contextmanager
def guarded_shop(world: World, **options: Any) -> Iterator[tuple[str, Any]]:
    """Serve the service behind the middleware; gives its URL and a token for all orders."""
    guard = Guard(world.server.verifier, ROUTES, audience=AUDIENCE, on_denied=world.denied.append)
    token = world.token("read,write:orders/**", session=world.session(ceiling=CEILING))
    with serving(GuardMiddleware(plain_app(world), guard, public=["/health"], **options)) as url:
        yield url, token


def _headers(token: Any, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token.present().text}", **more}


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"amount":1,"amount":2}', "application/json", 403),
        (b'{"amount":1}{"amount":2}', "application/json", 403),
        (b"[1]", "application/json", 403),
        (b"amount=1", "application/x-www-form-urlencoded", 403),
        (b'{"amount":1}', "text/plain", 403),
        (b'{"amount":1}', "application/json; charset=utf-16", 403),
        (b'{"amount":"' + b"x" * 70_000 + b'"}', "application/json", 413),
        (b'{"amount":1}', "application/json", 200),
    ],
)
def test_bodies_that_are_not_one_json_object_are_refused(
    world: World, content: bytes, kind: str, status: int
) -> None:
    """Nothing of them reaches the application."""
    with guarded_shop(world, max_body_bytes=65_536) as (url, token):
        headers = _headers(token, **{"content-type": kind})
        response = httpx.post(f"{url}/orders/17/refund", content=content, headers=headers)

    assert response.status_code == status
    assert bool(world.ran) is (status == 200)


def test_a_query_and_a_body_that_disagree_are_refused(world: World) -> None:
    """A name that both have, and a name that stands twice."""
    with guarded_shop(world) as (url, token):
        for query in ("amount=1", "a=1&a=2"):
            response = httpx.post(
                f"{url}/orders/17/refund?{query}", json={"amount": 1000}, headers=_headers(token)
            )
            assert response.status_code == 403

    assert world.ran == []


def test_a_body_comes_in_parts_and_is_passed_on_whole(world: World) -> None:
    """The application is given the same bytes."""

    def parts() -> Iterator[bytes]:
        yield b'{"amount"'
        yield b":5}"

    with guarded_shop(world) as (url, token):
        headers = _headers(token, **{"content-type": "application/json"})
        response = httpx.post(f"{url}/orders/17/refund", content=parts(), headers=headers)

    assert (response.status_code, world.ran) == (200, [("refund", {"order_id": "17", "amount": 5})])


def test_a_long_body_of_a_guard_that_observes_is_passed_on_whole(world: World) -> None:
    """The application is given the part that was read, and the rest."""
    guard = Guard(
        world.server.verifier, ROUTES, audience=AUDIENCE, mode="observe", on_denied=world.denied.append
    )
    token = world.token("write:orders/**", session=world.session(ceiling=CEILING))
    body = b'{"amount":5' + b" " * 300_000 + b"}"
    with serving(GuardMiddleware(plain_app(world), guard, max_body_bytes=65_536)) as url:
        headers = _headers(token, **{"content-type": "application/json"})
        response = httpx.post(f"{url}/orders/17/refund", content=body, headers=headers)

    assert (response.status_code, world.ran) == (200, [("refund", {"order_id": "17", "amount": 5})])
    assert [denied.reason for denied in world.denied] == ["BAD_CALL"]


def test_an_upload_is_not_read(world: World) -> None:
    """Its body is neither judged nor bounded here."""
    with guarded_shop(world, max_body_bytes=10) as (url, token):
        response = httpx.put(f"{url}/orders/17/scan", content=b"x" * 100_000, headers=_headers(token))

    assert (response.status_code, world.ran) == (200, [("scan", {"order_id": "17", "size": 100_000})])


def test_a_public_path_needs_no_token_and_has_no_decision(world: World) -> None:
    """And nothing else is public."""
    with guarded_shop(world) as (url, _):
        assert httpx.get(f"{url}/health").json() == {"result": "well", "decision": "none"}
        for path in ("/health/", "/healthy", "/HEALTH", "/docs", "/openapi.json"):
            assert httpx.get(f"{url}{path}").status_code == 401


def test_the_application_finds_the_decision(world: World) -> None:
    """It is in the state of the request."""
    decisions: list[Any] = []

    async def app(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        decisions.append(scope["state"]["sessauth"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    guard = Guard(world.server.verifier, ROUTES, audience=AUDIENCE)
    token = world.token("read:orders/**", session=world.session(ceiling=CEILING))
    with serving(GuardMiddleware(app, guard)) as url:
        httpx.get(f"{url}/orders/17", headers=_headers(token))

    assert [(bool(each), each.session_id) for each in decisions] == [(True, token.session_id)]


def test_a_websocket_is_judged_before_it_opens(world: World) -> None:
    """Without a token it is answered like a request."""
    with guarded_shop(world) as (url, token):
        target = url.replace("http", "ws")
        with pytest.raises(InvalidStatus) as refused:
            websockets.connect(f"{target}/orders/17/feed")
        assert refused.value.response.status_code == 401
        with pytest.raises(InvalidStatus) as refused:
            websockets.connect(f"{target}/orders/17/other", additional_headers=_headers(token))
        assert refused.value.response.status_code == 403
        assert world.ran == []
        with websockets.connect(f"{target}/orders/17/feed", additional_headers=_headers(token)) as opened:
            assert opened.recv() == "feed done"


def test_a_websocket_is_closed_when_its_permission_ends(world: World) -> None:
    """The application is cancelled while it waits."""
    ended: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("not supported")
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await receive()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    guard = Guard(world.server.verifier, ROUTES, audience=AUDIENCE, watch=True)
    token = world.token("read:orders/**", session=world.session(ceiling=CEILING))
    with serving(GuardMiddleware(app, guard), lifespan="off") as url:
        target = url.replace("http", "ws") + "/orders/17/feed"
        with websockets.connect(target, additional_headers=_headers(token)) as opened:
            world.end(token)
            with pytest.raises(ConnectionClosed) as closed:
                opened.recv(timeout=20)

    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, ended) == (1008, ["cancelled"])


def test_a_websocket_that_is_not_open_yet_is_refused_when_its_permission_ends(world: World) -> None:
    """The application has read that it is asked for, and not answered."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        world.end(token)
        await asyncio.sleep(30)

    guard = Guard(world.server.verifier, ROUTES, audience=AUDIENCE, watch=True)
    token = world.token("read:orders/**", session=world.session(ceiling=CEILING))
    with serving(GuardMiddleware(app, guard), lifespan="off") as url:
        target = url.replace("http", "ws") + "/orders/17/feed"
        with pytest.raises(InvalidStatus) as refused:
            websockets.connect(target, additional_headers=_headers(token), open_timeout=20)

    assert refused.value.response.status_code == 401


@pytest.mark.parametrize("begun", [False, True])
def test_an_answer_is_broken_off_when_its_permission_ends(world: World, begun: bool) -> None:
    """One that has not begun is a refusal."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begun:
            length = [(b"content-length", b"10")]
            await send({"type": "http.response.start", "status": 200, "headers": length})
            await send({"type": "http.response.body", "body": b"half ", "more_body": True})
        world.end(token)
        await asyncio.sleep(30)

    guard = Guard(world.server.verifier, ROUTES, audience=AUDIENCE, watch=True)
    token = world.token("read:orders/**", session=world.session(ceiling=CEILING))
    with serving(GuardMiddleware(app, guard), lifespan="off") as url:
        if begun:
            with pytest.raises(httpx.RemoteProtocolError):
                httpx.get(f"{url}/orders/17", headers=_headers(token), timeout=20)
        else:
            answer = httpx.get(f"{url}/orders/17", headers=_headers(token), timeout=20)
            assert answer_of(answer).outward is Outward.UNAUTHENTICATED


def test_a_websocket_without_the_extension_is_closed(world: World) -> None:
    """A server that can't answer it is told to refuse it."""
    sent = asyncio.run(_websocket_events(world, {}))

    assert sent == [{"type": "websocket.close", "code": 1008}]


async def _websocket_events(world: World, extensions: dict[str, Any]) -> list[Any]:
    guard = Guard(world.server.verifier, ROUTES, audience=AUDIENCE)
    sent = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {
        **{"type": "websocket", "path": "/orders/17/feed", "query_string": b"", "headers": []},
        "extensions": extensions,
    }
    await GuardMiddleware(plain_app(world), guard)(scope, receive, send)
    return sent


def test_a_client_that_leaves_is_not_answered(world: World) -> None:
    """The application is not called with half a body."""
    guard = Guard(world.server.verifier, ROUTES, audience=AUDIENCE)
    token = world.token("write:orders/**", session=world.session(ceiling=CEILING))
    events = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    headers = [(b"authorization", f"Bearer {token.present().text}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/orders/17/refund", "headers": headers}

    async def receive() -> Any:
        return events.pop(0)

    async def send(event: Any) -> None:
        raise AssertionError(event)

    asyncio.run(GuardMiddleware(plain_app(world), guard)(scope, receive, send))
    assert (world.ran, events) == ([], [])


def test_another_kind_of_scope_is_refused(world: World) -> None:
    """A later version of ASGI may have one."""
    middleware = GuardMiddleware(plain_app(world), Guard(world.server.verifier, ROUTES))

    with pytest.raises(UsageError, match="another type"):
        asyncio.run(middleware({"type": "webtransport", "path": "/"}, None, None))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="RouteTable"):
        GuardMiddleware(plain_app(world), world.guard())


def test_a_mounted_application_is_judged_by_its_own_path(world: World) -> None:
    """Its routes are matched without the prefix too."""
    guard = Guard(world.server.verifier, ROUTES, audience=AUDIENCE)
    token = world.token("read:orders/**", session=world.session(ceiling=CEILING))
    outer = fastapi.FastAPI()
    outer.mount("/api", GuardMiddleware(plain_app(world), guard))
    with serving(outer) as url:
        assert httpx.get(f"{url}/api/orders/17", headers=_headers(token)).status_code == 200
        assert httpx.get(f"{url}/api/orders/17").status_code == 401
        assert httpx.get(f"{url}/api/api/orders/17", headers=_headers(token)).status_code == 403

    assert world.ran == [("read", {"order_id": "17"})]
