"""The carrier over etcd's API v3 (the port: ``state/replication/carrier.py``).

Its keys: ``leader`` (the only one with a lease), ``head``, ``log/<number>``, ``beat/<server>``.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Sequence
from typing import Final

import grpc

from ...crypto.client_files import ClientFiles
from ...state.replication.carrier import (
    MAX_RECORD_BYTES,
    Appended,
    Barrier,
    CarrierError,
    CompactedRecords,
    EngineRoom,
    Leader,
    LogHead,
    OwnBeats,
    beat_digest,
)
from .append_call import AppendCall
from .keys import ClusterKeys, decode_head, decode_leader, encode_head, encode_leader
from .log_watch import LogWatch
from .members import PATIENCE_S, AnswerTooLarge, CallRefused, Members
from .messages import (
    COMPACT,
    DELETE_RANGE,
    GRANT,
    KEEP_ALIVE,
    RANGE,
    REVOKE,
    STATUS,
    TXN,
    Transaction,
    absent,
    get,
    has_value,
    impossible,
    modified_at,
    only,
    pairs,
    parse,
    put,
    transaction,
    value_of,
)
from .v1 import etcd_pb2 as pb

# Of one deletion, so that etcd is not busy with it for long.
_TRIM_STEP: Final = 1000
# A lease that can't be revoked lapses.
_REVOKE_S: Final = 1.0
# The alarm of a cluster of which a member reached its quota.
_NO_SPACE: Final = "NOSPACE"
# A barrier whose beat another attempt of this server overtook is tried again.
_BEAT_TRIES: Final = 8


class EtcdCarrier:
    """One server's connections to etcd. Any thread may call."""

    def __init__(self, addresses: Sequence[str], cluster_id: bytes, files: ClientFiles | None = None) -> None:
        """Prepare connections to the members, each ``HOST:PORT``; without ``files`` in plain text.

        Raises ConfigError if the files can't be used, ValueError without an address or a cluster id.
        """
        self._keys = ClusterKeys(cluster_id)
        self._members = Members(addresses, files)
        self._watch = LogWatch(self._keys, self._members)
        # The lease of each term that this server got.
        self._leases: dict[int, int] = {}
        self._own = OwnBeats()
        self._beating = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        self._members.close()

    def lead(self, name: str, address: str, ttl_ms: int) -> Leader | None:
        """Try to become the leader. etcd counts in seconds, and takes none below 1.5 of its elections."""
        self._own.require()
        value = encode_leader(name, address)
        if self.leader() is not None:
            return None
        lease = secrets.randbits(62) + 1
        try:
            self._grant(lease, -(-ttl_ms // 1000))
            leader = self._take(value, lease)
        except CarrierError:
            # The key may have been written: nobody would hold it.
            self._revoke(lease)
            raise
        if leader is None:
            self._revoke(lease)
            return None
        self._leases[leader.term] = lease
        return leader

    def _grant(self, lease: int, ttl_s: int) -> None:
        request = pb.LeaseGrantRequest(ttl=max(ttl_s, 1), id=lease)
        try:
            answer = self._members.ask(GRANT, request, parse(pb.LeaseGrantResponse))
        except CallRefused as refusal:
            # An earlier attempt was taken: the id is of this call alone.
            if refusal.code is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            return
        if answer.id != lease or answer.ttl < 1 or answer.error:
            raise CarrierError("etcd granted another lease than the one of the request")

    def _take(self, value: bytes, lease: int) -> Leader | None:
        key = self._keys.leader
        request = pb.TxnRequest(
            compare=[absent(key)], success=[put(key, value, lease), get(key)], failure=[get(key)]
        )
        found = only(self._transact(request).ranges[0])
        if found is None or found.lease != lease:
            return None
        # By this attempt, or by an earlier one that had no answer.
        return _leader(found)

    def _revoke(self, lease: int) -> None:
        with contextlib.suppress(CarrierError):
            self._members.ask(
                REVOKE, pb.LeaseRevokeRequest(id=lease), parse(pb.LeaseRevokeResponse), _REVOKE_S
            )

    def hold(self, leader: Leader) -> bool:
        """Keep a leader's key; False for a term that this carrier did not get."""
        self._own.require()
        lease = self._leases.get(leader.term)
        if lease is None:
            return False
        # A stream in etcd's API, of which one request and one answer are used.
        request = pb.LeaseKeepAliveRequest(id=lease)
        answer = self._members.ask(KEEP_ALIVE, request, parse(pb.LeaseKeepAliveResponse))
        if answer.id != lease:
            raise CarrierError("etcd answered for another lease")
        current = self.leader() if answer.ttl > 0 else None
        if current is None or current.term != leader.term:
            self._leases.pop(leader.term, None)
            return False
        return True

    def resign(self, leader: Leader) -> None:
        """Give the key back, with its lease."""
        lease = self._leases.pop(leader.term, None)
        if lease is not None:
            self._revoke(lease)

    def leader(self) -> Leader | None:
        """Return the current leader."""
        request = get(self._keys.leader).request_range
        answer = self._members.ask(RANGE, request, lambda data: pairs(request, parse(pb.RangeResponse)(data)))
        found = only(answer)
        return None if found is None else _leader(found)

    def append(self, term: int, head: LogHead, record: bytes, digest: bytes, give_up_ms: int) -> Appended:
        """Append a record after ``head``. Raises ValueError for a digest or a head of another size."""
        return AppendCall(self._keys, term, head, record, digest).run(self._members, give_up_ms)

    def barrier(self, name: str, beat: bytes) -> Barrier:
        """Write this server's beat, and read the head in the same step.

        A write that a silent member has from an earlier call must not replace a later beat. So each is on
        condition of the one before.
        """
        if not self._beating.acquire(timeout=PATIENCE_S):
            raise CarrierError("an earlier barrier is still on its way")
        try:
            return self._beat(name, beat)
        finally:
            self._beating.release()

    def _beat(self, name: str, beat: bytes) -> Barrier:
        key = self._keys.beat(name)
        for _ in range(_BEAT_TRIES):
            request = pb.TxnRequest(
                compare=[modified_at(key, self._own.send(name, beat))],
                success=[put(key, beat), get(key), get(self._keys.head)],
                failure=[get(key), get(self._keys.head)],
            )
            answer = self._members.ask_hedged(TXN, request, transaction(request))
            written = only(answer.ranges[0])
            if written is None:
                self._own.learn(name, 0, b"")
                continue
            self._own.learn(name, written.mod_revision, beat_digest(written.value))
            if written.value == beat:
                # If not by this attempt, then by the other one: both are of the quorum.
                return Barrier(decode_head(value_of(answer.ranges[1])), answer.engine_id, answer.revision)
        raise CarrierError("others write the beat of this server")

    def beats(self) -> dict[str, bytes]:
        """Return the last beat of each server."""
        # etcd 3.5.16 may answer reads of a paused member with old values, but orders all that may write.
        request = pb.TxnRequest(
            compare=[impossible(self._keys.never)],
            success=[put(self._keys.never, b"")],
            failure=[get(*self._keys.beats)],
        )
        answer = self._transact(request)
        if answer.succeeded:
            raise CarrierError("etcd did what can't be")
        found = {self._keys.server(pair.key): pair for pair in answer.ranges[0]}
        for name, pair in found.items():
            self._own.check(name, pair.mod_revision, beat_digest(pair.value))
        return {name: pair.value for name, pair in found.items()}

    def _transact(self, request: pb.TxnRequest) -> Transaction:
        return self._members.ask(TXN, request, transaction(request))

    def read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return records after ``after``; fewer than ``limit`` where they are too large for one answer."""
        while True:
            try:
                return self._read(after, limit)
            except AnswerTooLarge:
                if limit <= 1:
                    raise
                limit //= 2

    def _read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        records = get(self._keys.record(after + 1), self._keys.log_end, max(limit, 1), by_member=True)
        request = pb.TxnRequest(success=[records, get(self._keys.head, by_member=True)])
        found, value = self._transact(request).ranges
        # Both are of one revision of that member.
        head = decode_head(value_of(value))
        if not found:
            if head.number > after:
                raise CompactedRecords(head.number + 1)
            return []
        numbers = [self._keys.number(pair.key) for pair in found]
        if numbers[0] != after + 1:
            raise CompactedRecords(numbers[0])
        if any(not 0 < len(pair.value) <= MAX_RECORD_BYTES for pair in found):
            raise CarrierError("etcd answered with a record of no or of more than 1 MiB")
        return [(number, pair.value) for number, pair in zip(numbers, found, strict=True)]

    def wait(self, after: int, timeout_ms: int) -> None:
        """Return soon after a record after ``after`` exists, or after the time-out."""
        self._watch.wait(after, timeout_ms)

    def trim(self, up_to: int) -> None:
        """Remove records up to this number."""
        first, head = self._ends()
        last = min(up_to, head.number)
        for begin in range(first, last + 1, _TRIM_STEP) if first else ():
            end = self._keys.record(min(begin + _TRIM_STEP, last + 1))
            request = pb.DeleteRangeRequest(key=self._keys.record(0), range_end=end)
            self._members.ask(DELETE_RANGE, request, parse(pb.DeleteRangeResponse))

    def compact(self) -> None:
        """Have etcd forget its history of keys, which nobody reads: a watch begins at the present keys."""
        revision = self._members.ask(
            RANGE, get(self._keys.head).request_range, parse(pb.RangeResponse)
        ).header.revision
        try:
            self._members.ask(COMPACT, pb.CompactionRequest(revision=revision), parse(pb.CompactionResponse))
        except CallRefused as refusal:
            # It was compacted up to here already.
            if refusal.code is not grpc.StatusCode.OUT_OF_RANGE:
                raise

    def room(self) -> EngineRoom:
        """Return the space of the largest member. etcd before 3.6 does not tell its quota."""
        answers = self._members.ask_all(STATUS, pb.StatusRequest(), parse(pb.StatusResponse))
        largest = max(answers, key=lambda answer: answer.db_size)
        full = any(_NO_SPACE in error for answer in answers for error in answer.errors)
        return EngineRoom(largest.db_size, largest.db_size_quota, full)

    def seed(self, current: LogHead, head: LogHead) -> bool:
        """Replace the head, if it is the current one."""
        key = self._keys.head
        request = pb.TxnRequest(
            compare=[has_value(key, encode_head(current)) if current.number else absent(key)],
            success=[put(key, encode_head(head)), get(key)],
            failure=[get(key)],
        )
        # An earlier attempt may have had no answer.
        return decode_head(value_of(self._transact(request).ranges[0])) == head

    def _ends(self) -> tuple[int, LogHead]:
        """Return the number of the first record, 0 if there is none, and the head."""
        first = get(self._keys.record(0), self._keys.log_end, 1)
        found, value = self._transact(pb.TxnRequest(success=[first, get(self._keys.head)])).ranges
        return (self._keys.number(found[0].key) if found else 0), decode_head(value_of(value))


def _leader(found: pb.KeyValue) -> Leader:
    """Return the leader by its key. Raises CarrierError."""
    return Leader(*decode_leader(found.value), found.create_revision)
