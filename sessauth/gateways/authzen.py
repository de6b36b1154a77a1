"""A decision point of the AuthZEN Authorization API, for the gateways in a file of credentials.

    {"subject": {"type": "sessauth", "id": TOKEN},
     "action": {"name": "write"},
     "resource": {"type": "orders", "id": "17"},
     "context": {"arguments": {"amount": 20}, "proof": PROOF}}

``type/id`` is the resource. With the type ``tool`` the id names a tool of a catalogue, which determines the
action. An evaluation is a call that is about to be made: it is recorded, and costs what the call costs.

The evaluator makes a check of an evaluation, and the ASGI application is the HTTP binding.

A status other than 200 reports an error of the request, with a text as its body. A denial is 200 with
``"decision": false``. A proxy that looks at the status alone would let a denied request pass, so its
subrequests are refused.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ..crypto.armor import PRESENTED_PREFIX
from ..decisions.decision import allows
from ..decisions.outward import Outward
from ..decisions.tool_catalog import TOOLS_CALL, ToolCatalog
from ..errors import UsageError
from ..guard import Guard, ToolDenied
from ..guard.asgi import Gone, Receive, Scope, Send
from ..guard.call import CallTerms
from ..guard.services.call_table import CallTable, NamedCall
from ..guard.services.presented import AUTHORIZATION, bearer
from ..guard.services.routes import MARK, Places, ResourceTemplate, header_values, require_json
from ..limits import MAX_JSON_BYTES
from ..server.keys.credentials import CredentialFile
from .http_server import PLAIN, FaultyRequest, read_body, respond
from .json_parts import elements, members, object_text, strict_object, string

_ROLE = "gateway"


def caller_check(file: Path, audience: str) -> Callable[[str], bool | None]:
    """Return the check of a caller's credential by ``file``, which is read again when it changes.

    It returns True for a gateway that may ask for ``audience``, False for another principal, None for an
    unknown credential. It raises ConfigError if the file can't be read.
    """
    credentials = CredentialFile(file)

    def authenticate(text: str) -> bool | None:
        principal = credentials.authenticate(text)
        if principal is None:
            return None
        return principal.role == _ROLE and (not principal.audiences or audience in principal.audiences)

    return authenticate


SUBJECT: Final = "sessauth"
TOOL: Final = "tool"
# Resources of tools: only a catalogue knows a tool's action.
_MCP: Final = "mcp"
_RESOURCE: Final = ResourceTemplate("{type}/{id*}")
_ENTITIES: Final[Sequence[str]] = ("subject", "action", "resource", "context")
MAX_EVALUATIONS: Final = 100

EXECUTE_ALL: Final = "execute_all"
# The decision that ends a batch.
_SEMANTICS: Final[Mapping[str, bool | None]] = {
    EXECUTE_ALL: None,
    "deny_on_first_deny": False,
    "permit_on_first_permit": True,
}
_log: Final = logging.getLogger("sessauth.gateways.authzen")

Answer = dict[str, Any]


class AuthZenEvaluator:
    """Answers evaluations by a verifier and the catalogues of MCP servers."""

    def __init__(self, verifier: Any, catalogues: Iterable[ToolCatalog] = (), *, audience: str = "") -> None:
        """Check by ``verifier``; see :class:`~sessauth.guard.Guard`.

        Raises:
            UsageError: if two catalogues are of one server.
        """
        self._guard = Guard(verifier, CallTable(), audience=audience)
        self._tools: dict[str, Guard] = {}
        for catalogue in catalogues:
            if catalogue.server in self._tools:
                raise UsageError(f"catalogue: there are two of {catalogue.server}")
            self._tools[catalogue.server] = Guard(verifier, catalogue, audience=audience)

    async def evaluation(self, body: bytes) -> Answer:
        """Answer a request to the evaluation endpoint.

        Raises:
            UsageError: if it is not an evaluation.
        """
        return await self._evaluate(members(strict_object(body)))

    async def evaluations(self, body: bytes) -> Answer:
        """Answer a request to the evaluations endpoint; without evaluations it is one evaluation.

        Raises:
            UsageError: if the request as a whole is faulty. A faulty evaluation in it is denied.
        """
        request = members(strict_object(body))
        items = elements(_part(request, "evaluations")) if "evaluations" in request else []
        if len(items) > MAX_EVALUATIONS:
            raise UsageError(f"evaluations: more than {MAX_EVALUATIONS}")
        last = _semantic(request)
        if not items:
            return await self._evaluate(request)
        defaults = {name: request[name] for name in _ENTITIES if name in request}
        for name in defaults:
            _object(request, name)
        answers: list[Answer] = []
        for item in items:
            try:
                answer = await self._evaluate({**defaults, **members(item)})
            except UsageError as error:
                answer = {"decision": False, "context": {"error": {"status": 400, "message": str(error)}}}
            answers.append(answer)
            if answer["decision"] is last:
                break
        return {"evaluations": answers}

    async def _evaluate(self, request: Mapping[str, str]) -> Answer:
        """Answer one evaluation. Raises UsageError for another value."""
        subject, action, resource = (_object(request, name) for name in _ENTITIES[:3])
        subject_type, token = _string(subject, "subject", "type"), _string(subject, "subject", "id")
        name = _string(action, "action", "name")
        kind, identity = _string(resource, "resource", "type"), _string(resource, "resource", "id")
        context = _object(request, "context") if "context" in request else {}
        arguments = context.get("arguments", "{}")
        if arguments[0] != "{":
            raise UsageError("context.arguments: is no object")
        terms: CallTerms = {"token": token if subject_type == SUBJECT else ""}
        if "proof" in context:
            terms["proof"] = _string(context, "context", "proof")
        if kind == TOOL:
            if "query" in context:
                raise UsageError("context.query: a tool has none")
            guard, tool = self._tool(name, identity)
        else:
            guard, tool = self._call(name, kind, identity)
            arguments = _of_places(arguments, _object(context, "query") if "query" in context else {})
        try:
            decision = await guard.acheck(tool, arguments.encode(), **terms)
        except ToolDenied as denied:
            return _denied(denied)
        except Exception as error:  # noqa: BLE001 - an evaluation without a decision is denied
            _log.error("an evaluation could not be made: %s", type(error).__name__)
            return _denied(ToolDenied(name))
        if decision is None or not allows(decision):
            return _denied(ToolDenied(name, decision=decision))
        return {"decision": True, "context": {"id": decision.decision_id.hex()}}

    def _tool(self, action: str, identity: str) -> tuple[Guard, str]:
        """Return the guard of a tool, and its name; a name that is in no catalogue for an unknown one."""
        server, mark, tool = identity.rpartition("/")
        if not mark and len(self._tools) == 1:
            (server,) = self._tools
        guard = self._tools.get(server)
        if guard is None:
            return self._guard, identity
        stated = (TOOLS_CALL, "call", guard.catalogue.request(tool)[0]) if tool in guard.catalogue else ()
        # An action that the catalogue contradicts names another call than the tool's.
        return guard if action in stated else self._guard, tool

    def _call(self, action: str, kind: str, identity: str) -> tuple[Guard, str]:
        """Return the guard of a plain resource, and the call. Raises UsageError if it can't be one."""
        if "/" in kind:
            raise UsageError("resource.type: is no single segment")
        if kind == _MCP:
            return self._guard, f"{kind}/{identity}"
        try:
            resource = _RESOURCE.fill({"type": kind, "id": identity})
        except UsageError:
            raise UsageError("resource: type and id are no resource") from None
        return self._guard, NamedCall(f"{action} {resource}", action, resource)


