"""The carrier over PostgreSQL (the port: ``state/replication/carrier.py``).

Its tables, in a schema of the cluster's own: ``log``, ``beats``, and ``head``, ``leader``, ``proof`` of one
row each. One transaction appends a record. Other hosts rely only on commits that waited for a standby. A
connection is lent: a call never waits for the connection of another.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from .session import Lost, PostgresSession, Row, Statement, StatementFailed, hosts, integer, text, true

_MAX_ID_BYTES: Final = 24
# The second of two that begin at once finds the tables.
_CREATING: Final = 0x73657373
MAX_ANSWER_BYTES: Final = 16 << 20
# A statement that waits for a lock ends after the client's own patience, and a client's end is noticed.
_SETTINGS: Final = {
    "synchronous_commit": "on",
    "statement_timeout": "2000",
    "idle_in_transaction_session_timeout": "5000",
    "client_connection_check_interval": "1000",
    "client_min_messages": "warning",
    "search_path": "pg_catalog",
}
_ONE: Final = "one boolean PRIMARY KEY DEFAULT true CHECK (one)"
# Rows that are rewritten many times a second need free space on their page.
_ROOM: Final = "WITH (fillfactor = 20)"
_LIVE: Final = "until > clock_timestamp()"
_LATER: Final = "clock_timestamp() + $%d * interval '1 millisecond'"
_SYNCHRONOUS: Final = "current_setting('synchronous_standby_names') <> ''"


class Schema:
    """Statements on the tables of schema ``sessauth_<cluster id hex>``."""

    def __init__(self, cluster_id: bytes, *, alone: bool) -> None:
        """Name the tables. Raises ValueError for an id that is empty or long.

        ``alone`` permits a server that waits for no standby.
        """
        if not 0 < len(cluster_id) <= _MAX_ID_BYTES:
            raise ValueError("a cluster has an id of 1 to 24 bytes")
        name = f"sessauth_{cluster_id.hex()}"
        self._name: Final = name
        # The condition of each statement that others rely on, as one column.
        safe = "true" if alone else _SYNCHRONOUS
        settings = ", ".join(f"set_config('{key}', '{value}', false)" for key, value in _SETTINGS.items())
        self.prepare: Final = Statement(
            "SELECT s.system_identifier::text, to_regclass($1) IS NOT NULL "
            f"FROM pg_control_system() s, (SELECT {settings}) done",
            (f"{name}.proof",),
        )
        self.create: Final = tuple(Statement(sql) for sql in _create(name))
        self.listen: Final = Statement(f"LISTEN {name}")
        self.notify: Final = Statement(f"NOTIFY {name}")
        self.leader: Final = Statement(f"SELECT term, name, address FROM {name}.leader WHERE {_LIVE}")
        self.size: Final = Statement("SELECT pg_database_size(current_database())")
        self.lock_leader: Final = Statement(f"SELECT term FROM {name}.leader FOR UPDATE")
        self.lock_head: Final = Statement(f"SELECT number FROM {name}.head FOR UPDATE")
        # Commits a write with the standby where the transaction has no other write.
        self.prove: Final = Statement(f"UPDATE {name}.proof SET number = number + 1 RETURNING {safe}")
        self.beats: Final = Statement(f"SELECT server, beat, revision FROM {name}.beats")
        self.head: Final = Statement(f"SELECT number, digest FROM {name}.head")
        self._safe: Final = safe

    def lead(self, name: str, address: str, ttl_ms: int, claim: bytes) -> tuple[Statement, ...]:
        """Take the leader's row if nobody has it; the third of the answers is the term of ``claim``."""
        table = f"{self._name}.leader"
        return (
            self.lock_leader,
            Statement(
                f"UPDATE {table} SET term = term + 1, name = $1, address = $2, claim = $4, "
                f"until = {_LATER % 3} WHERE until <= clock_timestamp() AND {self._safe}",
                (name, address, ttl_ms, claim),
            ),
            Statement(f"SELECT term FROM {table} WHERE claim = $1 AND {_LIVE}", (claim,)),
            Statement(f"SELECT {self._safe}"),
        )

    def hold(self, term: int, ttl_ms: int) -> Statement:
        """Keep the leader's row for longer: a row if it was this term's."""
        return Statement(
            f"UPDATE {self._name}.leader SET until = {_LATER % 2} WHERE term = $1 AND {_LIVE} RETURNING term",
            (term, ttl_ms),
        )

    def resign(self, term: int) -> Statement:
        """Give the leader's row back."""
        return Statement(f"UPDATE {self._name}.leader SET until = '-infinity' WHERE term = $1", (term,))

    def append(
        self, term: int, number: int, digest: bytes, new_digest: bytes, record: bytes
    ) -> tuple[Statement, ...]:
        """Append a record after a head, if the term leads; the last answer is how it is then.

        Each statement sees what others committed before it: the rows are locked first. The locks alone make
        the commit one that waits for the standby, so a record of an earlier attempt is there as well.
        """
        name = self._name
        move = Statement(
            f"WITH moved AS (UPDATE {name}.head SET number = $2 + 1, digest = $4 FROM {name}.leader "
            f"WHERE leader.term = $1 AND leader.{_LIVE} AND head.number = $2 AND head.digest = $3 AND "
            f"{self._safe} AND NOT EXISTS (SELECT FROM {name}.log WHERE log.number = $2 + 1) RETURNING 1) "
            f"INSERT INTO {name}.log (number, record) SELECT $2 + 1, $5 FROM moved",
            (term, number, digest, new_digest, record),
        )
        state = Statement(
            f"SELECT head.number, head.digest, leader.term, leader.{_LIVE}, {self._safe}, "
            "CASE WHEN head.number = $1 AND head.digest = $2 THEN NULL "
            f"ELSE (SELECT record FROM {name}.log WHERE log.number = $1) END FROM {name}.head, {name}.leader",
            (number + 1, new_digest),
        )
        return self.lock_leader, self.lock_head, move, state

    def barrier(self, server: str, beat: bytes, revision: int) -> tuple[Statement, ...]:
        """Write a beat whose last revision is this one, and read the head; then its revision and digest."""
        table = f"{self._name}.beats"
        return (
            Statement(
                f"INSERT INTO {table} AS b (server, beat, revision) VALUES ($1, $2, 1) ON CONFLICT (server) "
                "DO UPDATE SET beat = excluded.beat, revision = b.revision + 1 WHERE b.revision = $3 "
                "RETURNING revision",
                (server, beat, revision),
            ),
            Statement(
                "SELECT number, digest, (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint, "
                f"{self._safe} FROM {self._name}.head"
            ),
            Statement(f"SELECT revision, sha256(beat) FROM {table} WHERE server = $1", (server,)),
        )

    def read(self, after: int, limit: int) -> Statement:
        """Read records and the head by one snapshot; one of them at least, whatever its size."""
        return Statement(
            "SELECT h.number, r.number, r.record FROM "
            f"{self._name}.head h LEFT JOIN (SELECT number, record FROM "
            "(SELECT number, record, sum(octet_length(record)) OVER (ORDER BY number) AS total, "
            f"row_number() OVER (ORDER BY number) AS place FROM (SELECT number, record FROM {self._name}.log "
            "WHERE number > $1 ORDER BY number LIMIT $2) page) sized WHERE total <= $3 OR place = 1) r "
            "ON true ORDER BY r.number",
            (after, limit, MAX_ANSWER_BYTES),
        )

    def trim(self, up_to: int, step: int) -> Statement:
        """Remove the first records up to a number, ``step`` at most: a row for each."""
        log = f"{self._name}.log"
        return Statement(
            f"DELETE FROM {log} WHERE number IN (SELECT number FROM {log} WHERE number <= "
            f"least($1, (SELECT number FROM {self._name}.head)) ORDER BY number LIMIT $2) RETURNING number",
            (up_to, step),
        )

    def seed(
        self, current: tuple[int, bytes], head: tuple[int, bytes]
    ) -> tuple[Statement, Statement, Statement]:
        """Replace the head if it is ``current``; the last answer is the head."""
        replace = Statement(
            f"UPDATE {self._name}.head SET number = $3, digest = $4 WHERE number = $1 AND digest = $2",
            (*current, *head),
        )
        return self.lock_head, replace, self.head


