"""Carries statements of identity providers to the server, which verifies them.

    POST /logout/NAME   OpenID Connect Back-Channel Logout 1.0: the form parameter logout_token
    POST /revoke/NAME   draft-parecki-oauth-global-token-revocation: a bearer JWT, and JSON with sub_id

NAME is that of the provider in the server's settings. The answer is 200, or 204, once the change is durable
on the server. This program reads no claim and has no key: it can keep a statement back and nothing else. So
whoever reaches it may send: a statement that no provider signed is refused by the server.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

from ..client import AsyncClient
from ..errors import IdentityRefused, SessauthError
from ..guard.asgi import Gone, Receive, Scope, Send
from ..guard.services.presented import AUTHORIZATION, bearer
from ..guard.services.routes import header_values
from .http_server import FaultyRequest, read_body, respond

LOGOUT: Final = "/logout/"
REVOKE: Final = "/revoke/"
MAX_BODY_BYTES: Final = 64 * 1024
BODY_SECONDS: Final = 2.0
# Statements that are under way at once; a provider sends a further one again.
MAX_IN_FLIGHT: Final = 64
RETRY_AFTER_S: Final = 5
_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
# The faults of a bearer that does not count; the others are of the request.
_UNAUTHENTICATED: Final = ("IDENTITY_UNTRUSTED", "IDENTITY_EXPIRED")
_log: Final = logging.getLogger("sessauth.gateways.security_events")


class SecurityEventsApp:
    """Answers the requests of identity providers, as an ASGI application."""

    def __init__(self, make_client: Callable[[], AsyncClient]) -> None:
        """Hand statements on by a client that ``make_client`` returns, at the first request."""
        self._make_client = make_client
        self._client: AsyncClient | None = None
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        sent = {"cache-control": "no-store", "content-type": _JSON}
        text = ""
        try:
            status = await self._answer(scope, header_values(scope["headers"]), receive)
        except Gone:
            return
        except FaultyRequest as error:
            status, sent = error.status, {**sent, **error.headers}
            text = json.dumps({"error": "invalid_request", "error_description": str(error)})
        except Exception as error:  # noqa: BLE001 - the provider is told to send it again
            _log.error("a statement could not be handed on: %s", type(error).__name__)
            status, sent = 503, {**sent, "retry-after": str(RETRY_AFTER_S)}
        await respond(send, status, text, sent)

    async def _answer(self, scope: Scope, headers: Mapping[str, Sequence[str]], receive: Receive) -> int:
        """Return the status of a statement that took effect. Raises FaultyRequest, or Gone."""
        path, method = scope["path"], scope["method"]
        kind = next((each for each in (LOGOUT, REVOKE) if path.startswith(each)), "")
        name = path.removeprefix(kind)
        if not kind or not name or "/" in name:
            raise FaultyRequest(404, "nothing is served here")
        if method != "POST":
            raise FaultyRequest(405, "a statement is sent with POST", allow="POST")
        if scope.get("query_string"):
            # Queries are in the logs of proxies.
            raise FaultyRequest(400, "a statement has no query")
        if self._in_flight >= MAX_IN_FLIGHT:
            raise FaultyRequest(503, "too many at once; send it again", retry_after=str(RETRY_AFTER_S))
        self._in_flight += 1
        try:
            body = await read_body(headers, receive, MAX_BODY_BYTES, BODY_SECONDS)
            return await self._hand_on(kind, name, headers, body)
        finally:
            self._in_flight -= 1

    async def _hand_on(self, kind: str, name: str, headers: Mapping[str, Sequence[str]], body: bytes) -> int:
        if self._client is None:
            self._client = self._make_client()
        credential = bearer(headers.get(AUTHORIZATION, []))
        try:
            if kind == LOGOUT:
                await self._client.report_logout(name, _logout_token(headers, body))
                return 200
            if not credential:
                raise FaultyRequest(401, "the provider's JWT is required", www_authenticate="Bearer")
            _require_type(headers, _JSON)
            await self._client.report_revocation(name, credential, body)
        except IdentityRefused as error:
            unauthenticated = kind == REVOKE and error.fault in _UNAUTHENTICATED
            _log.warning("refused a statement for %a: %s", name[:64], error.fault)
            raise FaultyRequest(401 if unauthenticated else 400, str(error)) from None
        except SessauthError as error:
            _log.error("a statement for %a could not be handed on: %s", name[:64], error)
            raise FaultyRequest(
                503, "the server can't take it now; send it again", retry_after=str(RETRY_AFTER_S)
            ) from None
        return 204


def _require_type(headers: Mapping[str, Sequence[str]], wanted: str) -> None:
    stated = headers.get("content-type", ())
    if len(stated) != 1 or stated[0].partition(";")[0].strip().lower() != wanted:
        raise FaultyRequest(400, f"the content type must be {wanted}")


def _logout_token(headers: Mapping[str, Sequence[str]], body: bytes) -> str:
    """Return the one logout token of a form. Raises FaultyRequest."""
    _require_type(headers, _FORM)
    try:
        pairs = parse_qsl(body.decode("ascii"), strict_parsing=True, max_num_fields=16)
    except ValueError:
        raise FaultyRequest(400, "the body is no form") from None
    tokens = [value for name, value in pairs if name == "logout_token"]
    if len(tokens) != 1:
        raise FaultyRequest(400, "logout_token: exactly one is required")
    return tokens[0]
