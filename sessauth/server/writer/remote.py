"""The writer of the state in another process: a worker's way to it, through the control process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from ..._fast.rpc_codec.check_messages import CheckMessage
from ...errors import ServerError
from ...v1 import authorization_service_pb2 as pb
from ..rpc.call import CallContext
from ..status import refused
from .forward import Forwarder
from .port import ask_of, item_of

UNREACHABLE: Final = "WRITER_UNREACHABLE"
NOTHING: Final[Mapping[int, bytes]] = {}


class WriterAway:
    """A ``WriterPort`` that asks the control process. Any thread may use it."""

    def __init__(self, forwarder: Forwarder) -> None:
        """Ask by ``forwarder``."""
        self._forwarder = forwarder

    def decide(
        self, asking: CheckMessage, wanted: Sequence[int], audience: str, call: CallContext, *, alone: bool
    ) -> Mapping[int, bytes]:
        """Have the control process judge the items; they stay denied if it can't be reached in time."""
        items = [item_of(ask_of(asking, index, audience, call)) for index in wanted]
        revision = asking.at_least_revision
        try:
            if alone:
                one = pb.CheckRequest(item=items[0], audience=audience, at_least_revision=revision)
                answer = self._forwarder.forward("Check", one.SerializeToString(), call)
                decisions: Sequence[pb.Decision] = [pb.CheckResponse.FromString(answer).decision]
            else:
                many = pb.CheckBatchRequest(items=items, audience=audience, at_least_revision=revision)
                answer = self._forwarder.forward("CheckBatch", many.SerializeToString(), call)
                decisions = pb.CheckBatchResponse.FromString(answer).decisions
        except (ServerError, DecodeError) as error:
            if alone and not (isinstance(error, DecodeError) or error.reason == UNREACHABLE):
                raise
            return NOTHING
        if len(decisions) != len(wanted):
            return NOTHING
        return {
            index: decision.SerializeToString() for index, decision in zip(wanted, decisions, strict=True)
        }

    def commit(
        self, asking: CheckMessage, data: bytes, audience: str, call: CallContext
    ) -> Mapping[int, bytes]:
        """Have the control process commit the permit of ``data``."""
        answer = self._forwarder.forward("Commit", data, call)
        try:
            return {0: pb.CommitResponse.FromString(answer).decision.SerializeToString()}
        except DecodeError:
            raise refused(UNREACHABLE, "the control process gave no answer that can be read") from None

    def release(self, data: bytes, call: CallContext) -> bytes:
        """Have the control process release a permit."""
        return self._forwarder.forward("Release", data, call)