def _create(name: str) -> tuple[str, ...]:
    return (
        f"SELECT pg_advisory_xact_lock({_CREATING})",
        f"CREATE SCHEMA IF NOT EXISTS {name}",
        f"CREATE TABLE IF NOT EXISTS {name}.log (number bigint PRIMARY KEY, record bytea NOT NULL)",
        # Records are signed bytes, which don't shrink.
        f"ALTER TABLE {name}.log ALTER COLUMN record SET STORAGE EXTERNAL",
        f"CREATE TABLE IF NOT EXISTS {name}.head ({_ONE}, number bigint NOT NULL, digest bytea NOT NULL) "
        f"{_ROOM}",
        f"CREATE TABLE IF NOT EXISTS {name}.leader ({_ONE}, term bigint NOT NULL, name text NOT NULL, "
        f"address text NOT NULL, until timestamptz NOT NULL, claim bytea NOT NULL) {_ROOM}",
        f"CREATE TABLE IF NOT EXISTS {name}.beats (server text PRIMARY KEY, beat bytea NOT NULL, "
        f"revision bigint NOT NULL) {_ROOM}",
        f"CREATE TABLE IF NOT EXISTS {name}.proof ({_ONE}, number bigint NOT NULL) {_ROOM}",
        f"INSERT INTO {name}.head VALUES (true, 0, '') ON CONFLICT DO NOTHING",
        # Terms rise even when a database was made again: hosts refuse a lower one.
        f"INSERT INTO {name}.leader VALUES (true, extract(epoch FROM clock_timestamp())::bigint, '', '', "
        "'-infinity', '') ON CONFLICT DO NOTHING",
        f"INSERT INTO {name}.proof VALUES (true, 0) ON CONFLICT DO NOTHING",
    )


