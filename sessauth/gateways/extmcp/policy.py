"""The policy server of agentgateway: clients' messages are checked, lists of tools are filtered.

One gateway may have several MCP servers. Each has a catalogue, whose server is the name of agentgateway's
target. agentgateway parses the parameters and rewrites them, so the canonical form of a call's arguments is
checked, and a proof covers that form.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from ..._fast._check import RpcMessage
from ..._fast.codec.errors import FormError
from ...decisions.decision import DecisionBase, allows
from ...decisions.outward import Outward
from ...decisions.tool_catalog import TOOLS_CALL, TOOLS_LIST, ToolCatalog
from ...errors import UsageError
from ...guard import Guard, ToolDenied
from ...guard.call import BAD_CALL, CallTerms
from ...guard.services.presented import AUTHORIZATION, DECISION, PROOF, bearer, one_proof
from ...scopes.call_arguments import canonical
from ...server.rpc.call import parse
from ..grpc_server import ListeningServer
from .v1 import ext_mcp_pb2 as messages

SESSION: Final = "x-sessauth-session"
# agentgateway asks about these only when the server has answered.
ANSWERED_ONLY: Final = frozenset({"resources/subscribe", "resources/unsubscribe", "completion/complete"})
# Never passed on to a server.
_REMOVED: Final = (AUTHORIZATION, PROOF, "x-sessauth-token")
_CODES: Final[Mapping[Outward, messages.Refused.Code]] = {
    Outward.UNAVAILABLE: messages.Refused.CODE_UNSPECIFIED
}
_MESSAGE: Final = b'{"jsonrpc":"2.0","id":1,"method":%b,"params":%b}'
_log: Final = logging.getLogger("sessauth.gateways.extmcp")


class ExtMcpPolicy:
    """Checks by a verifier and the catalogues of the servers."""

    def __init__(self, verifier: Any, catalogues: Iterable[ToolCatalog], *, audience: str = "") -> None:
        """Check by ``verifier``; see :class:`~sessauth.guard.Guard`.

        Raises:
            UsageError: if two catalogues are of one server.
        """
        self._guards: dict[str, Guard] = {}
        for catalogue in catalogues:
            if catalogue.server in self._guards:
                raise UsageError(f"catalogue: there are two of {catalogue.server}")
            self._guards[catalogue.server] = Guard(verifier, catalogue, audience=audience)

    def check_request(self, request: messages.McpRequest) -> messages.McpRequestAnswer:
        """Answer for a client's message. Raises nothing."""
        try:
            decision = self._judge(request)
        except Exception as error:  # noqa: BLE001 - a message that could not be checked is refused
            return messages.McpRequestAnswer(refused=_refused(error))
        facts = {SESSION: decision.session_id.hex(), DECISION: decision.decision_id.hex()}
        answer = messages.McpRequestAnswer(
            allowed=messages.Allowed(),
            header_changes=messages.HeaderChanges(
                # Always set, so that a client's own header of that name is never passed on.
                set=[messages.HttpHeader(key=key, value=value.encode()) for key, value in facts.items()],
                remove=_REMOVED,
            ),
        )
        answer.metadata.update({"session": facts[SESSION], "decision": facts[DECISION]})
        return answer

    def check_response(self, response: messages.McpResponse) -> messages.McpResponseAnswer:
        """Answer for a server's result: a list of tools is filtered. Raises nothing.

        Its token comes in the metadata, since the headers of the request are not there.
        """
        try:
            if response.method == TOOLS_LIST:
                return messages.McpResponseAnswer(result=self._filtered(response))
            if response.method in ANSWERED_ONLY:
                terms: CallTerms = {"token": _token_of(response)}
                for guard in self._guards_of(response.method, response.service_names):
                    _allowed(response.method, guard.check_method(response.method, **terms))
        except Exception as error:  # noqa: BLE001 - a result that could not be checked is refused
            return messages.McpResponseAnswer(refused=_refused(error))
        return messages.McpResponseAnswer(allowed=messages.Allowed())

    def _judge(self, request: messages.McpRequest) -> DecisionBase:
        """Return the decision that allows a message. Raises ToolDenied."""
        headers: dict[str, list[str]] = {}
        for header in request.headers:
            headers.setdefault(header.key.lower(), []).append(header.value.decode("latin-1"))
        method = request.method
        guards = self._guards_of(method, request.service_names)
        terms: CallTerms = {"token": bearer(headers.get(AUTHORIZATION, ()))}
        try:
            terms["proof"] = one_proof(headers.get(PROOF, ()))
            params = canonical(request.params)
            message = RpcMessage(_MESSAGE % (json.dumps(method).encode(), params))
        except (UsageError, FormError) as error:
            raise ToolDenied(method, BAD_CALL) from error
        if message.own_meta or message.method != method:
            # A token in the message would be passed on to the server.
            raise ToolDenied(method, BAD_CALL)
        if method == TOOLS_CALL:
            if len(guards) != 1 or message.name is None:
                raise ToolDenied(method, BAD_CALL)
            return _allowed(message.name, guards[0].check(message.name, message.arguments, **terms))
        decisions = [_allowed(method, guard.check_method(method, params, **terms)) for guard in guards]
        return decisions[0]

    def _guards_of(self, method: str, names: Sequence[str]) -> list[Guard]:
        """Return the guards of servers. Raises ToolDenied for none, and for one without a catalogue."""
        if not names or len(set(names)) < len(names) or any(name not in self._guards for name in names):
            raise ToolDenied(method, BAD_CALL)
        return [self._guards[name] for name in names]

    def _filtered(self, response: messages.McpResponse) -> bytes:
        """Return a list of tools without those that the token can never call. Raises ToolDenied."""
        names = list(response.service_names)
        guards = dict(zip(names, self._guards_of(TOOLS_LIST, names), strict=True))
        terms: CallTerms = {"token": _token_of(response)}
        for guard in guards.values():
            _allowed(TOOLS_LIST, guard.check_method(TOOLS_LIST, **terms))
        result = json.loads(
            response.result, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite
        )
        shown = []
        for tool in result["tools"]:
            owners = _owners(names, tool["name"])
            # A name that could be of two servers is shown for none.
            if len(owners) == 1:
                ((server, name),) = owners
                if guards[server].visible([name], **terms):
                    shown.append(tool)
        result["tools"] = shown
        # A list for one caller is not for another, nor for later.
        for member, value in (("ttlMs", 0), ("cacheScope", "private")):
            if member in result:
                result[member] = value
        return json.dumps(result, separators=(",", ":")).encode()


