"""The order service over HTTP: its routes, an application with FastAPI, and uvicorn in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fastapi
import uvicorn

from sessauth.guard.services.routes import RouteTable, ServiceRoute
from tests.guard.world import World

ROUTES = RouteTable(
    [
        ServiceRoute("GET", "/orders/{order_id}", "read", "orders/{order_id}"),
        ServiceRoute("POST", "/orders/{order_id}/refund", "write", "orders/{order_id}"),
        ServiceRoute("PUT", "/orders/{order_id}/scan", "write", "orders/{order_id}", judges_body=False),
        ServiceRoute("WEBSOCKET", "/orders/{order_id}/feed", "read", "orders/{order_id}"),
    ]
)


class SoonEnded(uvicorn.Server):
    """A server that looks each millisecond, not ten times a second, whether it shall end."""

    async def main_loop(self) -> None:
        """Serve until it shall end."""
        while not await self.on_tick(0):
            await asyncio.sleep(0.001)


@contextmanager
def serving(app: Any, lifespan: str = "on") -> Iterator[str]:
    """Serve an application with uvicorn in a thread; gives its URL."""
    config = uvicorn.Config(app, port=0, log_level="critical", ws="websockets-sansio", lifespan=lifespan)
    server = SoonEnded(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise AssertionError("uvicorn did not start")
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


def plain_app(world: World) -> Any:
    """Return a service with FastAPI that knows nothing of guards."""
    app = fastapi.FastAPI()

    @app.get("/orders/{order_id}")
    def read(order_id: str) -> dict[str, str]:
        return {"result": world.run("read", order_id=order_id)}

    @app.post("/orders/{order_id}/refund")
    async def refund(order_id: str, request: fastapi.Request) -> dict[str, str]:
        amount = (await request.json())["amount"]
        return {"result": world.run("refund", order_id=order_id, amount=amount)}

    @app.delete("/orders/{order_id}")
    def purge(order_id: str) -> dict[str, str]:
        return {"result": world.run("purge", order_id=order_id)}

    @app.put("/orders/{order_id}/scan")
    async def scan(order_id: str, request: fastapi.Request) -> dict[str, Any]:
        size = len(await request.body())
        return {"result": world.run("scan", order_id=order_id, size=size)}

    @app.websocket("/orders/{order_id}/feed")
    async def feed(order_id: str, websocket: fastapi.WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(world.run("feed", order_id=order_id))
        await websocket.close()

    @app.get("/health")
    def health(request: fastapi.Request) -> dict[str, Any]:
        return {"result": "well", "decision": str(getattr(request.state, "sessauth", "none"))}

    return app
