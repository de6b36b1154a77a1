"""The port to an engine that carries the log: an ordered, durable sequence of records, and a leader's key.

An engine orders bytes and knows nothing of sessions. Every record is signed, so it can withhold records,
never make one. etcd and PostgreSQL can do all of this; nothing here trusts an engine's clock. A server reads
the log from the engine itself.

A process compares the beats in the engine with those that it sent, so that it notices another process with
its server's name. The first beat of a process replaces any other: a successor takes over. From then on the
engine may have only its own, so of two processes with one name the later one goes on, and the earlier one
proves nothing any more.

The leader has the engine forget records that every host can do without. A host that needs one of them takes a
snapshot, so nothing depends on it. Each server, leader or not, has the engine free overwritten entries:
servers write beats even while none of them leads.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from ...clock import Clock
from ...model.host import LIST_SUFFIX

# etcd takes requests of 1.5 MiB; a record, its keys and the comparisons must fit into one.
MAX_RECORD_BYTES: Final = 1 << 20
DIGEST_BYTES: Final = 32


class CarrierError(Exception):
    """The engine gave no answer in time, or one that can't be right. Nothing is known; ask again."""


class BeatReplaced(CarrierError):
    """Another process wrote a beat with this server's name: this one proves nothing until it is restarted."""

    def __init__(self, name: str) -> None:
        """Name the server, whose list of hosts is a beat too."""
        name = name.partition("/")[0]
        super().__init__(
            f"another process runs as server {name!r} (a copy of it, or its successor); this one can't prove "
            "freshness and can't lead: stop one of them"
        )


class CompactedRecords(Exception):
    """Records after the requested number are gone: take a snapshot. ``first`` is the lowest that is left."""

    def __init__(self, first: int) -> None:
        """Keep the lowest number."""
        super().__init__(f"records below {first} are gone")
        self.first = first


class AppendStatus(Enum):
    """The answer to an append."""

    APPENDED = "appended"
    """The record is durable under its number, by this call or by an earlier one with the same bytes."""
    FENCED = "fenced"
    """The record can never be appended: another server leads, or the log goes on differently."""
    REFUSED = "refused"
    """The record was not appended: the engine takes no such request (too large, no permission)."""
    FULL = "full"
    """The record was not appended: the engine has no space left, and takes no write at all."""
    UNKNOWN = "unknown"
    """No member answered for as long as the caller waits: it may become durable at any moment."""


@dataclass(frozen=True, slots=True)
class Appended:
    """The result of an append. ``detail`` says why, for an operator; empty if appended."""

    status: AppendStatus
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Leader:
    """The server that leads. ``term`` rises with each take-over, never 0. ``address`` is where it serves."""

    name: str
    address: str
    term: int


@dataclass(frozen=True, slots=True)
class LogHead:
    """The end of the log: the number of the last record and its digest (32 bytes); 0 and empty: no record."""

    number: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Barrier:
    """Proof of a moment: the head at some time between the call of ``barrier`` and its return.

    ``engine_id`` and ``engine_revision`` (which never falls) identify the engine's own past.
    """

    head: LogHead
    engine_id: str
    engine_revision: int


@dataclass(frozen=True, slots=True)
class EngineRoom:
    """The size of the engine's storage in bytes, its quota (0: unknown), and True if it takes no write."""

    size: int
    quota: int
    full: bool


