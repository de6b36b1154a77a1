"""The composition of the control process: settings, state, keys, services, sockets, workers."""

from __future__ import annotations

import faulthandler
import logging
import signal
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

from grpc_health.v1 import health_pb2

from ..clock import Clock, SystemClock
from ..errors import SessauthError, StateUnusable
from ..state import layout
from ..state.lmdb_log import StateWriter
from ..state.proof_reader import ProofReader
from ..v1 import (
    approval_service_pb2,
    authorization_service_pb2,
    event_service_pb2,
    evidence_service_pb2,
    forward_service_pb2,
    key_service_pb2,
    session_service_pb2,
    token_service_pb2,
    usage_service_pb2,
)
from ..verifier import Verifier
from . import log as server_log
from .access import WORKER
from .background import Background, try_once
from .config import Config
from .credentials import WorkerCredential
from .enrolment import Enrolment
from .evidence import Evidence
from .host_keys import HostKeyKeeper
from .init import ensure_run_dir
from .interceptors.failed_signatures import FailedSignatures
from .keyring import KeyRing
from .method import Bytes, methods_of
from .metrics.evidence import numbers_of
from .metrics.publisher import Publisher, audit_numbers
from .metrics.service import CONTROL, Metrics, worker_name
from .metrics.state_numbers import StateNumbers
from .recorder import ServerRecorder
from .services.approval_service import ApprovalService
from .services.authorization_service import AuthorizationService
from .services.event_service import EventService
from .services.evidence_service import EvidenceService
from .services.forward_service import ForwardService
from .services.health_service import HealthService
from .services.key_service import KeyService
from .services.session_service import SessionService
from .services.token_service import TokenService
from .services.usage_service import UsageService
from .serving import Serving
from .session_events import SessionEvents
from .supervisor import Supervisor
from .tracing import Tracing, open_tracing
from .usage_files import UsageFiles
from .usage_store import UsageStore
from .uses_after_end import UsesAfterEnd
from .watching import Watching
from .writer_here import WriterHere

# Behind the drain: for workers to be killed, gRPC to be given up and the state to be closed.
OVERDUE_SECONDS: Final = 6.0
LOOK_SECONDS: Final = 0.5


class Answers(Protocol):
    """A service: what answers each of its RPCs."""

    def methods(self) -> Mapping[str, Callable[..., object] | Bytes]:
        """Return the RPCs of the service by name."""
        ...


