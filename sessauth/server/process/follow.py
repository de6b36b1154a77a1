"""``sessauth follow``: serves a host of gateways from a folder that the servers of a cluster feed."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
from typing import Final

from ...errors import ConfigError
from .. import log as server_log
from ..cluster.following import STOP_SECONDS, FollowerRole
from ..config.config import Config
from ..rpc.grpc_server import SWITCH_SECONDS
from ..transport.requirements import require_libraries
from . import preflight
from .control import Control
from .joining import join, open_source
from .service_manager import ServiceManager
from .signals import take_stop_signals

# Sections and settings that are about what only a server does, and why they are refused.
_OF_SERVERS: Final = {
    "sessions": "sessions are opened at servers",
    "evidence": "receipts are made by servers",
}


def follow(config: Config) -> None:
    """Join if this host has not, then serve until SIGTERM or SIGINT, as ``serve`` does.

    Raises ConfigError or StateError at startup, StateUnusable when the state was replaced meanwhile, and
    ServerError when calls are not polled any more.
    """
    manager = ServiceManager.of_environment(os.environ)
    server_log.configure(config.server.log_level)
    require_follower(config)
    require_libraries(config)
    sys.setswitchinterval(SWITCH_SECONDS)
    preflight.check(config)
    stopping = threading.Event()
    take_stop_signals(stopping)
    source = open_source(config)

    def interrupt() -> None:
        stopping.wait()
        source.stop_fetching()

    threading.Thread(target=interrupt, name="sessauth-interrupt", daemon=True).start()
    try:
        manager.status("asks its servers for the state")
        join(config, source, stopping)
        if stopping.is_set():
            return
        control = Control(config, part=FollowerRole(config, source))
        control.stopping = stopping
        control.run(STOP_SECONDS, manager)
    finally:
        source.close()


def require_follower(config: Config) -> None:
    """Refuse settings without an effect on a follower. Raises ConfigError that names one."""
    if config.cluster.enabled:
        raise ConfigError("cluster.engine: is for servers; start 'sessauth serve', or remove [cluster]")
    if config.server.keys_dir:
        raise ConfigError("server.keys_dir: a follower has no issuer key; remove the setting")
    for name, why in _OF_SERVERS.items():
        section = getattr(config, name)
        for entry in dataclasses.fields(section):
            if getattr(section, entry.name) != entry.default:
                raise ConfigError(f"{name}.{entry.name}: {why}; remove the setting")
