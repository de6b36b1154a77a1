"""One listening gRPC server, composed of services, interceptors, pools and sockets.

The control process and each check worker have one; they differ in the services.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from ..._fast._http2 import Loop
from ...errors import ServerError
from .. import log
from ..config import Config
from ..keys.certificates import certificate_facts
from ..metrics.shared_page import Page
from ..transport.native import NativeServer, Receiving, bind_tcp, bind_unix
from .authenticate import Authenticator, Lanes, stranger_status
from .call import Accounting, Deadline, Method
from .finisher import Finisher
from .pipeline import DirectCallers, DirectChecks, Forward, Pipeline, Router
from .pool import open_pools
from .tracing import Tracing

# How long a thread of a pool may hold up the loop that answers calls; Python's default is ten times as long.
SWITCH_SECONDS: Final = 0.0005
# How long clients and balancers may still arrive, and be refused with UNAVAILABLE.
NOTICE_SECONDS: Final = 0.1
POLL_SECONDS: Final = 0.01
# For answers that are still on their way out.
LAST_BYTES_SECONDS: Final = 0.5
# After the grace every call is cancelled; this long it may take to report that.
STOP_SECONDS: Final = 2.0
# How long the polling thread may be at one event, and all threads of a pool at one call each.
SILENT_SECONDS: Final = 4.0
STUCK_SECONDS: Final = 10.0


class Serving:
    """A gRPC server with everything around it."""

    def __init__(
        self,
        config: Config,
        methods: Iterable[Method],
        *,
        reuse_port: bool = False,
        authenticator: Authenticator | None = None,
        meter: Page | None = None,
        tracing: Tracing | None = None,
        direct: DirectChecks | None = None,
        forward: Forward | None = None,
        checks_at: str = "",
    ) -> None:
        """Prepare to serve ``methods``; nothing listens yet.

        ``authenticator`` knows the callers; None: those of ``config`` alone. ``meter`` observes how long each
        call took, and ``tracing`` makes a span of it. With ``direct`` checks are answered on the loop where
        they can be. With ``reuse_port`` other processes may share its TCP ports. ``forward`` asks the leader
        of the cluster for what this server may not do. Gateways are refused checks here if ``checks_at``
        names the addresses where they are served.
        """
        self._config = config
        self._traced = tracing is not None
        # The callers whose checks are answered on the loop.
        self._direct: DirectCallers | None = None
        self.pools = open_pools(config.limits)
        self._finisher = Finisher()
        self.pools.each_time = self._finisher.expire
        self.accounting = Accounting(meter)
        self._deadline = Deadline(config.limits.max_deadline_ms)
        callers = authenticator or Authenticator.of(config)
        slow_reader_seconds = config.limits.slow_reader_ms / 1000
        pipeline = Pipeline(
            callers, self.accounting, self._deadline, self._finisher, slow_reader_seconds, tracing, forward
        )
        receiving = Receiving(config.limits.receive_ms)
        self._router = Router(list(methods), pipeline, self.pools, receiving, checks_at)
        self._server = self._make_server(direct, callers, receiving, reuse_port=reuse_port)

    def _make_server(
        self, direct: DirectChecks | None, callers: Authenticator, receiving: Receiving, *, reuse_port: bool
    ) -> NativeServer:
        # Traces, and a log of each call, need the pipeline.
        found = None
        if direct is not None and not self._traced and not self.accounting.verbose:
            found = self._direct = DirectCallers(direct, callers)
        return NativeServer(
            self._router.accept,
            receiving,
            slow_reader_seconds=self._config.limits.slow_reader_ms / 1000,
            certificate_facts=certificate_facts,
            direct=found,
            lanes=Lanes(callers, self.accounting, self._router.methods),
            # A refusal of its own would have no span.
            refusal=None if self._traced else stranger_status(),
            reuse_port=reuse_port,
        )

    def bind_unix(self, path: Path) -> None:
        """Listen on a Unix socket. Raises ConfigError."""
        bind_unix(self._server, path)

    def bind_tcp(self, address: str, setting: str = "tcp.address") -> int:
        """Listen on TCP; returns the port. Raises ConfigError, which names ``setting``."""
        return bind_tcp(self._server, self._config, address, setting)

    def start(self) -> None:
        """Begin to answer."""
        self.pools.watch()
        self._server.start()

    def stop(self, grace_ms: int, also_while: Callable[[], bool] | None = None) -> None:
        """Refuse new calls, let running ones end within ``grace_ms``, then cancel them.

        Within that time it also waits while ``also_while`` returns True: observations are still accepted.

        A call that has arrived and not begun would be cancelled by the end of the server. So new calls are
        refused with UNAVAILABLE while the socket still listens, and the server is stopped when nothing runs.
        """
        until = time.monotonic() + grace_ms / 1000
        self._router.drain()
        if self._direct is not None:
            self._direct.drain()
        time.sleep(min(NOTICE_SECONDS, grace_ms / 1000))
        while time.monotonic() < until and (
            any(pool.in_flight for pool in self.pools) or (also_while is not None and also_while())
        ):
            time.sleep(POLL_SECONDS)
        left = until - time.monotonic()
        grace = max(left, LAST_BYTES_SECONDS) if grace_ms else 0.0
        if not self._server.stop(grace).wait(grace + STOP_SECONDS):
            log.event(logging.ERROR, "grpc_did_not_stop", after_seconds=grace + STOP_SECONDS)
        self._deadline.close()
        self.pools.close()
        self._finisher.close()

    def stop_listening(self) -> None:
        """Stop listening, where the server was not started or has stopped."""
        self._server.stop(0.0)

    @property
    def loop(self) -> Loop:
        """The server's loop, which has the numbers of connections and of calls answered on it."""
        return self._server.loop

    def require_polling(self) -> None:
        """Raise ServerError if the polling thread does not go on. Waits for nothing."""
        if not self.is_polling():
            raise ServerError(f"calls were not polled for {time.monotonic() - self._server.polled_at:.1f} s")

    def is_polling(self) -> bool:
        """Return True if the polling thread goes on. Waits for nothing."""
        return time.monotonic() - self._server.polled_at <= SILENT_SECONDS

    def require_progress(self) -> None:
        """Raise ServerError if the polling thread does not go on, or a pool is stuck. Waits for nothing."""
        self.require_polling()
        for pool in self.pools:
            stuck = pool.stuck_for()
            if stuck > STUCK_SECONDS:
                raise ServerError(f"no call of the {pool.name} pool began for {stuck:.1f} s")
