"""``sessauth follow``: serves a host of gateways from a folder that the servers of a cluster feed."""

from __future__ import annotations

import threading

from .. import log as server_log
from ..cluster.following import STOP_SECONDS, Following
from ..config.config import Config
from ..transport.self_test import require_transport
from . import preflight
from .control import Control, take_signals
from .joining import join, open_source


def follow(config: Config) -> None:
    """Join if this host has not, then serve until SIGTERM or SIGINT, as ``serve`` does.

    Raises ConfigError or StateError at startup, StateUnusable when the state was replaced meanwhile, and
    ServerError when calls are not polled any more.
    """
    server_log.configure(config.server.log_level)
    require_transport()
    preflight.check(config)
    stopping = threading.Event()
    take_signals(stopping)
    source = open_source(config)

    def interrupt() -> None:
        stopping.wait()
        source.stop_fetching()

    threading.Thread(target=interrupt, name="sessauth-interrupt", daemon=True).start()
    try:
        join(config, source, stopping)
        if stopping.is_set():
            return
        control = Control(config, part=Following(config, source))
        control.stopping = stopping
        control.run(STOP_SECONDS)
    finally:
        source.close()
