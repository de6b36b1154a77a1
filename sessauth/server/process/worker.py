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
from collections.abc import Mapping
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

from ...client import Client
from ...client._verifier_channel import VerifierChannel
from ...clock import SystemClock
from ...errors import ServerError, SessauthError, StateUnusable
from ...state.host.proof_keys import ProofReader
from ...state.lmdb.reader import StateReader
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
        run(config, settings, stop)
    except (SessauthError, OSError) as error:
        # OSError: the pipe to a parent that is gone.
        log.event(logging.ERROR, "worker_failed", index=settings["index"], error=repr(error))
        return 1
    return 0


def run(config: Config, settings: Mapping[str, Any], stop: threading.Event) -> None:
    """Serve as worker ``index`` of ``settings`` until ``stop`` is set.

    ``credential`` is that of the control process, for calls that need the writer. ``metrics`` is the
    descriptor of this process's page, -1 for none. The control process has ``start_seconds`` to register it.
    """
    index, name, metrics = int(settings["index"]), worker_name(settings["index"]), settings["metrics"]
    page = Page.inherited(metrics) if metrics >= 0 else None
    with ExitStack() as opened:
        tracing = open_tracing(config.tracing, name)
        if tracing is not None:
            opened.callback(tracing.close)
        source = opened.enter_context(closing(StateReader.open(config.state_dir)))
        forwarder = opened.enter_context(closing(Forwarder(config.socket, settings["credential"], tracing)))
        control = Client(str(config.socket), settings["credential"], timeout_ms=REPORT_MS)
        channel = VerifierChannel(opened.enter_context(closing(control)))
        verifier = Verifier(source, cache_bytes=config.limits.cache_bytes)
        verifier.counters = page.counters if page is not None else None
        recorder = ServerRecorder(config, verifier, source, name, SystemClock())
        opened.callback(recorder.close)
        if config.reports_observations:
            recorder.report_observations(channel, source, verifier=name, wants_usage=config.usage.enabled)
        source.watch(ProofReader(config.state_dir, verifier, log.proofs_unavailable).refresh)
        failures = FailedSignatures(
            config.limits.failed_signatures_burst, config.limits.failed_signatures_per_second
        )
        watching = Watching(verifier, config.limits)
        authorization = AuthorizationService(
            verifier, source, failures, RemoteWriter(forwarder), watching, tracing
        )
        health = HealthService([authorization.descriptor.full_name])
        methods = methods_of(authorization.descriptor, authorization.methods())
        methods += methods_of(health.descriptor, health.methods())
        sys.setswitchinterval(SWITCH_SECONDS)
        in_cluster = config.cluster.enabled or bool(config.follow.servers)
        serving = Serving(
            config,
            methods,
            reuse_port=True,
            authenticator=Authenticator.of(config, carried=source if in_cluster else None),
            meter=page,
            tracing=tracing,
            direct=authorization.direct_checks(page),
        )
        publisher = None
        if page is not None:
            publisher = Publisher(page, verifier, serving, watching, recorder.audit_numbers)
        serving.bind_unix(config.check_socket(index))
        if config.tcp.check_address:
            serving.bind_tcp(config.tcp.check_address, "tcp.check_address")
        grace_ms = 0
        registering = RegistrationLoop(verifier.view, source, partial(_register, channel), name, 0)
        try:
            recorder.start()
            _wait_registered(registering, stop, settings["start_seconds"])
            serving.start()
            _require_progress(serving, source)
            health.set_ready(True)
            log.event(logging.INFO, "worker_ready", index=index, socket=str(config.check_socket(index)))
            # The heartbeat comes first: once ready, the worker's decisions count.
            _beat(recorder, publisher)
            _write_line("ready")
            beat = time.monotonic() + ALIVE_SECONDS
            while not stop.wait(SAME_FILES_SECONDS):
                if not source.files_unchanged():
                    # The mapped file may have no writer any more: never check by it again.
                    message = f"{config.state_dir}: its files were replaced; starting again"
                    raise StateUnusable(message, "SWAPPED")
                if time.monotonic() >= beat:
                    _require_progress(serving, source)
                    _beat(recorder, publisher)
                    beat = time.monotonic() + ALIVE_SECONDS
            grace_ms = config.limits.drain_ms
        finally:
            health.drain()
            watching.drain()
            serving.stop(grace_ms)
            registering.close()


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


def _beat(recorder: ServerRecorder, publisher: Publisher | None) -> None:
    """Publish the numbers of this process, and write the heartbeat."""
    if publisher is not None:
        publisher.publish()
    _write_line("alive" if recorder.healthy else "unrecorded")


def _write_line(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


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
