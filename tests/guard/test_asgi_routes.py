"""Requests over HTTP are judged as the route that answers them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sessauth.guard import Guard
from sessauth.guard.asgi import GuardMiddleware, route_path
from tests.guard.http_shop import ROUTES, serving
from tests.guard.shop import CEILING
from tests.guard.world import World
from tests.support.server_fixture import AUDIENCE


def test_a_method_of_http_is_no_websocket(world: World) -> None:
    """Its name may be that of a websocket's route."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        world.run("feed", method=scope["method"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    guard = Guard(world.server.verifier, ROUTES, audience=AUDIENCE)
    token = world.token("read:orders/**", session=world.session(ceiling=CEILING))
    headers = {"authorization": f"Bearer {token.present().text}"}
    with serving(GuardMiddleware(app, guard), "off") as url:
        for method, status in (("GET", 200), ("WEBSOCKET", 403)):
            path = f"{url}/orders/17{'' if method == 'GET' else '/feed'}"
            assert httpx.request(method, path, headers=headers).status_code == status

    assert world.ran == [("feed", {"method": "GET"})]


@pytest.mark.parametrize("root", ["", "/", "/api", "/api/", "api", "/api/v1"])
def test_the_path_is_that_by_which_starlette_routes(root: str) -> None:
    """It is without the prefix of a mount, and only without a whole one."""
    utils = pytest.importorskip("starlette._utils", reason="compared where Starlette is installed")
    for path in (
        "",
        "/",
        "/api",
        "/api/",
        "/api/x",
        "/apix",
        "/api//x",
        "/x",
        "api/x",
        "/api/v1/x",
        "/api/v1",
    ):
        scope = {"path": path, "root_path": root}
        assert route_path(scope) == utils.get_route_path(scope)
