"""The carrier over etcd's API v3 (the port: ``state/replication/carrier.py``).

Its keys: ``leader`` (the only one with a lease), ``head``, ``log/<number>``, ``beat/<server>``. One
transaction appends a record. Records are waited for by etcd's Watch, which may end silently: a hint, never a
proof. gRPC stays with a member that is stopped as long as TCP does, so each call names its member, and has a
second.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import grpc
from google.protobuf.message import Message

from ...crypto.pem import ClientCredentials, ClientFiles
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
from .messages import (
    COMPACT,
    DELETE_RANGE,
    GRANT,
    KEEP_ALIVE,
    RANGE,
    REVOKE,
    STATUS,
    TXN,
    WATCH,
    ClusterKeys,
    Transaction,
    absent,
    created_at,
    decode_head,
    decode_leader,
    encode_head,
    encode_leader,
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

ATTEMPT_S: Final = 1.0
HEDGE_S: Final = 0.3
# The time of a call for which the port states none.
PATIENCE_S: Final = 3.0
# The pause between two rounds in which every member failed, most of them at once.
_PAUSE_S: Final = 0.05
MAX_ANSWER_BYTES: Final = 16 << 20
# As messages name them.
_FILES: Final = "the certificate files of etcd's client"
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.max_send_message_length", -1),
    # Which member a call goes to, and how often, is decided here.
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # etcd permits a ping each 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
)
_REFUSALS: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.OUT_OF_RANGE,
    }
)
# Statements of etcd itself, or of its gRPC, about a request. Others, as a limit of this client, may be about
# an answer: its call took effect.
_BY_ETCD: Final = ("etcdserver: ", "grpc: received message larger than max")
_SPACE_EXCEEDED: Final = "database space exceeded"
_T = TypeVar("_T")


class CallRefused(CarrierError):
    """etcd refused this attempt, which took no effect; an earlier one may have."""

    def __init__(self, code: grpc.StatusCode, detail: str) -> None:
        """Keep the code."""
        super().__init__(detail)
        self.code = code


class NoSpace(CallRefused):
    """etcd reached its quota, and takes no write until its alarm is disarmed."""


class AnswerTooLarge(CarrierError):
    """The answer is above the limit of this client. The effect of the call is unknown."""


class Members:
    """Channels to the members. Any thread may call."""

    def __init__(self, addresses: Sequence[str], files: ClientFiles | None = None) -> None:
        """Prepare channels to ``HOST:PORT``, with TLS by ``files``; without them in plain text.

        Raises ConfigError if the files can't be used, ValueError without an address.
        """
        if not addresses:
            raise ValueError("etcd has at least one member")
        self._addresses = tuple(addresses)
        self._credentials = None if files is None else ClientCredentials(files, _FILES)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._channels = self._open()
        self.preferred = 0
        """The position of the member that is asked first."""

    def _open(self) -> tuple[grpc.Channel, ...]:
        if self._credentials is None:
            return tuple(grpc.insecure_channel(address, _OPTIONS) for address in self._addresses)
        current = grpc.ssl_channel_credentials(*self._credentials.current)
        return tuple(grpc.secure_channel(address, current, _OPTIONS) for address in self._addresses)

    def close(self) -> None:
        """Close the channels. Calls end with CarrierError."""
        with self._lock:
            self._closed.set()
            for channel in self._channels:
                channel.close()

    def leave(self, member: int) -> None:
        """Ask the next member first, if it was this one."""
        if self.preferred == member:
            self.preferred = (member + 1) % len(self._addresses)

    def pause(self, seconds: float = _PAUSE_S) -> None:
        """Wait, but not once this is closed. Raises CarrierError if it is."""
        if self._closed.wait(max(seconds, 0)):
            raise CarrierError("the carrier is closed")

    def channel(self, member: int) -> grpc.Channel:
        """Return the channel to a member: a new one if the certificate files changed."""
        if self._credentials is not None and self._credentials.changed():
            with self._lock:
                if not self._closed.is_set():
                    before, self._channels = self._channels, self._open()
                    # Calls on them are cancelled, and asked again.
                    for channel in before:
                        channel.close()
        return self._channels[member]

    def ask(
        self,
        method: str,
        request: Message,
        parse: Callable[[bytes], _T],
        patience_s: float | None = None,
        *,
        lost: Callable[[], None] = lambda: None,
    ) -> _T:
        """Call one member after the other until one answers well, for at most ``patience_s``.

        Raises CallRefused if etcd refuses, CarrierError without an answer. ``parse`` raises CarrierError for
        a malformed answer: the next member is asked. ``lost`` is called for each attempt without a good one.
        """
        data = request.SerializeToString()
        end = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
        losses = 0
        failure = CarrierError("no time to ask etcd")
        while (left := end - time.monotonic()) > 0:
            self.pause(min(_PAUSE_S, left) if losses and losses % len(self._addresses) == 0 else 0)
            member = self.preferred
            try:
                return parse(self.call(member, method, data, min(ATTEMPT_S, left)))
            except (CallRefused, AnswerTooLarge):
                raise
            except CarrierError as error:
                failure, losses = error, losses + 1
                lost()
                self.leave(member)
        raise failure

    def ask_all(self, method: str, request: Message, parse: Callable[[bytes], _T]) -> list[_T]:
        """Call all members once; return the good answers. Raises CarrierError without one."""
        data = request.SerializeToString()
        answers: queue.SimpleQueue[tuple[int, grpc.Future[bytes]]] = queue.SimpleQueue()
        found, failure = [], CarrierError("no member answered")
        for member in range(len(self._addresses)):
            self._begin(member, method, data, ATTEMPT_S, answers)
        for _ in self._addresses:
            try:
                found.append(parse(self._result(*answers.get())))
            except CarrierError as error:
                failure = error
        if not found:
            raise failure
        return found

    def call(self, member: int, method: str, data: bytes, timeout_s: float = ATTEMPT_S) -> bytes:
        """Call one member. Raises CarrierError."""
        try:
            answer: bytes = self.channel(member).unary_unary(method, bytes, bytes)(data, timeout=timeout_s)
        except grpc.RpcError as error:
            raise self.failure(member, error) from None
        except ValueError:
            raise CarrierError("the channel is closed") from None
        return answer

    def failure(self, member: int, error: grpc.RpcError) -> CarrierError:
        """Return the error of a call as one of the port's."""
        code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
        details = (error.details() if isinstance(error, grpc.Call) else None) or ""
        text = f"etcd at {self._addresses[member]}: {code.name}: {details[:200]}"
        if code in _REFUSALS and details.startswith(_BY_ETCD):
            return (NoSpace if details.endswith(_SPACE_EXCEEDED) else CallRefused)(code, text)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return AnswerTooLarge(text)
        return CarrierError(text)

    def ask_hedged(self, method: str, request: Message, parse: Callable[[bytes], _T]) -> _T:
        """Call one member, and the next one as well once all that were called are silent for 300 ms.

        The first good answer counts. Raises as :meth:`ask`.
        """
        data = request.SerializeToString()
        end = time.monotonic() + PATIENCE_S
        answers: queue.SimpleQueue[tuple[int, grpc.Future[bytes]]] = queue.SimpleQueue()
        running: dict[int, grpc.Future[bytes]] = {}
        lost = CarrierError("no time to ask etcd")
        member, losses, next_at = self.preferred, 0, 0.0
        try:
            while (now := time.monotonic()) < end:
                if now >= next_at and member not in running:
                    self.pause(0)
                    running[member] = self._begin(member, method, data, min(ATTEMPT_S, end - now), answers)
                    member, next_at = (member + 1) % len(self._addresses), now + HEDGE_S
                until = min(end, next_at) if member not in running else end
                try:
                    at, future = answers.get(timeout=max(until - time.monotonic(), 0))
                except queue.Empty:
                    continue
                running.pop(at, None)
                try:
                    answer = parse(self._result(at, future))
                except (CallRefused, AnswerTooLarge):
                    raise
                except CarrierError as error:
                    lost, losses = error, losses + 1
                    next_at = time.monotonic() + (0 if losses % len(self._addresses) else _PAUSE_S)
                    self.leave(at)
                    continue
                self.preferred = at
                return answer
        finally:
            for future in running.values():
                future.cancel()
        raise lost

    def _begin(
        self,
        member: int,
        method: str,
        data: bytes,
        timeout_s: float,
        answers: queue.SimpleQueue[tuple[int, grpc.Future[bytes]]],
    ) -> grpc.Future[bytes]:
        try:
            future: grpc.Future[bytes] = (
                self.channel(member).unary_unary(method, bytes, bytes).future(data, timeout=timeout_s)
            )
        except ValueError:
            raise CarrierError("the channel is closed") from None
        future.add_done_callback(lambda done: answers.put((member, done)))
        return future

    def _result(self, member: int, future: grpc.Future[bytes]) -> bytes:
        try:
            return future.result()
        except grpc.RpcError as error:
            raise self.failure(member, error) from None
        except grpc.FutureCancelledError:
            raise CarrierError("the channel is closed") from None


