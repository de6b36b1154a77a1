"""The transaction that appends a record, and the reading of its answer."""

from __future__ import annotations

import time
from typing import Final

from ...state.replication.carrier import (
    DIGEST_BYTES,
    MAX_RECORD_BYTES,
    Appended,
    AppendStatus,
    CarrierError,
    LogHead,
)
from .schema import Schema
from .session import Lost, Row, StatementFailed, integer, true
from .sessions import ATTEMPT_S, Sessions

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
        return self._judge(answer[0])

    def _judge(self, row: Row) -> Appended:
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
