"""The composition of the control process: settings, state, keys, services, sockets, workers.

It is the one process that writes the state, holds issuer keys and takes changes; its workers (``worker.py``)
check calls over views of their own. Order of a start: settings are read and files that give authority are
checked; the state folder is opened; a cluster's part starts, then subsystems that answer no call
(``subsystems.py``), workers, and sockets.

SIGHUP has settings, credentials, identities and certificates read again; settings that need a restart are
logged.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from ...clock import Clock, SystemClock
from ...errors import ConfigError, ServerError, SessauthError, StateUnusable
from ...state.host.proof_keys import ProofReader
from ...state.lmdb.environment import LmdbSource
from ...state.writer.group import frozen_error
from ...state.writer.state_writer import StateWriter
from ...verifier.verifier import Verifier
from .. import log
from ..cluster.membership import Membership
from ..cluster.role import ClusterRole, HostUsagePart
from ..config import SECTIONS, Config, load
from ..keys import local_files
from ..keys.certificates import Certificates, ExpiryWatch, certificate_end
from ..keys.credentials import WorkerCredential
from ..keys.issuer_keyring import ProofKeyRotator
from ..keys.transaction_keys import TransactionKeys
from ..metrics.service import CONTROL, Metrics, Publisher, RecentDecisions, worker_name
from ..metrics.state import SessionCensus, StateNumbers
from ..periodic import Background, try_once
from ..rpc.access import WORKER
from ..rpc.authenticate import Authenticator, FailedSignatures, PeerIdentity
from ..rpc.call import methods_of
from ..rpc.grpc_server import SWITCH_SECONDS, Serving
from ..rpc.tracing import open_tracing
from ..services.authorization import AuthorizationService
from ..services.base import ForwardService, Service
from ..services.cluster import ClusterService, FeedService
from ..services.cut_off import CutOffService
from ..services.event import EventService
from ..services.evidence import EvidenceService, UsageService
from ..services.exchange import TransactionTokens
from ..services.health import HealthService, StatusService
from ..services.identity import IdentityService
from ..services.key import CredentialService, KeyService
from ..services.minting import Minter
from ..services.session import ApprovalService, SessionService
from ..services.token import TokenService
from ..transport.requirements import require_libraries
from ..watch import Watching
from ..writer.local import ClusterWriter, LocalWriter
from .init import ensure_run_dir
from .server_status import Readiness, StatusReport
from .signals import ServiceManager, ignore_harmless, reload_on_hangup, take_stop_signals
from .subsystems import ControlSubsystems
from .supervisor import Supervisor

# After the drain: for workers to be killed, calls to be abandoned and the state to be closed.
OVERDUE_SECONDS: Final = 6.0
POLL_SECONDS: Final = 0.5
# The time for which a start waits for the verification of the state, and the time that the verification then
# has in each turn of the background.
VERIFY_AT_START_SECONDS: Final = 2.0
VERIFY_A_TURN_SECONDS: Final = 0.1
# A worker that is not ready by then has been started more than once.
WORKERS_SECONDS: Final = 30.0
READY_POLL_SECONDS: Final = 0.02


class Control:
    """The control process: the only writer of its folder, and the only one with keys."""

    def __init__(self, config: Config, clock: Clock | None = None, part: ClusterRole | None = None) -> None:
        """Open state and keys and bind the sockets. Raises StateError or ConfigError.

        ``part`` is the process's part in its cluster; None: a server's, or a single host's, by ``config``.
        Everything that was opened is closed again if a later step fails.
        """
        self._config = config
        self._clock = clock or SystemClock()
        self._library = require_libraries(config)
        self.tcp_port = 0
        # Set when it is time to stop; ``failure`` is the reason if there was no signal.
        self.stopping = threading.Event()
        self.failure: SessauthError | None = None
        self._silent = False
        local_files.check(config)
        with ExitStack() as opened:
            self.part = part or (Membership(config) if config.cluster.enabled else ClusterRole())
            opened.callback(self.part.disconnect)
            self.keyring = self.part.open_keyring(config.keys_dir)
            ensure_run_dir(config)
            self.writer = StateWriter.open(
                config.state_dir,
                map_size=config.server.map_size_bytes,
                clock=self._clock,
                carried=self.part.carried,
            )
            opened.callback(self.writer.close)
            # A large state is read on in the background.
            self.writer.verify(VERIFY_AT_START_SECONDS)
            self._compose(opened)
            self._opened = opened.pop_all()

    def _compose(self, opened: ExitStack) -> None:
        config, writer = self._config, self.writer
        self.metrics = Metrics(config) if config.metrics.address else None
        page = None
        if self.metrics is not None:
            opened.callback(self.metrics.close)
            page = self.metrics.page
        self._tracing = open_tracing(config.tracing, CONTROL)
        if self._tracing is not None:
            opened.callback(self._tracing.close)
        source = writer.source()
        self._verifier = verifier = Verifier(source, cache_bytes=config.limits.cache_bytes)
        verifier.counters = page.counters if page is not None else None
        signer = self.part.proof_key_signer(self.keyring)
        self.host_keys = ProofKeyRotator(config.state_dir, writer, signer, config.proofs)
        # Without them all but bound tokens are served; the background tries again.
        try_once("proof keys", self.host_keys.rotate)
        settings = config.transaction_tokens
        self.transaction_keys = TransactionKeys(
            config.keys_dir, settings.algorithm, settings.key_lifetime_ms, writer.now_ms
        )
        if settings.issuer:
            try_once("transaction keys", self.transaction_keys.poll)
        self.proofs = ProofReader(config.state_dir, verifier, log.proofs_unavailable)
        # Each control process makes one for its own workers.
        self._workers = WorkerCredential.make(WORKER)
        carried = None if self.part.carried is None else source
        authenticator = Authenticator.of(config, self._workers, carried)
        authenticator.credentials.drop_copies()
        self.subsystems = subsystems = ControlSubsystems(
            config, writer, source, verifier, self.keyring, self._clock, authenticator
        )
        opened.callback(subsystems.close)
        self._watching = Watching(verifier, config.limits)
        self.part.attach(writer, self._clock, authenticator)
        opened.callback(self.part.close)
        self.host_usage: HostUsagePart | None = None
        if self.part.host:
            self.host_usage = HostUsagePart(config, self.part, writer, subsystems, self._clock)
            opened.callback(self.host_usage.close)
        checks, status = self._checks(source), StatusService()
        services = self._services(checks, authenticator, status)
        self.health = HealthService([service.descriptor.full_name for service in services])
        self.readiness = Readiness(writer, verifier, self.keyring, self.part, self.health.set_ready)
        checks_at = "" if config.server.checks_at_control else config.check_addresses
        self.serving = Serving(
            config,
            [one for each in (self.health, *services) for one in methods_of(each.descriptor, each.methods())],
            # The router refuses gateways.
            direct=None if checks_at else checks.direct_checks(page),
            authenticator=authenticator,
            meter=page,
            tracing=self._tracing,
            forward=self.part.forward,
            checks_at=checks_at,
        )
        opened.callback(self.serving.stop_listening)
        self.serving.bind_unix(config.socket)
        if config.tcp.address:
            self.tcp_port = self.serving.bind_tcp(config.tcp.address)
        self.supervisor = Supervisor(config, self._workers, self.metrics.handles if self.metrics else ())
        self.reloader = Reloader(config, authenticator, self.supervisor, self._clock)
        census = SessionCensus(writer)
        status.read = StatusReport(
            config,
            writer,
            self.part,
            self.readiness,
            self.supervisor,
            census,
            RecentDecisions if self.metrics is None else self.metrics.recent,
            subsystems.recorder.problem,
        ).read
        if self.metrics is not None and page is not None:
            audit, restarts = subsystems.recorder.audit_numbers, lambda: self.supervisor.restarts
            publisher = Publisher(page, verifier, self.serving, self._watching, audit)
            ends = partial(certificate_end, config)
            numbers = StateNumbers(writer, self.is_ready, restarts, ends, self.part, census)
            self.metrics.compose(publisher, numbers, subsystems.metrics, self._up)
        self._background = Background(
            [
                ("same state", self._require_same_state),
                ("verification", self._verify_on),
                ("polling", self._require_polling),
                ("sweep", writer.sweep),
                ("proof keys", self.host_keys.rotate),
                ("proofs", self.proofs.refresh),
                *([("transaction keys", self.transaction_keys.poll)] if settings.issuer else ()),
                *subsystems.tasks(),
                *self.part.tasks(),
                *(self.host_usage.tasks() if self.host_usage is not None else ()),
                ("certificates", ExpiryWatch(config, self._clock).poll),
                ("readiness", self.readiness.report),
                *([("metrics", self.metrics.poll)] if self.metrics is not None else ()),
            ]
        )

    def _checks(self, source: LmdbSource) -> AuthorizationService:
        limits, verifier, forward = self._config.limits, self._verifier, self.part.forward
        failures = FailedSignatures(limits.failed_signatures_burst, limits.failed_signatures_per_second)
        local = LocalWriter(self.writer, verifier, cache_bytes=limits.writer_cache_bytes)
        port = local if forward is None else ClusterWriter(local, forward)
        return AuthorizationService(verifier, source, failures, port, self._watching, self._tracing)

    def _services(
        self, checks: AuthorizationService, authenticator: Authenticator, status: StatusService
    ) -> Sequence[Service]:
        """Return one implementation of each service but health; ``status`` is to get its ``read``."""
        config, writer, clock, part = self._config, self.writer, self._clock, self.part
        subsystems, grants = self.subsystems, self._require_grants
        receipts = subsystems.receipts
        receipts.hosts = part.hosts
        minter = Minter(writer, self.keyring, clock)
        exchanger = TransactionTokens(writer, checks, self.transaction_keys, config.transaction_tokens)
        subsystems.exchanges = lambda: exchanger.outcomes
        cluster_usage = None if self.host_usage is None else self.host_usage.cluster
        feed_parts = PeerIdentity() if part.feed is None else part.feed.parts
        return (
            SessionService(writer, config.sessions, receipts, minter, subsystems.logins, grants),
            TokenService(writer, minter, clock, grants, exchanger),
            checks,
            KeyService(writer, self.keyring, self.host_keys, config.proofs, feed_parts, part.hosts),
            CredentialService(writer, authenticator),
            ApprovalService(writer, grants),
            ClusterService(writer, part, clock),
            CutOffService(writer, subsystems.local.brake_by),
            IdentityService(writer, subsystems.logins),
            EventService(writer, subsystems.events, clock),
            EvidenceService(writer, subsystems.registry, receipts),
            FeedService(part.feed, clock, evidence=part.hosts, refusal=part.refusal),
            ForwardService(checks.methods()),
            UsageService(
                writer,
                subsystems.usage,
                clock,
                cluster_usage,
                usage=config.usage.enabled,
                counts=config.reports_observations,
            ),
            status,
        )

    def start(self) -> None:
        """Begin to answer, and start the workers."""
        self.part.start()
        self.subsystems.start()
        if self.host_usage is not None:
            self.host_usage.start()
        self.supervisor.start()
        self.serving.start()
        if self.metrics is not None:
            self.metrics.start()
        self.readiness.report()
        self._background.start()
        log.event(
            logging.INFO,
            "serving",
            socket=str(self._config.socket),
            tcp_port=self.tcp_port,
            metrics_port=self.metrics.port if self.metrics is not None else 0,
            workers=self._config.server.workers,
            transport=f"libnghttp2 {self._library}",
            state_dir=str(self._config.state_dir),
            keys_dir=str(self._config.keys_dir),
            config_file=str(self._config.home / "sessauth.toml"),
            credentials_file=str(self._config.credentials_file),
        )

    @property
    def membership(self) -> Membership | None:
        """The part of a server of a cluster; None on other hosts."""
        return self.part if isinstance(self.part, Membership) else None

    def is_ready(self) -> bool:
        """Return True if state and clock are good for checks, and an issuer key can be used."""
        return not self.readiness.problem()

    def _require_grants(self) -> None:
        """Raise FROZEN while an operator refuses all, and AUDIT_UNAVAILABLE if nothing can be recorded."""
        frozen = self.writer.frozen
        if frozen:
            raise frozen_error(frozen)
        self.subsystems.recorder.require(self.supervisor.all_record)

    def _up(self) -> dict[str, bool]:
        """Return for each process if it serves."""
        workers = {worker_name(worker.index): worker.ready.is_set() for worker in self.supervisor.workers}
        return {CONTROL: True, **workers}

    def _require_same_state(self) -> None:
        """Stop when the state's files were replaced, by older ones for instance."""
        try:
            self.writer.check_files()
        except StateUnusable as error:
            if self._stop_for(error):
                log.event(logging.ERROR, "state_replaced", problem=error.problem, error=str(error))

    def _verify_on(self) -> None:
        """Stop when a row of the state is wrong: every check denies by then."""
        try:
            self.writer.verify(VERIFY_A_TURN_SECONDS)
        except StateUnusable as error:
            if self._stop_for(error):
                log.event(logging.ERROR, "state_corrupt", problem=error.problem, error=str(error))

    def _stop_for(self, error: StateUnusable) -> bool:
        """Stop for the first such error; True if it is that one."""
        if self.stopping.is_set():
            return False
        self.failure = error
        self.stopping.set()
        return True

    def _require_polling(self) -> None:
        """Stop when calls are not polled, twice in a row: the process itself may have been stopped once.

        A stuck pool, as on a disk that hangs, is no reason to stop: no other process can write.
        """
        silent_before, self._silent = self._silent, False
        try:
            self.serving.require_polling()
        except ServerError as error:
            self._silent = True
            if silent_before and not self.stopping.is_set():
                self.failure = error
                log.event(logging.ERROR, "not_polling", error=str(error))
                self.stopping.set()

    def run(self, overdue_seconds: float, manager: ServiceManager | None = None) -> None:
        """Serve until :attr:`stopping` is set, then drain, and close within ``overdue_seconds`` after it.

        Reports that to ``manager``, and reads files again by SIGHUP. Raises :attr:`failure` if there is one.
        """
        manager = manager or ServiceManager()
        self.start()
        reload_on_hangup(partial(self._reload, manager))
        self._wait_workers(manager)
        if not self.stopping.is_set():
            manager.ready(self.readiness.words())
        # Polled: a signal that another thread gets does not interrupt a wait of this one.
        while not self.stopping.wait(min(POLL_SECONDS, manager.pause_seconds or POLL_SECONDS)):
            manager.status(self.readiness.words())
            # Before it is overdue, a silent one has twice the time that it takes to stop by itself.
            if self.serving.is_polling():
                manager.alive()
        manager.stopping()
        log.event(logging.INFO, "draining")
        end_at_the_latest(self._config.limits.drain_ms / 1000 + overdue_seconds)
        self.stop()
        if self.failure is not None:
            raise self.failure

    def _wait_workers(self, manager: ServiceManager) -> None:
        """Wait until each worker can serve, :data:`WORKERS_SECONDS` at most: without one, the others do."""
        until = time.monotonic() + WORKERS_SECONDS
        while not self.supervisor.wait_ready(0.0) and time.monotonic() < until:
            manager.status("workers start")
            if self.serving.is_polling():
                manager.alive()
            if self.stopping.wait(READY_POLL_SECONDS):
                return

    def _reload(self, manager: ServiceManager) -> None:
        manager.reloading()
        # A fault of it must not end the thread of the signal.
        try_once("reload", self.reloader.reload)
        manager.reloaded(self.readiness.words())

    def stop(self) -> None:
        """Drain: report NOT_SERVING, end running calls here and in the workers, then close the state."""
        self.health.drain()
        self._watching.drain()
        self.subsystems.events.drain()
        self.part.drain()
        workers = threading.Thread(target=self.supervisor.stop, name="sessauth-drain")
        workers.start()
        # The last reports of workers are still accepted.
        self.serving.stop(self._config.limits.drain_ms, also_while=workers.is_alive)
        self._background.stop()
        workers.join()
        self._opened.close()
        log.event(logging.INFO, "stopped")