def _of_places(arguments: str, query: Mapping[str, str]) -> str:
    """Return the arguments of a request with those of its query. Raises UsageError for a name of another."""
    values = members(arguments)
    if any(name.startswith(MARK) for name in values):
        raise UsageError("context.arguments: a name begins with ?, as only those of context.query do")
    if not query:
        return arguments
    if values.keys() & query.keys():
        raise UsageError("context.query: has a name of context.arguments")
    return object_text({**values, **Places().named(query)})


def _denied(denied: ToolDenied) -> Answer:
    """Return the answer of a refusal: the reason is for the operators of the enforcement point."""
    status = str(denied.outward.http if denied.outward is not Outward.ALLOWED else 403)
    context: Answer = {"reason_user": {status: denied.outward.text}, "reason_admin": {status: denied.reason}}
    if denied.decision_id:
        context["id"] = denied.decision_id.hex()
    return {"decision": False, "context": context}


def _semantic(request: Mapping[str, str]) -> bool | None:
    """Return the decision that ends a batch; None if none does."""
    if "options" not in request:
        return None
    options = _object(request, "options")
    if "evaluations_semantic" not in options:
        return None
    semantic = _string(options, "options", "evaluations_semantic")
    if semantic not in _SEMANTICS:
        raise UsageError(f"options.evaluations_semantic: is one of {', '.join(_SEMANTICS)}")
    return _SEMANTICS[semantic]


def _part(parts: Mapping[str, str], name: str) -> str:
    if name not in parts:
        raise UsageError(f"{name}: is missing")
    return parts[name]


def _object(parts: Mapping[str, str], name: str) -> dict[str, str]:
    text = _part(parts, name)
    try:
        return members(text)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None


def _string(parts: Mapping[str, str], owner: str, name: str) -> str:
    if name not in parts:
        raise UsageError(f"{owner}.{name}: is missing")
    try:
        return string(parts[name])
    except UsageError as error:
        raise UsageError(f"{owner}.{name}: {error}") from None


EVALUATION: Final = "/access/v1/evaluation"
EVALUATIONS: Final = "/access/v1/evaluations"
METADATA: Final = "/.well-known/authzen-configuration"
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

Authenticate = Callable[[str], bool | None]
"""True for a credential that may ask, False for one that may not, None for no credential."""


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
            answer = 200, await self._answer(scope, headers, receive)
        except Gone:
            return
        except FaultyRequest as error:
            answer = error.status, str(error)
            sent |= {"content-type": PLAIN, **error.headers}
        except Exception as error:  # noqa: BLE001 - no answer of it allows anything
            _log.error("a request could not be answered: %s", type(error).__name__)
            answer = 500, "no answer; try again later"
            sent["content-type"] = PLAIN
        await respond(send, *answer, sent)

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
        return await read_body(headers, receive, MAX_JSON_BYTES)


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