class Control:
    """The control process: the only writer, and the only one with keys."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        """Open state and keys and bind the sockets. Raises StateError or ConfigError.

        Everything that was opened is closed again if a later step fails.
        """
        self._config = config
        self._clock = clock or SystemClock()
        self.tcp_port = 0
        # Set when it is time to stop; ``failure`` says why, if nobody asked for it.
        self.stopping = threading.Event()
        self.failure = ""
        self.keyring = KeyRing(config.keys_dir)
        self.recorder: ServerRecorder | None = None
        ensure_run_dir(config)
        self.log = StateWriter.open(
            config.state_dir, map_size=config.server.map_size_bytes, clock=self._clock
        )
        self._data_file = _identity(config.state_dir / layout.DATA_FILE)
        self.metrics: Metrics | None = None
        self._tracing: Tracing | None = None
        try:
            self._compose()
        except BaseException:
            self._stop_recording()
            self._stop_counting()
            self.log.close()
            raise

    def _compose(self) -> None:
        config, log = self._config, self.log
        self.metrics = Metrics(config) if config.metrics.address else None
        page = self.metrics.page if self.metrics is not None else None
        self._tracing = open_tracing(config.tracing, CONTROL)
        failures = FailedSignatures(
            config.limits.failed_signatures_burst, config.limits.failed_signatures_per_second
        )
        source = log.source()
        verifier = Verifier(source, cache_bytes=config.limits.cache_bytes)
        verifier.tally = page.tally if page is not None else None
        self.recorder = ServerRecorder(config, verifier, source, CONTROL, self._clock, follows=True)
        writer = WriterHere(log, verifier, cache_bytes=config.limits.writer_cache_bytes)
        self._watching = Watching(verifier, config.limits)
        checks = AuthorizationService(verifier, source, failures, writer, self._watching, self._tracing)
        self._events = SessionEvents(source)
        self.uses_after_end = UsesAfterEnd(log, self._events.tell)
        self.host_keys = HostKeyKeeper(config.state_dir, log, self.keyring, config.proofs)
        # Without them all is served but bound tokens; the background tries again.
        try_once("proof keys", self.host_keys.tend)
        self.proofs = ProofReader(config.state_dir, verifier, server_log.proofs_unavailable)
        files = UsageFiles(
            config.usage_dir, max_files=config.usage.max_sessions, max_bytes=config.usage.max_stored_bytes
        )
        self.usage = UsageStore(log, config.usage, files, self._clock)
        self.usage.on_used_after_end = self.uses_after_end.on_used_after_end
        if config.tells:
            self.recorder.tell(self.usage, source, verifier=CONTROL, wants_usage=config.usage.enabled)
        self.enrolment = Enrolment(log, self._clock)
        evidence = Evidence(
            log,
            verifier,
            self.keyring,
            self.enrolment,
            self._clock,
            wait_ms=config.evidence.receipt_wait_ms,
            last_allow_ms=self.usage.last_allow_ms,
        )
        parts: tuple[tuple[Any, str, Answers], ...] = (
            (
                session_service_pb2,
                "SessionService",
                SessionService(log, config.sessions, evidence, self._may_give),
            ),
            (token_service_pb2, "TokenService", TokenService(log, self.keyring, self._clock, self._may_give)),
            (authorization_service_pb2, "AuthorizationService", checks),
            (key_service_pb2, "KeyService", KeyService(log, self.keyring, self.host_keys)),
            (approval_service_pb2, "ApprovalService", ApprovalService(log, self._may_give)),
            (event_service_pb2, "EventService", EventService(log, self._events, self._clock)),
            (evidence_service_pb2, "EvidenceService", EvidenceService(log, self.enrolment, evidence)),
            (forward_service_pb2, "ForwardService", ForwardService(checks.methods())),
            (usage_service_pb2, "UsageService", UsageService(log, self.usage, self._clock)),
        )
        services = [module.DESCRIPTOR.services_by_name[name] for module, name, _ in parts]
        self.health = HealthService([service.full_name for service in services])
        methods = methods_of(health_pb2.DESCRIPTOR.services_by_name["Health"], self.health.methods())
        for service, (_, _, answers) in zip(services, parts, strict=True):
            methods += methods_of(service, answers.methods())
        # Made anew by each process, and known to its own workers alone.
        self._workers = WorkerCredential.make(WORKER)
        self.serving = Serving(config, methods, workers=self._workers, meter=page, tracing=self._tracing)
        self.serving.bind_unix(config.socket)
        if config.tcp.address:
            self.tcp_port = self.serving.bind_tcp(config.tcp.address)
        self.supervisor = Supervisor(config, self._workers, self.metrics.handles if self.metrics else ())
        if self.metrics is not None and page is not None:
            self.metrics.compose(
                Publisher(
                    page, verifier, self.serving, self._watching, partial(audit_numbers, self.recorder)
                ),
                StateNumbers(log, self.is_ready, lambda: self.supervisor.restarts),
                partial(numbers_of, evidence, self.enrolment, self.uses_after_end, self._events),
                self._up,
            )
        self._background = Background(
            [
                ("same state", self._require_same_state),
                ("sweep", log.sweep),
                ("enrolment", self.enrolment.tend),
                ("proof keys", self.host_keys.tend),
                ("proofs", self.proofs.refresh),
                ("usage", self.usage.tend),
                ("uses after the end", self.uses_after_end.flush),
                ("readiness", lambda: self.health.set_ready(self.is_ready())),
                *([("metrics", self.metrics.look)] if self.metrics is not None else ()),
            ]
        )

    def start(self) -> None:
        """Begin to answer, and start the workers."""
        if self.recorder is not None:
            self.recorder.start()
        self.supervisor.start()
        self.serving.start()
        if self.metrics is not None:
            self.metrics.start()
        self.health.set_ready(self.is_ready())
        self._background.start()
        server_log.event(
            logging.INFO,
            "serving",
            socket=str(self._config.socket),
            tcp_port=self.tcp_port,
            metrics_port=self.metrics.port if self.metrics is not None else 0,
            workers=self._config.server.workers,
            state_dir=str(self._config.state_dir),
            keys_dir=str(self._config.keys_dir),
            config_file=str(self._config.home / "sessauth.toml"),
            credentials_file=str(self._config.credentials_file),
        )

    def is_ready(self) -> bool:
        """Whether state and wall clock are good for checks, and an active issuer key is here to sign with."""
        try:
            self.log.head()
            if self.log.braked:
                return False
            self.log.now_ms()
            return self.keyring.newest_active(self.log.keys()) is not None
        except SessauthError as error:
            server_log.event(logging.ERROR, "not_ready", error=str(error))
            return False

    def _may_give(self) -> None:
        """Return if authority may be given. Raises AUDIT_UNAVAILABLE while its use could not be recorded."""
        if self.recorder is not None:
            self.recorder.require(self.supervisor.all_record)

    def _stop_recording(self) -> None:
        if self.recorder is not None:
            self.recorder.close()

    def _stop_counting(self) -> None:
        if self.metrics is not None:
            self.metrics.close()
        if self._tracing is not None:
            self._tracing.close()

    def _up(self) -> dict[str, bool]:
        """Return which processes serve."""
        workers = {worker_name(worker.index): worker.ready.is_set() for worker in self.supervisor.workers}
        return {CONTROL: True, **workers}

    def _require_same_state(self) -> None:
        """Stop when the data file was replaced: what is acknowledged would go to a file that is gone."""
        file = self._config.state_dir / layout.DATA_FILE
        if _identity(file) != self._data_file and not self.stopping.is_set():
            self.failure = f"{file}: was replaced while the server ran; find out by whom, then start it again"
            server_log.event(logging.ERROR, "state_replaced", file=str(file))
            self.stopping.set()

    def stop(self) -> None:
        """Drain: say NOT_SERVING, end running calls here and in the workers, then close the state."""
        self.health.drain()
        self._watching.drain()
        self._events.drain()
        workers = threading.Thread(target=self.supervisor.stop, name="sessauth-drain")
        workers.start()
        # What workers tell last is still taken.
        self.serving.stop(self._config.limits.drain_ms, also_while=workers.is_alive)
        self._background.stop()
        workers.join()
        self._stop_recording()
        self._stop_counting()
        self.usage.close()
        self.log.close()
        server_log.event(logging.INFO, "stopped")


def _identity(file: Path) -> tuple[int, int]:
    """Return device and inode of a file; zeros if there is none."""
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def end_at_the_latest(seconds: float) -> None:
    """End this process with status 1 if it has not ended in ``seconds``, and say on stderr where it stood.

    It holds to the very end of the interpreter, where no Python runs any more. What was acknowledged is
    durable, so nothing is lost; an operator who sent SIGTERM is not kept waiting.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)


def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises StateError or ConfigError at startup, and StateUnusable when the state was replaced meanwhile.
    """
    server_log.configure(config.server.log_level)
    control = Control(config)

    def ask(number: int, frame: FrameType | None) -> None:
        control.stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    control.start()
    # Looked at now and then: a signal that another thread was given interrupts no wait of this one.
    while not control.stopping.wait(LOOK_SECONDS):
        continue
    server_log.event(logging.INFO, "draining")
    end_at_the_latest(config.limits.drain_ms / 1000 + OVERDUE_SECONDS)
    control.stop()
    if control.failure:
        raise StateUnusable(control.failure, "SWAPPED")
