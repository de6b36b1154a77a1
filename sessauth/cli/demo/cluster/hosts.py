"""Servers and following hosts of the demo: their settings, processes, clients and checks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from ....client import Client
from ....errors import OutcomeUnknown, StateUnusable, Unavailable
from ....server.config.config import Config, load
from .checks import HostChecks
from .process import DemoProcess

WAIT_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.005

_SERVER: Final = """\
[tcp]
address = "{address}"
insecure_tcp = true

[cluster]
name = "{name}"
address = "{address}"
engine = {engine}
insecure_engine = true

[follow]
servers = {servers}
credential = "{name}.credential"
insecure_tcp = true
"""
_FOLLOWER: Final = """\
[follow]
servers = {servers}
host_name = "{name}"
credential = "{name}.credential"
insecure_tcp = true
"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DemoServer:
    """One server: its settings, its process, and an operator's client on its socket."""

    config: Config
    process: DemoProcess
    client: Client

    @property
    def name(self) -> str:
        """The name of the server in the cluster."""
        return self.config.cluster.name

    def ask(self, call: Callable[[Client], T]) -> T:
        """Repeat a call with a request id of its own until it is answered; raises its error after 30 s."""
        until = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return call(self.client)
            except (Unavailable, OutcomeUnknown, StateUnusable):
                if time.monotonic() > until:
                    raise
            time.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class DemoHost:
    """A host that follows: its process, and the checks on its folder."""

    name: str
    process: DemoProcess
    checks: HostChecks


def configure_server(home: Path, address: str, engine: Sequence[str], others: Sequence[str]) -> Config:
    """Write the settings of a server; ``others`` are the addresses that it can fetch a snapshot from."""
    text = _SERVER.format(
        name=home.name, address=address, engine=json.dumps(engine), servers=json.dumps(others)
    )
    return _configured(home, text)


def configure_host(home: Path, servers: Sequence[str]) -> Config:
    """Write the settings of a host that follows."""
    return _configured(home, _FOLLOWER.format(name=home.name, servers=json.dumps(servers)))


def _configured(home: Path, text: str) -> Config:
    home.mkdir(exist_ok=True)
    (home / "sessauth.toml").write_text(text, encoding="utf-8")
    return load(home, {})
