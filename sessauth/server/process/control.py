"""The composition of the control process: settings, state, keys, services, sockets, workers."""

from __future__ import annotations

import faulthandler
import logging
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, Protocol

from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2

from ...clock import Clock, SystemClock
from ...errors import ServerError, SessauthError, StateUnusable
from ...state.host.proof_reader import ProofReader
from ...state.lmdb.environment import LmdbSource
from ...state.writer.state_writer import StateWriter
from ...v1 import (
    approval_service_pb2,
    authorization_service_pb2,
    cluster_service_pb2,
    event_service_pb2,
    evidence_service_pb2,
    feed_service_pb2,
    forward_service_pb2,
    key_service_pb2,
    session_service_pb2,
    token_service_pb2,
    usage_service_pb2,
)
from ...verifier.verifier import Verifier
from .. import log as server_log
from ..cluster.membership import Membership
from ..config.config import Config
from ..keys.certificates import certificate_end
from ..keys.credentials import WorkerCredential
from ..keys.issuer_keyring import KeyRing
from ..keys.proof_key_rotation import ProofKeyRotator
from ..metrics.publisher import Publisher
from ..metrics.service import CONTROL, Metrics, worker_name
from ..metrics.state import StateNumbers
from ..periodic import Background, try_once
from ..rpc.access import WORKER
from ..rpc.authenticate import Authenticator
from ..rpc.failed_signatures import FailedSignatures
from ..rpc.grpc_server import Serving
from ..rpc.method import Method, RawHandler, methods_of
from ..rpc.pipeline import HandOn
from ..rpc.tracing import open_tracing
from ..services.approval import ApprovalService
from ..services.authorization import AuthorizationService
from ..services.cluster import ClusterService
from ..services.event import EventService
from ..services.evidence import EvidenceService
from ..services.feed import FeedService
from ..services.forward import ForwardService
from ..services.health import HealthService
from ..services.key import KeyService
from ..services.session import SessionService
from ..services.token import TokenService
from ..services.usage import UsageService
from ..transport.choice import choose
from ..transport.self_test import require_transport
from ..watch.recheck import Watching
from ..writer.local import LocalWriter
from . import preflight
from .init import ensure_run_dir
from .stop_signals import set_on
from .subsystems import ControlSubsystems
from .supervisor import IGNORED, Supervisor

# After the drain: for workers to be killed, gRPC to be abandoned and the state to be closed.
OVERDUE_SECONDS: Final = 6.0
POLL_SECONDS: Final = 0.5


class HasMethods(Protocol):
    """A service with a handler for each of its RPCs."""

    def methods(self) -> Mapping[str, Callable[..., object] | RawHandler]:
        """Return the handlers by the name of the RPC."""
        ...


