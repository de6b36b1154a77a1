"""A server's part in its cluster: it follows the carried log, proves that it is fresh, and leads at times.

The leader raises the format of the carried log once each host of the cluster says that it reads it. Followers
say so in their barriers, servers in their beats. The leader then appends a record that changes nothing and is
of the later format: a host that can't read it stops there, and so does one that comes later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from ...carriers.etcd.carrier import EtcdCarrier
from ...carriers.postgres.postgres_carrier import PostgresCarrier
from ...clock import Clock
from ...crypto.pem import ClientFiles
from ...errors import NotLeader, RecordRefused
from ...model.host import FORMAT, OLDEST_FORMAT, SERVER_PREFIX, CarriedPosition, HostRecord, ServerKey
from ...state.lmdb.cluster_rows import hosts, read_position
from ...state.lmdb.reader import StateReader
from ...state.lmdb.rows import TxnRows
from ...state.replication.carried_log import CarriedLog
from ...state.replication.carrier import Carrier, Compactor, EngineRoom, EngineSource, Trimmer
from ...state.replication.election import Election, Peers, genuine_beats
from ...state.replication.follower import Freshness, ReplicationThread
from ...state.writer.group import Group
from ...state.writer.state_writer import StateWriter
from ...v1 import usage_service_pb2 as pb
from .. import log
from ..config import Config
from ..evidence.host_evidence import HostEvidence
from ..rpc.authenticate import Authenticator, PeerIdentity
from . import joining
from .cluster_feed import BeatWriter, Feed, FollowedHosts, HostRegistration
from .forwarding import REPORT_USAGE, LeaderCalls, StatementJudge, StatementSigner, own_call
from .role import ClusterRole, settle

SERVER_KEY_FILE = "server.key"


class Membership(ClusterRole):
    """The part of a server: it follows by the engine, and leads at times."""

    carried: CarriedLog

    def __init__(self, config: Config) -> None:
        """Connect to the engine, as the server whose key lies in the key folder.

        Raises KeyFolderError without the key, StateUnusable if the state folder can't be read, ConfigError.
        """
        self._config = config
        self.host = SERVER_PREFIX + config.cluster.name
        self._key = key = ServerKey.load(server_key_file(config))
        self.carrier = open_carrier(config, cluster_id(config.state_dir))
        self.carried = CarriedLog(self.carrier, config.cluster.name, key)
        self.carried.on_step_down = lambda reason: log.event(logging.WARNING, "not_leading", error=reason)
        self._election: Election | None = None
        # In the order of their start.
        self._threads: tuple[ReplicationThread | Freshness | Election, ...] = ()
        self._trimmer: Trimmer | None = None
        self._compactor: Compactor | None = None
        self._peers: Peers | None = None
        self._formats: FormatRaiser | None = None
        self._calls: LeaderCalls | None = None

    def attach(self, writer: StateWriter, clock: Clock, authenticator: Authenticator) -> None:
        """Prepare to follow, prove and lead with an opened writer, from :meth:`start` on."""
        settings = self._config.cluster
        followed = FollowedHosts()
        beats = BeatWriter(
            writer.head().cluster_id,
            settings.name,
            self._key,
            followed,
            lambda: follower.position.number,
            clock,
            lambda: (election.reason, peers.clock_differs),
        )
        source = EngineSource(self.carrier, settings.name, beats, beats.stored, beats.hosts)
        follower = ReplicationThread(
            source,
            writer,
            idle=lambda: self.carried.leader is not None,
            on_compacted=partial(self._catch_up, writer) if self._config.follow.servers else None,
        )
        follower.on_alarm = self._on_alarm
        follower.on_decision = log.alarm_over
        freshness = Freshness(
            source,
            follower,
            clock,
            writer.fresh_until,
            writer.deny_as_stale,
            bound_ms=settings.staleness_ms,
            registered_ms=lambda: self._registered_ms(writer),
        )
        self._peers = peers = Peers(self.carrier, settings.name, writer.source(), clock, self._on_differ)
        election = Election(
            self.carried,
            follower,
            writer,
            settings.address,
            ttl_ms=settings.lead_ttl_ms,
            on_lead=self._on_lead,
            peers=peers,
        )
        self.carried.reasons = self._reasons
        self._follower, self._election = follower, election
        self._threads = follower, freshness, election
        registration = HostRegistration(writer, follower.wait_for)
        self.feed = Feed(source, writer.source(), self._config.home, followed, registration)
        self.feed.parts = PeerIdentity(required=settings.require_client_certificates)
        self.hosts = HostEvidence(
            writer, self.carried, followed, clock, settings.staleness_ms, settings.address
        )
        self._trimmer = Trimmer(self.carrier, clock)
        self._compactor = Compactor(self.carrier, clock, self._on_full)
        self._formats = FormatRaiser(writer, self.carried)
        self._forward(writer, clock, authenticator, follower)

    def _forward(
        self, writer: StateWriter, clock: Clock, authenticator: Authenticator, follower: ReplicationThread
    ) -> None:
        """Have ``authenticator`` accept other hosts' statements, and state callers to the leader."""
        cluster = writer.head().cluster_id
        authenticator.parts = PeerIdentity(required=self._config.cluster.require_client_certificates)
        authenticator.statements = StatementJudge(
            cluster, writer.source(), lambda: self.carried.present, authenticator, clock
        ).accept
        signer = StatementSigner(cluster, self.host, self._key, clock)
        present, settled = lambda: self.carried.present, partial(settle, follower)
        self._calls = LeaderCalls(self._config, signer, present, settled, authenticator.credential_of)
        self.forward = self._calls.forward
        if self.feed is not None:
            self.feed.registration.forward = self.forward

    def start(self) -> None:
        """Start the threads."""
        if not self._config.mutual_tls:
            log.event(
                logging.WARNING,
                "no_mutual_tls",
                connections=self._config.connections,
                meaning="other hosts of the cluster are known by credentials alone; state tcp.client_ca",
            )
        for part in self._threads:
            part.start()

    @property
    def clock_differs(self) -> str:
        """The servers whose clocks differ from this one's, and by how much."""
        return "" if self._peers is None else self._peers.clock_differs

    @property
    def room(self) -> EngineRoom:
        """The space of the engine, as last reported."""
        return EngineRoom(0, 0, full=False) if self._compactor is None else self._compactor.room

    def term(self) -> int:
        """Return the term that this server leads in, 0 if it does not lead."""
        leader = self.carried.leader
        return 0 if leader is None else leader.term

    def report_usage(self, request: pb.ReportHostUsageRequest) -> pb.ReportHostUsageResponse:
        """Report this host's usage to the leader. Raises NotLeader, and as a forwarded call does."""
        refusal = self.carried.refusal()
        if refusal is None or self.forward is None:
            raise NotLeader("this server leads by now")
        answer = self.forward(REPORT_USAGE, request.SerializeToString(), own_call(self.host), refusal)
        return pb.ReportHostUsageResponse.FromString(answer)

    def tasks(self) -> list[tuple[str, Callable[[], object]]]:
        """Return tasks that run once a second."""
        return [
            ("trimming", self.trim),
            *([("clocks", self._peers.poll)] if self._peers is not None else ()),
            *([("compaction", self._compactor.step)] if self._compactor is not None else ()),
            *([("hosts", self.hosts.poll)] if self.hosts is not None else ()),
            *([("format", self._formats.poll)] if self._formats is not None else ()),
        ]

    def trim(self) -> None:
        """Have the engine forget old records, if this server leads. Raises CarrierError."""
        if self._trimmer is None:
            return
        if self.carried.leader is None:
            self._trimmer.forget()
        else:
            self._trimmer.step(self.record)

    def close(self) -> None:
        """Give the lead back and end the threads, before the writer is closed."""
        if self._calls is not None:
            self._calls.close()
        if self.feed is not None:
            self.feed.close()
        for part in reversed(self._threads):
            part.close()
        self.carrier.close()

    def disconnect(self) -> None:
        """Close the connections to the engine."""
        self.carrier.close()

    def _catch_up(self, writer: StateWriter, decided_behind: int | None) -> None:
        """Take a snapshot of another server, since the engine forgot records that this one needs."""
        with closing(joining.open_source(self._config)) as source:
            joining.catch_up(self._config, source, writer, decided_behind)

    def _registered_ms(self, writer: StateWriter) -> int:
        """Return for how long this server may allow after a proof, 0 before it is a host of the cluster."""
        record = writer.host(SERVER_PREFIX + self._config.cluster.name)
        return 0 if record is None or record.leaving else record.staleness_ms

    def _reasons(self) -> str:
        """Return each server's reason for not leading."""
        if self._election is None or self._peers is None:
            return ""
        said = {**self._peers.reasons, self._config.cluster.name: self._election.reason}
        return "; ".join(f"{name}: {reason or 'says nothing'}" for name, reason in sorted(said.items()))

    def _on_lead(self) -> None:
        leader = self.carried.leader
        if leader is not None:
            log.event(logging.INFO, "leading", term=leader.term, address=leader.address)

    def _on_differ(self, which: str) -> None:
        log.event(logging.WARNING, "clock_differs", clock=which)

    def _on_full(self, room: EngineRoom) -> None:
        log.event(
            logging.CRITICAL,
            "engine_full",
            bytes=room.size,
            quota=room.quota,
            meaning="every host denies until space was freed there: docs/operations/engine.md",
        )

    def _on_alarm(self, alarm: RecordRefused) -> None:
        self.carried.step_down(f"{alarm.fault}: {alarm}")
        log.event(logging.CRITICAL, "cluster_alarm", problem=alarm.fault, error=str(alarm))


