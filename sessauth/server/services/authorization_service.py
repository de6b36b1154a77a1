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
from ...reasons import Reason, Stage
from ...v1 import authorization_service_pb2 as pb
from ..call import Call
from ..credentials import Principal
from ..interceptors.failed_signatures import FailedSignatures
from ..status import invalid, refused

LEVELS: Final = (pb.LEVEL_UNSPECIFIED, pb.LEVEL_CEILING, pb.LEVEL_BLOCK)
TOO_MANY_FAILURES: Final = "too many failed signatures from this peer; the signature was not looked at"


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
    ) -> Decision:
        """Judge one call."""
        ...


class AuthorizationService:
    """Answers AuthorizationService by a verifier."""

    def __init__(self, verifier: Checks, failures: FailedSignatures) -> None:
        """Judge by ``verifier``; count failed signatures in ``failures``."""
        self._verifier = verifier
        self._failures = failures

    def check(self, request: pb.CheckRequest, call: Call) -> pb.CheckResponse:
        """Judge one call."""
        if not request.HasField("item"):
            raise invalid("item", "is required")
        audience = _audience(request.audience, call.principal)
        _require_form(request.item, "item")
        decision = self._judge(request.item, audience, request.at_least_revision, call.principal)
        return pb.CheckResponse(decision=decision)

    def check_batch(self, request: pb.CheckBatchRequest, call: Call) -> pb.CheckBatchResponse:
        """Judge up to 1024 calls; the answers are in the order of the items."""
        if not 1 <= len(request.items) <= limits.MAX_BATCH_ITEMS:
            raise invalid("items", f"must be 1 to {limits.MAX_BATCH_ITEMS}, not {len(request.items)}")
        audience = _audience(request.audience, call.principal)
        for index, item in enumerate(request.items):
            _require_form(item, f"items[{index}]")
        response = pb.CheckBatchResponse()
        for item in request.items:
            call.require_time()
            response.decisions.append(self._judge(item, audience, request.at_least_revision, call.principal))
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
            decision = self._judge(request.item, audience, request.at_least_revision, call.principal)
            yield pb.CheckStreamResponse(id=request.id, decision=decision)

    def methods(self) -> Mapping[str, Callable[..., object]]:
        """Return the RPCs of the service by name."""
        return {"Check": self.check, "CheckBatch": self.check_batch, "CheckStream": self.check_stream}

    def _judge(self, item: pb.CheckItem, audience: str, at_least: int, principal: Principal) -> pb.Decision:
        peer = (principal.name, item.source)
        if self._failures.exhausted(peer):
            return pb.Decision(
                reason=pb.REASON_BAD_SIGNATURE, stage=pb.STAGE_SIGNATURE, explanation=TOO_MANY_FAILURES
            )
        decision = self._verifier.check(
            item.token,
            item.action,
            item.resource,
            item.arguments,
            tool=item.tool,
            session=item.session_id,
            source=item.source,
            peer=tuple(item.peer),
            audience=audience,
            at_least_revision=at_least,
        )
        if decision.reason == Reason.BAD_SIGNATURE:
            self._failures.failed(peer)
        return decision_message(decision, item.token)


def decision_message(decision: Decision, token: bytes) -> pb.Decision:
    """Return a decision as a gateway sees it; a denial comes with an explanation for its operator."""
    message = pb.Decision(
        allowed=decision.allowed,
        reason=pb.Reason.Name(int(decision.reason)),
        stage=pb.Stage.Name(int(decision.stage)),
        session_id=decision.session_id,
        epoch=decision.epoch,
        block_ids=decision.block_ids,
        revision=decision.revision,
        view_age_ms=decision.view_age_ms,
        expires_at_ms=decision.expires_at_ms,
        decision_id=decision.decision_id,
    )
    if decision.matched_index >= 0:
        message.matched.level = pb.LEVEL_BLOCK
        message.matched.index = decision.matched_index
        message.matched.scope = decision.matched_scope
        message.matched.clause = -1
    if not decision.allowed:
        message.failed.level = LEVELS[int(decision.level)]
        message.failed.index = decision.index
        message.failed.scope = decision.scope
        message.failed.clause = decision.clause
        message.failed.argument = decision.argument
        message.explanation = decision.explain(token if decision.stage > Stage.SIGNATURE else None)
    return message


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
