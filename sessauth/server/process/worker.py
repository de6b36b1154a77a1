"""A check worker: a process that checks calls over its own read-only view, and has no keys.

The supervisor starts it as ``python -m sessauth.server.process.worker``, never by fork. One line of JSON on
stdin holds the settings, and the credential for calls that it forwards to the control process. Each later
line sets the level of its log. When stdin closes the worker drains. On stdout it writes ``ready`` once, when
its view is complete, and twice a second ``alive``, or ``unrecorded`` while its decisions are lost.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from functools import partial
from typing import IO

from grpc_health.v1 import health_pb2

from ...client import Client
from ...client._verifier_channel import VerifierChannel
from ...clock import SystemClock
from ...errors import ServerError, SessauthError, StateUnusable
from ...state.host.proof_keys import ProofReader
from ...state.lmdb.reader import StateReader
from ...v1 import authorization_service_pb2
from ...verifier.base import POLL_SECONDS, Registration, RegistrationLoop
from ...verifier.verifier import Verifier
from .. import log
from ..config import Config, from_dict
from ..metrics.service import Publisher, worker_name
from ..metrics.shared_page import Page
from ..rpc.authenticate import Authenticator, FailedSignatures
from ..rpc.call import methods_of
from ..rpc.grpc_server import SWITCH_SECONDS, Serving
from ..rpc.tracing import open_tracing
from ..services.authorization import AuthorizationService
from ..services.health import HealthService
from ..watch import Watching
from ..writer.remote import Forwarder, RemoteWriter
from .recorder import ServerRecorder
from .signals import ignore_harmless, set_on

ALIVE_SECONDS = 0.5
SAME_FILES_SECONDS = 0.1
REPORT_MS = 1_000


def main() -> int:
    """Serve until stdin closes or a signal comes; returns the exit status."""
    settings = json.loads(sys.stdin.readline())
    config = from_dict(settings["config"])
    log.configure(config.server.log_level)
    stop = threading.Event()
    ignore_harmless()
    set_on(stop, signal.SIGTERM, signal.SIGINT)
    threading.Thread(target=_watch_stdin, args=(stop,), name="sessauth-parent", daemon=True).start()
    try:
        run(
            config,
            int(settings["index"]),
            stop,
            sys.stdout,
            settings["credential"],
            settings["metrics"],
            start_seconds=settings["start_seconds"],
        )
    except (SessauthError, OSError) as error:
        # OSError: the pipe to a parent that is gone.
        log.event(logging.ERROR, "worker_failed", index=settings["index"], error=repr(error))
        return 1
    return 0


def run(
    config: Config,
    index: int,
    stop: threading.Event,
    out: IO[str],
    credential: str,
    metrics: int = -1,
    *,
    start_seconds: float,
) -> None:
    """Serve as worker ``index`` until ``stop`` is set.

    ``credential`` is that of the control process, for calls that need the writer. ``metrics`` is the
    descriptor of this process's page, -1 for none. The control process has ``start_seconds`` to register it.
    """
    page = Page.inherited(metrics) if metrics >= 0 else None
    source = StateReader.open(config.state_dir)
    tracing = open_tracing(config.tracing, worker_name(index))
    forwarder = Forwarder(config.socket, credential, tracing)
    control = Client(str(config.socket), credential, timeout_ms=REPORT_MS)
    channel = VerifierChannel(control)
    recorder = None
    try:
        verifier = Verifier(source, cache_bytes=config.limits.cache_bytes)
        verifier.counters = page.counters if page is not None else None
        recorder = ServerRecorder(config, verifier, source, worker_name(index), SystemClock())
        if config.reports_observations:
            recorder.report_observations(
                channel, source, verifier=worker_name(index), wants_usage=config.usage.enabled
            )
        source.watch(ProofReader(config.state_dir, verifier, log.proofs_unavailable).refresh)
        failures = FailedSignatures(
            config.limits.failed_signatures_burst, config.limits.failed_signatures_per_second
        )
        watching = Watching(verifier, config.limits)
        authorization = AuthorizationService(
            verifier, source, failures, RemoteWriter(forwarder), watching, tracing
        )
        service = authorization_service_pb2.DESCRIPTOR.services_by_name["AuthorizationService"]
        health = HealthService([service.full_name])
        methods = methods_of(service, authorization.methods())
        methods += methods_of(health_pb2.DESCRIPTOR.services_by_name["Health"], health.methods())
        sys.setswitchinterval(SWITCH_SECONDS)
        in_cluster = config.cluster.enabled or bool(config.follow.servers)
        authenticator = Authenticator.of(config, carried=source if in_cluster else None)
        serving = Serving(
            config,
            methods,
            reuse_port=True,
            authenticator=authenticator,
            meter=page,
            tracing=tracing,
            direct=authorization.direct_checks(page),
        )
        publisher = None
        if page is not None:
            audit = recorder.audit_numbers
            publisher = Publisher(page, verifier, serving, watching, audit)
        serving.bind_unix(config.check_socket(index))
        if config.tcp.check_address:
            serving.bind_tcp(config.tcp.check_address, "tcp.check_address")
        grace_ms = 0
        registering = RegistrationLoop(
            verifier.view, source, partial(_register, channel), worker_name(index), 0
        )
        try:
            recorder.start()
            _wait_registered(registering, stop, start_seconds)
            serving.start()
            _require_progress(serving, source)
            health.set_ready(True)
            log.event(
                logging.INFO,
                "worker_ready",
                index=index,
                socket=str(config.check_socket(index)),
            )
            if publisher is not None:
                publisher.publish()
            # The heartbeat comes first: once ready, the worker's decisions count.
            _write_line(out, _heartbeat(recorder))
            _write_line(out, "ready")
            _serve_until(config, serving, source, recorder, stop, out, publisher)
            grace_ms = config.limits.drain_ms
        finally:
            health.drain()
            watching.drain()
            serving.stop(grace_ms)
            registering.close()
    finally:
        if recorder is not None:
            recorder.close()
        control.close()
        forwarder.close()
        source.close()
        if tracing is not None:
            tracing.close()


def _register(channel: VerifierChannel, registration: Registration) -> int:
    """Register at the control process. Refused, the loop tries again: the last worker may not be gone yet."""
    try:
        return channel.register(registration)
    except SessauthError as error:
        raise ServerError(f"the control process did not register this worker: {error}") from error


def _wait_registered(registering: RegistrationLoop, stop: threading.Event, seconds: float) -> None:
    """Wait until the control process counts this worker as one that checks.

    Raises ServerError if it does not within ``seconds``.
    """
    registering.start()
    until = time.monotonic() + seconds
    while not registering.registered and not stop.wait(POLL_SECONDS):
        if time.monotonic() >= until:
            raise ServerError(f"not registered within {seconds:.0f} s: {registering.problem}")


def _serve_until(
    config: Config,
    serving: Serving,
    source: StateReader,
    recorder: ServerRecorder,
    stop: threading.Event,
    out: IO[str],
    publisher: Publisher | None,
) -> None:
    """Write heartbeats until ``stop`` is set. Raises StateUnusable when the state was replaced."""
    beat = time.monotonic() + ALIVE_SECONDS
    while not stop.wait(SAME_FILES_SECONDS):
        if not source.files_unchanged():
            # The mapped file may have no writer any more: never check by it again.
            raise StateUnusable(f"{config.state_dir}: its files were replaced; starting again", "SWAPPED")
        if time.monotonic() >= beat:
            _require_progress(serving, source)
            if publisher is not None:
                publisher.publish()
            _write_line(out, _heartbeat(recorder))
            beat = time.monotonic() + ALIVE_SECONDS


def _heartbeat(recorder: ServerRecorder) -> str:
    return "alive" if recorder.healthy else "unrecorded"


def _write_line(out: IO[str], word: str) -> None:
    out.write(f"{word}\n")
    out.flush()


def _require_progress(serving: Serving, source: StateReader) -> None:
    """Raise ServerError if this process answers no calls, StateError if the state can't be read.

    Does not wait for callers.
    """
    serving.require_progress()
    transaction = source.begin()
    try:
        transaction.id()
    finally:
        transaction.abort()


def _watch_stdin(stop: threading.Event) -> None:
    while line := sys.stdin.readline():
        log.set_level(json.loads(line)["log_level"])
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
