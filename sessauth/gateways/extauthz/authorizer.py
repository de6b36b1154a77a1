"""An authorizer for Envoy: decides each request that Envoy asks about, over gRPC.

The mapper of ``gateways/request.py`` makes a call of the request, and a verifier checks it. The answer holds
the additions to a request that passes, or the response to the client. Any failure is a denial.

A request that needs no thread is answered on the server's own loop.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from ..._fast._check import Prepared
from ..._fast._codec import DirectCaller, DirectMethod, ExtAuthzRequest
from ..._fast.codec.errors import FormError
from ...decisions.decision import DecisionBase, allows, is_answer
from ...decisions.outward import Outward, outward
from ...guard.services.mcp_sessions import McpSessions
from ...guard.services.resource_metadata import ResourceMetadata
from ...reasons import Reason, Stage
from ...server.log import event, fault
from ...verifier.base import BaseVerifier
from ..grpc_server import ListeningServer
from ..request import PROOF, TOKEN, Call, Fault, Mapped, Refusal, RequestMapper, TokenOnly
from .v1.check_pb2 import CheckResponse, DeniedHttpResponse, HeaderValue, HeaderValueOption, OkHttpResponse

SESSION: Final = "x-sessauth-session"
DECISION: Final = "x-sessauth-decision"
REFUSAL: Final = "x-sessauth-refusal"
# By these Envoy sends a request several times, which was checked and charged once. It obeys clients that it
# counts as internal.
REPEATING: Final = (
    *("x-envoy-retry-on", "x-envoy-retry-grpc-on", "x-envoy-max-retries", "x-envoy-retriable-status-codes"),
    *("x-envoy-retriable-header-names", "x-envoy-hedge-on-per-try-timeout"),
)

# Envoy's number: replaces every line of the name.
_OVERWRITE: Final = 2
# google.rpc.Code PERMISSION_DENIED. Envoy looks only at whether it is 0.
_DENIED: Final = 7
_RETRY_SECONDS: Final = {Outward.APPROVAL: "5", Outward.UNAVAILABLE: "1"}
_CHALLENGE: Final = "www-authenticate"
# In the place of ids, which always have these lengths.
_SESSION_PLACE: Final = b"s" * 32
_DECISION_PLACE: Final = b"d" * 32


def _line(name: str, value: str) -> HeaderValueOption:
    return HeaderValueOption(header=HeaderValue(key=name, value=value), append_action=_OVERWRITE)


def _split_template() -> tuple[bytes, bytes, bytes]:
    """Return the parts of an answer around the ids of session and decision."""
    template = CheckResponse(
        ok_response=OkHttpResponse(
            # Set in every answer: a forged line of the client would pass otherwise.
            headers=[_line(SESSION, _SESSION_PLACE.decode()), _line(DECISION, _DECISION_PLACE.decode())],
            headers_to_remove=["authorization", PROOF, TOKEN, REFUSAL, *REPEATING],
        )
    )
    template.status.SetInParent()
    before, rest = template.SerializeToString().split(_SESSION_PLACE)
    between, after = rest.split(_DECISION_PLACE)
    return before, between, after


_BEFORE, _BETWEEN, _AFTER = _split_template()


def allow(decision: DecisionBase) -> bytes:
    """Return the answer that lets a request pass. Raises ValueError for a denial."""
    if not allows(decision):
        raise ValueError("only an allow lets a request pass")
    return pass_with(decision.session_id, decision.decision_id)


def pass_with(session_id: bytes, decision_id: bytes) -> bytes:
    """Return the answer that lets a request pass with these ids, of 16 bytes each. Raises ValueError."""
    session, decided = session_id.hex().encode(), decision_id.hex().encode()
    if len(session) != len(_SESSION_PLACE) or len(decided) != len(_DECISION_PLACE):
        raise ValueError("an id has 16 bytes")
    return b"".join((_BEFORE, session, _BETWEEN, decided, _AFTER))


def deny(
    outcome: Outward,
    mcp: bool,
    request_id: bytes,
    decision_id: bytes = b"",
    metadata: ResourceMetadata | None = None,
) -> bytes:
    """Return the answer for a denied call."""
    lines = [(DECISION, decision_id.hex())] if decision_id else []
    if challenge := outcome.challenge:
        if metadata is not None and outcome is Outward.UNAUTHENTICATED:
            challenge = metadata.challenge(challenge)
        lines.append((_CHALLENGE, challenge))
    if outcome in _RETRY_SECONDS:
        lines.append(("retry-after", _RETRY_SECONDS[outcome]))
    return _denied(outcome.http, lines, outcome.jsonrpc, outcome.text, mcp, request_id)


def refuse(fault: Fault, mcp: bool, request_id: bytes, metadata: ResourceMetadata | None = None) -> bytes:
    """Return the answer for a request that was not checked. Its name tells the client how to change it."""
    lines = [(REFUSAL, fault.name)]
    if fault is Fault.NO_TOKEN:
        # Without an error code: RFC 6750, section 3.1.
        lines.append((_CHALLENGE, "Bearer" if metadata is None else metadata.challenge("Bearer")))
    return _denied(fault.http, lines, fault.jsonrpc, fault.text, mcp, request_id)


def show(metadata: ResourceMetadata) -> bytes:
    """Return the answer that shows the metadata to any client. Nothing reaches the upstream."""
    # Pages of other origins may read it: it is public.
    lines = [("content-type", "application/json"), ("access-control-allow-origin", "*")]
    return _answered(200, lines, metadata.document.decode())


def _denied(
    status: int, lines: list[tuple[str, str]], code: int, text: str, mcp: bool, request_id: bytes
) -> bytes:
    if mcp:
        error = json.dumps({"code": code, "message": text})
        body = f'{{"jsonrpc":"2.0","id":{request_id.decode() or "null"},"error":{error}}}'
    else:
        body = json.dumps({"error": text})
    return _answered(status, [("content-type", "application/json"), *lines], body)


def _answered(status: int, lines: list[tuple[str, str]], body: str) -> bytes:
    """Return the answer that Envoy sends in place of the upstream's."""
    headers = [_line(name, value) for name, value in lines]
    response = CheckResponse(denied_response=DeniedHttpResponse(headers=headers, body=body))
    response.status.code = _DENIED
    response.denied_response.status.code = status
    return response.SerializeToString()