class LogSource(Protocol):
    """The carried log as a host reads it: from the engine, or from a server that forwards it."""

    def read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return up to ``limit`` records after ``after``; raises CompactedRecords or CarrierError."""
        ...

    def wait(self, after: int, timeout_ms: int) -> None:
        """Return soon after a record after ``after`` exists, or after the time-out."""
        ...

    def barrier(self) -> Barrier:
        """Return a barrier that began after this call. Raises CarrierError."""
        ...


class Carrier(Protocol):
    """One server's connection to the engine. Any thread may call; a call blocks for at most its time-out."""

    def lead(self, name: str, address: str, ttl_ms: int) -> Leader | None:
        """Try to become the leader; None if another server is.

        The key expires ``ttl_ms`` after the last :meth:`hold`, or is removed when this server resigns. Raises
        CarrierError.
        """
        ...

    def hold(self, leader: Leader) -> bool:
        """Keep a leader's key for another ``ttl_ms``; False if it is gone. Raises CarrierError."""
        ...

    def resign(self, leader: Leader) -> None:
        """Give the key back, so that another server need not wait. Never raises: the key expires anyway."""
        ...

    def leader(self) -> Leader | None:
        """Return the current leader, None if there is none. Raises CarrierError."""
        ...

    def append(self, term: int, head: LogHead, record: bytes, digest: bytes, give_up_ms: int) -> Appended:
        """Append ``record`` (its digest: 32 bytes) after ``head``, if ``term`` leads and ``head`` is last.

        All three in one step of the engine. Idempotent: the same bytes again under the same number are
        APPENDED. A member that does not answer within a second is left for the next one, with the same bytes,
        until ``give_up_ms`` have passed; only then UNKNOWN. A term of 0 never appends.
        """
        ...

    def barrier(self, name: str, beat: bytes) -> Barrier:
        """Write this server's ``beat`` by a quorum, and read the head in the same step. Raises CarrierError.

        A member that is silent for 300 ms is not waited for alone: the next one is asked as well. The first
        beat of a carrier replaces that of a process before it, which from then on gets BeatReplaced here and
        from :meth:`lead`, :meth:`hold` and :meth:`beats`.
        """
        ...

    def beats(self) -> dict[str, bytes]:
        """Return the last beat of each server, as a quorum knows them. Raises CarrierError."""
        ...

    def read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return up to ``limit`` records after ``after``, by ascending number, as one member has them.

        The answer may have fewer records than exist, or none: a gap or an end proves nothing. Raises
        CompactedRecords if the record after ``after`` was trimmed, and CarrierError.
        """
        ...

    def wait(self, after: int, timeout_ms: int) -> None:
        """Return soon after a record after ``after`` exists, or after the time-out. A hint: read to know."""
        ...

    def trim(self, up_to: int) -> None:
        """Remove records up to this number, inclusive. Raises CarrierError."""
        ...

    def compact(self) -> None:
        """Free the space of removed or overwritten entries, where an engine keeps it. Raises CarrierError."""
        ...

    def room(self) -> EngineRoom:
        """Return the free space of the member that has the least. Raises CarrierError if none answers."""
        ...

    def seed(self, current: LogHead, head: LogHead) -> bool:
        """Replace the head of an engine that lost its past: records follow ``head`` from now on.

        Return False if the engine's value is not ``current``. Raises CarrierError. For operators only.
        """
        ...

    def close(self) -> None:
        """Close the connections. Waiting calls end with CarrierError."""
        ...


# Enough for hours without an answer. An earlier one that is found stored counts as another process's.
MAX_SENT: Final = 65_536


@dataclass(slots=True)
class _Beats:
    """The beats of one name. Those of ``sent`` may be stored after ``revision``, the last known one."""

    revision: int = 0
    stored: bool = False
    replaced: bool = False
    sent: dict[bytes, None] = field(default_factory=dict)


class OwnBeats:
    """The beats of a carrier by name. Any thread may use it; one at a time sends beats of a name.

    An engine counts the writes to a beat by a revision, 0 without any; each write is on condition of it.
    """

    def __init__(self) -> None:
        """Begin with nothing sent."""
        self._names: dict[str, _Beats] = {}
        self._lock = threading.Lock()

    def send(self, name: str, beat: bytes) -> int:
        """Remember a beat before it is sent; return the revision that is its condition.

        Raises BeatReplaced.
        """
        with self._lock:
            known = self._names.setdefault(name, _Beats())
            if known.replaced:
                raise BeatReplaced(name)
            known.sent[beat_digest(beat)] = None
            if len(known.sent) > MAX_SENT:
                del known.sent[next(iter(known.sent))]
            return known.revision

    def learn(self, name: str, revision: int, digest: bytes) -> None:
        """Take the stored revision from an answer to a beat. Raises BeatReplaced, from then on always."""
        with self._lock:
            known = self._names[name]
            if revision == known.revision:
                return
            if self._foreign(known, revision, digest):
                known.replaced = True
                raise BeatReplaced(name)
            known.stored = known.stored or digest in known.sent
            # Beats sent on condition of another revision have no effect any more.
            known.revision = revision
            known.sent.clear()

    def check(self, name: str, revision: int, digest: bytes) -> None:
        """Raise BeatReplaced if a beat that was read is another process's, with a name of this one."""
        with self._lock:
            known = self._names.get(name)
            if known is not None and (known.replaced or self._foreign(known, revision, digest)):
                raise BeatReplaced(name)

    def require(self) -> None:
        """Raise BeatReplaced if a name was taken over."""
        with self._lock:
            for name, known in self._names.items():
                if known.replaced:
                    raise BeatReplaced(name)

    @staticmethod
    def _foreign(known: _Beats, revision: int, digest: bytes) -> bool:
        # A lower revision comes from an engine that lost its past: the alarm handles that.
        return known.stored and revision > known.revision and digest not in known.sent


