"""The query and the body of a request are two places: what stands in one does not count for the other."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import fastapi
import httpx
import pytest
from pydantic import BaseModel, Field

from sessauth.errors import UsageError
from sessauth.guard import Guard
from sessauth.guard.asgi import GuardMiddleware
from sessauth.guard.fastapi import requires
from sessauth.guard.services.call_table import CallTable
from sessauth.guard.services.routes import Places, RouteTable, ServiceRoute, route_arguments
from tests.guard.shop import CEILING
from tests.guard.world import World
from tests.support.server_fixture import AUDIENCE

NO_BODY = Places(has_body=False)
DECLARED = Places(query=frozenset({"mode"}), headers=frozenset({"agent"}))


@pytest.mark.parametrize(
    ("query", "body", "places", "arguments"),
    [
        (b"mode=x", b"", NO_BODY, b'{"mode":"x"}'),
        (b"mode=x", b"", Places(), b'{"?mode":"x"}'),
        (b"mode=x", b'{"job":1}', Places(), b'{"?mode":"x","job":1}'),
        (b"mode=x&other=y", b'{"job":1}', DECLARED, b'{"?other":"y","job":1,"mode":"x"}'),
        (b"agent=x", b"", NO_BODY._replace(headers=frozenset({"agent"})), b'{"?agent":"x"}'),
        (b"", b'{"job":{"?mode":1}}', Places(), b'{"job":{"?mode":1}}'),
    ],
)
def test_an_argument_has_the_name_of_its_place(
    query: bytes, body: bytes, places: Places, arguments: bytes
) -> None:
    """One of the query is bare where no body is, and where the handler is known to take it from there."""
    assert route_arguments(query, body, places) == arguments


@pytest.mark.parametrize(
    ("query", "body", "places"),
    [
        (b"", b'{"?mode":"x"}', Places()),
        (b"", b'{"\\u003fmode":"x"}', Places()),
        (b"%3Fmode=x", b"", NO_BODY),
        (b"%3Fmode=x", b"", Places()),
        (b"mode=x", b'{"mode":"x"}', Places()),
        (b"", b'{"mode":"x"}', DECLARED),
        (b"", b'{"agent":"x"}', DECLARED),
        (b"", b"{}", NO_BODY),
    ],
)
def test_a_name_in_another_place_than_its_own_is_refused(query: bytes, body: bytes, places: Places) -> None:
    """It would meet a condition that the handler's own value does not."""
    with pytest.raises(UsageError):
        route_arguments(query, body, places)


class Job(BaseModel):
    """A body."""

    job: str
    mode: str = "live"


class Choice(BaseModel):
    """Parameters of a query."""

    mode: str = "live"
    size: Annotated[str, Field(alias="kind")] = "large"


def chosen(mode: str = "live") -> str:
    """Take a mode from the query, for operations that depend on this."""
    return mode


def operations(world: World, guard: Guard) -> Any:
    """Return a service whose operations take a mode, with a default, from different places."""
    app = fastapi.FastAPI()
    write = fastapi.Depends(requires(guard, "write", "orders/17"))
    read = fastapi.Depends(requires(guard, "read", "orders/17"))
    form = fastapi.Depends(requires(guard, "write", "orders/17", judges_body=False))

    @app.post("/body", dependencies=[write])
    def body(job: Job) -> None:
        world.run("body", mode=job.mode)

    @app.post("/query", dependencies=[write])
    def query(job: dict[str, Any], mode: str = "live") -> None:
        world.run("query", mode=mode)

    router = fastapi.APIRouter(prefix="/included")
    router.post("/query", dependencies=[write])(query)
    app.include_router(router)

    @app.post("/alias", dependencies=[write])
    def alias(job: dict[str, Any], kind: Annotated[str, fastapi.Query(alias="mode")] = "live") -> None:
        world.run("alias", mode=kind)

    @app.post("/model", dependencies=[write])
    def model(job: dict[str, Any], choice: Annotated[Choice, fastapi.Query()]) -> None:
        world.run("model", mode=choice.mode)

    @app.post("/inner", dependencies=[write])
    def inner(job: dict[str, Any], mode: Annotated[str, fastapi.Depends(chosen)]) -> None:
        world.run("inner", mode=mode)

    @app.post("/both", dependencies=[write])
    def both(job: Job, mode: str = "live") -> None:
        world.run("both", mode=f"{mode}/{job.mode}")

    @app.post("/maybe", dependencies=[write])
    def maybe(job: Job | None = None, mode: str = "live") -> None:
        world.run("maybe", mode=f"{mode}/{job and job.mode}")

    @app.post("/form", dependencies=[form])
    async def form_of(request: fastapi.Request) -> None:
        world.run("form", mode=str(await request.body()))

    @app.post("/header", dependencies=[write])
    def header(job: dict[str, Any], mode: Annotated[str, fastapi.Header()] = "live") -> None:
        world.run("header", mode=mode)

    @app.get("/read", dependencies=[read])
    def read_query(mode: str = "live") -> None:
        world.run("read", mode=mode)

    @app.get("/cookie", dependencies=[read])
    def cookie(mode: Annotated[str, fastapi.Cookie()] = "live") -> None:
        world.run("cookie", mode=mode)

    @app.get("/search", dependencies=[read])
    def search(job: Job, mode: Annotated[str, fastapi.Query(alias="m")] = "live") -> None:
        world.run("search", mode=f"{mode}/{job.mode}")

    return app


