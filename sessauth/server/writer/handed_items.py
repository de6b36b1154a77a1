"""Items that another process decides: their request, and its decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from ..._fast._codec import CheckMessage
from ...v1 import authorization_service_pb2 as pb
from .port import Decisions

UNDECIDED: Final[Decisions] = {}


def encode_items(
    message: CheckMessage, wanted: Sequence[int], audience: str, *, alone: bool
) -> tuple[str, bytes]:
    """Return an RPC of AuthorizationService and its request for these items: Check if ``alone``."""
    items = [item_message_from(message, index) for index in wanted]
    revision = message.at_least_revision
    if alone:
        check = pb.CheckRequest(item=items[0], audience=audience, at_least_revision=revision)
        return "Check", check.SerializeToString()
    batch = pb.CheckBatchRequest(items=items, audience=audience, at_least_revision=revision)
    return "CheckBatch", batch.SerializeToString()


def decode_decisions(response: bytes, wanted: Sequence[int], *, alone: bool) -> Decisions:
    """Return the decisions of a response by item; none of one that can't be read, or has another number."""
    try:
        if alone:
            return {wanted[0]: pb.CheckResponse.FromString(response).decision}
        decisions = pb.CheckBatchResponse.FromString(response).decisions
    except DecodeError:
        return UNDECIDED
    return dict(zip(wanted, decisions, strict=True)) if len(decisions) == len(wanted) else UNDECIDED


def item_message_from(message: CheckMessage, index: int) -> pb.CheckItem:
    """Return the message of a checked item."""
    token, action, resource, arguments, tool, session, source, peer, proof = message.call(index)
    return pb.CheckItem(
        token=token,
        action=action,
        resource=resource,
        arguments=arguments,
        tool=tool,
        session_id=session,
        source=source,
        peer=peer,
        proof=proof,
        approvals=message.approvals(index),
        retry_id=message.retry_id(index),
        permit_ms=message.permit_ms(index),
    )