def beat_digest(beat: bytes) -> bytes:
    """Return the SHA-256 of a beat."""
    return hashlib.sha256(beat).digest()


class HostList(Protocol):
    """The hosts of a server, in a beat of their own that is written where they changed."""

    def changed(self) -> bytes:
        """Return the list to store; empty: the stored one is right."""
        ...

    def stored(self) -> None:
        """Take notice that the last result of :meth:`changed` is stored."""
        ...


class EngineSource:
    """A LogSource over a carrier. Each barrier carries ``beat()``: this server's statement of its hosts."""

    def __init__(
        self,
        carrier: Carrier,
        server: str,
        beat: Callable[[], bytes] = bytes,
        on_stored: Callable[[], None] = lambda: None,
        hosts: HostList | None = None,
    ) -> None:
        """Request barriers as ``server``; ``on_stored()`` is called once a beat is stored.

        ``hosts`` writes the list that beats refer to, where it changed.
        """
        self._carrier = carrier
        self._server = server
        self._beat = beat
        self._on_stored = on_stored
        self._hosts = hosts
        # A beat must not replace a later one, which may name more hosts.
        self._beating = threading.Lock()
        self.read = carrier.read
        self.wait = carrier.wait

    def barrier(self) -> Barrier:
        """Write the beat by a quorum, and return the head."""
        with self._beating:
            listed = b"" if self._hosts is None else self._hosts.changed()
            if self._hosts is not None and listed:
                # Before the barrier that they are named for.
                self._carrier.barrier(self._server + LIST_SUFFIX, listed)
                self._hosts.stored()
            barrier = self._carrier.barrier(self._server, self._beat())
            self._on_stored()
            return barrier


_log = logging.getLogger(__name__)

# A host that was away for less than both catches up by records.
RETAINED_RECORDS: Final = 10_000
RETAINED_MS: Final = 10 * 60_000
PERIOD_MS: Final = 60_000


class Trimmer:
    """Remembers the end of the log at each of the last ten minutes."""

    def __init__(self, carrier: Carrier, clock: Clock) -> None:
        """Begin to count now: in its first ten minutes a leader trims nothing."""
        self._carrier = carrier
        self._clock = clock
        self._marks: deque[tuple[int, int]] = deque()

    def step(self, number: int) -> int:
        """Trim the records that are old by now, ``number`` being the last; return up to which, 0: none.

        Call it every second while leading. Raises CarrierError.
        """
        now_ms = self._clock.steady_ms()
        if self._marks and now_ms - self._marks[-1][0] < PERIOD_MS:
            return 0
        self._marks.append((now_ms, number))
        up_to = 0
        while self._marks and now_ms - self._marks[0][0] >= RETAINED_MS:
            up_to = self._marks.popleft()[1]
        up_to = min(up_to, number - RETAINED_RECORDS)
        if up_to <= 0:
            return 0
        self._carrier.trim(up_to)
        return up_to

    def forget(self) -> None:
        """Start over: another server leads."""
        self._marks.clear()


class Compactor:
    """Has the engine free its history each minute, from the first one on, and knows its free space."""

    def __init__(
        self, carrier: Carrier, clock: Clock, on_full: Callable[[EngineRoom], None] = lambda room: None
    ) -> None:
        """Ask nothing yet. ``on_full`` is called once whenever the engine becomes full."""
        self._carrier = carrier
        self._clock = clock
        self._on_full = on_full
        self._due_ms = 0
        # As last reported; none yet.
        self.room = EngineRoom(0, 0, False)

    def step(self) -> None:
        """Compact and ask for the space if a minute has passed. Call it each second. Raises CarrierError."""
        now_ms = self._clock.steady_ms()
        if now_ms < self._due_ms:
            return
        self._due_ms = now_ms + PERIOD_MS
        try:
            self._carrier.compact()
        except CarrierError as error:
            # Its free space matters all the more.
            _log.warning("the engine's history was not compacted: %s", error)
        was_full, self.room = self.room.full, self._carrier.room()
        if self.room.full and not was_full:
            self._on_full(self.room)
