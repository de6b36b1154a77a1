"""One listening gRPC server: services, interceptors, lanes and sockets put together.

The control process and each check worker have one; they differ in the services.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import grpc

from . import lanes as lane_names
from . import log as server_log
from .config import Config
from .interceptors.accounting import Accounting, Meter
from .interceptors.authenticate import Authenticator
from .interceptors.deadline import Deadline
from .lanes import open_lanes
from .listen import bind_tcp, bind_unix, options
from .method import Method
from .pipeline import Pipeline
from .router import Router
from .tracing import Tracing

# How long clients and balancers may still arrive, and be told to go elsewhere.
NOTICE_SECONDS: Final = 0.1
POLL_SECONDS: Final = 0.01
# Answers that were given may still be on their way out.
LAST_BYTES_SECONDS: Final = 0.5
# Behind the grace gRPC has cancelled every call; it need not be waited for if it does not say so.
STOP_SECONDS: Final = 2.0


class Serving:
    """A gRPC server with everything around it."""

    def __init__(
        self,
        config: Config,
        methods: Iterable[Method],
        *,
        reuse_port: bool = False,
        authenticator: Authenticator | None = None,
        meter: Meter | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """Prepare to serve ``methods``; nothing listens yet.

        ``authenticator`` knows the callers; None: those of ``config`` alone. ``meter`` is told how long each
        call took, and ``tracing`` makes a span of it.
        """
        self._config = config
        self.lanes = open_lanes(config.limits)
        self.accounting = Accounting(meter)
        self._deadline = Deadline(config.limits.max_deadline_ms)
        callers = authenticator or Authenticator.of(config)
        pipeline = Pipeline(callers, self.accounting, self._deadline, tracing)
        self._router = Router(list(methods), pipeline, self.lanes)
        self._server = grpc.server(
            self.lanes[lane_names.READ],
            handlers=[self._router],
            options=options(reuse_port=reuse_port),
        )
        self._sockets: list[Path] = []

    def bind_unix(self, path: Path) -> None:
        """Listen on a Unix socket. Raises ConfigError."""
        bind_unix(self._server, path)
        self._sockets.append(path)

    def bind_tcp(self, address: str) -> int:
        """Listen on TCP; returns the port. Raises ConfigError."""
        return bind_tcp(self._server, self._config, address)

    def start(self) -> None:
        """Begin to answer."""
        self.lanes.watch()
        self._server.start()

    def stop(self, grace_ms: int, also_while: Callable[[], bool] | None = None) -> None:
        """Refuse new calls, let running ones end within ``grace_ms``, then cancel them.

        Within that time it goes on ``also_while`` that holds: tellings are taken until then.

        gRPC cancels a call that has arrived and not begun when it stops. So new calls are refused
        with UNAVAILABLE while the socket still listens, and gRPC is stopped when nothing runs.
        """
        until = time.monotonic() + grace_ms / 1000
        self._router.drain()
        time.sleep(min(NOTICE_SECONDS, grace_ms / 1000))
        while time.monotonic() < until and (self._busy() or (also_while is not None and also_while())):
            time.sleep(POLL_SECONDS)
        left = until - time.monotonic()
        grace = max(left, LAST_BYTES_SECONDS) if grace_ms else 0.0
        if not self._server.stop(grace).wait(grace + STOP_SECONDS):
            server_log.event(logging.ERROR, "grpc_did_not_stop", after_seconds=grace + STOP_SECONDS)
        self._deadline.close()
        self.lanes.close()
        for path in self._sockets:
            path.unlink(missing_ok=True)

    def _busy(self) -> bool:
        return any(lane.held for lane in self.lanes)
