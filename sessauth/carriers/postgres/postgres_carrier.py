"""The carrier over PostgreSQL (the port: ``state/replication/carrier.py``).

Its tables, in a schema of the cluster's own: ``log``, ``beats``, and ``head``, ``leader``, ``proof`` of one
row each. One transaction appends a record. Other hosts rely only on commits that waited for a standby.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from typing import Final

from ...state.replication.carrier import (
    DIGEST_BYTES,
    MAX_RECORD_BYTES,
    Appended,
    AppendStatus,
    Barrier,
    CarrierError,
    CompactedRecords,
    EngineRoom,
    Leader,
    LogHead,
    OwnBeats,
    beat_digest,
)
from .schema import ATTEMPT_S, PATIENCE_S, Schema, Sessions
from .session import Lost, Row, StatementFailed, hosts, integer, text, true

# The records of one deletion, which must end before its time-out.
_TRIM_STEP: Final = 200
# A lead that can't be given back lapses.
_RESIGN_S: Final = 1.0
# A barrier whose beat another attempt of this server overtook is tried again.
_BEAT_TRIES: Final = 8
# Between two looks at the head while waiting: notifications are a hint, and a server may go silent.
_LOOK_S: Final = 1.0
_MAX_TEXT_BYTES: Final = 1024
_MAX_NUMBER: Final = (1 << 63) - 2


class PostgresCarrier:
    """One server's connections to PostgreSQL. Any thread may call."""

    def __init__(
        self, conninfo: str, cluster_id: bytes, *, insecure: bool = False, alone: bool = False
    ) -> None:
        """Prepare connections by a connection URI, which may have several hosts.

        ``insecure`` permits connections without TLS, ``alone`` a server without a synchronous standby.
        Raises ConfigError for a string that can't be used, ValueError for a cluster id.
        """
        self._schema = Schema(cluster_id, alone=alone)
        places = hosts(conninfo, insecure=insecure)
        self._sessions = Sessions(places, self._schema)
        self._listening = Sessions(places, self._schema, listen=True)
        # The time of each term that this server got, in ms.
        self._terms: dict[int, int] = {}
        self._own = OwnBeats()
        self._beating = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        self._sessions.close()
        self._listening.close()

    def lead(self, name: str, address: str, ttl_ms: int) -> Leader | None:
        """Try to become the leader, by PostgreSQL's clock."""
        if not all(0 < len(value.encode()) <= _MAX_TEXT_BYTES for value in (name, address)):
            raise ValueError("a name or an address has 1 to 1024 bytes")
        self._own.require()
        # An earlier attempt may have had no answer.
        claim = secrets.token_bytes(16)
        (_, _, found, safe), _ = self._sessions.ask(*self._schema.lead(name, address, ttl_ms, claim))
        _require_standby(safe[0][0])
        if not found:
            return None
        leader = Leader(name, address, integer(found[0][0]))
        self._terms[leader.term] = ttl_ms
        return leader

    def hold(self, leader: Leader) -> bool:
        """Keep a leader's row; False for a term that this carrier did not get."""
        self._own.require()
        ttl_ms = self._terms.get(leader.term)
        if ttl_ms is None:
            return False
        ((found,), _) = self._sessions.ask(self._schema.hold(leader.term, ttl_ms))
        if not found:
            self._terms.pop(leader.term, None)
        return bool(found)

    def resign(self, leader: Leader) -> None:
        """Give the row back."""
        if self._terms.pop(leader.term, None) is not None:
            with contextlib.suppress(CarrierError):
                self._sessions.ask(self._schema.resign(leader.term), patience_s=_RESIGN_S)

    def leader(self) -> Leader | None:
        """Return the current leader."""
        ((found,), _) = self._sessions.ask(self._schema.leader)
        if not found:
            return None
        term, name, address = found[0]
        return Leader(text(name), text(address), integer(term))

    def append(self, term: int, head: LogHead, record: bytes, digest: bytes, give_up_ms: int) -> Appended:
        """Append a record after ``head``. Raises ValueError for a digest or a head of another size."""
        return AppendTransaction(self._schema, term, head, record, digest).run(self._sessions, give_up_ms)

    def barrier(self, name: str, beat: bytes) -> Barrier:
        """Write this server's beat, then read the head.

        A server that goes on may still write an earlier beat. So each is on condition of the one before.
        """
        if not self._beating.acquire(timeout=PATIENCE_S):
            raise CarrierError("an earlier barrier is still on its way")
        try:
            return self._beat(name, beat)
        finally:
            self._beating.release()

    def _beat(self, name: str, beat: bytes) -> Barrier:
        end = time.monotonic() + PATIENCE_S
        for _ in range(_BEAT_TRIES):
            statements = self._schema.barrier(name, beat, self._own.send(name, beat))
            left = max(end - time.monotonic(), 0)
            (written, state, known), engine_id = self._sessions.ask(*statements, patience_s=left)
            number, digest, revision, safe = state[0]
            _require_standby(safe)
            if known:
                self._own.learn(name, integer(known[0][0]), known[0][1] or b"")
            if written:
                return Barrier(read_head(number, digest), engine_id, integer(revision))
        raise CarrierError("others write the beat of this server")

    def beats(self) -> dict[str, bytes]:
        """Return the last beat of each server."""
        # A former primary answers reads, and commits nothing.
        (proof, found), _ = self._sessions.ask(self._schema.prove, self._schema.beats)
        _require_standby(proof[0][0])
        for server, beat, revision in found:
            self._own.check(text(server), integer(revision), beat_digest(beat or b""))
        return {text(server): beat or b"" for server, beat, _ in found}

    def read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return records after ``after``; fewer than ``limit`` where they are large."""
        ((found,), _) = self._sessions.ask(self._schema.read(min(after, _MAX_NUMBER), max(limit, 1)))
        rows = [(integer(number), record or b"") for _, number, record in found if number is not None]
        if not rows:
            head = integer(found[0][0])
            if head > after:
                raise CompactedRecords(head + 1)
            return []
        if rows[0][0] != after + 1:
            raise CompactedRecords(rows[0][0])
        if any(not 0 < len(record) <= MAX_RECORD_BYTES for _, record in rows):
            raise CarrierError("PostgreSQL answered with a record of no or of more than 1 MiB")
        return rows

    def wait(self, after: int, timeout_ms: int) -> None:
        """Return soon after a record after ``after`` exists, or after the time-out."""
        end = time.monotonic() + timeout_ms / 1000
        while time.monotonic() < end:
            try:
                self._watch(after, end)
                break
            except CarrierError:
                # Silent, or it ended the connection: the next host, but not in a tight loop.
                self._listening.pause()
        self._listening.pause(0)

    def _watch(self, after: int, end: float) -> None:
        """Return after a record or at the time-out. Raises CarrierError if the connection is of no use."""
        with self._listening.lend(min(end, time.monotonic() + ATTEMPT_S)) as session:
            while True:
                number = session.run(self._schema.head, time.monotonic() + ATTEMPT_S)[0][0]
                now = time.monotonic()
                if integer(number) > after or now >= end:
                    return
                session.notified(min(end, now + _LOOK_S))

    def trim(self, up_to: int) -> None:
        """Remove records up to this number."""
        while True:
            ((removed,), _) = self._sessions.ask(self._schema.trim(min(up_to, _MAX_NUMBER), _TRIM_STEP))
            if len(removed) < _TRIM_STEP:
                return

    def compact(self) -> None:
        """Do nothing: PostgreSQL's own vacuum frees the space."""

    def room(self) -> EngineRoom:
        """Return the size of the database. Its quota is the disk's."""
        ((found,), _) = self._sessions.ask(self._schema.size)
        return EngineRoom(integer(found[0][0]), 0, full=False)

    def seed(self, current: LogHead, head: LogHead) -> bool:
        """Replace the head, if it is the current one."""
        if not valid_head(current) or not valid_head(head):
            raise ValueError("a head has a number and a digest of 32 bytes")
        statements = self._schema.seed((current.number, current.digest), (head.number, head.digest))
        (_, _, found), _ = self._sessions.ask(*statements)
        # An earlier attempt may have had no answer.
        return read_head(*found[0]) == head


