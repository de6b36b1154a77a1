"""AuthorizationService by protobuf's own messages: what the service's answers are held against.

Plain and slow: each message is read and written by protobuf, each call judged by ``Verifier.check``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sessauth import limits
from sessauth.decisions.decision import REASON_TEXTS, Decision
from sessauth.reasons import Level, Reason, Stage
from sessauth.server.keys.credentials import Principal
from sessauth.server.rpc.authenticate import FailedSignatures
from sessauth.server.rpc.call import CallContext, RawHandler
from sessauth.server.status import invalid, refused
from sessauth.state.lmdb.rows import stored_ceilings
from sessauth.state.rules.effects import SessionSource
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.verifier.verifier import Verifier
from tests.support.no_writer import NoWriter
from tests.support.raw_requests import read_by_protobuf

LEVELS = (pb.LEVEL_UNSPECIFIED, pb.LEVEL_CEILING, pb.LEVEL_BLOCK)
# Denials of a batch that are explained with their tokens.
EXPLAINED = 8
TOO_MANY_FAILURES = "too many failed signatures from this peer; no new signature is looked at for now"


class ChecksByMessages:
    """Answers Check, CheckBatch and CheckStream, bytes to bytes."""

    def __init__(self, verifier: Verifier, source: SessionSource, failures: FailedSignatures) -> None:
        """Judge by ``verifier``, which reads ``source``; count failed signatures in ``failures``."""
        self.verifier = verifier
        self.source = source
        self.failures = failures

    def methods(self) -> Mapping[str, RawHandler]:
        """The RPCs by name, as the service has them."""
        return {
            "Check": RawHandler(self.check),
            "CheckBatch": RawHandler(self.check_batch),
            "CheckStream": RawHandler(self.check_stream),
        }

    def check(self, data: bytes, call: CallContext) -> bytes:
        """Answer one CheckRequest."""
        request = _read(pb.CheckRequest, data)
        if not request.HasField("item"):
            raise invalid("item", "is required")
        audience = _audience(request.audience, call.principal)
        _require_form(request.item, "item")
        _require_no_place(request.item)
        response = pb.CheckResponse()
        self._judge(response.decision, request.item, audience, request.at_least_revision, call.principal)
        return response.SerializeToString()

    def check_batch(self, data: bytes, call: CallContext) -> bytes:
        """Answer one CheckBatchRequest."""
        request = _read(pb.CheckBatchRequest, data)
        if not 1 <= len(request.items) <= limits.MAX_BATCH_ITEMS:
            raise invalid("items", f"must be 1 to {limits.MAX_BATCH_ITEMS}, not {len(request.items)}")
        if len(request.tokens) > limits.MAX_BATCH_ITEMS:
            raise invalid("tokens", f"must be at most {limits.MAX_BATCH_ITEMS}, not {len(request.tokens)}")
        audience = _audience(request.audience, call.principal)
        for index, item in enumerate(request.items):
            _require_form(item, f"items[{index}]")
            _require_place(item, len(request.tokens), f"items[{index}].token_index")
        for item in request.items:
            if item.token_index:
                item.token = request.tokens[item.token_index - 1]
        response = pb.CheckBatchResponse()
        denied = 0
        for item in request.items:
            answer = response.decisions.add()
            self._judge(answer, item, audience, request.at_least_revision, call.principal)
            denied += not answer.allowed
            if not answer.allowed and denied > EXPLAINED and answer.explanation != TOO_MANY_FAILURES:
                reason = Reason(answer.reason)
                answer.explanation = f"{reason.name}: {REASON_TEXTS[reason]}"
        return response.SerializeToString()

    def check_stream(self, requests: Iterator[bytes], call: CallContext) -> Iterator[bytes]:
        """Answer CheckStreamRequests one by one."""
        for data in requests:
            request = _read(pb.CheckStreamRequest, data)
            if not request.HasField("item"):
                raise invalid("item", "is required")
            audience = _audience(request.audience, call.principal)
            _require_form(request.item, "item")
            _require_no_place(request.item)
            response = pb.CheckStreamResponse(id=request.id)
            self._judge(response.decision, request.item, audience, request.at_least_revision, call.principal)
            yield response.SerializeToString()

    def _judge(
        self, answer: pb.Decision, item: pb.CheckItem, audience: str, at_least: int, principal: Principal
    ) -> None:
        peer = (principal.name, item.source)
        exhausted = self.failures.exhausted(peer)
        decision = self.verifier._check(
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
            verify_new_signatures=not exhausted,
            proof=item.proof,
            cost_handler=NoWriter(item),
            token_only=item.token_only,
        )
        _fill(answer, decision, item.token, self.source)
        if decision.reason == Reason.BAD_SIGNATURE:
            if exhausted:
                answer.explanation = TOO_MANY_FAILURES
            else:
                self.failures.failed(peer)


def _read(kind: Any, data: bytes) -> Any:
    request = read_by_protobuf(kind, data)
    if request is None:
        raise invalid("request", f"is not a {kind.DESCRIPTOR.full_name}")
    return request


def _audience(stated: str, principal: Principal) -> str:
    own = principal.audiences
    if stated:
        if own and stated not in own:
            raise refused("PERMISSION_DENIED", "audience: not one of this credential's")
        return stated
    if len(own) == 1:
        return own[0]
    raise invalid("audience", f"is required: this credential has {'several' if own else 'none'} of its own")


def _require_form(item: pb.CheckItem, field: str) -> None:
    if item.token_only:
        options = item.proof or item.approvals or item.retry_id or item.permit_ms
        if item.action or item.resource or item.arguments or item.tool or options:
            raise invalid(f"{field}.token_only", "must be false beside any part of a call, and in a Commit")
    elif not item.action:
        raise invalid(f"{field}.action", "is required")
    elif not item.resource:
        raise invalid(f"{field}.resource", "is required")
    if len(item.session_id) not in (0, 16):
        raise invalid(f"{field}.session_id", f"must be 16 bytes, not {len(item.session_id)}")
    if len(item.peer) > limits.MAX_PEERS:
        raise invalid(f"{field}.peer", f"must be at most {limits.MAX_PEERS}, not {len(item.peer)}")
    if len(item.approvals) > 16:
        raise invalid(f"{field}.approvals", f"must be at most 16, not {len(item.approvals)}")
    if len(item.retry_id) > 64:
        raise invalid(f"{field}.retry_id", f"must be at most 64 bytes, not {len(item.retry_id)}")
    if item.permit_ms > 300_000:
        raise invalid(f"{field}.permit_ms", f"must be at most 300000, not {item.permit_ms}")


def _require_no_place(item: pb.CheckItem) -> None:
    if item.token_index:
        raise invalid("item.token_index", "must be 0: only CheckBatch has tokens to name")


def _require_place(item: pb.CheckItem, tokens: int, field: str) -> None:
    if item.token_index and item.token:
        raise invalid(field, "must be 0 beside a token")
    if item.token_index > tokens:
        raise invalid(field, f"must be at most {tokens}, as many as tokens, not {item.token_index}")


def _fill(message: pb.Decision, decision: Decision, token: bytes, source: SessionSource) -> None:
    message.reason = int(decision.reason)  # type: ignore[assignment]
    message.session_id = decision.session_id
    message.epoch = decision.epoch
    message.block_ids.extend(decision.block_ids)
    message.revision = decision.revision
    message.view_age_ms = decision.view_age_ms
    message.expires_at_ms = decision.expires_at_ms
    message.decision_id = decision.decision_id
    if decision.matched_index >= 0:
        matched = message.matched
        matched.level = pb.LEVEL_BLOCK
        matched.index = decision.matched_index
        matched.scope = decision.matched_scope
        matched.clause = -1
    message.allowed = decision.allowed
    message.stage = int(decision.stage)  # type: ignore[assignment]
    # Of an allow: a ceiling in observe mode would have refused there.
    if not decision.allowed or decision.level != Level.NONE:
        failed = message.failed
        failed.level = LEVELS[int(decision.level)]
        failed.index = decision.index
        failed.scope = decision.scope
        failed.clause = decision.clause
        failed.argument = decision.argument
    if decision.allowed:
        return
    layers = stored_ceilings(source, decision.session_id) if decision.level == Level.CEILING else ()
    message.explanation = decision.explain(token if decision.stage > Stage.SIGNATURE else None, layers)
