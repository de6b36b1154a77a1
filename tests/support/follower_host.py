"""A host that follows a server of this process, itself in this process: a control process of ``follow``."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sessauth.server.cluster.follower_role import FollowerRole
from sessauth.server.cluster.joining import join, open_source
from sessauth.server.config import from_dict
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.process.control import Control
from tests.support.cluster_servers import ClusterServer
from tests.support.service import Caller, serves, wait_until


class FollowerHost:
    """The follower of one server, with the credentials of all."""

    def __init__(self, home: Path, servers: Sequence[ClusterServer], **sections: dict[str, Any]) -> None:
        """Join and start to serve; ``sections`` are further sections of the settings."""
        home.mkdir()
        self._servers, server = servers, servers[0]
        credential = home / "host.credential"
        credential.write_text(self.add(home.name, "follower"))
        credential.chmod(0o600)
        follow = {
            "servers": [server.config.tcp.address],
            "insecure_tcp": True,
            "host_name": home.name,
            "credential": str(credential),
            **sections.pop("follow", {}),
        }
        self.config = from_dict({"home": str(home), "follow": follow, **sections})
        self._operator = server.operator.credential
        source = open_source(self.config)
        join(self.config, source, threading.Event())
        self._copy(self.config.credentials_file)
        self.part = FollowerRole(self.config, source)
        self.control = Control(self.config, part=self.part)
        self.control.start()
        self._callers: list[Caller] = []
        self.operator = self.caller(self._operator)

    def caller(self, credential: str) -> Caller:
        """Return a caller at this host's socket."""
        caller = Caller(f"unix:{self.config.socket}", credential)
        self._callers.append(caller)
        return caller

    def add(self, name: str, role: str, audiences: tuple[str, ...] = ()) -> str:
        """Store a new credential at all servers; return its text."""
        text = CredentialFile(self._servers[0].config.credentials_file).add(name, role, audiences)
        for server in self._servers[1:]:
            self._copy(server.config.credentials_file)
        # By themselves they look at the file at most once in 200 ms.
        for server in self._servers:
            server.control.reloader._authenticator.read_again()
        return text

    def gateway(self, name: str = "gateway-1") -> Caller:
        """Return a gateway that this host alone knows."""
        text = CredentialFile(self.config.credentials_file).add(name, "gateway", ("gw",))
        self.control.reloader._authenticator.read_again()
        return self.caller(text)

    def _copy(self, file: Path) -> None:
        shutil.copy(self._servers[0].config.credentials_file, file)

    @property
    def serves(self) -> bool:
        """True if its health service says so."""
        return serves(self.operator)

    def stop(self) -> None:
        """End it in order."""
        for caller in self._callers:
            caller.close()
        self.control.stop()


@contextmanager
def follower_host(
    home: Path, servers: Sequence[ClusterServer], **sections: dict[str, Any]
) -> Iterator[FollowerHost]:
    """Run one of the first server, with the credentials of all; yields it once it is ready."""
    host = FollowerHost(home, servers, **sections)
    try:
        assert wait_until(lambda: host.serves)
        yield host
    finally:
        host.stop()
