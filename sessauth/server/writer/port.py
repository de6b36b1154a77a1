"""The way from a judged request to the writer of the state, and back into its answer.

The control process has the writer itself (:mod:`sessauth.server.writer.local`); a worker hands on to the
control process (:mod:`sessauth.server.writer.forward`). AuthorizationService does not know which it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from ..._fast.rpc_codec.check_messages import CheckMessage
from ...v1 import authorization_service_pb2 as pb
from ...v1 import record_pb2
from ..rpc.call import CallContext
from .authorizer import CallRequest, WriterDecision

# The responses by the kernel's words for their requests; each with its Decision, or several.
RESPONSES: Final[Mapping[str, Any]] = {
    "check": pb.CheckResponse,
    "batch": pb.CheckBatchResponse,
    "stream": pb.CheckStreamResponse,
    "commit": pb.CommitResponse,
}


class WriterPort(Protocol):
    """Where what a call costs is taken."""

    def decide(
        self, asking: CheckMessage, wanted: Sequence[int], audience: str, call: CallContext, *, alone: bool
    ) -> Mapping[int, bytes]:
        """Have the items ``wanted`` decided, in their order: in place, or as encoded Decisions by item.

        What the writer can't decide now stays denied as it was judged. Only where an item is ``alone`` in
        its request is that an error: raises STATE_FULL, OUTCOME_UNKNOWN and what else the writer says.
        """
        ...

    def commit(
        self, asking: CheckMessage, data: bytes, audience: str, call: CallContext
    ) -> Mapping[int, bytes]:
        """Commit the permit of a request, encoded in ``data``; answers, and raises, as for an item alone."""
        ...

    def release(self, data: bytes, call: CallContext) -> bytes:
        """Answer a ReleaseRequest, both encoded. Raises NOT_FOUND for a permit that is not open."""
        ...


def ask_of(asking: CheckMessage, index: int, audience: str, call: CallContext) -> CallRequest:
    """Return what an item asks, once it was judged."""
    token, action, resource, arguments, tool, session, source, peer, proof = asking.call(index)
    return CallRequest(
        gateway=call.principal.name,
        token=token,
        action=action,
        resource=resource,
        arguments=arguments,
        tool=tool,
        session=session,
        source=source,
        peer=peer,
        audience=audience,
        at_least_revision=asking.at_least_revision,
        proof=proof,
        approvals=asking.approvals(index),
        retry_id=asking.retry_id(index),
        permit_ms=asking.permit_ms(index),
    )


def item_of(ask: CallRequest) -> pb.CheckItem:
    """Return the message of one call."""
    return pb.CheckItem(
        token=ask.token,
        action=ask.action,
        resource=ask.resource,
        arguments=ask.arguments,
        tool=ask.tool,
        session_id=ask.session,
        source=ask.source,
        peer=ask.peer,
        proof=ask.proof,
        approvals=ask.approvals,
        retry_id=ask.retry_id,
        permit_ms=ask.permit_ms,
    )


def fields_of(verdict: WriterDecision) -> bytes:
    """Return what comes with the writer's decision, as encoded fields of a Decision."""
    message = pb.Decision(permit=verdict.permit, permit_expires_at_ms=verdict.permit_expires_at_ms)
    if verdict.approval is not None:
        message.approval.CopyFrom(record_pb2.ApprovalRecord.FromString(verdict.approval.encode()))
    return message.SerializeToString()


def put_decisions(kind: str, response: bytes, decisions: Mapping[int, bytes]) -> bytes:
    """Return an encoded response with these encoded Decisions in their items' places."""
    message = RESPONSES[kind].FromString(response)
    for index, encoded in decisions.items():
        place = message.decisions[index] if kind == "batch" else message.decision
        place.CopyFrom(pb.Decision.FromString(encoded))
    return bytes(message.SerializeToString())
