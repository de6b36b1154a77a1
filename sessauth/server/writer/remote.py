"""The writer of the control process, for a worker: forwards calls to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from ..._fast.rpc_codec.check_messages import CheckMessage
from ...errors import ServerError
from ...v1 import authorization_service_pb2 as pb
from ..rpc.call import CallContext
from ..status import refused
from .forward import Forwarder
from .port import Decisions

UNREACHABLE: Final = "WRITER_UNREACHABLE"
UNDECIDED: Final[Decisions] = {}


class RemoteWriter:
    """A ``WriterPort`` to the control process. Any thread may use it."""

    def __init__(self, forwarder: Forwarder) -> None:
        """Forward with ``forwarder``."""
        self._forwarder = forwarder

    def decide(
        self, message: CheckMessage, wanted: Sequence[int], audience: str, call: CallContext, *, alone: bool
    ) -> Decisions:
        """Have the control process judge the items; they stay denied if it can't be reached in time."""
        items = [item_message_from(message, index) for index in wanted]
        revision = message.at_least_revision
        try:
            if alone:
                check = pb.CheckRequest(item=items[0], audience=audience, at_least_revision=revision)
                response = self._forwarder.forward("Check", check.SerializeToString(), call)
                return {wanted[0]: pb.CheckResponse.FromString(response).decision}
            batch = pb.CheckBatchRequest(items=items, audience=audience, at_least_revision=revision)
            response = self._forwarder.forward("CheckBatch", batch.SerializeToString(), call)
            decisions = pb.CheckBatchResponse.FromString(response).decisions
        except (ServerError, DecodeError) as error:
            if alone and not (isinstance(error, DecodeError) or error.reason == UNREACHABLE):
                raise
            return UNDECIDED
        return dict(zip(wanted, decisions, strict=True)) if len(decisions) == len(wanted) else UNDECIDED

    def commit(self, message: CheckMessage, data: bytes, audience: str, call: CallContext) -> Decisions:
        """Have the control process commit the permit of ``data``."""
        response = self._forwarder.forward("Commit", data, call)
        try:
            return {0: pb.CommitResponse.FromString(response).decision}
        except DecodeError:
            raise refused(UNREACHABLE, "the control process gave no answer that can be read") from None

    def release(self, data: bytes, call: CallContext) -> bytes:
        """Have the control process release a permit."""
        return self._forwarder.forward("Release", data, call)


def item_message_from(message: CheckMessage, index: int) -> pb.CheckItem:
    """Return the message of a judged item."""
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
