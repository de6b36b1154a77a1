"""The HTTP binding of the Authorization API: an ASGI application without a framework.

Every answer but 200 is an error of the request, with a text as its body. A denial is 200 with
``"decision": false``. A proxy that looks at the status alone would let it pass, so its subrequests are
refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from ...crypto.armor import PRESENTED_PREFIX
from ...errors import UsageError
from ...guard.asgi import Gone, Incoming, Receive, Scope, Send, TooLarge
from ...guard.services.presented import AUTHORIZATION, bearer
from ...guard.services.routes import header_values, require_json
from ...limits import MAX_JSON_BYTES
from .evaluation import AuthZenEvaluator

EVALUATION: Final = "/access/v1/evaluation"
EVALUATIONS: Final = "/access/v1/evaluations"
METADATA: Final = "/.well-known/authzen-configuration"
RECEIVE_SECONDS: Final = 10.0
_REQUEST_ID: Final = "x-request-id"
_MAX_REQUEST_ID: Final = 1_024
_JSON: Final = "application/json"
# By these a subrequest of a proxy (auth_request, forward_auth) states the request that it is about.
_ORIGINAL_TARGET: Final = ("x-original-uri", "x-original-url", "x-forwarded-uri")
_ORIGINAL_METHOD: Final = ("x-original-method", "x-forwarded-method")
_SUBREQUEST: Final = (
    "this looks like a subrequest of nginx's auth_request or the like, which lets a denial of AuthZEN pass:"
    " its status is 200"
)
# Callers that are told of in the log; a stranger could else fill it.
_MAX_WARNED: Final = 64
_log: Final = logging.getLogger("sessauth.gateways.authzen")

Authenticate = Callable[[str], bool | None]
"""True for a credential that may ask, False for one that may not, None for no credential."""


class FaultyRequest(Exception):
    """An answer that is an error of the request."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        """Answer with a status and a message."""
        super().__init__(message)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class AuthZenApp:
    """Serves the endpoints of one Policy Decision Point."""

    def __init__(
        self, evaluator: AuthZenEvaluator, identifier: str, authenticate: Authenticate | None = None
    ) -> None:
        """Answer by ``evaluator``.

        Args:
            evaluator: makes the decisions.
            identifier: the URL of this decision point, without a slash at its end.
            authenticate: tells whether a bearer credential may ask; None: any client of the socket may.
        """
        self._evaluator = evaluator
        self._authenticate = authenticate
        self._warned: set[str] = set()
        self._prefix = _path_of(identifier)
        self._metadata = json.dumps(
            {
                "policy_decision_point": identifier,
                "access_evaluation_endpoint": identifier + EVALUATION,
                "access_evaluations_endpoint": identifier + EVALUATIONS,
            }
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise UsageError(f"an ASGI scope of another type: {scope['type']!a}")
        headers = header_values(scope["headers"])
        sent: dict[str, str] = {"cache-control": "no-store", "content-type": _JSON}
        request_ids = headers.get(_REQUEST_ID, [])
        if len(request_ids) == 1 and len(request_ids[0]) <= _MAX_REQUEST_ID:
            sent[_REQUEST_ID] = request_ids[0]
        try:
            status, text = 200, await self._answer(scope, headers, receive)
        except Gone:
            return
        except FaultyRequest as error:
            status, text = error.status, str(error)
            sent |= {"content-type": "text/plain; charset=utf-8", **error.headers}
        except Exception as error:  # noqa: BLE001 - no answer of it allows anything
            _log.error("a request could not be answered: %s", type(error).__name__)
            status, text = 500, "no answer; try again later"
            sent["content-type"] = "text/plain; charset=utf-8"
        body = text.encode()
        sent["content-length"] = str(len(body))
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in sent.items()]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, headers: dict[str, list[str]], receive: Receive) -> str:
        """Return the body of an answer with status 200. Raises FaultyRequest, or Gone."""
        method, path = scope["method"], scope["path"]
        if path == METADATA:
            if method != "GET":
                raise FaultyRequest(405, "the metadata is read with GET", allow="GET")
            return self._metadata
        if path not in (EVALUATION, EVALUATIONS):
            raise FaultyRequest(404, "nothing is served here")
        if _is_subrequest(headers, method, (path, self._prefix + path)):
            self._warn(scope)
            raise FaultyRequest(403, _SUBREQUEST)
        if method != "POST":
            raise FaultyRequest(405, "an evaluation is requested with POST", allow="POST")
        self._admit(headers)
        if scope.get("query_string"):
            raise FaultyRequest(400, "an evaluation has no query")
        body = await self._body(headers, receive)
        evaluate = self._evaluator.evaluation if path == EVALUATION else self._evaluator.evaluations
        try:
            return json.dumps(await evaluate(body))
        except UsageError as error:
            raise FaultyRequest(400, str(error)) from None

    def _warn(self, scope: Scope) -> None:
        """Tell the operator of a caller that asks by subrequests, once."""
        caller = (scope.get("client") or ("a local socket",))[0]
        if caller not in self._warned and len(self._warned) < _MAX_WARNED:
            self._warned.add(caller)
            _log.warning("refused %s: %s", caller, _SUBREQUEST)

    def _admit(self, headers: dict[str, list[str]]) -> None:
        if self._authenticate is None:
            return
        credential = bearer(headers.get(AUTHORIZATION, []))
        answer = self._authenticate(credential) if credential else None
        if answer is None:
            raise FaultyRequest(401, "the caller has no valid credential", www_authenticate="Bearer")
        if answer is not True:
            raise FaultyRequest(403, "this credential may not ask here")

    @staticmethod
    async def _body(headers: dict[str, list[str]], receive: Receive) -> bytes:
        try:
            require_json(headers)
        except UsageError as error:
            raise FaultyRequest(400, str(error)) from None
        if not headers["content-type"][0].lower().startswith(_JSON):
            raise FaultyRequest(400, "body: its content type is application/json")
        if "content-length" in headers and "transfer-encoding" in headers:
            # A proxy in front may have read the other length (RFC 9112, section 6.1).
            raise FaultyRequest(
                400, "body: it has a content-length and a transfer-encoding; send one of them"
            )
        try:
            async with asyncio.timeout(RECEIVE_SECONDS):
                return await Incoming(receive, MAX_JSON_BYTES).read()
        except TooLarge as error:
            raise FaultyRequest(413, str(error)) from None
        except TimeoutError:
            raise FaultyRequest(408, "the body did not come in time") from None


def _is_subrequest(headers: dict[str, list[str]], method: str, paths: tuple[str, str]) -> bool:
    """Return True for a request that is about another one, or has a token in the place of a credential."""
    if bearer(headers.get(AUTHORIZATION, [])).startswith(PRESENTED_PREFIX):
        return True
    targets = [value for name in _ORIGINAL_TARGET for value in headers.get(name, [])]
    methods = [value for name in _ORIGINAL_METHOD for value in headers.get(name, [])]
    # A proxy in front of the decision point may state the request that it passes on.
    return any(_path_of(target) not in paths for target in targets) or any(
        value != method for value in methods
    )


def _path_of(target: str) -> str:
    try:
        return urlsplit(target).path
    except ValueError:
        return ""
