"""A check worker: a process that judges calls over its own read-only view, and has no keys.

Started as ``python -m sessauth.server.process.worker`` by the supervisor, never forked. One line of JSON on
stdin holds the settings, and the credential for what it hands on to the control process; when stdin
closes the parent is gone or wants an end, and the worker drains. On stdout it says ``ready`` once, when
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
from ...state.host.proof_reader import ProofReader
from ...state.lmdb.reader import StateReader
from ...v1 import authorization_service_pb2
from ...verifier.registration import POLL_SECONDS, Registration, RegistrationLoop
from ...verifier.verifier import Verifier
from .. import log
from ..config.config import Config, from_dict
from ..metrics.publisher import Publisher
from ..metrics.service import worker_name
from ..metrics.shared_page import Page
from ..rpc.failed_signatures import FailedSignatures
from ..rpc.grpc_server import Serving
from ..rpc.method import methods_of
from ..rpc.tracing import open_tracing
from ..services.authorization import AuthorizationService
from ..services.health import HealthService
from ..watch.recheck import Watching
from ..writer.forward import Forwarder
from ..writer.remote import WriterAway
from .recorder import ServerRecorder
from .supervisor import IGNORED

ALIVE_SECONDS = 0.5
# A control process that starts listens soon; its workers judge nothing before it knows them.
ENROLLED_SECONDS = 10.0
SAME_FILES_SECONDS = 0.1
REPORT_MS = 1_000


def main() -> int:
    """Serve until stdin closes or a signal comes; returns the exit status."""
    settings = json.loads(sys.stdin.readline())
    config = from_dict(settings["config"])
    log.configure(config.server.log_level)
    stop = threading.Event()
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=_watch_stdin, args=(stop,), name="sessauth-parent", daemon=True).start()
    try:
        run(config, int(settings["index"]), stop, sys.stdout, settings["credential"], settings["metrics"])
    except (SessauthError, OSError) as error:
        # OSError: the pipe to a parent that is gone.
        log.event(logging.ERROR, "worker_failed", index=settings["index"], error=repr(error))
        return 1
    return 0


def run(
    config: Config, index: int, stop: threading.Event, out: IO[str], credential: str, metrics: int = -1
) -> None:
    """Serve as worker ``index`` until ``stop`` is set.

    What only the writer can take goes to the control process, which gave ``credential`` for that, and the
    descriptor of the page to count on as ``metrics``, -1 for none.
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
            verifier, source, failures, WriterAway(forwarder), watching, tracing
        )
        service = authorization_service_pb2.DESCRIPTOR.services_by_name["AuthorizationService"]
        health = HealthService([service.full_name])
        methods = methods_of(service, authorization.methods())
        methods += methods_of(health_pb2.DESCRIPTOR.services_by_name["Health"], health.methods())
        serving = Serving(config, methods, reuse_port=True, meter=page, tracing=tracing)
        publisher = None
        if page is not None:
            audit = recorder.audit_numbers
            publisher = Publisher(page, verifier, serving, watching, audit)
        serving.bind_unix(config.check_socket(index))
        if config.tcp.check_address:
            serving.bind_tcp(config.tcp.check_address)
        grace_ms = 0
        enrolling = RegistrationLoop(
            verifier.view, source, partial(_enrol_at, channel), worker_name(index), 0
        )
        try:
            recorder.start()
            _enroll(enrolling, stop)
            serving.start()
            _require_life(serving, source)
            health.set_ready(True)
            log.event(logging.INFO, "worker_ready", index=index, socket=str(config.check_socket(index)))
            if publisher is not None:
                publisher.publish()
            # First: from the moment on that it is ready its decisions count.
            _say(out, _word(recorder))
            _say(out, "ready")
            _stay(config, serving, source, recorder, stop, out, publisher)
            grace_ms = config.limits.drain_ms
        finally:
            health.drain()
            watching.drain()
            serving.stop(grace_ms)
            enrolling.close()
    finally:
        if recorder is not None:
            recorder.close()
        control.close()
        forwarder.close()
        source.close()
        if tracing is not None:
            tracing.close()


def _enrol_at(channel: VerifierChannel, told: Registration) -> int:
    """Tell the control process; refused, it asks again: the worker before may not be seen to be gone yet."""
    try:
        return channel.register(told)
    except SessauthError as error:
        raise ServerError(f"the control process did not enrol this worker: {error}") from error


def _enroll(enrolling: RegistrationLoop, stop: threading.Event) -> None:
    """Wait until the control process counts this worker among those that judge.

    Raises ServerError if it does not in time.
    """
    enrolling.start()
    until = time.monotonic() + ENROLLED_SECONDS
    while not enrolling.registered and not stop.wait(POLL_SECONDS):
        if time.monotonic() >= until:
            raise ServerError(f"not enrolled within {ENROLLED_SECONDS:.0f} s: {enrolling.problem}")


def _stay(
    config: Config,
    serving: Serving,
    source: StateReader,
    recorder: ServerRecorder,
    stop: threading.Event,
    out: IO[str],
    publisher: Publisher | None,
) -> None:
    """Show signs of life until ``stop`` is set. Raises StateUnusable when the state was replaced."""
    beat = time.monotonic() + ALIVE_SECONDS
    while not stop.wait(SAME_FILES_SECONDS):
        if not source.files_unchanged():
            # What is mapped here may be a file that nobody writes any more: never judge by it again.
            raise StateUnusable(f"{config.state_dir}: its files were replaced; starting again", "SWAPPED")
        if time.monotonic() >= beat:
            _require_life(serving, source)
            if publisher is not None:
                publisher.publish()
            _say(out, _word(recorder))
            beat = time.monotonic() + ALIVE_SECONDS


def _word(recorder: ServerRecorder) -> str:
    return "alive" if recorder.healthy else "unrecorded"


def _say(out: IO[str], word: str) -> None:
    out.write(f"{word}\n")
    out.flush()


def _require_life(serving: Serving, source: StateReader) -> None:
    """Raise ServerError if this process answers no calls, StateError if the state can't be read.

    Nothing of it waits behind callers.
    """
    serving.require_progress()
    transaction = source.begin()
    try:
        transaction.id()
    finally:
        transaction.abort()


def _watch_stdin(stop: threading.Event) -> None:
    while sys.stdin.readline():
        continue
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