def server_key_file(config: Config) -> Path:
    """Return the file of the key that signs this server's records."""
    return config.keys_dir / SERVER_KEY_FILE


def cluster_id(state_dir: Path) -> bytes:
    """Return the id of the cluster that a folder belongs to, 16 bytes. Raises StateUnusable."""
    with closing(StateReader.open(state_dir)) as reader:
        return reader.head().cluster_id


def open_carrier(config: Config, cluster: bytes) -> Carrier:
    """Connect to the engine of a cluster. Raises ConfigError if a file or an extra can't be used."""
    settings = config.cluster
    if settings.postgres:
        return PostgresCarrier(
            settings.engine[0],
            cluster,
            insecure=settings.insecure_engine,
            alone=settings.engine_without_standby,
        )
    files = None
    if not settings.insecure_engine:
        files = ClientFiles(
            config.path(settings.engine_ca),
            config.path(settings.engine_certificate),
            config.path(settings.engine_private_key),
        )
    return EtcdCarrier(settings.engine, cluster, files)


# Reads a format: a server by its name, and an instance of a host.
Readers = dict[tuple[str, bytes], int]
_NO_INSTANCE: Final = b""


def readers(rows: TxnRows, beats: Mapping[str, bytes]) -> Readers:
    """Return the formats that hosts said they read, by genuine beats of this cluster's servers."""
    found = Readers()
    for server, beat in genuine_beats(rows, beats).items():
        found[SERVER_PREFIX + server, _NO_INSTANCE] = beat.reads or OLDEST_FORMAT
        for host in beat.hosts:
            if not host.name.startswith(SERVER_PREFIX):
                found[host.name, host.instance] = host.reads or OLDEST_FORMAT
    return found


