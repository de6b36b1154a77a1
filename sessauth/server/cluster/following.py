"""A follower's part in its cluster: servers feed its folder, and do for it the work it may not do itself.

It has no issuer key and no access to the engine. The brake page tells every process of the host until when
the folder is fresh, so they deny by themselves once this process is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from ...client._feed.source import FeedSource
from ...client._renewed_channel import RenewedChannel
from ...client._target import is_local, resolve_target
from ...clock import Clock
from ...errors import ConfigError, RecordRefused
from ...state.replication.carried_log import ReadOnlyLog
from ...state.replication.carrier import CarrierError, Leader
from ...state.replication.follower import Follower, Freshness
from ...state.writer.state_writer import StateWriter
from ...v1 import usage_service_pb2 as pb
from .. import log as server_log
from ..config.config import Config
from ..keys.issuer_keyring import KeyRing, NoKeyRing
from ..keys.proof_key_signer import ProofKeySigner
from ..process import joining
from ..rpc.access import GATEWAY
from ..rpc.authenticate import Authenticator
from ..status import refused
from .hand_on import OPTIONS, LeaderCalls
from .part import ClusterPart, settle
from .refusals import ServerRefusals
from .remote_signer import RemoteSigner
from .statements import StatementSigner

# For a snapshot that is being installed, and for the last commit.
STOP_SECONDS: Final = 15.0


class FollowerRole(ClusterPart):
    """The part of a follower, on a folder that has joined."""

    carried: ReadOnlyLog

    def __init__(self, config: Config, source: FeedSource) -> None:
        """Follow by ``source``, which :meth:`disconnect` closes."""
        self._config = config
        self._source = source
        log = ReadOnlyLog(", ".join(config.follow.servers), lambda: source.server)
        self.carried = log
        self.refusal = log.refusal
        self.host = source.host
        self._opened: tuple[Follower, Freshness] | None = None
        self._calls: LeaderCalls | None = None
        self._refusals = ServerRefusals(source, in_alarm=lambda: self.alarm is not None)
        self._fresh_until_ms = 0
        self._fresh = False

    def open_keyring(self, folder: Path) -> KeyRing:
        """Return a key ring that leaves it all to the servers."""
        return NoKeyRing(self.carried.refusal)

    def proof_key_signer(self, keyring: KeyRing) -> ProofKeySigner:
        """Return the object that asks the servers to sign."""
        return RemoteSigner(self._source.sign_verifier_key)

    def attach(self, log: StateWriter, clock: Clock, authenticator: Authenticator) -> None:
        """Prepare to follow and to prove freshness with an opened writer, from :meth:`start` on."""
        self._log, self._clock = log, clock
        follower = Follower(
            self._source, log, on_compacted=partial(joining.catch_up, self._config, self._source, log)
        )
        follower.on_alarm = self._on_alarm
        follower.on_decision = server_log.alarm_over
        freshness = Freshness(
            self._source,
            follower,
            clock,
            self._extend,
            self._deny,
            bound_ms=self._config.follow.staleness_ms,
            report=self._source.report_alarm,
        )
        self._opened = follower, freshness
        source = self._source
        self._calls = LeaderCalls(
            self._config,
            StatementSigner(log.head().cluster_id, source.host, source.key, clock),
            lambda: Leader("", source.server, follower.position.term),
            partial(settle, follower),
            authenticator.credential_of,
            roles=(GATEWAY,),
            connect=self._connect,
        )
        self.hand_on = self._calls.hand_on

    def start(self) -> None:
        """Begin to follow, and to prove freshness."""
        if self._opened is None:
            return
        for part in reversed(self._opened):
            part.start()
        self._refusals.start()
        settings = self._config.follow
        remote = not all(is_local(resolve_target(server)) for server in settings.servers)
        if remote and (settings.insecure_tcp or not settings.certificate):
            server_log.event(
                logging.WARNING,
                "no_mutual_tls",
                connections=settings.connections,
                meaning="servers know this host by its credential alone; state follow.certificate",
            )
        server_log.event(
            logging.INFO,
            "following",
            number=self.record,
            servers=list(self._config.follow.servers),
            state_dir=str(self._config.state_dir),
        )

    @property
    def alarm(self) -> RecordRefused | None:
        """The reason why this host denies every call until an operator decides."""
        return self._opened[0].alarm if self._opened is not None else None

    @property
    def record(self) -> int:
        """The number of the last record that this host holds."""
        return self._opened[0].position.number if self._opened is not None else 0

    @property
    def refused_by(self) -> tuple[str, ...]:
        """The addresses of the servers that refuse this host."""
        return self._refusals.servers

    def report_usage(self, request: pb.ReportHostUsageRequest) -> pb.ReportHostUsageResponse:
        """Report this host's usage to the server that it follows, which forwards it. Raises SessauthError."""
        return self._source.report_usage(request)

    def tasks(self) -> list[tuple[str, Callable[[], object]]]:
        """Return tasks that run once a second."""
        return [("fresh", self._report)]

    def close(self) -> None:
        """End the threads; verifiers deny when the last proof is too old."""
        self._source.stop_fetching()
        self._refusals.close()
        if self._calls is not None:
            self._calls.close()
        for part in reversed(self._opened or ()):
            part.close()

    def disconnect(self) -> None:
        """Close the connections to the servers."""
        self._source.close()

    def _connect(self, address: str) -> RenewedChannel:
        try:
            return self._source.connect(address, OPTIONS)
        except (CarrierError, ConfigError) as error:
            raise refused("NOT_LEADER", f"{address} can't be asked: {error}") from None

    def _extend(self, steady_ms: int) -> None:
        self._log.fresh_until(steady_ms)
        self._fresh_until_ms = steady_ms
        if not self._fresh:
            self._fresh = True
            server_log.event(logging.INFO, "fresh", number=self._proven, server=self._source.server)

    def _deny(self) -> None:
        self._log.deny_as_stale()
        self._fresh_until_ms = 0

    @property
    def _proven(self) -> int:
        return self._opened[1].proven if self._opened is not None else 0

    def _on_alarm(self, alarm: RecordRefused) -> None:
        server_log.event(logging.CRITICAL, "cluster_alarm", problem=alarm.fault, error=str(alarm))
        self._deny()
        if self._opened is not None:
            # A proof that was under way may have been made since; the next one denies again.
            self._opened[1].prove_soon()

    def _report(self) -> None:
        """Log once that the host went stale."""
        if self._fresh and self._clock.steady_ms() >= self._fresh_until_ms:
            self._fresh = False
            server_log.event(logging.ERROR, "stale", number=self._proven)
