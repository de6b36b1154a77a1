"""Forwarding: a call that only the leader can answer is made to the leader, as its caller made it.

The host that received the call authenticated the caller, and names it to the leader in a signed statement. So
no credential of the caller leaves the host, and the leader's rules and records name the real caller. A server
also makes calls of its own to the leader, on behalf of no caller.

A server states callers of every role, since it signs the log itself. A follower's host states gateways alone.
A statement that is not accepted is UNAUTHENTICATED: nothing else in the call identifies a caller then.

Each statement counts once: the ids of those that were used are kept for as long as a statement can be
accepted. They are in memory alone. A restarted process leads in another term, for which no earlier statement
is valid.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from types import SimpleNamespace
from typing import Any, Final, cast

import grpc

from ...client._transport import Failure, RenewedChannel
from ...clock import Clock
from ...crypto.keys import KeyStatus, MessageKey
from ...crypto.pem import ClientCredentials, ClientFiles
from ...errors import NotLeader, ServerError, SessauthError
from ...model.host import (
    AUDIENCE,
    INSTANCE_BYTES,
    MAX_STATEMENT_BYTES,
    NAME,
    ROLES,
    SERVER_OWNER,
    SERVER_PREFIX,
    CallerStatement,
    ItemProof,
    SignedStatement,
    item_bits,
    new_statement_id,
)
from ...state.lmdb import cluster_rows
from ...state.lmdb.environment import LmdbSource
from ...state.lmdb.rows import TxnRows
from ...state.replication.carrier import CarrierError, Leader
from ..config import Config
from ..keys.credentials import Principal
from ..log import event
from ..rpc.access import FOLLOWER, GATEWAY, RULES, STATEMENT
from ..rpc.authenticate import Authenticator
from ..rpc.call import CallContext
from ..rpc.pipeline import shows_always
from ..rpc.pool import blocking_section
from ..sections import MAX_NAME_CHARS, RESERVED
from ..services.base import FORWARDED
from ..status import CODES, refused
from ..transport.native import MAX_REQUEST_BYTES
from ..transport.rpc import StatedCaller

# The part of a call's time that is reserved for this server's own answer.
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

    def forward(
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


REPORT_USAGE: Final = "/sessauth.v1.UsageService/ReportHostUsage"
CALL_SECONDS: Final = 5.0


def own_call(host: str) -> CallContext:
    """Return the context of a report by the server that ``host`` is, to be forwarded at once."""
    # It came with no statement.
    rpc = SimpleNamespace(stated=None, metadata=(), is_active=lambda: True)
    call = CallContext(REPORT_USAGE, RULES[REPORT_USAGE], cast("Any", rpc), Principal(host, FOLLOWER))
    call.deadline = time.monotonic() + CALL_SECONDS
    return call


# The RPCs that a follower's host may forward.
BY_FOLLOWERS: Final = frozenset(f"/sessauth.v1.AuthorizationService/{name}" for name in FORWARDED)


@dataclass(eq=False)
class StatementSigner:
    """States callers as ``host``, one of the cluster, by its ``key``."""

    cluster_id: bytes
    host: str
    key: MessageKey
    clock: Clock

    def sign(
        self,
        leader: Leader,
        method: str,
        request: bytes,
        principal: Principal,
        proofs: Sequence[ItemProof] = (),
        *,
        credential: bytes = b"",
    ) -> bytes | None:
        """Return the statement of a caller and of its items' proofs, encoded.

        None for a caller with too many audiences. ``credential`` is the digest of one that the leader has to
        know too, by the log.
        """
        statement = CallerStatement(
            self.cluster_id,
            self.host,
            leader.term,
            method,
            _digest(request),
            principal.name,
            principal.role,
            principal.audiences,
            self.clock.now_ms(),
            new_statement_id(),
            item_bits(proofs, ItemProof.PROVEN),
            item_bits(proofs, ItemProof.REPLAYED),
            credential,
        )
        encoded = statement.signed_by(self.key).encode()
        return encoded if len(encoded) <= MAX_STATEMENT_BYTES else None


@dataclass(eq=False)
class StatementJudge:
    """Accepts the statements of the cluster's hosts, by this server's own state.

    They are to ``leader()``, which may be another server, to which this one forwards them. ``callers`` are
    those of this server.
    """

    cluster_id: bytes
    source: LmdbSource
    leader: Callable[[], Leader | None]
    callers: Authenticator
    clock: Clock

    def __post_init__(self) -> None:
        self._ids = StatementIds(self.clock)

    def accept(self, data: bytes, method: str) -> StatedCaller:
        """Return the caller that ``data`` states for a call of ``method``.

        Raises UNAUTHENTICATED if the statement is not accepted, for any reason.
        """
        try:
            signed, statement = SignedStatement.read(data)
        except ValueError as error:
            raise _refused(f"it can't be read: {error}") from None
        if statement.method != method:
            raise _refused("it is for another RPC")
        principal = self._require(signed, statement)
        if not signed.is_genuine():
            raise _refused("its signature is wrong")
        return StatedCaller(principal, statement, data, partial(self._redeem, signed, statement))

    def _redeem(self, signed: SignedStatement, statement: CallerStatement, request: bytes) -> None:
        """Use up a statement that was accepted, once its message has come. Raises UNAUTHENTICATED.

        It is checked again: the message may have been held back until the host or its caller was removed.
        """
        if statement.request_digest != _digest(request):
            raise _refused("it belongs to another request")
        self._require(signed, statement)
        problem = self._ids.use(signed.key_id, statement.id, statement.issued_at_ms)
        if problem:
            raise _refused(problem)

    def _require(self, signed: SignedStatement, statement: CallerStatement) -> Principal:
        """Return the caller, if the host that names itself may state it now."""
        try:
            return self._caller_of(signed, statement)
        except ServerError:
            raise
        except SessauthError as error:
            raise _refused(f"the state can't be read: {error}") from error

    def _caller_of(self, signed: SignedStatement, statement: CallerStatement) -> Principal:
        leader = self.leader()
        if statement.cluster_id != self.cluster_id:
            raise _refused("it belongs to another cluster")
        if leader is None or statement.term != leader.term:
            raise _refused(f"it is for term {statement.term}, which is not the present one")
        age_ms = self.clock.now_ms() - statement.issued_at_ms
        if not -MAX_AHEAD_MS <= age_ms <= MAX_AGE_MS:
            raise _refused(f"it is {age_ms} ms old by this host's clock")
        principal = _principal(statement)
        if statement.credential and not self.callers.has_credential(principal, statement.credential):
            raise _refused(
                f"{principal.name!r} is no caller of the cluster any more, or by another credential"
            )
        with self.source.rows() as rows:
            if statement.host.startswith(SERVER_PREFIX):
                _require_server(rows, signed, statement)
            else:
                self._require_follower(rows, signed, statement)
        return principal

    def _require_follower(self, rows: TxnRows, signed: SignedStatement, statement: CallerStatement) -> None:
        """Require that a registered host's instance signed, and that its credential is still known."""
        host = (
            cluster_rows.host(rows, statement.host)
            if len(statement.host) <= cluster_rows.MAX_NAME_BYTES
            else None
        )
        if host is None or host.leaving or host.instance != signed.key_id[:INSTANCE_BYTES]:
            raise _refused(f"host {statement.host!r} is not registered with this key")
        if statement.role != GATEWAY or statement.method not in BY_FOLLOWERS:
            raise _refused(f"a follower's host states no {statement.role!r} for {statement.method}")
        if not self.callers.is_principal(host.principal, FOLLOWER):
            raise _refused(f"{host.principal!r}, who registered {statement.host!r}, is no follower any more")
        if not cluster_rows.is_current(rows, host):
            raise _refused(f"{statement.host!r} was registered by an earlier credential {host.principal!r}")


