"""Forwarding: a call that only the leader can answer is made to the leader, as its caller made it.

The host that received the call authenticated the caller, and names it to the leader in a signed statement. So
no credential of the caller leaves the host, and the leader's rules and records name the real caller.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final

import grpc

from ...client._failures import Failure
from ...client._renewed_channel import RenewedChannel
from ...crypto.client_files import ClientCredentials, ClientFiles
from ...errors import NotLeader, ServerError
from ...model.caller_statement import ItemProof
from ...model.credential import NAME, ROLES
from ...state.replication.carrier import CarrierError, Leader
from ..config.config import Config
from ..log import event
from ..rpc.access import STATEMENT
from ..rpc.call import CallContext
from ..rpc.listen import MAX_REQUEST_BYTES
from ..rpc.pipeline import shows_always
from ..rpc.pool import blocking_section
from ..status import CODES, refused
from .statements import StatementSigner

# Reserve of a call's time for an answer of this server itself.
RESERVE_SECONDS: Final = 0.02
OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # For a leader that can't be reached any more: TCP alone would resend for minutes, ever less often.
    ("grpc.keepalive_time_ms", 6_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", MAX_REQUEST_BYTES),
)


class LeaderCalls:
    """Calls unary RPCs of the current leader. Any thread may use it."""

    def __init__(
        self,
        config: Config,
        signer: StatementSigner,
        leader: Callable[[], Leader | None],
        settle: Callable[[], None],
        credential_of: Callable[[str], bytes],
        *,
        roles: Collection[str] = ROLES,
        connect: Callable[[str], RenewedChannel] | None = None,
    ) -> None:
        """Use TLS by the settings' files, which are read again when they change; without a CA plain text.

        ``settle()`` waits until this host holds the changes that the leader has answered.
        ``credential_of(name)`` returns the digest of a caller's credential in the cluster, empty if this host
        alone knows the caller. A follower states the ``roles`` that it may forward, and ``connect``, which
        gives a channel to one of its servers.
        """
        self._roles = roles
        self._connect = connect or partial(_connect, credentials=_credentials(config))
        self._signer = signer
        self._leader = leader
        self._settle = settle
        self._credential_of = credential_of
        self._lock = threading.Lock()
        self._channel: RenewedChannel | None = None

    def hand_on(
        self,
        name: str,
        request: bytes,
        call: CallContext,
        error: NotLeader,
        proofs: Sequence[ItemProof] = (),
        shows: Callable[[bytes], bool] = shows_always,
    ) -> bytes:
        """Return the leader's answer; one that ``shows`` something, once this host's own folder has that.

        ``proofs`` are this host's results for the proofs of the request's items. Raises ``error`` if there is
        no leader or the call can't be forwarded, ServerError with the leader's reason, or NOT_LEADER if it
        can't be reached: then nothing was sent.
        """
        leader = self._leader()
        if leader is None or not error.address or call.principal.role not in self._roles:
            raise error
        statement = self._statement(leader, name, request, call, error, proofs)
        seconds = call.remaining - RESERVE_SECONDS
        if seconds <= 0.0:
            raise refused("DEADLINE_EXCEEDED", "no time is left to ask the leader")
        channel: Any = self._connected(leader.address)
        method = channel.unary_unary(name)
        try:
            with blocking_section():
                answer: bytes = method(request, timeout=seconds, metadata=((STATEMENT, statement),))
        except grpc.RpcError as failure:
            raise _as_error(failure, error) from None
        except ValueError:
            # Another call closed the channel, since the leader changed: nothing was sent.
            raise error from None
        if call.context.stated is not None or not shows(answer):
            return answer
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

    def _statement(
        self,
        leader: Leader,
        name: str,
        request: bytes,
        call: CallContext,
        error: NotLeader,
        proofs: Sequence[ItemProof],
    ) -> bytes:
        """Return the statement of a call's caller: that of a follower's host as it came, else a new one.

        Raises ``error`` for a call that a server forwarded: it goes no further; and as ``credential_of``.
        """
        stated = call.context.stated
        if stated is not None:
            if not stated.by_follower:
                raise error
            return stated.encoded
        caller = call.principal
        # Servers call in names that no credential has.
        credential = self._credential_of(caller.name) if NAME.fullmatch(caller.name) else b""
        statement = self._signer.sign(leader, name, request, caller, proofs, credential=credential)
        if statement is None:
            raise refused("NOT_LEADER", "this caller has too many audiences to be forwarded; ask the leader")
        return statement

    def _connected(self, address: str) -> grpc.Channel:
        with self._lock:
            if self._channel is None or self._channel.target != address:
                former, self._channel = self._channel, self._connect(address)
                if former is not None:
                    former.close()
            return self._channel.current


def _connect(address: str, credentials: ClientCredentials | None) -> RenewedChannel:
    return RenewedChannel(address, credentials, OPTIONS)


def _credentials(config: Config) -> ClientCredentials | None:
    """Return those of a server of the cluster; None: plain text. Raises ConfigError."""
    if not config.cluster.server_ca:
        return None
    certificate, private_key = (config.path(name) if name else None for name in config.part_certificate)
    files = ClientFiles(config.path(config.cluster.server_ca), certificate, private_key)
    return ClientCredentials(files, "cluster.certificate, cluster.private_key, cluster.server_ca")


def _as_error(failure: Any, error: NotLeader) -> ServerError | NotLeader:
    """Return the error of the leader's refusal; ``error`` if it was not reached."""
    refusal = Failure.read(failure)
    if refusal.word == "UNAUTHENTICATED":
        # It concerns this server, not the caller, whom this server authenticated. Nothing was done.
        event(logging.WARNING, "statement_refused", leader=error.address)
        return refused(
            "NOT_LEADER", "the leader did not accept this server's statement of the caller; ask it"
        )
    if refusal.word in CODES:
        return ServerError(refusal.message, reason=refusal.word, field=refusal.field)
    if refusal.never_sent:
        return error
    return refused("OUTCOME_UNKNOWN", "the leader did not answer; retry with the same request id")
