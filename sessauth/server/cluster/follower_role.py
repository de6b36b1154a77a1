"""A follower's part in its cluster: servers feed its folder, and do the work that it may not do itself.

A follower has no issuer key and no access to the engine. An issuer key of a server signs its proof keys. The
brake page tells every process of the host until when the folder is fresh, so they deny by themselves once
this process is gone. ``sessauth follow`` serves a host of gateways in this way.

A host follows one server at a time. It would notice that another server refuses its settings only when it
needs that one, so refusals are reported: each leaves it one server fewer to turn to.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from ...client._feed import FeedClient, FeedRefused
from ...client._target import is_local, resolve_target
from ...client._transport import RenewedChannel
from ...clock import Clock
from ...crypto.keys import KeyRecord, KeyStatus, SignedVerifierKey, VerifierKey
from ...errors import ConfigError, RecordRefused, SessauthError
from ...state.replication.carried_log import ReadOnlyLog
from ...state.replication.carrier import CarrierError, Leader
from ...state.replication.follower import Freshness, ReplicationThread
from ...state.writer.state_writer import StateWriter
from ...v1 import usage_service_pb2 as pb
from .. import log
from ..config import Config
from ..keys import local_files
from ..keys.issuer_keyring import KeyRing, NoKeyRing, SignProofKey
from ..process.control import Control
from ..process.signals import ServiceManager, take_stop_signals
from ..rpc.access import GATEWAY
from ..rpc.authenticate import Authenticator
from ..rpc.grpc_server import SWITCH_SECONDS
from ..rpc.pool import blocking_section
from ..status import refused
from ..transport.requirements import require_libraries
from . import joining
from .forwarding import OPTIONS, LeaderCalls, StatementSigner
from .joining import join, open_source
from .role import ClusterRole, settle

# For a snapshot that is being installed, and for the last commit.
STOP_SECONDS: Final = 15.0


class FollowerRole(ClusterRole):
    """The part of a follower, on a folder that has joined."""

    carried: ReadOnlyLog

    def __init__(self, config: Config, source: FeedClient) -> None:
        """Follow by ``source``, which :meth:`disconnect` closes."""
        self._config = config
        self._source = source
        carried = ReadOnlyLog(", ".join(config.follow.servers), lambda: source.server)
        self.carried = carried
        self.refusal = carried.refusal
        self.host = source.host
        self._freshness: Freshness | None = None
        self._calls: LeaderCalls | None = None
        self._refusals = ServerRefusals(source, in_alarm=lambda: self.alarm is not None)
        self._fresh_until_ms = 0
        self._fresh = False

    def open_keyring(self, folder: Path) -> KeyRing:
        """Return a key ring that leaves it all to the servers."""
        return NoKeyRing(self.carried.refusal)

    def proof_key_signer(self, keyring: KeyRing) -> SignProofKey:
        """Return the function that asks the servers to sign."""
        return RemoteSigner(self._source.sign_verifier_key).sign

    def attach(self, writer: StateWriter, clock: Clock, authenticator: Authenticator) -> None:
        """Prepare to follow and to prove freshness with an opened writer, from :meth:`start` on."""
        self._writer, self._clock = writer, clock
        follower = ReplicationThread(
            self._source, writer, on_compacted=partial(joining.catch_up, self._config, self._source, writer)
        )
        follower.on_alarm = self._on_alarm
        follower.on_decision = log.alarm_over
        freshness = Freshness(
            self._source,
            follower,
            clock,
            self._extend,
            self._deny,
            bound_ms=self._config.follow.staleness_ms,
            report=self._source.report_alarm,
        )
        self._follower, self._freshness = follower, freshness
        source = self._source
        self._calls = LeaderCalls(
            self._config,
            StatementSigner(writer.head().cluster_id, source.host, source.key, clock),
            lambda: Leader("", source.server, follower.position.term),
            partial(settle, follower),
            authenticator.credential_of,
            roles=(GATEWAY,),
            connect=self._connect,
        )
        self.forward = self._calls.forward

    def start(self) -> None:
        """Begin to follow, and to prove freshness."""
        if self._follower is None or self._freshness is None:
            return
        self._freshness.start()
        self._follower.start()
        self._refusals.start()
        settings = self._config.follow
        remote = not all(is_local(resolve_target(server)) for server in settings.servers)
        if remote and (settings.insecure_tcp or not settings.certificate):
            log.event(
                logging.WARNING,
                "no_mutual_tls",
                connections=settings.connections,
                meaning="servers know this host by its credential alone; state follow.certificate",
            )
        log.event(
            logging.INFO,
            "following",
            number=self.record,
            servers=list(self._config.follow.servers),
            state_dir=str(self._config.state_dir),
        )

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
        for part in (self._freshness, self._follower):
            if part is not None:
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
        self._writer.fresh_until(steady_ms)
        self._fresh_until_ms = steady_ms
        if not self._fresh:
            self._fresh = True
            log.event(logging.INFO, "fresh", number=self._proven, server=self._source.server)

    def _deny(self) -> None:
        self._writer.deny_as_stale()
        self._fresh_until_ms = 0

    @property
    def _proven(self) -> int:
        return self._freshness.proven if self._freshness is not None else 0

    def _on_alarm(self, alarm: RecordRefused) -> None:
        log.event(logging.CRITICAL, "cluster_alarm", problem=alarm.fault, error=str(alarm))
        self._deny()
        if self._freshness is not None:
            # A proof that was under way may have been made since; the next one denies again.
            self._freshness.prove_soon()

    def _report(self) -> None:
        """Log once that the host went stale."""
        if self._fresh and self._clock.steady_ms() >= self._fresh_until_ms:
            self._fresh = False
            log.event(logging.ERROR, "stale", number=self._proven)


PERIOD_SECONDS: Final = 60.0


class ServerRefusals:
    """Asks each server at the start and once a minute; logs each change once."""

    def __init__(
        self,
        source: FeedClient,
        period_seconds: float = PERIOD_SECONDS,
        in_alarm: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start nothing yet. While ``in_alarm()`` no server is asked: a barrier would deny the alarm."""
        self._source = source
        self._period = period_seconds
        self._in_alarm = in_alarm
        self._refusals: dict[str, FeedRefused] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sessauth-refusals", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def servers(self) -> tuple[str, ...]:
        """The addresses of the servers that refuse this host."""
        return tuple(sorted(self._refusals))

    def close(self) -> None:
        """End the thread, and wait for it."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def ask(self, server: str) -> None:
        """Ask one server. No answer changes nothing: the server may still refuse, or not."""
        try:
            self._source.ask(server)
        except FeedRefused as refused:
            before = self._refusals.get(server)
            # A new dictionary for each change: other threads read it.
            self._refusals = {**self._refusals, server: refused}
            if before is None or str(before) != str(refused):
                log.event(logging.ERROR, "server_refuses", setting=refused.knob, error=str(refused))
        except (CarrierError, SessauthError):
            return
        else:
            if server in self._refusals:
                self._refusals = {name: why for name, why in self._refusals.items() if name != server}
                log.event(logging.INFO, "server_accepts", server=server)

    def _run(self) -> None:
        while not self._closing.is_set():
            for server in sorted(self._source.servers):
                if self._closing.is_set():
                    return
                if not self._in_alarm():
                    self.ask(server)
            self._closing.wait(self._period)


# Any client may ask for the keys: servers that do not sign are not asked more often.
PAUSE_SECONDS: Final = 1.0


class RemoteSigner:
    """Asks the servers of a follower to sign. Any thread may use it."""

    def __init__(self, ask: Callable[[bytes], SignedVerifierKey]) -> None:
        """Ask with ``ask(payload)``, which returns a server's answer or raises SessauthError."""
        self._ask = ask
        self._lock = threading.Lock()
        self._paused_until = 0.0
        self._problem = ""

    def sign(self, key: VerifierKey, issuers: Mapping[bytes, KeyRecord]) -> SignedVerifierKey:
        """Return the key with the signature of an issuer key that this host's own state accepts."""
        payload = key.encode()
        with blocking_section(), self._lock:
            if time.monotonic() < self._paused_until:
                raise _unsigned(self._problem)
            try:
                signed = self._ask(payload)
                _require_genuine(signed, payload, issuers)
            except SessauthError as error:
                self._problem, self._paused_until = str(error), time.monotonic() + PAUSE_SECONDS
                raise _unsigned(self._problem) from error
        return signed


