"""Tokens, checked parameters and refusals in the terms of MCP, for servers' middleware and for the proxy.

All values are plain JSON, so no MCP library is needed here.

Both generations of the protocol are supported. From 2026-07-28 on a request states its version in ``_meta``,
and a server may return a result that asks for a person's input. Earlier ones negotiate once, at the start.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Container, Mapping
from functools import cache
from typing import Any, Final

from ..crypto.armor import proof_text
from ..decisions.outward import Outward
from ..decisions.tool_catalog import HANDSHAKE, TOOLS_CALL, ToolCatalog
from ..errors import UnknownTool
from ..scopes.call_arguments import encode
from ..tokens.token import Token
from .call import CallTerms, ToolDenied

DECISION: Final = "io.sessauth/decision"
"""The name in ``_meta`` of the id of a denial, in hex."""
TOKEN: Final = "io.sessauth/token"
"""The name in ``_meta`` of a token's text, where no HTTP header carries it."""
PROOF: Final = "io.sessauth/proof"
"""The name in ``_meta`` of a proof's text."""
APPROVAL: Final = "io.sessauth/approval"
"""The name of the input request that shows a person the approval."""
OWN: Final = "io.sessauth/"
"""The prefix of all these names."""

PROOF_HEADER: Final = "x-sessauth-proof"
"""The HTTP header of a proof's text; the token is in ``Authorization: Bearer``."""

PROTOCOL_PARAMS: Final = frozenset({"_meta", "inputResponses", "requestState"})
"""Parameters of the protocol itself, not arguments of a method."""

VERSION: Final = "io.modelcontextprotocol/protocolVersion"
GUARDED: Final = "sessauth.mcp"
"""The member of an ASGI scope that a :class:`~.services.mcp_http.GuardedMcpApp` has let through."""
_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
_log: Final = logging.getLogger("sessauth.guard")
_WAITS: Final = "This call waits for a person's approval"


