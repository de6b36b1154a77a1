"""Hosts of a cluster: their registrations, and the beats by which servers report the hosts' positions.

A beat is written into the engine in the same step as the barrier that it belongs to. It is signed, so an
engine can withhold an acknowledgement, never make one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from .._fast import _check as kernel
from .._fast.codec.record import Record
from ..crypto.signing_key import MessageKey

# The names of hosts that are servers; no follower can have such a name.
SERVER_PREFIX: Final = "server/"
INSTANCE_BYTES: Final = 16
# Each is listed in every receipt, and calls a server twice a second.
MAX_HOSTS: Final = 1_024
# Names that one credential may register: each needs one of its own, and a replaced machine another name.
MAX_HOSTS_OF_PRINCIPAL: Final = 4
# Follows a server's name: that of the beat that lists its hosts.
LIST_SUFFIX: Final = "/hosts"
_LABEL: Final = b"sessauth/beat/v1\x00"


@dataclass(frozen=True, slots=True)
class HostRecord(Record):
    """A host that may allow for ``staleness_ms`` after the moment before which its last proof began.

    ``principal`` registered it; empty: it is a server. It first registered at ``registered_revision``;
    ``instances`` is the number of instances (16 bytes each) that had the name. While ``leaving`` it gets no
    further proof. ``address`` (HOST:PORT) is where a server says that it can be reached.
    """

    name: str
    principal: str
    instance: bytes
    staleness_ms: int
    registered_revision: int = 0
    registered_at_ms: int = 0
    instances: int = 1
    leaving: bool = False
    address: str = ""

    def admits(self, wanted: HostRecord) -> bool:
        """Return True if this row lets a host have proofs for its requested bound."""
        return (
            not self.leaving
            and (self.principal, self.instance) == (wanted.principal, wanted.instance)
            and self.staleness_ms >= wanted.staleness_ms
        )


@dataclass(frozen=True, slots=True)
class HostApplied(Record):
    """The number of the last record that an instance of a host holds, and the latest format that it reads."""

    name: str
    instance: bytes
    applied: int
    reads: int = 0


@dataclass(frozen=True, slots=True)
class ServerBeat(Record):
    """A server's own number of the last record, and the hosts that asked it for a barrier within their bound.

    ``number`` rises with each beat of a process, which has run for ``age_ms`` and ``reads`` a format of the
    carried log, as its hosts do; 0: the oldest. ``at_ms`` is its wall clock, ``not_leading`` the reason that
    keeps it from leading though no server does, and ``clock_differs`` names servers with other clocks. Hosts
    without changes are in an earlier beat of the same ``process``, whose number is ``listed``.
    """

    cluster_id: bytes
    server: str
    number: int
    age_ms: int
    applied: int
    hosts: tuple[HostApplied, ...] = ()
    reads: int = 0
    at_ms: int = 0
    not_leading: str = ""
    clock_differs: str = ""
    process: bytes = b""
    listed: int = 0

    def with_hosts(self, other: ServerBeat | None) -> ServerBeat | None:
        """Return this beat with the hosts that ``other`` lists for it; None if they are not known by that.

        A later list of the same process does as well: it has each host that may be fresh by either.
        """
        if not self.listed:
            return self
        if other is None or other.process != self.process or not other.number == other.listed >= self.listed:
            return None
        return replace(self, hosts=other.hosts)

    def signed_by(self, key: MessageKey) -> SignedBeat:
        """Return this beat, signed by the server's key."""
        payload = self.encode()
        return SignedBeat(payload, key.key_id, key.sign(_LABEL + payload))


@dataclass(frozen=True, slots=True)
class SignedBeat(Record):
    """An encoded ServerBeat, the id of a server's key, and its 64-byte signature."""

    payload: bytes
    key_id: bytes
    signature: bytes

    @classmethod
    def read(cls, data: bytes, public_keys: dict[bytes, bytes]) -> ServerBeat | None:
        """Return the beat if one of the keys, by id, signed it; None if it proves nothing."""
        try:
            signed = cls.decode(data)
            key = public_keys.get(signed.key_id)
            if key is None or len(signed.signature) != 64:
                return None
            if not kernel.verify(key, _LABEL + signed.payload, signed.signature):
                return None
            return ServerBeat.decode(signed.payload)
        except ValueError:
            return None


def server_instance(key_id: bytes) -> bytes:
    """Return the instance of a server: it is the one that has this key."""
    return key_id[:INSTANCE_BYTES]
