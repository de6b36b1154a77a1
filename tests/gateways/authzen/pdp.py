"""A decision point that is served by uvicorn, and requests to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from sessauth.gateways.authzen import AuthZenApp
from sessauth.gateways.http_server import address_of, bind, server_of

ONE = "/access/v1/evaluation"
BATCH = "/access/v1/evaluations"
IDENTIFIER = "https://pdp.example"


@contextmanager
def serving(app: AuthZenApp) -> Iterator[httpx.Client]:
    """Serve in a thread; gives a client."""
    bound = bind("127.0.0.1:0")
    server = server_of(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    # A connection that was kept may be one that the server is about to end.
    limits = httpx.Limits(max_keepalive_connections=0)
    try:
        with httpx.Client(base_url=f"http://{address_of(bound)}", timeout=20, limits=limits) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
        bound.close()


def request_for(
    token: str, action: str = "read", resource: tuple[str, str] = ("orders", "17"), **context: Any
) -> dict[str, Any]:
    """Return an evaluation."""
    return {
        "subject": {"type": "sessauth", "id": token},
        "action": {"name": action},
        "resource": {"type": resource[0], "id": resource[1]},
        **({"context": context} if context else {}),
    }


def decided(client: httpx.Client, request: Any, path: str = ONE) -> Any:
    """Return the answer to a request that is answered."""
    response = client.post(path, json=request)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    return response.json()