def _require_standby(safe: bytes | None) -> None:
    if not true(safe):
        raise CarrierError(f"{NO_STANDBY}; see cluster.engine_without_standby")


# The values permitted for a setting of the carrier.
NO_STANDBY: Final = "PostgreSQL waits for no standby (synchronous_standby_names is empty)"


class AppendTransaction:
    """One append, with all of its attempts."""

    def __init__(self, schema: Schema, term: int, head: LogHead, record: bytes, digest: bytes) -> None:
        """Make the transaction. Raises ValueError for a digest or a head of another size."""
        if len(digest) != DIGEST_BYTES or not valid_head(head):
            raise ValueError("a digest has 32 bytes")
        self._schema: Final = schema
        self._term: Final = term
        self._head: Final = head
        self._record: Final = record
        self._new: Final = LogHead(head.number + 1, digest)
        # True once an attempt of this call had no answer.
        self._lost = False

    def run(self, sessions: Sessions, give_up_ms: int) -> Appended:
        """Send the same bytes until PostgreSQL answers."""
        if self._term < 1:
            return Appended(AppendStatus.FENCED, "no leader has the term 0")
        if not 0 < len(self._record) <= MAX_RECORD_BYTES:
            return Appended(AppendStatus.REFUSED, f"a record has 1 to {MAX_RECORD_BYTES} bytes")
        end = time.monotonic() + give_up_ms / 1000
        detail = "no time to ask PostgreSQL"
        while time.monotonic() < end:
            try:
                return self._attempt(sessions, min(end, time.monotonic() + ATTEMPT_S))
            except CarrierError as error:
                detail = str(error)
                self._lost = self._lost or isinstance(error, Lost)
                if isinstance(error, StatementFailed) and error.definitive:
                    return self._refused(detail)
            try:
                sessions.pause()
            except CarrierError as error:
                return Appended(AppendStatus.UNKNOWN, str(error))
        return Appended(AppendStatus.UNKNOWN, detail)

    def _attempt(self, sessions: Sessions, end: float) -> Appended:
        statements = self._schema.append(
            self._term, self._head.number, self._head.digest, self._new.digest, self._record
        )
        with sessions.lend(end) as session:
            answer = session.transact(statements, end, (self._schema.notify,))[-1]
        return self._appended_of(answer[0])

    def _appended_of(self, row: Row) -> Appended:
        head, new = read_head(row[0], row[1]), self._new
        if not true(row[4]):
            return self._refused(NO_STANDBY)
        record = row[5]
        if head == new or record == self._record:
            return Appended(AppendStatus.APPENDED)
        if record is not None:
            return _fenced(f"record {new.number} is another one")
        if head.number > new.number:
            return Appended(
                AppendStatus.UNKNOWN, f"record {new.number} was trimmed: the log is at {head.number}"
            )
        if head != self._head:
            detail = f"the log is at {head.number}, not after {self._head.number} as this server has it"
            # An engine that lost its past may have lost the record of an earlier attempt, which others read.
            behind = self._lost and head.number <= self._head.number
            return Appended(AppendStatus.UNKNOWN, detail) if behind else _fenced(detail)
        if integer(row[2]) != self._term or not true(row[3]):
            return _fenced("another server leads" if true(row[3]) else "nobody leads")
        # The lead ended between the two statements.
        raise CarrierError("PostgreSQL refused an append without a reason")

    def _refused(self, detail: str) -> Appended:
        # An attempt without an answer may have appended it, or still do so.
        return Appended(AppendStatus.UNKNOWN if self._lost else AppendStatus.REFUSED, detail)


def _fenced(detail: str) -> Appended:
    return Appended(AppendStatus.FENCED, detail)


def valid_head(head: LogHead) -> bool:
    """True for a number and a digest as a log has them."""
    return 0 <= head.number < (1 << 63) - 1 and len(head.digest) == (DIGEST_BYTES if head.number else 0)


def read_head(number: bytes | None, digest: bytes | None) -> LogHead:
    """Return the head of an answer. Raises CarrierError."""
    head = LogHead(integer(number), digest or b"")
    if not valid_head(head):
        raise CarrierError("PostgreSQL answered with a malformed head")
    return head
