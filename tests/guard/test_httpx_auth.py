"""The token and a proof on each request of a client, with httpx and httpx2 over real sockets."""

from __future__ import annotations

import asyncio
from types import ModuleType

import pytest

from sessauth.errors import UsageError
from sessauth.guard import Guard
from sessauth.guard.asgi import GuardMiddleware
from sessauth.guard.httpx import BearerAuth, route_calls
from sessauth.tokens.prover import HolderKey, Prover
from tests.guard.http_shop import ROUTES, plain_app, serving
from tests.guard.shop import CEILING
from tests.guard.world import World
from tests.support.server_fixture import AUDIENCE


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_a_client_adds_the_token_and_a_proof_to_each_request(world: World, library: str) -> None:
    """Blocking and awaited, with httpx and with httpx2."""
    module = pytest.importorskip(library)
    holder = HolderKey.generate()
    session = world.session(ceiling=CEILING)
    token = world.server.operator.mint(
        session.id, ["read,write:orders/**"], [AUDIENCE], ending="bound", to=holder.public, may_seal=False
    )
    prover = Prover(holder, world.server.operator.verifier_keys())
    guard = Guard(world.server.verifier, ROUTES, audience=AUDIENCE)
    with serving(GuardMiddleware(plain_app(world), guard)) as url:
        auth = BearerAuth(token, origin=url, prover=prover, call=route_calls(ROUTES))
        with module.Client(base_url=url, auth=auth) as client:
            for _ in range(2):
                assert client.get("/orders/17?view=full&note=a b").status_code == 200
            assert client.post("/orders/17/refund?dry=1", json={"amount": 5}).status_code == 200
            with pytest.raises(UsageError, match="another origin"):
                client.get("http://127.0.0.1:9/orders/17")
            with pytest.raises(UsageError, match="table of routes"):
                client.delete("/orders/17")
        assert asyncio.run(_awaited(module, url, auth)) == 200

    assert [name for name, _ in world.ran] == ["read", "read", "refund", "read"]


async def _awaited(module: ModuleType, url: str, auth: BearerAuth) -> int:
    async with module.AsyncClient(base_url=url, auth=auth) as client:
        response = await client.get("/orders/17")
        return int(response.status_code)


def test_a_client_needs_an_origin_and_both_parts_of_a_proof() -> None:
    """A token is never sent to whatever host a request names."""
    with pytest.raises(UsageError, match="origin"):
        BearerAuth("x", origin="shop.example")
    with pytest.raises(UsageError, match="call="):
        BearerAuth("x", origin="https://shop.example", prover=Prover(HolderKey.generate(), lambda: None))  # type: ignore[arg-type,return-value]