def _require_server(rows: TxnRows, signed: SignedStatement, statement: CallerStatement) -> None:
    """Require that an active key of the server signed, by this host's own state."""
    key = rows.key(signed.key_id)
    if key is None or key.owner != SERVER_OWNER + statement.host.removeprefix(SERVER_PREFIX):
        raise _refused(f"it is signed by no key of {statement.host!r}")
    if key.status is not KeyStatus.ACTIVE:
        raise _refused(f"it is signed by a key of {statement.host!r} that is {key.status.name}")


def _principal(statement: CallerStatement) -> Principal:
    name, audiences = statement.principal, statement.audiences
    if not 1 <= len(name) <= MAX_NAME_CHARS or name.startswith(RESERVED):
        raise _refused("it names no principal that may be stated")
    if statement.role not in ROLES or not all(map(AUDIENCE.fullmatch, audiences)):
        raise _refused("it states a role or an audience that is none")
    return Principal(name, statement.role, audiences)


def _refused(why: str) -> ServerError:
    return refused("UNAUTHENTICATED", f"the caller's statement was not accepted: {why}")


def _digest(request: bytes) -> bytes:
    return blake2b(request, digest_size=32).digest()


# The oldest and the furthest ahead that a statement may be by the receiver's clock. The clocks of two hosts
# differ by less than 2 s, which leaves 3 s for the way.
MAX_AGE_MS: Final = 5_000
MAX_AHEAD_MS: Final = 2_000
# Longer than any statement is accepted after it was used.
WINDOW_MS: Final = MAX_AGE_MS + MAX_AHEAD_MS
# Of one window; a single host may have half of them.
MAX_IDS: Final = 131_072


class StatementIds:
    """The ids of this window and of the one before, by host. Any thread may use it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began_ms = clock.steady_ms()
        self._used: dict[bytes, set[bytes]] = {}
        self._before: dict[bytes, set[bytes]] = {}
        self._count = 0
        # The latest issue times of both windows, and of all that were forgotten.
        self._latest_ms = self._latest_before_ms = 0
        self._forgotten_ms = -1

    def use(self, signer: bytes, statement_id: bytes, issued_at_ms: int) -> str:
        """Use a statement; returns the reason for which it may not be, empty if it may.

        A statement issued no later than a forgotten one is refused, wherever the wall clock was set since.
        """
        with self._lock:
            self._rotate()
            if issued_at_ms <= self._forgotten_ms:
                return "issued before others that were forgotten since"
            used = self._used.setdefault(signer, set())
            if statement_id in used or statement_id in self._before.get(signer, ()):
                return "used before"
            if self._count >= MAX_IDS or len(used) >= MAX_IDS // 2:
                return "too many statements at once"
            used.add(statement_id)
            self._count += 1
            self._latest_ms = max(self._latest_ms, issued_at_ms)
        return ""

    def _rotate(self) -> None:
        passed_ms = self._clock.steady_ms() - self._began_ms
        if passed_ms < WINDOW_MS:
            return
        for _ in range(1 if passed_ms < 2 * WINDOW_MS else 2):
            if self._before:
                self._forgotten_ms = max(self._forgotten_ms, self._latest_before_ms)
            self._before, self._used = self._used, {}
            self._latest_before_ms, self._latest_ms = self._latest_ms, 0
        self._count = 0
        self._began_ms += passed_ms
