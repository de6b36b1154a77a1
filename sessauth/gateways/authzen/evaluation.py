"""Evaluations as calls: subject, action, resource and context become a check, a decision their answer.

    {"subject": {"type": "sessauth", "id": TOKEN},
     "action": {"name": "write"},
     "resource": {"type": "orders", "id": "17"},
     "context": {"arguments": {"amount": 20}, "proof": PROOF}}

``type/id`` is the resource. With the type ``tool`` the id names a tool of a catalogue, which knows its
action. An evaluation is a call that is about to be made: it is recorded, and costs what the call costs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ...decisions.decision import allows
from ...decisions.outward import Outward
from ...decisions.tool_catalog import TOOLS_CALL, ToolCatalog
from ...errors import UsageError
from ...guard import Guard, ToolDenied
from ...guard.call import CallTerms
from ...guard.services.call_table import CallTable, NamedCall
from ...guard.services.routes import MARK, Places, ResourceTemplate
from ..json_parts import elements, members, object_text, strict_object, string

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
            UsageError: if it is no evaluation.
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
                answer = {
                    "decision": False,
                    "context": {"error": {"status": 400, "message": str(error)}},
                }
            answers.append(answer)
            if answer["decision"] is last:
                break
        return {"evaluations": answers}

    async def _evaluate(self, request: Mapping[str, str]) -> Answer:
        """Answer one evaluation. Raises UsageError if it is none."""
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
