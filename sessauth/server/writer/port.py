"""The port to the writer: decides calls that cost something, and submits changes on behalf of a call.

The control process has the writer itself (:mod:`sessauth.server.writer.local`); a worker forwards to the
control process (:mod:`sessauth.server.writer.remote`). AuthorizationService does not know which it has. An
item that another process decides has its request, and that process's decisions.

A change is built from the request of its call, submitted, and awaited until the call's deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

from google.protobuf.message import DecodeError

from ..._fast._codec import CheckMessage
from ...model.change import Change, ChangeOutcome
from ...model.session import Session
from ...state.writer.group import Group
from ...state.writer.state_writer import StateWriter
from ...v1 import authorization_service_pb2 as pb
from .. import request_fields
from ..rpc.call import CallContext
from ..rpc.finisher import Steps, wait_for_commit

# Response types by the kernel's words for their requests; each has one Decision, or several.
RESPONSE_TYPES: Final[Mapping[str, Any]] = {
    "check": pb.CheckResponse,
    "batch": pb.CheckBatchResponse,
    "stream": pb.CheckStreamResponse,
    "commit": pb.CommitResponse,
}

# Decisions of another process, by item. None where the writer of this process decided in place.
Decisions: TypeAlias = Mapping[int, pb.Decision]
IN_PLACE: Final[Decisions] = {}


class WriterPort(Protocol):
    """Decides calls that cost something."""

    def decide(
        self, message: CheckMessage, wanted: Sequence[int], audience: str, call: CallContext, *, alone: bool
    ) -> Decisions:
        """Decide the items ``wanted``, in their order: in place, or as Decisions by item.

        An item that the writer can't decide now stays denied as it was. Only if it is ``alone`` in its
        request is that an error: raises STATE_FULL, OUTCOME_UNKNOWN and other refusals of the writer.
        """
        ...

    def commit(self, message: CheckMessage, data: bytes, audience: str, call: CallContext) -> Decisions:
        """Commit the permit of ``message``, encoded in ``data``; returns and raises as for an item alone."""
        ...

    def release(self, data: bytes, call: CallContext) -> bytes:
        """Answer a ReleaseRequest, both encoded. Raises NOT_FOUND for a permit that is not open."""
        ...


def put_decisions(response: bytes, decisions: Decisions) -> bytes:
    """Return an encoded CheckBatchResponse with these decisions in their items' places."""
    message = pb.CheckBatchResponse.FromString(response)
    for index, decision in decisions.items():
        message.decisions[index].CopyFrom(decision)
    return message.SerializeToString()


def single_response(kind: str, message: CheckMessage, decision: pb.Decision) -> bytes:
    """Return the encoded response to a message with one item, from another process's decision."""
    response = RESPONSE_TYPES[kind](decision=decision)
    if kind == "stream":
        response.id = message.id
    return bytes(response.SerializeToString())


def change_from(
    request: Any, call: CallContext, make: Callable[..., Change], *args: object, **fields: object
) -> Change:
    """Return the change that ``make`` builds for a request: under its request id, by its caller."""
    request_id = request_fields.request_id(request.request_id)
    return make(request_id, *args, actor=call.principal.name, **fields)


def submit_and_wait(writer: StateWriter, change: Change, call: CallContext) -> ChangeOutcome:
    """Submit a change and wait until it is durable. Raises Rejected if it is against the rules."""
    call.raise_if_expired()
    return wait_for_commit(writer.submit(change), call).raise_if_rejected()


def submitted(writer: StateWriter, change: Change, call: CallContext) -> Steps[ChangeOutcome]:
    """Submit a change, and go on once it is durable. Raises as :func:`submit_and_wait`."""
    call.raise_if_expired()
    outcome: ChangeOutcome = yield writer.submit(change)
    return outcome.raise_if_rejected()


def change_session(
    writer: StateWriter,
    change: Change,
    call: CallContext,
    prepare: Callable[[Group, Change], Change] | None = None,
) -> Steps[tuple[ChangeOutcome, Session | None]]:
    """Submit a change as :func:`submitted`; returns with its outcome the session that it left.

    ``prepare`` is that of ``StateWriter.submit_for``.

    None where the session is to be read: the change was a repeat, or an ancestor decides its status.
    """
    call.raise_if_expired()
    outcome, session = yield writer.submit_for(change, _with_session, prepare)
    return outcome.raise_if_rejected(), session


def _with_session(outcome: ChangeOutcome, group: Group | None) -> tuple[ChangeOutcome, Session | None]:
    return outcome, None if group is None else group.changed_session()


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
