"""The tables of one cluster in PostgreSQL, every statement that is sent, and the connections that send them.

A connection is lent: a call never waits for the connection of another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from ...state.replication.carrier import CarrierError
from .session import Lost, PostgresSession, Row, Statement, StatementFailed, text, true

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
