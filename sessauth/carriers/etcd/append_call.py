"""The transaction that appends a record, and the reading of its answer."""

from __future__ import annotations

from typing import Final

from ...state.replication.carrier import (
    DIGEST_BYTES,
    MAX_RECORD_BYTES,
    Appended,
    AppendStatus,
    CarrierError,
    LogHead,
)
from .keys import ClusterKeys, decode_head, encode_head
from .members import CallRefused, Members, NoSpace
from .messages import TXN, absent, created_at, get, has_value, only, put, transaction, value_of
from .v1 import etcd_pb2 as pb


class AppendCall:
    """One append, with all of its attempts."""

    def __init__(self, keys: ClusterKeys, term: int, head: LogHead, record: bytes, digest: bytes) -> None:
        """Make the transaction. Raises ValueError for a digest or a head of another size."""
        if len(digest) != DIGEST_BYTES:
            raise ValueError("a digest has 32 bytes")
        self._keys: Final = keys
        self._term: Final = term
        self._head: Final = head
        self._record: Final = record
        self._new: Final = LogHead(head.number + 1, digest)
        # True once an attempt of this call had no answer.
        self._lost = False
        key = keys.record(self._new.number)
        # All three. A wiped engine restarts its revisions: a leader may have a term of another past.
        self._request: Final = pb.TxnRequest(
            compare=[
                created_at(keys.leader, term),
                has_value(keys.head, encode_head(head)) if head.number else absent(keys.head),
                absent(key),
            ],
            success=[put(key, record), put(keys.head, encode_head(self._new))],
            failure=[get(key), get(keys.leader), get(keys.head)],
        )

    def run(self, members: Members, give_up_ms: int) -> Appended:
        """Ask one member after the other until one answers."""
        if self._term < 1:
            # Revision 0 is that of a key that is not there.
            return Appended(AppendStatus.FENCED, "no leader has the term 0")
        if not 0 < len(self._record) <= MAX_RECORD_BYTES:
            return Appended(AppendStatus.REFUSED, f"a record has 1 to {MAX_RECORD_BYTES} bytes")
        try:
            return members.ask(TXN, self._request, self._judge, give_up_ms / 1000, lost=self._lose)
        except CallRefused as refusal:
            # An attempt without an answer may have appended it, or still do so.
            if self._lost:
                return Appended(AppendStatus.UNKNOWN, str(refusal))
            full = isinstance(refusal, NoSpace)
            return Appended(AppendStatus.FULL if full else AppendStatus.REFUSED, str(refusal))
        except CarrierError as error:
            return Appended(AppendStatus.UNKNOWN, str(error))

    def _lose(self) -> None:
        self._lost = True

    def _judge(self, data: bytes) -> Appended:
        answer = transaction(self._request)(data)
        if answer.succeeded:
            return Appended(AppendStatus.APPENDED)
        record, leader, value = answer.ranges
        head, new = decode_head(value_of(value)), self._new
        if record:
            if record[0].value == self._record:
                return Appended(AppendStatus.APPENDED)
            return _fenced(f"record {new.number} is another one")
        if head == new:
            # Appended by an earlier attempt, and trimmed since.
            return Appended(AppendStatus.APPENDED)
        if head.number > new.number:
            return Appended(
                AppendStatus.UNKNOWN, f"record {new.number} was trimmed: the log is at {head.number}"
            )
        if head != self._head:
            detail = f"the log is at {head.number}, not after {self._head.number} as this server has it"
            # An engine that lost its past may have lost the record of an earlier attempt, which others read.
            behind = self._lost and head.number <= self._head.number
            return Appended(AppendStatus.UNKNOWN, detail) if behind else _fenced(detail)
        found = only(leader)
        if found is None or found.create_revision != self._term:
            return _fenced("nobody leads" if found is None else "another server leads")
        raise CarrierError("etcd refused an append without a reason")


def _fenced(detail: str) -> Appended:
    return Appended(AppendStatus.FENCED, detail)
