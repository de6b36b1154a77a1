"""``sessauth follow``: feeds the state folder of a host from the servers of a cluster.

It has no issuer key and no access to the engine. Local verifiers open the folder as on a single host; the
brake page tells them until when it is fresh, so they deny by themselves once this process is gone.
"""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import ExitStack
from functools import partial
from typing import Final

from ...client._feed.source import FeedSource
from ...clock import Clock, SystemClock
from ...errors import RecordRefused, StateUnusable
from ...state.replication.follower import Follower
from ...state.replication.freshness import Freshness
from ...state.replication.read_only_log import ReadOnlyLog
from ...state.writer.state_writer import StateWriter
from .. import log as server_log
from ..config.config import Config
from ..periodic import Background
from . import preflight
from .control import POLL_SECONDS, end_at_the_latest
from .joining import catch_up, join, open_source
from .stop_signals import set_on
from .supervisor import IGNORED

# For a snapshot that is being installed, and for the last commit.
STOP_SECONDS: Final = 15.0
READER_CHECK_TURNS: Final = 60


class Following:
    """The follower of one host, on a folder that has joined."""

    def __init__(self, config: Config, source: FeedSource, clock: Clock | None = None) -> None:
        """Open the folder. Raises StateError."""
        self._config = config
        self._source = source
        self._clock = clock or SystemClock()
        self.stopping = threading.Event()
        self.failure: StateUnusable | None = None
        self._fresh_until_ms = 0
        self._fresh = False
        self._turns = 0
        log = ReadOnlyLog(", ".join(config.follow.servers))
        self.writer = StateWriter.open(
            config.state_dir, map_size=config.server.map_size_bytes, clock=self._clock, carried=log
        )
        with ExitStack() as opened:
            opened.callback(self.writer.close)
            self.follower = Follower(
                source, self.writer, on_compacted=partial(catch_up, config, source, self.writer)
            )
            self.follower.on_alarm = self._on_alarm
            self.freshness = Freshness(
                source,
                self.follower,
                self._clock,
                self._extend,
                self._deny,
                bound_ms=config.follow.staleness_ms,
            )
            self._background = Background(
                [("same state", self._require_same_state), ("readers", self._reap), ("fresh", self._report)]
            )
            opened.pop_all()

    def start(self) -> None:
        """Begin to follow, and to prove freshness."""
        self.freshness.start()
        self.follower.start()
        self._background.start()
        server_log.event(
            logging.INFO,
            "following",
            number=self.follower.position.number,
            servers=list(self._config.follow.servers),
            state_dir=str(self._config.state_dir),
        )

    def stop(self) -> None:
        """End all threads and close the folder; verifiers deny when the last proof is too old."""
        self._background.stop()
        self.freshness.close()
        self.follower.close()
        self.writer.close()

    def _extend(self, steady_ms: int) -> None:
        self.writer.fresh_until(steady_ms)
        self._fresh_until_ms = steady_ms
        if not self._fresh:
            self._fresh = True
            server_log.event(logging.INFO, "fresh", number=self.freshness.proven, server=self._source.server)

    def _deny(self) -> None:
        self.writer.deny_as_stale()
        self._fresh_until_ms = 0

    def _on_alarm(self, alarm: RecordRefused) -> None:
        server_log.event(logging.CRITICAL, "cluster_alarm", problem=alarm.fault, error=str(alarm))
        self._deny()
        # A proof that was under way may have been made since; the next one denies again.
        self.freshness.prove_soon()

    def _report(self) -> None:
        """Log once that the host went stale."""
        if self._fresh and self._clock.steady_ms() >= self._fresh_until_ms:
            self._fresh = False
            server_log.event(logging.ERROR, "stale", number=self.freshness.proven)

    def _reap(self) -> None:
        """Free the reader slots of dead verifiers once a minute; the sweep does so on a server."""
        self._turns += 1
        if self._turns % READER_CHECK_TURNS == 0:
            self.writer.source().reap_readers()

    def _require_same_state(self) -> None:
        """Stop when the state's files were replaced, by older ones for instance."""
        try:
            self.writer.check_files()
        except StateUnusable as error:
            if not self.stopping.is_set():
                self.failure = error
                server_log.event(logging.ERROR, "state_replaced", problem=error.problem, error=str(error))
                self.stopping.set()


def follow(config: Config) -> None:
    """Follow until SIGTERM or SIGINT. Other signals end nothing.

    Raises ConfigError or StateError at startup, StateUnusable when the state was replaced meanwhile.
    """
    server_log.configure(config.server.log_level)
    preflight.check(config)
    stopping = threading.Event()
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    set_on(stopping, signal.SIGTERM, signal.SIGINT)
    source = open_source(config)

    def interrupt() -> None:
        stopping.wait()
        source.stop_fetching()

    threading.Thread(target=interrupt, name="sessauth-interrupt", daemon=True).start()
    try:
        join(config, source, stopping)
        if stopping.is_set():
            return
        following = Following(config, source)
        following.stopping = stopping
        following.start()
        while not stopping.wait(POLL_SECONDS):
            continue
        end_at_the_latest(STOP_SECONDS)
        following.stop()
        server_log.event(logging.INFO, "stopped")
    finally:
        source.close()
    if following.failure is not None:
        raise following.failure