def end_at_the_latest(seconds: float) -> None:
    """End this process with status 1 if it has not ended in ``seconds``, with tracebacks on stderr.

    It counts to the very end of the interpreter, where no Python runs any more. Acknowledged changes are
    durable, so nothing is lost.
    """
    try:
        faulthandler.dump_traceback_later(seconds, exit=True)
    except RuntimeError:
        # It may start no more threads. The signal ends it too, without tracebacks.
        signal.setitimer(signal.ITIMER_REAL, seconds)


def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    SIGHUP has the same effect if stderr is a terminal; else files are read again. SIGUSR1 and SIGUSR2 are
    ignored. Raises StateError or ConfigError at startup, StateUnusable when the state was replaced
    meanwhile, and ServerError when calls are not polled any more.
    """
    manager = ServiceManager.of_environment(os.environ)
    log.configure(config.server.log_level)
    ignore_harmless()
    sys.setswitchinterval(SWITCH_SECONDS)
    control = Control(config)
    take_stop_signals(control.stopping)
    control.run(OVERDUE_SECONDS, manager)


LOG_LEVEL = "server.log_level"


def changed_settings(before: Config, now: Config) -> list[str]:
    """Return the names of the settings that differ, as ``limits.drain_ms``. Identities are no setting."""
    changed = [
        f"{section}.{entry.name}"
        for section, kind in SECTIONS.items()
        for entry in dataclasses.fields(kind)
        if getattr(getattr(before, section), entry.name) != getattr(getattr(now, section), entry.name)
    ]
    same = before.identity_providers == now.identity_providers
    return changed if same else [*changed, "identity_providers"]


def _read(config: Config) -> Config:
    """Return the settings of the file now; ``config`` itself if it is of no file. Raises ConfigError."""
    return config if config.file_stamp is None else load(config.home)


class Reloader:
    """Reads the files of a running server again. Files that can't be used change nothing, and are logged."""

    def __init__(
        self, config: Config, authenticator: Authenticator, supervisor: Supervisor, clock: Clock
    ) -> None:
        """Compare later settings with those of ``config``, which the process runs with."""
        self._config = config
        self._authenticator = authenticator
        self._supervisor = supervisor
        self._clock = clock
        self._level = config.server.log_level
        # Options of the command may count in place of the file's settings: those are not compared with it.
        self._loaded = _read(config)

    def reload(self) -> None:
        """Read all files again, and log the event ``reloaded``.

        Each part that can't be read is ``not_reloaded``. ``needs_restart`` names changed settings that take
        effect at the next start.
        """
        fields: dict[str, object] = {"log_level": self._level, "needs_restart": []}
        self._try("settings", lambda: fields.update(self._reload_settings()))
        self._try("credentials", lambda: fields.update(credentials=self._authenticator.read_again()))
        fields["identities"] = len(self._authenticator.identities.read_again())
        if self._config.tcp.certificate:
            self._try("certificates", lambda: fields.update(certificates=self._check_certificates()))
        # Independent of the old and the new level.
        log.set_level("INFO")
        log.event(logging.INFO, "reloaded", **fields)
        log.set_level(self._level)

    def _reload_settings(self) -> dict[str, object]:
        now = _read(self._config)
        restart = changed_settings(self._loaded, now)
        level = now.server.log_level
        # Whether each call is logged is decided at the start.
        if LOG_LEVEL in restart and level != "DEBUG":
            restart.remove(LOG_LEVEL)
        if level != self._level:
            self._level = level
            self._supervisor.set_log_level(level)
        return {"log_level": level, "needs_restart": restart}

    def _check_certificates(self) -> str:
        """Return the file that new connections are served with. Raises ConfigError, StateUnusable."""
        Certificates(self._config, self._clock).load()
        return str(self._config.path(self._config.tcp.certificate))

    @staticmethod
    def _try(what: str, read: Callable[[], object]) -> None:
        try:
            read()
        except (ConfigError, StateUnusable) as error:
            log.event(logging.ERROR, "not_reloaded", what=what, error=str(error))