def holding_back(registered: Iterable[HostRecord], known: Readers) -> list[str]:
    """Return the hosts that did not say that they read the latest format, each with the format it reads."""
    found = []
    for host in registered:
        instance = _NO_INSTANCE if host.name.startswith(SERVER_PREFIX) else host.instance
        reads = known.get((host.name, instance), 0)
        if reads < FORMAT:
            found.append(f"{host.name} ({f'reads {reads}' if reads else 'not heard of'})")
    return found


class FormatRaiser:
    """Has a cluster write the latest format, while this server leads. One thread at a time may call it."""

    def __init__(self, writer: StateWriter, carried: CarriedLog) -> None:
        """Read beats through the carrier of ``carried``."""
        self._writer = writer
        self._carried = carried
        # Statements of hosts while this server led: they hold for a host that is away now.
        self._known = Readers()
        self._holding: list[str] = []

    def poll(self) -> None:
        """Raise the format if no host holds it back. Raises CarrierError, and as the log does."""
        if self._carried.leader is None:
            self._known.clear()
            self._holding = []
            return
        with self._writer.source().rows() as rows:
            if (read_position(rows) or CarriedPosition()).writes >= FORMAT:
                return
            self._known |= readers(rows, self._carried.carrier.beats())
            holding = holding_back(hosts(rows), self._known)
        if holding:
            if holding != self._holding:
                log.event(logging.INFO, "format_held_back", format=FORMAT, hosts=holding)
            self._holding = holding
        elif self._writer.run(self._raise):
            log.event(logging.INFO, "format_raised", format=FORMAT)

    def _raise(self, group: Group) -> bool:
        """Raise it, unless a host registered meanwhile."""
        if holding_back(hosts(group.rows), self._known):
            return False
        self._carried.raise_format(group)
        return True