# Of one attempt.
ATTEMPT_S: Final = 1.0
# The time of a call for which the port states none.
PATIENCE_S: Final = 3.0
_PAUSE_S: Final = 0.05
_MAX_IDLE: Final = 8


class Sessions:
    """Connections to the first host that takes writes. Any thread may call."""

    def __init__(self, hosts: Sequence[bytes], schema: Schema, *, listen: bool = False) -> None:
        """Connect when needed; with ``listen`` each connection is notified of records."""
        self._hosts = tuple(hosts)
        self._schema = schema
        self._listen = listen
        self._preferred = 0
        self._lock = threading.Lock()
        self._idle: list[PostgresSession] = []
        self._closed = threading.Event()

    def close(self) -> None:
        """Close the connections. Calls end with CarrierError."""
        with self._lock:
            self._closed.set()
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()

    def pause(self, seconds: float = _PAUSE_S) -> None:
        """Wait, but not once this is closed. Raises CarrierError if it is."""
        if self._closed.wait(max(seconds, 0)):
            raise CarrierError("the carrier is closed")

    @contextmanager
    def lend(self, end: float) -> Iterator[PostgresSession]:
        """Lend a connection, made until ``end`` if there is none. One whose use failed is closed."""
        session = self._take() or self._open(end)
        try:
            yield session
        except BaseException:
            session.close()
            raise
        with self._lock:
            if not self._closed.is_set() and len(self._idle) < _MAX_IDLE:
                self._idle.append(session)
                return
        session.close()

    def _take(self) -> PostgresSession | None:
        self.pause(0)
        while True:
            with self._lock:
                if not self._idle:
                    return None
                session = self._idle.pop()
            # After a restart of PostgreSQL all are dead: a statement sent on one has an unknown result.
            if session.usable:
                return session
            session.close()

    def _open(self, end: float) -> PostgresSession:
        host = self._preferred
        try:
            session = PostgresSession(self._hosts[host], end, self._closed.is_set)
        except CarrierError:
            # Two threads may fail at once, and leave the host once.
            if self._preferred == host:
                self._preferred = (host + 1) % len(self._hosts)
            raise
        try:
            self._prepare(session, end)
        except Lost as error:
            session.close()
            # Of the preparation alone.
            raise CarrierError(str(error)) from None
        except BaseException:
            session.close()
            raise
        return session

    def _prepare(self, session: PostgresSession, end: float) -> None:
        engine_id, complete = session.run(self._schema.prepare, end)[0]
        session.engine_id = text(engine_id)
        if not true(complete):
            session.transact(self._schema.create, end)
        if self._listen:
            session.run(self._schema.listen, end)

    def ask(self, *statements: Statement, patience_s: float = PATIENCE_S) -> tuple[list[list[Row]], str]:
        """Run a transaction that may take effect twice, until it does; returns its rows and the engine's id.

        Raises StatementFailed if it would fail again, CarrierError without an answer for ``patience_s``.
        """
        end = time.monotonic() + patience_s
        while True:
            attempt_end = min(end, time.monotonic() + ATTEMPT_S)
            try:
                with self.lend(attempt_end) as session:
                    return session.transact(statements, attempt_end), session.engine_id
            except CarrierError as error:
                failed = isinstance(error, StatementFailed) and error.definitive
                if failed or time.monotonic() + _PAUSE_S >= end:
                    raise
            self.pause()


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
