"""The writer of the control process, for a worker: forwards calls to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from ..._fast._codec import CheckMessage
from ...client._transport import Failure
from ...errors import ServerError
from ...v1 import authorization_service_pb2 as pb
from ...v1 import forward_service_pb2 as forward_pb
from ..rpc.access import ORIGINAL_CALLER
from ..rpc.call import CallContext
from ..rpc.pool import blocking_section
from ..rpc.tracing import Metadata, Tracing
from ..status import CODES, refused
from ..transport.native import MAX_REQUEST_BYTES
from .port import UNDECIDED, Decisions, decode_decisions, encode_items

PATH: Final = "/sessauth.v1.ForwardService/Forward"
# The socket of a control process that starts again is there within a second. An attempt may take longer: on a
# busy machine a connection that is given up early is never made.
OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
)
# Refusals that concern the control process or this worker. Others concern the call, and are passed on.
INTERNAL_REASONS: Final = frozenset(
    {
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "DEADLINE_REQUIRED",
        "DEADLINE_EXCEEDED",
        "OVERLOADED",
        "SHUTTING_DOWN",
        "STATE_UNUSABLE",
        "NOT_LEADER",
        "CANCELLED",
        "INTERNAL",
    }
)
# Reserve of a call's time for the worker's own answer: a share of it, since a busy machine takes longer.
RESERVE_SHARE: Final = 0.1
RESERVE_SECONDS: Final = 0.02
UNREACHABLE: Final = "WRITER_UNREACHABLE"


class Forwarder:
    """Calls ForwardService of the control process. Any thread may use it.

    Nothing is sent twice: a lost answer may be of a call that was charged for.
    """

    def __init__(self, socket: Path, credential: str, tracing: Tracing | None = None) -> None:
        """Call at ``socket``, with the credential from the control process; connects when first used.

        ``tracing`` has the control process continue a call's trace.
        """
        self._tracing = tracing
        self._target = f"unix:{socket}"
        self._credential = ("authorization", f"Bearer {credential}")
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._forward: Callable[..., Any] | None = None

    def forward(self, method: str, request: bytes, call: CallContext) -> bytes:
        """Return the control process's answer to an RPC of AuthorizationService, encoded.

        Raises:
            ServerError: the control process refused the call, with its own reason; WRITER_UNREACHABLE if it
                can't be reached, can't serve, or does not answer within the call's deadline.
        """
        seconds = call.remaining - max(RESERVE_SECONDS, call.remaining * RESERVE_SHARE)
        if seconds <= 0.0:
            raise refused("WRITER_UNREACHABLE", "no time is left to ask the control process")
        message = forward_pb.ForwardRequest(
            method=method, principal=call.principal.name, audiences=call.principal.audiences, request=request
        )
        metadata: Metadata = (self._credential, (ORIGINAL_CALLER, call.principal.name.encode()))
        if self._tracing is not None:
            metadata = self._tracing.inject(metadata, call)
        try:
            with blocking_section():
                answer = self._method()(message, timeout=seconds, metadata=metadata)
        except grpc.RpcError as error:
            raise _refusal(error) from error
        return bytes(answer.response)

    def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        with self._lock:
            channel, self._channel, self._forward = self._channel, None, None
        if channel is not None:
            channel.close()

    def _method(self) -> Callable[..., Any]:
        with self._lock:
            if self._forward is None:
                self._channel = grpc.insecure_channel(self._target, options=OPTIONS)
                self._forward = self._channel.unary_unary(
                    PATH,
                    request_serializer=forward_pb.ForwardRequest.SerializeToString,
                    response_deserializer=forward_pb.ForwardResponse.FromString,
                )
            return self._forward


@dataclass(eq=False)
class RemoteWriter:
    """A ``WriterPort`` to the control process. Any thread may use it."""

    forwarder: Forwarder

    def decide(
        self, message: CheckMessage, wanted: Sequence[int], audience: str, call: CallContext, *, alone: bool
    ) -> Decisions:
        """Have the control process decide the items; they stay denied if it can't be reached in time."""
        method, request = encode_items(message, wanted, audience, alone=alone)
        try:
            response = self.forwarder.forward(method, request, call)
        except ServerError as error:
            if alone and error.reason != UNREACHABLE:
                raise
            return UNDECIDED
        return decode_decisions(response, wanted, alone=alone)

    def commit(self, message: CheckMessage, data: bytes, audience: str, call: CallContext) -> Decisions:
        """Have the control process commit the permit of ``data``."""
        response = self.forwarder.forward("Commit", data, call)
        try:
            return {0: pb.CommitResponse.FromString(response).decision}
        except DecodeError:
            raise refused(UNREACHABLE, "the control process gave no answer that can be read") from None

    def release(self, data: bytes, call: CallContext) -> bytes:
        """Have the control process release a permit."""
        return self.forwarder.forward("Release", data, call)


def _refusal(error: Any) -> ServerError:
    """Return the control process's refusal of the call; WRITER_UNREACHABLE if there is none."""
    failure = Failure.read(error)
    if failure.word in CODES and failure.word not in INTERNAL_REASONS:
        return ServerError(error.details() or "", reason=failure.word, field=failure.field)
    word = failure.word or failure.code.name
    return refused("WRITER_UNREACHABLE", f"the control process did not answer: {word}")
