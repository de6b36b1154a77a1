"""Requests to etcd, keys and values of one cluster, and answers that are checked before anything is used."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message

from ...state.replication.carrier import DIGEST_BYTES, CarrierError, LogHead
from .v1 import etcd_pb2 as pb

RANGE: Final = "/etcdserverpb.KV/Range"
DELETE_RANGE: Final = "/etcdserverpb.KV/DeleteRange"
TXN: Final = "/etcdserverpb.KV/Txn"
COMPACT: Final = "/etcdserverpb.KV/Compact"
GRANT: Final = "/etcdserverpb.Lease/LeaseGrant"
REVOKE: Final = "/etcdserverpb.Lease/LeaseRevoke"
KEEP_ALIVE: Final = "/etcdserverpb.Lease/LeaseKeepAlive"
WATCH: Final = "/etcdserverpb.Watch/Watch"
STATUS: Final = "/etcdserverpb.Maintenance/Status"

_EQUAL: Final = 0
_LESS: Final = 2
_VERSION: Final = 0
_CREATED: Final = 1
_MODIFIED: Final = 2
_VALUE: Final = 3

_M = TypeVar("_M", bound=Message)


def absent(key: bytes) -> pb.Compare:
    """Compare: the key is not there."""
    return pb.Compare(result=_EQUAL, target=_VERSION, key=key, version=0)


def created_at(key: bytes, revision: int) -> pb.Compare:
    """Compare: the key was made by this revision."""
    return pb.Compare(result=_EQUAL, target=_CREATED, key=key, create_revision=revision)


def modified_at(key: bytes, revision: int) -> pb.Compare:
    """Compare: the last write to the key is this revision; 0: the key is not there."""
    return pb.Compare(result=_EQUAL, target=_MODIFIED, key=key, mod_revision=revision)


def has_value(key: bytes, value: bytes) -> pb.Compare:
    """Compare: the key has this value."""
    return pb.Compare(result=_EQUAL, target=_VALUE, key=key, value=value)


def impossible(key: bytes) -> pb.Compare:
    """Compare: never true."""
    return pb.Compare(result=_LESS, target=_VERSION, key=key, version=0)


def put(key: bytes, value: bytes, lease: int = 0) -> pb.RequestOp:
    """Write a key."""
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease))


def get(key: bytes, end: bytes = b"", limit: int = 0, *, by_member: bool = False) -> pb.RequestOp:
    """Read a key, or those up to ``end``; by a quorum, or ``by_member`` as one member has them."""
    return pb.RequestOp(
        request_range=pb.RangeRequest(key=key, range_end=end, limit=limit, serializable=by_member)
    )


class Transaction(NamedTuple):
    """The checked answer to a transaction. ``ranges`` are the results of its reads, in order."""

    succeeded: bool
    ranges: list[list[pb.KeyValue]]
    engine_id: str
    revision: int


def parse(kind: Callable[[], _M]) -> Callable[[bytes], _M]:
    """Return a parser of messages of this kind with a header. It raises CarrierError."""

    def parsed(data: bytes) -> _M:
        message = kind()
        try:
            message.ParseFromString(data)
        except DecodeError:
            raise CarrierError("etcd answered with something else than its messages") from None
        header = message.header  # type: ignore[attr-defined]  # each answer of etcd has one
        if not header.cluster_id or header.revision < 1:
            raise CarrierError("etcd answered without a header")
        return message

    return parsed


def transaction(request: pb.TxnRequest) -> Callable[[bytes], Transaction]:
    """Return a parser of the answer to ``request``. It raises CarrierError."""

    def parsed(data: bytes) -> Transaction:
        answer = parse(pb.TxnResponse)(data)
        if not request.compare and not answer.succeeded:
            raise CarrierError("etcd says that a comparison failed that there is not")
        operations = request.success if answer.succeeded else request.failure
        ranges = _ranges(operations, answer.responses)
        return Transaction(
            answer.succeeded, ranges, f"{answer.header.cluster_id:016x}", answer.header.revision
        )

    return parsed


def _ranges(
    operations: Sequence[pb.RequestOp], responses: Sequence[pb.ResponseOp]
) -> list[list[pb.KeyValue]]:
    expected = [(operation.WhichOneof("request") or "")[len("request_") :] for operation in operations]
    kinds = [(response.WhichOneof("response") or "")[len("response_") :] for response in responses]
    if expected != kinds:
        raise CarrierError("etcd answered another transaction")
    return [
        pairs(operation.request_range, response.response_range)
        for operation, response in zip(operations, responses, strict=True)
        if operation.HasField("request_range")
    ]


def pairs(request: pb.RangeRequest, answer: pb.RangeResponse) -> list[pb.KeyValue]:
    """Return the keys of a range in ascending order. Raises CarrierError if they are not of that range."""
    found = list(answer.kvs)
    keys = [pair.key for pair in found]
    end = request.range_end or request.key + b"\0"
    if (
        any(not request.key <= key < end for key in keys)
        or any(before >= after for before, after in pairwise(keys))
        or any(pair.version < 1 or not 1 <= pair.create_revision <= pair.mod_revision for pair in found)
        or (request.limit and len(found) > request.limit)
        or (answer.more and not request.limit)
    ):
        raise CarrierError("etcd answered with other keys than those of the range")
    return found


def only(found: list[pb.KeyValue]) -> pb.KeyValue | None:
    """Return the key of a range of one; None if it is not there."""
    return found[0] if found else None


def value_of(found: list[pb.KeyValue]) -> bytes | None:
    """Return the value of a range of one; None if it is not there."""
    return found[0].value if found else None


_NUMBER: Final = re.compile(rb"[0-9a-f]{16}")
_NUMBER_BYTES: Final = 8
MAX_NUMBER: Final = (1 << 63) - 1
# Of a name or an address of a server.
_MAX_TEXT_BYTES: Final = 1024


class ClusterKeys:
    """The keys below ``/sessauth/<cluster id hex>/``."""

    def __init__(self, cluster_id: bytes) -> None:
        """Name the keys of this cluster. Raises ValueError for an empty id."""
        if not cluster_id:
            raise ValueError("a cluster has an id")
        prefix = b"/sessauth/%s/" % cluster_id.hex().encode()
        self.leader: Final = prefix + b"leader"
        self.head: Final = prefix + b"head"
        self._log: Final = prefix + b"log/"
        self._beats: Final = prefix + b"beat/"
        # "0" is the character after "/".
        self.log_end: Final = prefix + b"log0"
        self.beats: Final = (self._beats, prefix + b"beat0")
        # Names a write that makes a transaction one of the quorum, and that never happens.
        self.never: Final = prefix + b"never"

    def record(self, number: int) -> bytes:
        """Return the key of a record; its numbers sort as its keys do."""
        return self._log + b"%016x" % min(number, MAX_NUMBER)

    def number(self, key: bytes) -> int:
        """Return the number of a record's key. Raises CarrierError."""
        digits = key.removeprefix(self._log)
        if not key.startswith(self._log) or not _NUMBER.fullmatch(digits):
            raise CarrierError("etcd answered with a key that is no record's")
        return int(digits, 16)

    def beat(self, name: str) -> bytes:
        """Return the key of a server's beat."""
        return self._beats + line(name)

    def server(self, key: bytes) -> str:
        """Return the server of a beat's key. Raises CarrierError."""
        if not key.startswith(self._beats):
            raise CarrierError("etcd answered with a key that is no beat's")
        return _text(key.removeprefix(self._beats))