def _owners(servers: Sequence[str], tool: str) -> list[tuple[str, str]]:
    """Return each server that a listed name can be of, and the tool's own name there.

    The only server's tools have their own names; of several, each name begins with its server's and ``_``.
    """
    if len(servers) == 1:
        return [(servers[0], tool)]
    return [(server, tool.removeprefix(f"{server}_")) for server in servers if tool.startswith(f"{server}_")]


def _token_of(response: messages.McpResponse) -> str:
    """Return the token in the metadata: under ``authorization`` as in the header, or under ``token``."""
    fields = response.metadata_context.fields
    values = [fields[name].string_value for name in (AUTHORIZATION, "token") if name in fields]
    if len(values) != 1:
        return ""
    return bearer(values) if AUTHORIZATION in fields else values[0]


def _allowed(name: str, decision: DecisionBase | None) -> DecisionBase:
    """Return a decision that allows. Raises ToolDenied for any other."""
    if decision is None or not allows(decision):
        raise ToolDenied(name, decision=decision)
    return decision


def _refused(error: Exception) -> messages.Refused:
    denied = error if isinstance(error, ToolDenied) else ToolDenied("")
    if denied is not error:
        _log.error("a message could not be checked: %s", type(error).__name__)
    code = _CODES.get(denied.outward, messages.Refused.CODE_PERMISSION_DENIED)
    if denied.reason == BAD_CALL:
        code = messages.Refused.CODE_INVALID
    data = {"error": denied.outward.name.lower()}
    if denied.decision_id:
        data["decision"] = denied.decision_id.hex()
    return messages.Refused(code=code, message=denied.outward.text, data=json.dumps(data).encode())


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name occurs twice")
    return values


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number that JSON lacks, or beyond a double")
    return number


SERVICE: Final = "agentgateway.dev.ext_mcp.ExtMcp"


class ExtMcpServer(ListeningServer):
    """Serves a policy."""

    def __init__(self, policy: ExtMcpPolicy) -> None:
        """Prepare to serve; nothing listens yet. Raises ConfigError without libnghttp2."""
        super().__init__(
            "extmcp",
            {
                f"/{SERVICE}/CheckRequest": _encoded(policy.check_request, messages.McpRequest),
                f"/{SERVICE}/CheckResponse": _encoded(policy.check_response, messages.McpResponse),
            },
        )


def _encoded(answer: Callable[[Any], Any], kind: Any) -> Callable[[bytes], bytes]:
    def encoded(data: bytes) -> bytes:
        answered: bytes = answer(parse(kind, data)).SerializeToString()
        return answered

    return encoded