def _require_genuine(signed: SignedVerifierKey, payload: bytes, issuers: Mapping[bytes, KeyRecord]) -> None:
    """Raise UsageError unless an issuer key of the service that counts here signed this very key."""
    accepted = {
        issuer.id: issuer.public_key
        for issuer in issuers.values()
        if not issuer.owner and issuer.status in (KeyStatus.ACTIVE, KeyStatus.RETIRED)
    }
    signed.verified(accepted)
    if signed.payload != payload:
        raise refused("NO_ISSUER_KEY", "the server signed another key than it was asked to")


def _unsigned(problem: str) -> SessauthError:
    return refused("NO_ISSUER_KEY", f"no server has signed this host's keys for proofs: {problem}")


# Sections and settings of a server's work, and why a follower refuses them.
_OF_SERVERS: Final = {
    "sessions": "sessions are opened at servers",
    "evidence": "receipts are made by servers",
}


def run_follower(config: Config) -> None:
    """Join if this host has not, then serve until SIGTERM or SIGINT, as ``serve`` does.

    Raises ConfigError or StateError at startup, StateUnusable when the state was replaced meanwhile, and
    ServerError when calls are not polled any more.
    """
    manager = ServiceManager.of_environment(os.environ)
    log.configure(config.server.log_level)
    require_follower(config)
    require_libraries(config)
    sys.setswitchinterval(SWITCH_SECONDS)
    local_files.check(config)
    stopping = threading.Event()
    take_stop_signals(stopping)
    source = open_source(config)

    def interrupt() -> None:
        stopping.wait()
        source.stop_fetching()

    threading.Thread(target=interrupt, name="sessauth-interrupt", daemon=True).start()
    try:
        manager.status("asks its servers for the state")
        join(config, source, stopping)
        if stopping.is_set():
            return
        control = Control(config, part=FollowerRole(config, source))
        control.stopping = stopping
        control.run(STOP_SECONDS, manager)
    finally:
        source.close()


def require_follower(config: Config) -> None:
    """Refuse settings without an effect on a follower. Raises ConfigError that names one."""
    if config.cluster.enabled:
        raise ConfigError("cluster.engine: is for servers; start 'sessauth serve', or remove [cluster]")
    if config.server.keys_dir:
        raise ConfigError("server.keys_dir: a follower has no issuer key; remove the setting")
    for name, why in _OF_SERVERS.items():
        section = getattr(config, name)
        for entry in dataclasses.fields(section):
            if getattr(section, entry.name) != entry.default:
                raise ConfigError(f"{name}.{entry.name}: {why}; remove the setting")