# Tokens that are looked up once. They stay in memory beside the cache of verified chains.
MAX_PREPARED: Final = 2_048
# A larger request is read in a thread: the loop goes on with others.
MAX_DIRECT_BYTES: Final = 65_536
_SPIFFE: Final = "spiffe://"


class ExtAuthz:
    """Answers each CheckRequest by one verifier. Any failure is a denial."""

    def __init__(
        self,
        verifier: BaseVerifier,
        mapper: RequestMapper,
        metadata: Mapping[str, ResourceMetadata] = MappingProxyType({}),
    ) -> None:
        """Check the calls that ``mapper`` makes of requests.

        Args:
            verifier: decides.
            mapper: of the paths that are served.
            metadata: of the resources, by path; that of all other paths is at "". It is shown to anyone, and
                each Bearer challenge of a 401 has its address.
        """
        self._verifier = verifier
        self._mapper = mapper
        self._prepared: dict[str, Prepared] = {}
        self._metadata = metadata
        self._shown = {each.path: show(each) for each in metadata.values()}
        self._sessions = McpSessions()

    def answer_now(self, data: bytes) -> bytes | None:
        """Return the answer of a small request that needs neither a signature nor a server.

        None: call :meth:`answer`.
        """
        return self._answer(data, False) if len(data) <= MAX_DIRECT_BYTES else None

    def answer(self, data: bytes) -> bytes:
        """Return the answer, in a thread that may wait."""
        return self._answer(data, True) or deny(Outward.UNAVAILABLE, False, b"")

    def _answer(self, data: bytes, may_wait: bool) -> bytes | None:
        mcp, request_id, metadata = False, b"", None
        try:
            request = ExtAuthzRequest(data)
            if self._metadata:
                if request.path in self._shown and request.method in ("GET", "HEAD"):
                    return self._shown[request.path]
                path = request.path.partition("?")[0]
                metadata = self._metadata.get(path) or self._metadata.get("")
            mapped = self._map(request)
            mcp, request_id = mapped.mcp, mapped.request_id
            if isinstance(mapped, Call):
                decision = self._judge(mapped, request, may_wait)
            elif isinstance(mapped, TokenOnly):
                decision = self._check_token(mapped, request, may_wait)
            elif mapped.fault is Fault.UNKNOWN_TOOL:
                decision = self._unknown(mapped, request, may_wait)
            else:
                event(logging.INFO, "refused", fault=mapped.fault.name, detail=mapped.detail)
                return refuse(mapped.fault, mcp, request_id, metadata)
            if decision is None:
                return None
            if not is_answer(decision):
                raise TypeError(f"{type(decision).__name__} is no decision")
            if allows(decision) and self._is_bound(mapped, decision):
                return allow(decision)
            _log_denial(decision, mapped)
            if allows(decision) or decision.reason is Reason.WRONG_SESSION:
                # The verifier was told of no session but that of the id of MCP.
                return refuse(Fault.MCP_SESSION, mcp, request_id)
            return deny(outward(decision), mcp, request_id, decision.decision_id, metadata)
        except FormError as error:
            event(logging.WARNING, "refused", fault=Fault.HEADER_FORM.name, detail=error.detail)
            return refuse(Fault.HEADER_FORM, mcp, request_id)
        except Exception as error:  # noqa: BLE001 - no error is an answer that lets a request pass
            fault("extauthz", error)
            return deny(Outward.UNAVAILABLE, mcp, request_id)

    def _map(self, request: ExtAuthzRequest) -> Mapped:
        # Envoy's marker comes with a body only: one without a body is the client's.
        if request.partial or (request.partial is False and not request.body):
            return Refusal(Fault.PARTIAL_BODY, "Envoy shows a part of the body", False)
        of_request = request.method, request.path, request.headers, request.body
        return self._mapper.map(*of_request, size=request.size, joined=request.joined)

    def _judge(self, call: Call, request: ExtAuthzRequest, may_wait: bool) -> DecisionBase | None:
        prepared = self._prepared.get(call.token)
        options = self._options(call, request)
        if call.proof:
            options["proof"] = call.proof
        verifier, token = self._verifier, call.token if prepared is None else prepared
        if not may_wait:
            if prepared is None:
                return None
            # The server is asked in a thread about calls with costs, and records its own decision.
            decision: DecisionBase = verifier._check(
                token,
                call.action,
                call.resource,
                call.arguments,
                tool=call.facts,
                record_needs=False,
                **options,
            )
            return None if decision.stage is Stage.NEEDS else decision
        decision = verifier.check(
            token, call.action, call.resource, call.arguments, tool=call.facts, **options
        )
        if prepared is None and decision.session_id:
            self._prepare(call.token)
        return decision

    def _prepare(self, token: str) -> None:
        """Look up a token with a valid signature, for its next calls."""
        if len(self._prepared) >= MAX_PREPARED:
            self._prepared.clear()
        self._prepared[token] = self._verifier.prepare(token)

    def _check_token(
        self, message: TokenOnly, request: ExtAuthzRequest, may_wait: bool
    ) -> DecisionBase | None:
        prepared = self._prepared.get(message.token)
        if prepared is None and not may_wait:
            return None
        decision: DecisionBase = self._verifier.stands(
            message.token if prepared is None else prepared, **self._options(message, request)
        )
        if prepared is None and decision:
            self._prepare(message.token)
        return decision

    def _unknown(self, call: Refusal, request: ExtAuthzRequest, may_wait: bool) -> DecisionBase | None:
        """Deny a tool that is not in the catalogue, and record that.

        An invalid token is denied as for any other tool: strangers can't find out tools' names.
        """
        of_token = self._check_token(TokenOnly(call.token, call.method), request, may_wait)
        if not allows(of_token):
            return of_token
        decision = self._verifier.refuse(Stage.SCOPE, Reason.UNKNOWN_TOOL)
        self._verifier.record_decision(
            decision, call.token, call.method, call.tool, call.arguments, source=request.source
        )
        return decision

    def _options(self, mapped: Call | TokenOnly, request: ExtAuthzRequest) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if request.source:
            options["source"] = request.source
        if request.principal.startswith(_SPIFFE):
            options["peer"] = (request.principal,)
        if mapped.mcp_session and (owner := self._sessions.owner(mapped.mcp_session)):
            options["session"] = owner
        return options

    def _is_bound(self, mapped: Mapped, decision: DecisionBase) -> bool:
        """Return True unless another token was the first to use the session of MCP of an allowed request."""
        if isinstance(mapped, Refusal) or not mapped.mcp_session:
            return True
        return self._sessions.bind(mapped.mcp_session, decision.session_id)