def line(text: str) -> bytes:
    """Return a name or an address as UTF-8. Raises ValueError if it is empty, long or of several lines."""
    data = text.encode()
    if not data or len(data) > _MAX_TEXT_BYTES or b"\n" in data:
        raise ValueError("a name or an address is one line of at most 1024 bytes")
    return data


def _text(data: bytes) -> str:
    try:
        text = data.decode()
        line(text)
    except ValueError:
        raise CarrierError("etcd answered with a malformed name") from None
    return text


def encode_head(head: LogHead) -> bytes:
    """Return the value of ``head``: 8 bytes big endian, 32 bytes of digest. Raises ValueError."""
    if not 0 < head.number <= MAX_NUMBER or len(head.digest) != DIGEST_BYTES:
        raise ValueError("a head has a number and a digest of 32 bytes")
    return head.number.to_bytes(_NUMBER_BYTES, "big") + head.digest


def decode_head(value: bytes | None) -> LogHead:
    """Return the head by its value, None if the key is not there. Raises CarrierError."""
    if value is None:
        return LogHead(0, b"")
    number = int.from_bytes(value[:_NUMBER_BYTES], "big")
    if len(value) != _NUMBER_BYTES + DIGEST_BYTES or not 0 < number <= MAX_NUMBER:
        raise CarrierError("etcd answered with a malformed head")
    return LogHead(number, value[_NUMBER_BYTES:])


def encode_leader(name: str, address: str) -> bytes:
    """Return the value of ``leader``: two lines, as an operator reads them. Raises ValueError."""
    return line(name) + b"\n" + line(address)


def decode_leader(value: bytes) -> tuple[str, str]:
    """Return name and address. Raises CarrierError."""
    name, _, address = value.partition(b"\n")
    return _text(name), _text(address)
