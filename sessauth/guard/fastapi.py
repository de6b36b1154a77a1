"""A dependency for FastAPI: the call of a path operation is checked before it runs.

    guard = Guard(verifier, CallTable())

    @app.get("/orders/{order_id}", dependencies=[Depends(requires(guard, "read", "orders/{order_id}"))])

It gives the decision. Bodies are checked as :mod:`sessauth.guard.asgi` does; FastAPI reads them whole before
a dependency runs, so the server in front bounds them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, get_args

from fastapi import HTTPException, Request, WebSocketException
from fastapi.requests import HTTPConnection

from ..decisions.decision import DecisionBase
from ..errors import SessauthError
from ..limits import MAX_JSON_BYTES
from .asgi import TooLarge, refusal
from .call import BAD_CALL, CallTerms
from .guard import Guard
from .services import routes
from .services.presented import AUTHORIZATION, PROOF, bearer, one_proof
from .services.routes import BARE_QUERY, Places, ResourceTemplate

_POLICY_VIOLATION = 1008


def requires(
    guard: Guard, action: str, resource: str, *, judges_body: bool = True
) -> Callable[[HTTPConnection], Awaitable[DecisionBase | None]]:
    """Return a dependency that raises unless the token of the request may do ``action`` on ``resource``.

    Raises UsageError for a template that can't be read.

    Args:
        guard: checks by a :class:`~.services.call_table.CallTable`.
        action: as scopes name it.
        resource: a template whose places are the path's, as ``orders/{order_id}``.
        judges_body: False for a form or an upload, whose body is not checked.
    """
    template = ResourceTemplate(resource)

    async def check(connection: HTTPConnection) -> DecisionBase | None:
        try:
            return await _check(guard, action, template, judges_body, connection)
        except Exception as error:  # noqa: BLE001 - a request that could not be checked goes no further
            status, headers, content = refusal(error)
            if not isinstance(connection, Request):
                raise WebSocketException(_POLICY_VIOLATION) from None
            raise HTTPException(status, content, dict(headers)) from None

    return check


async def _check(
    guard: Guard, action: str, template: ResourceTemplate, judges_body: bool, connection: HTTPConnection
) -> DecisionBase | None:
    headers = routes.header_values(connection.headers.raw)
    terms: CallTerms = {"token": bearer(headers.get(AUTHORIZATION, ()))}
    scope = connection.scope
    method, path = scope.get("method", routes.WEBSOCKET), scope["path"]
    try:
        terms["proof"] = one_proof(headers.get(PROOF, ()))
        body = await _body(connection, headers) if judges_body else b""
        places = _places(method, getattr(scope.get("route"), "dependant", None))
        arguments = routes.route_arguments(scope.get("query_string", b""), body, places)
        values = routes.path_values(connection.path_params)
        call = routes.named_call(method, path, action, template.fill(values))
    except (SessauthError, ValueError, RecursionError) as error:
        guard.refuse(f"{method} {path}", BAD_CALL, cause=error)
        return None
    return await guard.acheck(call, arguments, **terms)


async def _body(connection: HTTPConnection, headers: dict[str, list[str]]) -> bytes:
    """Return the body that the path operation is given too. Raises UsageError if it can't be checked."""
    if not isinstance(connection, Request):
        return b""
    if "content-type" in headers:
        # A form was read already, and its bytes are gone.
        routes.require_json(headers)
    body = await connection.body()
    if body:
        routes.require_json(headers)
    if len(body) > MAX_JSON_BYTES:
        raise TooLarge(f"body: more than {MAX_JSON_BYTES} bytes")
    return body


def _places(method: str, operation: Any) -> Places:
    """Return where a path operation takes its arguments from, by FastAPI's own table of its parameters."""
    if operation is None:
        return Places(method not in BARE_QUERY)
    of_query, of_body = set(_names(operation, "query_params")), set(_names(operation, "body_params"))
    of_headers = {*_names(operation, "header_params"), *_names(operation, "cookie_params")}
    return Places(
        method not in BARE_QUERY or bool(of_body),
        frozenset(of_query - of_body),
        frozenset(of_headers - of_query - of_body),
    )


def _names(operation: Any, place: str) -> Iterator[str]:
    """Yield the names that an operation and its dependencies take from a place, members of models too."""
    for parameter in getattr(operation, place):
        info = parameter.field_info
        fields = [(parameter.name, info)]
        for kind in (info.annotation, *get_args(info.annotation)):
            fields += getattr(kind, "model_fields", {}).items()
        for name, field in fields:
            alias = field.validation_alias or field.alias or name
            if isinstance(alias, str):
                yield alias
    for dependency in operation.dependencies:
        yield from _names(dependency, place)
