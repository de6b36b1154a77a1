"""Servers of one cluster in this process, each with a home, sockets and a client of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from sessauth.crypto.keys import KeyStatus
from sessauth.model.change import add_key
from sessauth.reasons import Reason
from sessauth.server.cluster.begin import begin, server_key
from sessauth.server.config import Config, from_dict
from sessauth.server.keys.issuer_keyring import KeyRing
from sessauth.server.process.control import Control
from sessauth.server.process.init import initialise
from sessauth.state.replication.membership import admit
from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.carried import join
from tests.support.interop_server import free_port
from tests.support.service import Caller, wait_until
from tests.support.watching import item

NOTHING: Final[Mapping[str, Any]] = {}


class ClusterServer:
    """A control process of the cluster, in this process."""

    def __init__(self, config: Config, credential: str) -> None:
        """Start to serve."""
        self.config = config
        self.control = Control(config)
        self.control.start()
        self.operator = Caller(f"unix:{config.socket}", credential)
        self.stopped = False

    @property
    def leads(self) -> bool:
        """True while it leads."""
        membership = self.control.membership
        return membership is not None and membership.carried.leader is not None

    def reason(self, token: str) -> Reason:
        """Return the reason of a check by this server's own folder."""
        request = pb.CheckRequest(item=item(token), audience="gw")
        return Reason(self.operator.call("AuthorizationService/Check", request).decision.reason)

    def stop(self) -> None:
        """End it in order."""
        if not self.stopped:
            self.stopped = True
            self.operator.close()
            self.control.stop()


def settings(
    home: Path, name: str, engine: list[str], tls: Mapping[str, str] | None = None, **sections: Any
) -> Config:
    """Return the settings of a server that is alone on this machine's loopback.

    ``tls`` has the settings of its listener in place of plain text, and the CA of all servers, ``server_ca``.
    """
    port = free_port()
    listener = dict(tls or {})
    server_ca = listener.pop("server_ca", "")
    return from_dict(
        {
            "home": str(home),
            "tcp": {"address": f"127.0.0.1:{port}", "insecure_tcp": tls is None, **listener},
            "cluster": {
                "name": name,
                "address": f"127.0.0.1:{port}",
                "server_ca": server_ca,
                "engine": engine,
                "insecure_engine": True,
                "engine_without_standby": engine[0].startswith("postgresql:"),
            },
            **sections,
        }
    )


@contextmanager
def two_servers(
    folder: Path,
    engine: list[str],
    one_more: Mapping[str, Any] = NOTHING,
    two_more: Mapping[str, Any] = NOTHING,
) -> Iterator[tuple[ClusterServer, ClusterServer]]:
    """Give the first server of a new cluster, which leads, and a second one, each with more settings."""
    with ExitStack() as opened:
        one_home, two_home = folder / "one", folder / "two"
        made = initialise(one_home)
        credential = made.credential_file.read_text().strip()
        config = settings(one_home, "one", engine, **one_more)
        begin(config)
        one = ClusterServer(config, credential)
        opened.callback(one.stop)
        assert wait_until(lambda: one.leads)
        other = settings(two_home, "two", engine, **two_more)
        for part in (other.keys_dir, other.run_dir):
            part.mkdir(parents=True)
            part.chmod(0o700)
        admit(one.control.writer, "two", server_key(other).public_key)
        key = KeyRing(other.keys_dir).make("issuer-two")
        change = add_key("issuer-two", key.public_key, status=KeyStatus.ACTIVE)
        one.control.writer.submit(change).result().raise_if_rejected()
        join(other.state_dir, one.control.writer.source(), one.control._clock)
        two = ClusterServer(other, credential)
        opened.callback(two.stop)
        yield one, two