class Control:
    """The control process: the only writer, and the only one with keys."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        """Open state and keys and bind the sockets. Raises StateError or ConfigError.

        Everything that was opened is closed again if a later step fails.
        """
        self._config = config
        self._clock = clock or SystemClock()
        # What the workers serve with; a setting that can't be met is refused here.
        self._check_server = choose(config)
        self.tcp_port = 0
        # Set when it is time to stop; ``failure`` is the reason if there was no signal.
        self.stopping = threading.Event()
        self.failure: SessauthError | None = None
        self._silent = False
        self._why_unready = ""
        preflight.check(config)
        self.keyring = KeyRing(config.keys_dir)
        ensure_run_dir(config)
        with ExitStack() as opened:
            self.membership = Membership(config) if config.cluster.enabled else None
            if self.membership is not None:
                opened.callback(self.membership.carrier.close)
            self.log = StateWriter.open(
                config.state_dir,
                map_size=config.server.map_size_bytes,
                clock=self._clock,
                carried=None if self.membership is None else self.membership.carried,
            )
            opened.callback(self.log.close)
            self._compose(opened)
            self._opened = opened.pop_all()

    def _compose(self, opened: ExitStack) -> None:
        config, log = self._config, self.log
        self.metrics = Metrics(config) if config.metrics.address else None
        page = None
        if self.metrics is not None:
            opened.callback(self.metrics.close)
            page = self.metrics.page
        self._tracing = open_tracing(config.tracing, CONTROL)
        if self._tracing is not None:
            opened.callback(self._tracing.close)
        source = log.source()
        self._verifier = verifier = Verifier(source, cache_bytes=config.limits.cache_bytes)
        verifier.counters = page.counters if page is not None else None
        self.host_keys = ProofKeyRotator(config.state_dir, log, self.keyring, config.proofs)
        # Without them all but bound tokens are served; the background tries again.
        try_once("proof keys", self.host_keys.rotate)
        self.proofs = ProofReader(config.state_dir, verifier, server_log.proofs_unavailable)
        # Each control process makes one for its own workers.
        self._workers = WorkerCredential.make(WORKER)
        authenticator = Authenticator.of(config, self._workers)
        self.subsystems = subsystems = ControlSubsystems(
            config, log, source, verifier, self.keyring, self._clock, authenticator
        )
        opened.callback(subsystems.close)
        self._watching = Watching(verifier, config.limits)
        hand_on = self._join_cluster(opened, authenticator)
        methods = self._methods(self._services(verifier, source, hand_on))
        self.serving = Serving(
            config,
            methods,
            authenticator=authenticator,
            meter=page,
            tracing=self._tracing,
            hand_on=hand_on,
        )
        opened.callback(self.serving.remove_sockets)
        self.serving.bind_unix(config.socket)
        if config.tcp.address:
            self.tcp_port = self.serving.bind_tcp(config.tcp.address)
        self.supervisor = Supervisor(config, self._workers, self.metrics.handles if self.metrics else ())
        if self.metrics is not None and page is not None:
            audit = subsystems.recorder.audit_numbers
            self.metrics.compose(
                Publisher(page, verifier, self.serving, self._watching, audit),
                StateNumbers(
                    log,
                    self.is_ready,
                    lambda: self.supervisor.restarts,
                    partial(certificate_end, config),
                    self.membership,
                ),
                subsystems.metrics,
                self._up,
            )
        self._background = Background(
            [
                ("same state", self._require_same_state),
                ("polling", self._require_polling),
                ("sweep", log.sweep),
                ("proof keys", self.host_keys.rotate),
                ("proofs", self.proofs.refresh),
                *subsystems.tasks(),
                *(self.membership.tasks() if self.membership is not None else ()),
                ("readiness", self._report_readiness),
                *([("metrics", self.metrics.poll)] if self.metrics is not None else ()),
            ]
        )

    def _join_cluster(self, opened: ExitStack, authenticator: Authenticator) -> HandOn | None:
        """Prepare this server's part in its cluster; return how calls reach the leader."""
        if self.membership is None:
            return None
        self.membership.attach(self.log, self._clock)
        opened.callback(self.membership.close)
        return self.membership.hand_on(self.log, self._clock, authenticator)

    def _services(
        self, verifier: Verifier, source: LmdbSource, hand_on: HandOn | None
    ) -> list[tuple[ServiceDescriptor, HasMethods]]:
        """Return the implementation of each service."""
        config, log, clock, subsystems = self._config, self.log, self._clock, self.subsystems
        registry, receipts = subsystems.registry, subsystems.receipts
        failures = FailedSignatures(
            config.limits.failed_signatures_burst, config.limits.failed_signatures_per_second
        )
        writer = LocalWriter(log, verifier, cache_bytes=config.limits.writer_cache_bytes)
        checks = AuthorizationService(verifier, source, failures, writer, self._watching, self._tracing)
        sessions = SessionService(log, config.sessions, receipts, self._require_recording)
        tokens = TokenService(log, self.keyring, clock, self._require_recording)
        feed = None if self.membership is None else self.membership.feed
        hosts = None if self.membership is None else self.membership.hosts
        receipts.hosts = hosts
        services: tuple[tuple[Any, str, HasMethods], ...] = (
            (session_service_pb2, "SessionService", sessions),
            (token_service_pb2, "TokenService", tokens),
            (authorization_service_pb2, "AuthorizationService", checks),
            (key_service_pb2, "KeyService", KeyService(log, self.keyring, self.host_keys)),
            (approval_service_pb2, "ApprovalService", ApprovalService(log, self._require_recording)),
            (cluster_service_pb2, "ClusterService", self._cluster_service()),
            (event_service_pb2, "EventService", EventService(log, subsystems.events, clock)),
            (evidence_service_pb2, "EvidenceService", EvidenceService(log, registry, receipts)),
            (feed_service_pb2, "FeedService", FeedService(feed, clock, evidence=hosts)),
            (forward_service_pb2, "ForwardService", ForwardService(checks.methods(), hand_on)),
            (usage_service_pb2, "UsageService", UsageService(log, subsystems.usage, clock)),
        )
        return [(module.DESCRIPTOR.services_by_name[name], service) for module, name, service in services]

    def _cluster_service(self) -> ClusterService:
        return ClusterService(self.log, self.membership, self._config.cluster.name, self._clock)

    def _methods(self, services: Sequence[tuple[ServiceDescriptor, HasMethods]]) -> list[Method]:
        """Return the RPCs of all services, with those of the health service."""
        self.health = HealthService([descriptor.full_name for descriptor, _ in services])
        methods = methods_of(health_pb2.DESCRIPTOR.services_by_name["Health"], self.health.methods())
        for descriptor, service in services:
            methods += methods_of(descriptor, service.methods())
        return methods

    def start(self) -> None:
        """Begin to answer, and start the workers."""
        if self.membership is not None:
            self.membership.start()
        self.subsystems.start()
        self.supervisor.start()
        self.serving.start()
        if self.metrics is not None:
            self.metrics.start()
        self._report_readiness()
        self._background.start()
        server_log.event(
            logging.INFO,
            "serving",
            socket=str(self._config.socket),
            tcp_port=self.tcp_port,
            metrics_port=self.metrics.port if self.metrics is not None else 0,
            workers=self._config.server.workers,
            **self._check_server_fields(),
            state_dir=str(self._config.state_dir),
            keys_dir=str(self._config.keys_dir),
            config_file=str(self._config.home / "sessauth.toml"),
            credentials_file=str(self._config.credentials_file),
        )

    def _check_server_fields(self) -> dict[str, str]:
        """Return for the log what the workers' addresses are served with."""
        if not self._config.server.workers:
            return {}
        return {"check_server": self._check_server.name, "check_server_why": self._check_server.why}

    def is_ready(self) -> bool:
        """Return True if state and clock are good for checks, and an active issuer key is here."""
        return not self._unready()

    def _unready(self) -> str:
        """Return why this process is not ready; empty if it is."""
        try:
            self.log.head()
            if self.membership is not None and self.membership.alarm is not None:
                return f"this host left its cluster's log: {self.membership.alarm}"
            if self.log.braked:
                return f"the brake denies every check: {self.log.braked}"
            if not self._verifier.view.current:
                return "the state of this host is not known to be current, which denies every check"
            self.log.now_ms()
            if self.keyring.newest_active(self.log.keys()) is None:
                return f"no active issuer key is in {self._config.keys_dir}"
        except SessauthError as error:
            return str(error)
        return ""

    def _report_readiness(self) -> None:
        """Set the health status; log the cause once when this process is not ready."""
        why, before = self._unready(), self._why_unready
        self._why_unready = why
        self.health.set_ready(not why)
        if why and why != before:
            server_log.event(logging.ERROR, "not_ready", error=why)
        elif before and not why:
            server_log.event(logging.INFO, "ready")

    def _require_recording(self) -> None:
        """Raise AUDIT_UNAVAILABLE while the use of granted authority could not be recorded."""
        self.subsystems.recorder.require(self.supervisor.all_record)

    def _up(self) -> dict[str, bool]:
        """Return for each process if it serves."""
        workers = {worker_name(worker.index): worker.ready.is_set() for worker in self.supervisor.workers}
        return {CONTROL: True, **workers}

    def _require_same_state(self) -> None:
        """Stop when the state's files were replaced, by older ones for instance."""
        try:
            self.log.check_files()
        except StateUnusable as error:
            if not self.stopping.is_set():
                self.failure = error
                server_log.event(logging.ERROR, "state_replaced", problem=error.problem, error=str(error))
                self.stopping.set()

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
                server_log.event(logging.ERROR, "not_polling", error=str(error))
                self.stopping.set()

    def stop(self) -> None:
        """Drain: report NOT_SERVING, end running calls here and in the workers, then close the state."""
        self.health.drain()
        self._watching.drain()
        self.subsystems.events.drain()
        if self.membership is not None and self.membership.feed is not None:
            # Followers go on to another server.
            self.membership.feed.close()
        workers = threading.Thread(target=self.supervisor.stop, name="sessauth-drain")
        workers.start()
        # The last reports of workers are still accepted.
        self.serving.stop(self._config.limits.drain_ms, also_while=workers.is_alive)
        self._background.stop()
        workers.join()
        self._opened.close()
        server_log.event(logging.INFO, "stopped")


def end_at_the_latest(seconds: float) -> None:
    """End this process with status 1 if it has not ended in ``seconds``, with tracebacks on stderr.

    It counts to the very end of the interpreter, where no Python runs any more. Acknowledged changes are
    durable, so nothing is lost.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)


def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    SIGHUP has the same effect if stderr is a terminal; else it is ignored, as SIGUSR1 and SIGUSR2 are. Raises
    StateError or ConfigError at startup, StateUnusable when the state was replaced meanwhile, and
    ServerError when calls are not polled any more.
    """
    server_log.configure(config.server.log_level)
    # The workers use the same grpcio.
    require_transport()
    control = Control(config)

    # A terminal that is closed sends SIGHUP: its server ends too.
    stop_signals = (signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if sys.stderr.isatty() else ()))
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    set_on(control.stopping, *stop_signals)
    control.start()
    # Polled: a signal that another thread gets does not interrupt a wait of this one.
    while not control.stopping.wait(POLL_SECONDS):
        continue
    server_log.event(logging.INFO, "draining")
    end_at_the_latest(config.limits.drain_ms / 1000 + OVERDUE_SECONDS)
    control.stop()
    if control.failure is not None:
        raise control.failure
