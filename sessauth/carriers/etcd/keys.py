"""Keys and values of one cluster in etcd."""

from __future__ import annotations

import re
from typing import Final

from ...state.replication.carrier import DIGEST_BYTES, CarrierError, LogHead

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