# The records of one deletion: few, so that etcd is not busy with it for long.
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
        # This attempt took it, or an earlier one that had no answer.
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
            return members.ask(TXN, self._request, self._appended_of, give_up_ms / 1000, lost=self._lose)
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

    def _appended_of(self, data: bytes) -> Appended:
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


_PUT: Final = 0


class LogWatch:
    """Waits for records. Any thread may call."""

    def __init__(self, keys: ClusterKeys, members: Members) -> None:
        """Watch the log of these keys."""
        self._keys = keys
        self._members = members

    def wait(self, after: int, timeout_ms: int) -> None:
        """Return soon after a record after ``after`` exists, or after the time-out.

        Raises CarrierError if the carrier is closed.
        """
        end = time.monotonic() + timeout_ms / 1000
        while (left := end - time.monotonic()) > 0:
            member = self._members.preferred
            try:
                self._watch(member, after, left)
                break
            except CarrierError:
                # Silent, or it ended the watch before its time: the next member, but not in a tight loop.
                self._members.leave(member)
                self._members.pause()
        self._members.pause(0)

    def _watch(self, member: int, after: int, timeout_s: float) -> None:
        """Return after a record or at the time-out. Raises CarrierError if the member is of no use."""
        key, end = self._keys.record(after + 1), self._keys.log_end
        request = pb.WatchRequest(create_request=pb.WatchCreateRequest(key=key, range_end=end))
        try:
            # A stream of requests in etcd's API, of which one is used.
            stream = self._members.channel(member).unary_stream(WATCH, bytes, bytes)
            call = stream(request.SerializeToString(), timeout=timeout_s)
        except ValueError:
            raise CarrierError("the channel is closed") from None
        try:
            # A member that is silent is found so; a stream alone would be waited for until the time-out.
            if self._head(member) > after:
                return
            for data in call:
                answer = parse(pb.WatchResponse)(data)
                # Once the watch is in place, earlier records are in the head.
                if answer.created and self._head(member) > after:
                    return
                if answer.canceled:
                    break
                if any(event.type == _PUT for event in answer.events):
                    return
        except grpc.RpcError as error:
            if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return
            raise self._members.failure(member, error) from None
        finally:
            call.cancel()  # type: ignore[no-untyped-call]  # grpc-stubs has no types of it
        raise CarrierError("etcd ended a watch")

    def _head(self, member: int) -> int:
        request = get(self._keys.head, by_member=True).request_range
        data = self._members.call(member, RANGE, request.SerializeToString())
        return decode_head(value_of(pairs(request, parse(pb.RangeResponse)(data)))).number
