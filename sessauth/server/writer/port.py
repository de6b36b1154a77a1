"""The port to the writer: decides calls that cost something.

The control process has the writer itself (:mod:`sessauth.server.writer.local`); a worker forwards to the
control process (:mod:`sessauth.server.writer.remote`). AuthorizationService does not know which it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

from ..._fast._codec import CheckMessage
from ...v1 import authorization_service_pb2 as pb
from ..rpc.call import CallContext

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
