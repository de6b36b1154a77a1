"""Connections that are lent: a call never waits for the connection of another."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from ...state.replication.carrier import CarrierError
from .schema import Schema
from .session import Lost, PostgresSession, Row, Statement, StatementFailed, text, true

# Of one attempt.
ATTEMPT_S: Final = 1.0
# Of a call for which the port states no time.
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
