"""AuthorizationService: judges calls. The only service of a check worker.

A denial is an answer. What an agent controls (token, action, resource, arguments) only ever yields
one; what a gateway gets wrong (a missing item, a session id of the wrong size) is INVALID_ARGUMENT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

from ... import limits
from ...decision import Decision
from ...errors import ServerError
from ...reasons import Reason
from ...v1 import authorization_service_pb2 as pb
from ..call import Call
from ..ceilings import SessionSource
from ..credentials import Principal
from ..decision_message import fill
from ..interceptors.failed_signatures import FailedSignatures
from ..status import invalid, refused

# How often a long batch looks whether anybody still waits for it.
ITEMS_BETWEEN_LOOKS: Final = 64
TOO_MANY_FAILURES: Final = "too many failed signatures from this peer; no new signature is looked at for now"


class Checks(Protocol):
    """What judges: a verifier over this process's view of the state."""

    def check(
        self,
        token: bytes,
        action: bytes,
        resource: bytes,
        arguments: bytes = ...,
        *,
        tool: bytes = ...,
        session: bytes = ...,
        source: str = ...,
        peer: tuple[str, ...] = ...,
        audience: str = ...,
        at_least_revision: int = ...,
        new_signatures: bool = ...,
    ) -> Decision:
        """Judge one call."""
        ...


class AuthorizationService:
    """Answers AuthorizationService by a verifier."""

    def __init__(self, verifier: Checks, source: SessionSource, failures: FailedSignatures) -> None:
        """Judge by ``verifier``, which reads ``source``; count failed signatures in ``failures``."""
        self._verifier = verifier
        self._source = source
        self._failures = failures

    def check(self, request: pb.CheckRequest, call: Call) -> pb.CheckResponse:
        """Judge one call."""
        if not request.HasField("item"):
            raise invalid("item", "is required")
        audience = _audience(request.audience, call.principal)
        _require_form(request.item, "item")
        response = pb.CheckResponse()
        self._judge(response.decision, request.item, audience, request.at_least_revision, call.principal)
        return response

    def check_batch(self, request: pb.CheckBatchRequest, call: Call) -> pb.CheckBatchResponse:
        """Judge up to 1024 calls; the answers are in the order of the items."""
        if not 1 <= len(request.items) <= limits.MAX_BATCH_ITEMS:
            raise invalid("items", f"must be 1 to {limits.MAX_BATCH_ITEMS}, not {len(request.items)}")
        audience = _audience(request.audience, call.principal)
        for index, item in enumerate(request.items):
            _require_form(item, f"items[{index}]")
        response = pb.CheckBatchResponse()
        at_least, principal = request.at_least_revision, call.principal
        for index, item in enumerate(request.items):
            if index % ITEMS_BETWEEN_LOOKS == 0:
                call.require_time()
            self._judge(response.decisions.add(), item, audience, at_least, principal)
        return response

    def check_stream(
        self, requests: Iterator[pb.CheckStreamRequest], call: Call
    ) -> Iterator[pb.CheckStreamResponse]:
        """Judge calls one by one as they come; each answer carries its request's id."""
        for request in requests:
            call.require_time()
            if not request.HasField("item"):
                raise invalid("item", "is required")
            audience = _audience(request.audience, call.principal)
            _require_form(request.item, "item")
            response = pb.CheckStreamResponse(id=request.id)
            self._judge(response.decision, request.item, audience, request.at_least_revision, call.principal)
            yield response

    def methods(self) -> Mapping[str, Callable[..., object]]:
        """Return the RPCs of the service by name."""
        return {"Check": self.check, "CheckBatch": self.check_batch, "CheckStream": self.check_stream}

    def _judge(
        self, answer: pb.Decision, item: pb.CheckItem, audience: str, at_least: int, principal: Principal
    ) -> None:
        token, source = item.token, item.source
        peer = (principal.name, source)
        # A forger behind a gateway must not cost that gateway's other agents their verified tokens.
        exhausted = self._failures.exhausted(peer)
        decision = self._verifier.check(
            token,
            item.action,
            item.resource,
            item.arguments,
            tool=item.tool,
            session=item.session_id,
            source=source,
            peer=tuple(item.peer),
            audience=audience,
            at_least_revision=at_least,
            new_signatures=not exhausted,
        )
        fill(answer, decision, token, self._source)
        if decision.reason == Reason.BAD_SIGNATURE:
            if exhausted:
                answer.explanation = TOO_MANY_FAILURES
            else:
                self._failures.failed(peer)


def _audience(stated: str, principal: Principal) -> str:
    """Return which verifier asks: what is stated, else the credential's only audience."""
    own = principal.audiences
    if stated:
        if own and stated not in own:
            raise refused("PERMISSION_DENIED", "audience: not one of this credential's")
        return stated
    if len(own) == 1:
        return own[0]
    raise invalid("audience", f"is required: this credential has {'several' if own else 'none'} of its own")


def _require_form(item: pb.CheckItem, field: str) -> None:
    """Refuse what a gateway got wrong; what an agent may have written is judged instead."""
    error: ServerError | None = None
    if not item.action:
        error = invalid(f"{field}.action", "is required")
    elif not item.resource:
        error = invalid(f"{field}.resource", "is required")
    elif len(item.session_id) not in (0, 16):
        error = invalid(f"{field}.session_id", f"must be 16 bytes, not {len(item.session_id)}")
    elif len(item.peer) > limits.MAX_PEERS:
        error = invalid(f"{field}.peer", f"must be at most {limits.MAX_PEERS}, not {len(item.peer)}")
    if error is not None:
        raise error