class Credentials:
    """A token, and proofs of the messages that it is presented with, as a client of MCP sends them."""

    def __init__(self, token: Token, catalogue: ToolCatalog | None = None, prover: Any = None) -> None:
        """Present ``token``.

        Args:
            token: the token; of an open one only the presented form is sent.
            catalogue: the tools of the server, for proofs.
            prover: proves the calls of a bound token: a ``Prover`` or ``AsyncProver``.
        """
        self._token = token.present() if token.is_open else token
        self._catalogue = catalogue
        self._prover = prover

    async def headers(self, body: bytes) -> dict[str, str]:
        """Return the headers of a request over HTTP. One without a message has no call to prove."""
        message = json.loads(body or b"{}")
        proof = await self.proof(message.get("method", ""), message.get("params"))
        return {"Authorization": f"Bearer {self._token.text}", **({PROOF_HEADER: proof} if proof else {})}

    async def stamped(self, method: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the parameters of a message with the credentials in ``_meta``."""
        proof = await self.proof(method, params)
        meta = {**meta_of(params), TOKEN: self._token.text, **({PROOF: proof} if proof else {})}
        return {**(params or {}), "_meta": meta}

    async def proof(self, method: str, params: Mapping[str, Any] | None) -> str:
        """Return the text of a new proof of a message; empty if it needs none."""
        if not method or self._prover is None or self._catalogue is None:
            return ""
        tool, judged = "", params or {}
        if method == TOOLS_CALL:
            tool, judged = judged.get("name", ""), judged.get("arguments") or {}
        else:
            judged = judged_params(params)
        try:
            action, resource, _ = self._catalogue.ask(tool, method)
        except (UnknownTool, TypeError):
            # The server denies it.
            return ""
        if action == HANDSHAKE:
            return ""
        request: tuple[Any, ...] = (self._token, action, resource, encode(judged))
        if inspect.iscoroutinefunction(self._prover.prove):
            proof = await self._prover.prove(*request)
        else:
            proof = await asyncio.to_thread(self._prover.prove, *request)
        return proof_text(proof) if proof else ""


def meta_of(params: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the ``_meta`` of a request's parameters; empty without one."""
    meta = (params or {}).get("_meta")
    return meta if isinstance(meta, Mapping) else {}


def is_modern(params: Mapping[str, Any] | None) -> bool:
    """Return True if a request states its protocol version, as from 2026-07-28 on."""
    return VERSION in meta_of(params)


def call_terms(params: Mapping[str, Any] | None, request: Any) -> CallTerms:
    """Return the token and the proof that a request came with.

    A token is in the header or in ``_meta``. Two tokens, or another kind of credential, count as none: the
    call is then denied. Without any the guard's own token is used, but not over HTTP, where anyone may call.

    Args:
        params: the parameters of the request.
        request: the HTTP request; None where there is none.
    """
    meta, headers = meta_of(params), getattr(request, "headers", None)
    if request is not None and GUARDED not in getattr(request, "scope", ()):
        _warn_unguarded()
    authorization = headers.getlist("authorization") if headers else []
    proofs = [*(headers.getlist(PROOF_HEADER) if headers else []), *([meta[PROOF]] if PROOF in meta else [])]
    tokens = [value[7:].strip() if value[:7].lower() == "bearer " else "" for value in authorization]
    tokens += [meta[TOKEN]] if TOKEN in meta else []
    if not tokens:
        return {} if request is None else {"token": ""}
    token = tokens[0] if len(tokens) == 1 and isinstance(tokens[0], str) else ""
    if not proofs:
        return {"token": token}
    # Text that is not a proof is denied as a bad proof, and so are two proofs.
    return {"token": token, "proof": proofs[0] if len(proofs) == 1 and isinstance(proofs[0], str) else "-"}


@cache
def _warn_unguarded() -> None:
    """Tell the operator, once, of an application whose middleware sees only a part of what comes."""
    _log.warning(
        "MCP over HTTP without sessauth.guard.services.mcp_http.GuardedMcpApp: "
        "streams, answers to the server and the end of a session need no token"
    )


def judged_params(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the parameters that are checked for a request other than ``tools/call``.

    Those of the protocol itself are not.
    """
    return {name: value for name, value in (params or {}).items() if name not in PROTOCOL_PARAMS}


def without_own(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``_meta`` without the token and the proof, which are not for tools."""
    return {name: value for name, value in meta.items() if not name.startswith(OWN)}


def listed(result: dict[str, Any], shown: Container[str], params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the result of a ``tools/list`` with the tools whose names are in ``shown``.

    It is private and expires at once: from 2026-07-28 on a client could otherwise store it.
    """
    tools = [tool for tool in result["tools"] if tool["name"] in shown]
    lifetime = {"ttlMs": 0, "cacheScope": "private"} if is_modern(params) else {}
    return {**result, "tools": tools, **lifetime}


def approval_link(denied: ToolDenied, template: str) -> str:
    """Return the address of the approval that a call waits for; empty if there is none.

    ``template`` has the places ``{session}`` and ``{approval}``.
    """
    request = getattr(denied.decision, "approval", None)
    if not template or denied.outward is not Outward.APPROVAL or request is None:
        return ""
    record = request.record
    return template.replace("{session}", record.session_id.hex()).replace("{approval}", record.id.hex())


def tool_refusal(
    denied: ToolDenied, params: Mapping[str, Any] | None, *, approval_url: str = ""
) -> dict[str, Any]:
    """Return the result of a refused ``tools/call``.

    A result with ``isError`` reaches the model, where an error of the protocol may not. If the call waits for
    an approval and the client can show a person an address, it is asked to; it then repeats the call.
    """
    link = approval_link(denied, approval_url)
    meta = _meta(denied)
    if link and is_modern(params) and _shows_addresses(params):
        shown = {"mode": "url", "message": f"{_WAITS}: {denied.tool}", "url": link}
        answer: dict[str, Any] = {
            "resultType": "input_required",
            "inputRequests": {APPROVAL: {"method": "elicitation/create", "params": shown}},
            **meta,
        }
        # The state of the server's own rounds goes back to it with the repeated call.
        state = (params or {}).get("requestState")
        return {**answer, "requestState": state} if isinstance(state, str) else answer
    text = str(denied)
    if denied.outward is Outward.APPROVAL:
        text += f". A person can approve it at {link}" if link else ""
        text += ". Call it again, unchanged, once it is approved."
    result = {"content": [{"type": "text", "text": text}], "isError": True, **meta}
    return {"resultType": "complete", **result} if is_modern(params) else result


def error_of(denied: ToolDenied) -> dict[str, Any]:
    """Return the JSON-RPC error of a refused request other than ``tools/call``."""
    error = {"code": denied.outward.jsonrpc, "message": str(denied)}
    decision_id = denied.decision_id.hex()
    return {**error, "data": {DECISION: decision_id}} if decision_id else error


def _meta(denied: ToolDenied) -> dict[str, Any]:
    return {"_meta": {DECISION: denied.decision_id.hex()}} if denied.decision_id else {}


def _shows_addresses(params: Mapping[str, Any] | None) -> bool:
    capabilities = meta_of(params).get(_CAPABILITIES)
    elicitation = capabilities.get("elicitation") if isinstance(capabilities, Mapping) else None
    return isinstance(elicitation, Mapping) and isinstance(elicitation.get("url"), Mapping)
