"""Handing on: a change that only the leader can make is asked for at the leader, as its caller asked.

The leader authenticates the caller by the same API key, so its rules and its records name who really asked. A
caller that only a certificate identifies is told where the leader is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import grpc

from ...client._failures import Failure
from ...errors import NotLeader, ServerError
from ...state.replication.carrier import CarrierError
from ..config.config import Config
from ..rpc.access import CALLER_AUTHORIZATION
from ..rpc.call import CallContext
from ..rpc.listen import MAX_REQUEST_BYTES
from ..status import CODES, refused

FORWARD: Final = "/sessauth.v1.ForwardService/Forward"
AUTHORIZATION: Final = "authorization"
# In the metadata of what was handed on once: it goes no further.
HANDED_ON: Final = "sessauth-handed-on"
# Reserve of a call's time for an answer of this server itself.
RESERVE_SECONDS: Final = 0.02
OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", MAX_REQUEST_BYTES),
)


class LeaderCalls:
    """Calls unary RPCs of whoever leads. Any thread may use it."""

    def __init__(self, config: Config, settle: Callable[[], None]) -> None:
        """Use TLS by the settings' CA file, which is read at each new leader; without one plain text.

        ``settle()`` waits until this host holds what the leader has answered.
        """
        self._ca = config.path(config.cluster.server_ca) if config.cluster.server_ca else None
        self._settle = settle
        self._lock = threading.Lock()
        self._address = ""
        self._channel: grpc.Channel | None = None

    def hand_on(self, name: str, request: bytes, call: CallContext, error: NotLeader) -> bytes:
        """Return the leader's answer, once this host's own checks see what it says.

        Raises ``error`` if nobody leads or the call can't be handed on, ServerError with the leader's reason,
        or NOT_LEADER if it can't be reached: then nothing was sent.
        """
        found = dict(call.context.invocation_metadata())
        # A worker's own credential is for this process alone.
        caller_key = found.get(CALLER_AUTHORIZATION if call.method == FORWARD else AUTHORIZATION)
        if not error.address or HANDED_ON in found or caller_key is None:
            raise error
        seconds = call.remaining - RESERVE_SECONDS
        if seconds <= 0.0:
            raise refused("DEADLINE_EXCEEDED", "no time is left to ask the leader")
        channel: Any = self._connected(error.address)
        method = channel.unary_unary(name)
        sent = ((AUTHORIZATION, caller_key), (HANDED_ON, "1"))
        try:
            answer: bytes = method(request, timeout=seconds, metadata=sent)
        except grpc.RpcError as failure:
            raise _as_error(failure, error) from None
        try:
            self._settle()
        except CarrierError as problem:
            raise refused(
                "OUTCOME_UNKNOWN", f"the leader made the change, and this host does not see it yet: {problem}"
            ) from None
        return answer

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()

    def _connected(self, address: str) -> grpc.Channel:
        with self._lock:
            if self._channel is None or self._address != address:
                if self._channel is not None:
                    self._channel.close()
                self._address = address
                self._channel = self._connect(address)
            return self._channel

    def _connect(self, address: str) -> grpc.Channel:
        if self._ca is None:
            return grpc.insecure_channel(address, options=OPTIONS)
        try:
            credentials = grpc.ssl_channel_credentials(self._ca.read_bytes())
        except OSError as problem:
            raise refused("NOT_LEADER", f"cluster.server_ca can't be read: {problem.strerror}") from None
        return grpc.secure_channel(address, credentials, options=OPTIONS)


def _as_error(failure: Any, error: NotLeader) -> ServerError | NotLeader:
    """Return the error of the leader's refusal; ``error`` if it was not reached."""
    refusal = Failure.read(failure)
    if refusal.word in CODES:
        return ServerError(refusal.message, reason=refusal.word, field=refusal.field)
    if refusal.never_sent:
        return error
    return refused("OUTCOME_UNKNOWN", "the leader did not answer; retry with the same request id")
