"""Statements by which a host of the cluster forwards a call of its own caller: made here, and checked here.

A server states callers of every role, since it signs the log itself. A follower's host states
gateways alone. A statement that is not accepted is UNAUTHENTICATED: nothing else in the call identifies
a caller then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Protocol

from ...clock import Clock
from ...crypto.issuer_key import KeyStatus
from ...crypto.signing_key import MessageKey
from ...errors import ServerError, SessauthError
from ...model.caller_statement import (
    MAX_STATEMENT_BYTES,
    CallerStatement,
    ItemProof,
    SignedStatement,
    item_bits,
    new_statement_id,
)
from ...model.credential import AUDIENCE, ROLES
from ...model.group_record import SERVER_OWNER
from ...model.host import INSTANCE_BYTES, SERVER_PREFIX
from ...state.lmdb import cluster_rows
from ...state.lmdb.environment import LmdbSource
from ...state.lmdb.rows import TxnRows
from ...state.replication.carrier import Leader
from ..config.sections import MAX_NAME_CHARS, RESERVED
from ..keys.credentials import Principal
from ..rpc.access import FOLLOWER, GATEWAY
from ..services.forward import FORWARDED
from ..status import refused
from .statement_ids import MAX_AGE_MS, MAX_AHEAD_MS, StatementIds

# The RPCs that a follower's host may forward.
BY_FOLLOWERS: Final = frozenset(f"/sessauth.v1.AuthorizationService/{name}" for name in FORWARDED)
# Prefix of the share of a pool that the callers of a follower's host have together.
HOST_SHARE: Final = f"{RESERVED}host/"


class KnowsCallers(Protocol):
    """Knows the callers of a server: its authenticator."""

    def is_principal(self, name: str, role: str) -> bool:
        """Return True if a caller has this name and role now."""
        ...

    def has_credential(self, principal: Principal, digest: bytes) -> bool:
        """Return True if the cluster's credential of that digest is the caller's now."""
        ...


class StatementSigner:
    """States callers as one host of the cluster."""

    def __init__(
        self,
        cluster_id: bytes,
        host: str,
        key: MessageKey,
        clock: Clock,
    ) -> None:
        """Sign with the key of ``host``."""
        self._cluster_id = cluster_id
        self._host = host
        self._key = key
        self._clock = clock

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
            self._cluster_id,
            self._host,
            leader.term,
            method,
            _digest(request),
            principal.name,
            principal.role,
            principal.audiences,
            self._clock.now_ms(),
            new_statement_id(),
            item_bits(proofs, ItemProof.PROVEN),
            item_bits(proofs, ItemProof.REPLAYED),
            credential,
        )
        encoded = statement.signed_by(self._key).encode()
        return encoded if len(encoded) <= MAX_STATEMENT_BYTES else None


@dataclass(frozen=True, slots=True)
class AcceptedStatement:
    """A caller whom another host of the cluster stated, before the call's message has come."""

    principal: Principal
    statement: CallerStatement
    # As it came, to be forwarded once more.
    encoded: bytes = field(repr=False)
    signed: SignedStatement = field(repr=False)
    judge: StatementJudge = field(repr=False)

    @property
    def host(self) -> str:
        """The host that states the caller."""
        return self.statement.host

    @property
    def by_follower(self) -> bool:
        """True if a follower's host states it, which may reach the leader through another server."""
        return not self.statement.host.startswith(SERVER_PREFIX)

    @property
    def share(self) -> str:
        """The name of the caller's share of a pool: all callers of a follower's host have one together."""
        return HOST_SHARE + self.statement.host if self.by_follower else self.principal.name

    def proof_of(self, index: int) -> ItemProof:
        """Return the host's result for the proof of item ``index``."""
        return self.statement.proof_of(index)

    def redeem(self, request: bytes) -> None:
        """Use the statement up for the call's message. Raises UNAUTHENTICATED if it is not for it.

        It is checked again: the message may have been held back until the host or its caller was removed.
        """
        if self.statement.request_digest != _digest(request):
            raise _refused("it belongs to another request")
        self.judge.redeem(self.signed, self.statement)


class StatementJudge:
    """Accepts the statements of the cluster's hosts, by this server's own state."""

    def __init__(
        self,
        cluster_id: bytes,
        source: LmdbSource,
        leader: Callable[[], Leader | None],
        callers: KnowsCallers,
        clock: Clock,
    ) -> None:
        """Accept statements to ``leader()``; it may be another server, to which this one forwards them.

        ``callers`` are those of this server.
        """
        self._cluster_id = cluster_id
        self._source = source
        self._leader = leader
        self._callers = callers
        self._clock = clock
        self._ids = StatementIds(clock)

    def accept(self, data: bytes, method: str) -> AcceptedStatement:
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
        return AcceptedStatement(principal, statement, data, signed, self)

    def redeem(self, signed: SignedStatement, statement: CallerStatement) -> None:
        """Use up a statement that was accepted, once its message has come. Raises UNAUTHENTICATED."""
        self._require(signed, statement)
        problem = self._ids.use(signed.key_id, statement.id, statement.issued_at_ms)
        if problem:
            raise _refused(problem)

    def _require(self, signed: SignedStatement, statement: CallerStatement) -> Principal:
        """Return the caller, if the host that names itself may state it now."""
        try:
            return self._judged(signed, statement)
        except ServerError:
            raise
        except SessauthError as error:
            raise _refused(f"the state can't be read: {error}") from error

    def _judged(self, signed: SignedStatement, statement: CallerStatement) -> Principal:
        leader = self._leader()
        if statement.cluster_id != self._cluster_id:
            raise _refused("it belongs to another cluster")
        if leader is None or statement.term != leader.term:
            raise _refused(f"it is for term {statement.term}, which is not the present one")
        age_ms = self._clock.now_ms() - statement.issued_at_ms
        if not -MAX_AHEAD_MS <= age_ms <= MAX_AGE_MS:
            raise _refused(f"it is {age_ms} ms old by this host's clock")
        principal = _principal(statement)
        if statement.credential and not self._callers.has_credential(principal, statement.credential):
            raise _refused(
                f"{principal.name!r} is no caller of the cluster any more, or by another credential"
            )
        with self._source.rows() as rows:
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
        if not self._callers.is_principal(host.principal, FOLLOWER):
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