def answer(
    world: World, app: Any, scope: str, method: str, path: str, body: Any, **options: Any
) -> tuple[int, Any]:
    """Return the status of a request, and the mode of what ran."""
    token = world.token(scope, session=world.session(ceiling=CEILING))
    headers = {"authorization": f"Bearer {token.present().text}"}

    async def ask() -> int:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop", headers=headers) as client:
            return (await client.request(method, path, json=body, **options)).status_code

    status = asyncio.run(ask())
    ran = [arguments["mode"] for _, arguments in world.ran]
    world.ran.clear()
    return status, (ran or [""])[0]


DRY = {"job": "wipe", "mode": "dry"}
WIPE = {"job": "wipe"}
REFUSED = (403, "")


@pytest.mark.parametrize(
    ("method", "path", "body", "outcome"),
    [
        ("POST", "/body", DRY, (200, "dry")),
        ("POST", "/body?mode=dry", WIPE, REFUSED),
        ("POST", "/query?mode=dry", WIPE, (200, "dry")),
        ("POST", "/query", DRY, REFUSED),
        ("POST", "/included/query?mode=dry", WIPE, (200, "dry")),
        ("POST", "/included/query", DRY, REFUSED),
        ("POST", "/alias?mode=dry", WIPE, (200, "dry")),
        ("POST", "/alias?kind=dry", WIPE, REFUSED),
        ("POST", "/alias", DRY, REFUSED),
        ("POST", "/model?mode=dry", WIPE, (200, "dry")),
        ("POST", "/model", DRY, REFUSED),
        ("POST", "/model?mode=dry&kind=small", WIPE, REFUSED),
        ("POST", "/inner?mode=dry", WIPE, (200, "dry")),
        ("POST", "/inner", DRY, REFUSED),
        ("POST", "/both", DRY, (200, "live/dry")),
        ("POST", "/both?mode=dry", WIPE, REFUSED),
        ("POST", "/maybe", DRY, (200, "live/dry")),
        ("POST", "/maybe?mode=dry", WIPE, REFUSED),
        ("POST", "/header", DRY, REFUSED),
        ("POST", "/header?mode=dry", WIPE, REFUSED),
        ("POST", "/form?mode=dry", None, REFUSED),
        ("GET", "/read?mode=dry", None, (200, "dry")),
        ("GET", "/read", DRY, REFUSED),
        ("GET", "/cookie?mode=dry", None, REFUSED),
        ("GET", "/search", DRY, (200, "live/dry")),
        ("GET", "/search?mode=dry", WIPE, REFUSED),
    ],
)
def test_fastapi_says_where_an_operation_takes_a_name_from(
    world: World, method: str, path: str, body: Any, outcome: tuple[int, str]
) -> None:
    """An operation never runs with its default because a condition was met in another place."""
    guard = Guard(world.server.verifier, CallTable(), audience=AUDIENCE)
    scope = 'read,write:orders/17 where mode == "dry" free job'

    assert answer(world, operations(world, guard), scope, method, path, body) == outcome


ROUTES = RouteTable(
    [
        ServiceRoute("POST", "/plain", "write", "orders/17"),
        ServiceRoute("POST", "/query", "write", "orders/17", query=["mode"]),
        ServiceRoute("GET", "/read", "read", "orders/17"),
        ServiceRoute("DELETE", "/plain", "write", "orders/17"),
    ]
)
BARE = 'read,write:orders/17 where mode == "dry" free job'
QUOTED = 'read,write:orders/17 where "?mode" == "dry" free job'


@pytest.mark.parametrize(
    ("scope", "method", "path", "body", "status"),
    [
        (BARE, "POST", "/plain", DRY, 200),
        (BARE, "POST", "/plain?mode=dry", WIPE, 403),
        (QUOTED, "POST", "/plain?mode=dry", WIPE, 200),
        (QUOTED, "POST", "/plain", {**WIPE, "?mode": "dry"}, 403),
        (QUOTED, "POST", "/plain", DRY, 403),
        (BARE, "POST", "/query?mode=dry", WIPE, 200),
        (BARE, "POST", "/query", DRY, 403),
        (BARE, "GET", "/read?mode=dry", None, 200),
        (BARE, "HEAD", "/read?mode=dry", None, 200),
        (BARE, "GET", "/read", DRY, 403),
        (QUOTED, "GET", "/read?%3Fmode=dry", None, 403),
        (BARE, "DELETE", "/plain?mode=dry", None, 403),
        (QUOTED, "DELETE", "/plain?mode=dry", None, 200),
    ],
)
def test_a_table_says_where_a_route_takes_a_name_from(
    world: World, scope: str, method: str, path: str, body: Any, status: int
) -> None:
    """Without a word of it an argument of the query has a name that no body can have."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    guarded = GuardMiddleware(app, Guard(world.server.verifier, ROUTES, audience=AUDIENCE))
    assert answer(world, guarded, scope, method, path, body)[0] == status