def _log_denial(decision: DecisionBase, mapped: Mapped) -> None:
    event(
        logging.INFO,
        "denied",
        reason=decision.reason.name,
        decision=decision.decision_id.hex(),
        method=mapped.method,
        resource=mapped.resource if isinstance(mapped, Call) else "",
    )


CHECK: Final = "/envoy.service.auth.v3.Authorization/Check"
HEALTH: Final = "/grpc.health.v1.Health/Check"
# HealthCheckResponse: SERVING.
_SERVING: Final = b"\x08\x01"


class AuthorizerServer(ListeningServer):
    """Answers Envoy's authorization requests, and health checks."""

    def __init__(self, authorizer: ExtAuthz, verifier: BaseVerifier) -> None:
        """Prepare to serve; nothing listens yet. Raises ConfigError without libnghttp2."""
        answers = {CHECK: authorizer.answer, HEALTH: lambda _: _SERVING}
        super().__init__("extauthz", answers, _DirectChecks(authorizer, verifier))


class _DirectChecks:
    """Has the loop itself answer requests that need no thread. Any client of the socket may ask."""

    def __init__(self, authorizer: ExtAuthz, verifier: BaseVerifier) -> None:
        from ..._fast._codec import ExtAuthzCaller

        method = DirectMethod("check", verifier, lambda decision, token: "")
        self._caller = ExtAuthzCaller(method, (), authorizer.answer_now)

    @property
    def paths(self) -> Sequence[bytes]:
        return (CHECK.encode(),)

    def admit(
        self, path: bytes, authorization: bytes | None, facts: Mapping[str, Sequence[bytes]] | None
    ) -> DirectCaller | None:
        return self._caller

    def generation(self) -> int:
        return 0
