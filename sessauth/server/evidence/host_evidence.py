"""Hosts in receipts: which hosts of the cluster hold the end of a session, and which may still allow.

The order of the log makes both certain. A host's proof of freshness begins before a barrier of the engine and
counts once the host holds the head that the barrier found. So only a proof that began before an end was
appended may allow after it, for the host's bound; any later proof needs the end itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from ...clock import Clock
from ...crypto.keys import KeyRecord, KeyStatus
from ...errors import NotLeader, SessauthError
from ...model.host import (
    LIST_SUFFIX,
    SERVER_OWNER,
    SERVER_PREFIX,
    HostRecord,
    ServerBeat,
    SignedBeat,
    server_instance,
)
from ...model.receipt import HostStatus, VerifierState
from ...state.lmdb import cluster_rows
from ...state.lmdb.cluster_rows import read_position
from ...state.replication.carried_log import CarriedLog
from ...state.replication.carrier import CarrierError
from ...state.writer.group import Group
from ...state.writer.state_writer import StateWriter
from .. import log
from ..cluster.cluster_feed import FollowedHosts
from ..status import refused
from .registry import MARGIN_MS

COMMIT_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.02
# No further call waits longer for one that waits for the engine.
READING_SECONDS: Final = 0.5
# The time for which an engine that did not answer is not asked again.
SILENT_SECONDS: Final = 1.0
# Ends whose place in the log is remembered; others are looked up again, which takes a bound longer.
MAX_MARKS: Final = 4_096


@dataclass(frozen=True, slots=True)
class EndMark:
    """A record that is at or after an end, and a time of the steady clock at which it was in the log."""

    number: int
    steady_ms: int


@dataclass(slots=True, eq=False)
class HostEntry:
    """A host as this server knows it. ``…_ms`` is of the steady clock, ``applied_at_ms`` of the wall clock.

    ``since_ms``: this row was read first. ``proved_ms``: no proof began later, by the beats that were read.
    ``applied`` is the last record of the row's instance. ``late``: no receipt waits for it until it moves.
    """

    record: HostRecord
    since_ms: int
    proved_ms: int
    applied: int = 0
    applied_at_ms: int = 0
    late: bool = False

    def acknowledge(self, applied: int, at_ms: int) -> None:
        """Record that its folder holds a record."""
        if applied > self.applied:
            self.applied, self.applied_at_ms, self.late = applied, at_ms, False

    def acknowledged(self, steady_ms: int) -> int:
        """Return the last record that certainly each process of the host holds.

        The instance before may be another machine with the same name: until its last proof has passed
        nothing counts.
        """
        settled = self.since_ms + self.record.staleness_ms + MARGIN_MS <= steady_ms
        return self.applied if settled or self.record.instances == 1 else 0

    def fresh_until_ms(self, mark: EndMark) -> int:
        """Return when the last proof without the end of ``mark`` has passed at the latest."""
        return min(self.proved_ms, mark.steady_ms) + self.record.staleness_ms

    def may_allow(self, mark: EndMark, steady_ms: int) -> bool:
        """Return True unless it is certain that it denies by that end."""
        if self.acknowledged(steady_ms) >= mark.number:
            return False
        return steady_ms < self.fresh_until_ms(mark) + MARGIN_MS

    def status(self, mark: EndMark, steady_ms: int, at_ms: int) -> HostStatus:
        """Return its status against an end."""
        record = self.acknowledged(steady_ms)
        if record >= mark.number:
            return HostStatus(self.record.name, VerifierState.ACKNOWLEDGED, record, self.applied_at_ms)
        waiting = self.may_allow(mark, steady_ms)
        state = VerifierState.WAITING if waiting else VerifierState.OUTLIVED
        when = at_ms + self.fresh_until_ms(mark) - steady_ms
        return HostStatus(self.record.name, state, record, max(0, when))


class HostEvidence:
    """The hosts of a cluster, as one of its servers knows them. Any thread may use it."""

    def __init__(
        self,
        writer: StateWriter,
        carried: CarriedLog,
        followed: FollowedHosts,
        clock: Clock,
        staleness_ms: int,
        address: str = "",
    ) -> None:
        """Read beats through the carrier of ``carried``; ``followed`` are the hosts that this server feeds.

        As a leader register servers for a bound of ``staleness_ms``, and this one's ``address``.
        """
        self._writer = writer
        self._carried = carried
        self._followed = followed
        self._clock = clock
        self._staleness_ms = staleness_ms
        self._address = address
        self._cluster_id = writer.head().cluster_id
        # One reads at a time; callers that wait meanwhile may use its result.
        self._reading = threading.Lock()
        self._read_began_ms = -1
        self._silent_until = 0.0
        self._term = 0
        # The last beat of each server.
        self._beats: dict[str, bytes] = {}
        # The last list of hosts of each server, and its bytes.
        self._lists: dict[str, tuple[bytes, ServerBeat | None]] = {}
        self._lock = threading.Lock()
        self._entries: dict[str, HostEntry] = {}
        self._marks: dict[int, EndMark] = {}
        self._read_rows()

    def refusal(self) -> NotLeader | None:
        """Return the error for callers that request a receipt; None while this server leads."""
        return self._carried.refusal()

    def mark(self, revision: int) -> EndMark:
        """Return the place in the log of an end that this folder holds."""
        with self._lock:
            known = self._marks.get(revision)
            if known is not None:
                return known
        with self._writer.source().rows() as rows:
            position = read_position(rows)
        number = 0 if position is None else position.number
        with self._lock:
            mark = self._marks.setdefault(revision, EndMark(number, self._clock.steady_ms()))
            if len(self._marks) > MAX_MARKS:
                del self._marks[next(iter(self._marks))]
        return mark

    def wait(self, mark: EndMark, revision: int, within_ms: int) -> None:
        """Wait until no host may allow after an end, late ones excepted.

        Those that may after the time are late until they move.
        """
        until = time.monotonic() + within_ms / 1000
        while pending := self._pending(mark, revision):
            if time.monotonic() >= until:
                for entry in pending:
                    entry.late = True
                return
            time.sleep(POLL_SECONDS)

    def statuses(self, mark: EndMark, revision: int) -> tuple[HostStatus, ...]:
        """Return the status of those that were registered when a session ended at ``revision``, by name."""
        self.refresh(mark.steady_ms)
        steady_ms, at_ms = self._clock.steady_ms(), self._clock.now_ms()
        with self._lock:
            return tuple(
                entry.status(mark, steady_ms, at_ms)
                for _, entry in sorted(self._entries.items())
                if entry.record.registered_revision < revision
            )

    def remove(self, name: str) -> None:
        """Have a host removed once its bound has passed. Raises HOST_ACTIVE, NOT_FOUND, or as the log."""
        problem = self.refusal()
        if problem is not None:
            raise problem
        self.refresh(self._clock.steady_ms())
        steady_ms = self._clock.steady_ms()
        with self._lock:
            entry = self._entries.get(name)
            if entry is not None and steady_ms < entry.proved_ms + entry.record.staleness_ms + MARGIN_MS:
                raise refused(
                    "HOST_ACTIVE", f"host: {name} may still allow calls; stop it, and wait for its bound"
                )
        self._commit(partial(cluster_rows.leave_host, name=name))

    def poll(self) -> None:
        """Read the hosts' records; as the leader register servers, and drop departed hosts. Once a second."""
        self.refresh(self._clock.steady_ms())
        if self._carried.leader is None:
            return
        self._register_servers()
        steady_ms = self._clock.steady_ms()
        with self._lock:
            left = [
                entry.record
                for entry in self._entries.values()
                if entry.record.leaving
                and entry.since_ms + entry.record.staleness_ms + MARGIN_MS <= steady_ms
            ]
        for record in left:
            self._commit(partial(cluster_rows.drop_host, record=record))

    def refresh(self, since_ms: int) -> None:
        """Read rows, reports and beats, unless a reading began after ``since_ms`` of the steady clock.

        Raises ENGINE_UNREACHABLE if another call has waited for the engine for long.
        """
        if not self._reading.acquire(timeout=READING_SECONDS):
            raise refused("ENGINE_UNREACHABLE", "the engine is silent, so hosts are not known; ask again")
        try:
            if self._read_began_ms > since_ms:
                return
            began_ms = self._clock.steady_ms()
            self._read_rows()
            self._read_beats(self._read_reports())
            self._read_began_ms = began_ms
        finally:
            self._reading.release()

    def _pending(self, mark: EndMark, revision: int) -> list[HostEntry]:
        self.refresh(max(mark.steady_ms, self._clock.steady_ms() - int(POLL_SECONDS * 500)))
        steady_ms = self._clock.steady_ms()
        with self._lock:
            return [
                entry
                for entry in self._entries.values()
                if not entry.late
                and entry.record.registered_revision < revision
                and entry.may_allow(mark, steady_ms)
            ]

    def _read_rows(self) -> None:
        records = {record.name: record for record in self._writer.hosts()}
        now_ms = self._clock.steady_ms()
        with self._lock:
            for name in self._entries.keys() - records.keys():
                del self._entries[name]
            for name, record in records.items():
                entry = self._entries.get(name)
                if entry is None or entry.record.instance != record.instance:
                    self._entries[name] = HostEntry(record, now_ms, now_ms)
                elif entry.record != record:
                    entry.record, entry.since_ms = record, now_ms

    def _read_reports(self) -> int:
        """Read the reports of this server's followers; return the number of the last record that it holds."""
        with self._writer.source().rows() as rows:
            position = read_position(rows)
        at_ms, own = self._clock.now_ms(), self._entries.get(SERVER_PREFIX + self._carried.server)
        with self._lock:
            if own is not None:
                own.proved_ms = self._clock.steady_ms()
            for report in self._followed.all():
                entry = self._entries.get(report.host)
                if entry is None:
                    continue
                entry.proved_ms = max(entry.proved_ms, report.at_ms)
                if (entry.record.principal, entry.record.instance) == (report.principal, report.instance):
                    entry.acknowledge(report.applied, at_ms)
        return 0 if position is None else position.number

    def _read_beats(self, applied: int) -> None:
        """Read the last beat of each server. Without them each host may have begun a proof just now.

        This server itself held ``applied`` before. That counts only with an answer: no other process has
        taken its name over by then.
        """
        leader, beats = self._carried.leader, None
        try:
            if leader is not None and time.monotonic() >= self._silent_until:
                beats = self._carried.carrier.beats()
        except CarrierError as error:
            self._silent_until = time.monotonic() + SILENT_SECONDS
            log.event(logging.WARNING, "beats_not_read", error=str(error))
        now_ms, at_ms = self._clock.steady_ms(), self._clock.now_ms()
        servers, term = self._server_keys(), leader.term if leader is not None else 0
        with self._lock:
            if beats is None or term != self._term:
                self._term = term
                self._beats.clear()
                self._lists.clear()
                for entry in self._entries.values():
                    entry.proved_ms = now_ms
            own = self._entries.get(SERVER_PREFIX + self._carried.server)
            if beats is not None and own is not None:
                own.acknowledge(applied, at_ms)
            for server, data in (beats or {}).items():
                if server == self._carried.server or self._beats.get(server) == data:
                    continue
                if server in servers:
                    self._beats[server] = data
                    listed = (beats or {}).get(server + LIST_SUFFIX, b"")
                    self._apply_beat(self._beat(server, data, listed, servers[server]), now_ms, at_ms)

    def _beat(self, server: str, data: bytes, listed: bytes, keys: list[KeyRecord]) -> ServerBeat:
        """Return a server's beat with its hosts; if these are not known, one by which any may be fresh."""
        beat = self._genuine(server, data, keys)
        if beat is None:
            return ServerBeat(self._cluster_id, server, 0, 0, 0)
        if not beat.listed:
            return beat
        known = self._lists.get(server)
        if known is None or known[0] != listed:
            known = self._lists[server] = (listed, self._genuine(server, listed, keys))
        return beat.with_hosts(known[1]) or replace(beat, age_ms=0, hosts=())

    def _genuine(self, server: str, data: bytes, keys: list[KeyRecord]) -> ServerBeat | None:
        """Return a server's beat; None if it proves nothing.

        By a key that is not active it is no acknowledgement, but its server may still feed hosts.
        """
        active = {key.id: key.public_key for key in keys if key.status is KeyStatus.ACTIVE}
        acknowledges = SignedBeat.read(data, active)
        beat = acknowledges or SignedBeat.read(data, {key.id: key.public_key for key in keys})
        if beat is None or (beat.cluster_id, beat.server) != (self._cluster_id, server):
            return None
        if acknowledges is None:
            hosts = tuple(replace(host, applied=0) for host in beat.hosts)
            return replace(beat, applied=0, hosts=hosts)
        return beat

    def _apply_beat(self, beat: ServerBeat, now_ms: int, at_ms: int) -> None:
        """Record a beat; a server knows nothing of hosts that asked its process before this one."""
        named = {host.name: host for host in beat.hosts}
        own = SERVER_PREFIX + beat.server
        for name, entry in self._entries.items():
            host = named.get(name)
            if name == own:
                entry.proved_ms = now_ms
                entry.acknowledge(beat.applied, at_ms)
            elif host is not None:
                entry.proved_ms = now_ms
                if host.instance == entry.record.instance:
                    entry.acknowledge(host.applied, at_ms)
            elif beat.age_ms < entry.record.staleness_ms + MARGIN_MS:
                entry.proved_ms = now_ms

    def _server_keys(self) -> dict[str, list[KeyRecord]]:
        """Return the keys of each server, of any status."""
        servers: dict[str, list[KeyRecord]] = {}
        for key in self._writer.keys():
            if key.owner.startswith(SERVER_OWNER):
                servers.setdefault(key.owner.removeprefix(SERVER_OWNER), []).append(key)
        return servers

    def _register_servers(self) -> None:
        for key in self._writer.keys():
            if key.status is not KeyStatus.ACTIVE or not key.owner.startswith(SERVER_OWNER):
                continue
            name = key.owner.removeprefix(SERVER_OWNER)
            record = self._writer.host(SERVER_PREFIX + name)
            address = self._address if name == self._carried.server else ""
            if record is not None:
                longer = record.staleness_ms < self._staleness_ms
                if not address or (not longer and record.address == address):
                    continue
            instance = server_instance(key.id) if record is None else record.instance
            try:
                self.register_server(name, instance, address)
            except SessauthError as error:
                log.event(logging.WARNING, "host_not_registered", host=SERVER_PREFIX + name, error=str(error))

    def register_server(self, name: str, instance: bytes, address: str) -> None:
        """Register a server, and where it can be reached. Raises as the log does."""
        wanted = HostRecord(SERVER_PREFIX + name, "", instance, self._staleness_ms, address=address)
        self._commit(partial(cluster_rows.store_host, wanted=wanted))

    def _commit(self, work: Callable[[Group], object]) -> None:
        self._writer.decide(work, cluster_rows.HOST_ROW_BYTES).result(COMMIT_SECONDS)
