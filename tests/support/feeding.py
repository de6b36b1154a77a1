"""A cluster's leader in this process that serves its log to followers on a real socket, and who asks it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sessauth.client._feed import FeedClient, FeedServers
from sessauth.clock import SystemClock
from sessauth.crypto.keys import IssuerKey, KeyStatus
from sessauth.errors import NotLeader
from sessauth.model.change import add_key, end_session
from sessauth.model.host import HostRecord
from sessauth.server.cluster.cluster_feed import Feed, FollowedHosts, HostRegistration
from sessauth.server.config import from_dict
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.rpc.call import CallContext, methods_of
from sessauth.server.rpc.grpc_server import Serving
from sessauth.server.services.cluster import FeedService
from sessauth.state.lmdb import cluster_rows
from sessauth.state.replication.carrier import EngineSource
from sessauth.tokens.token import Issuer, Token
from sessauth.v1 import feed_service_pb2
from tests.support.carried import Member, OneEngine, begin_cluster
from tests.support.changes import opening
from tests.support.service import Caller

AUDIENCE = "gateway"
_FEED = feed_service_pb2.DESCRIPTOR.services_by_name["FeedService"]


class Listening:
    """FeedService of one member, on a Unix socket of its own."""

    def __init__(
        self,
        engine: OneEngine,
        member: Member,
        folder: Path,
        home: Path,
        registered: Callable[[HostRecord], None],
        **sections: Any,
    ) -> None:
        """Serve the member whose state is in ``folder``; ``home`` has the socket.

        ``registered`` registers a host by the leader; ``sections`` are further sections of the settings.
        """
        config = from_dict({"home": str(home), "server": {"state_dir": str(folder)}, **sections})
        (home / "run").mkdir(parents=True, exist_ok=True)
        self.socket = config.socket
        registration = HostRegistration(member.writer, self._holds)
        registration.forward = self._forward
        self._member = member
        self._registered = registered
        self.feed = Feed(
            EngineSource(engine, member.name), member.writer.source(), home, FollowedHosts(), registration
        )
        self._serving = Serving(config, methods_of(_FEED, FeedService(self.feed).methods()))
        self._serving.bind_unix(self.socket)
        self.port = self._serving.bind_tcp(config.tcp.address) if config.tcp.address else 0
        self._serving.start()

    def _holds(self, number: int, timeout_ms: int) -> bool:
        if self._member.number < number:
            self._member.follow()
        return self._member.number >= number

    def _forward(self, name: str, request: bytes, call: CallContext, error: NotLeader) -> bytes:
        wanted = feed_service_pb2.RegisterHostRequest.FromString(request)
        host = HostRecord(wanted.host, call.principal.name, wanted.instance, wanted.staleness_ms)
        self._registered(host)
        return b""

    def close(self) -> None:
        """End the streams, and stop."""
        self.feed.close()
        self._serving.stop(0)


class Cluster:
    """An engine in memory, and members of which each serves; the first one leads."""

    def __init__(self, home: Path, names: tuple[str, ...] = ("one",)) -> None:
        """Begin below ``home``."""
        self.home = home
        self.engine, self.members = begin_cluster(home / "members", SystemClock(), names)
        self.leader = self.members[0]
        self.servers = [self.listen(member) for member in self.members]
        file = CredentialFile(home / "members" / names[0] / "credentials.toml")
        self.credential = home / "follower.credential"
        self.credential.write_text(file.add("host-1", "follower"))
        self.credential.chmod(0o600)
        for name in names[1:]:
            shutil.copy(home / "members" / names[0] / "credentials.toml", home / "members" / name)
        self._key = IssuerKey.generate()
        change = add_key("issuer", self._key.public_key, status=KeyStatus.ACTIVE)
        self.leader.writer.submit(change).result(10).raise_if_rejected()

    def listen(self, member: Member, **sections: Any) -> Listening:
        """Serve a member's folder."""
        folder, home = self.home / "members" / member.name, self.home / f"at-{member.name}"
        return Listening(self.engine, member, folder, home, self.register, **sections)

    def register(self, host: HostRecord) -> None:
        """Register a host at the leader, and have all members hold it."""
        self.leader.writer.run(lambda group: cluster_rows.store_host(group, host))
        for member in self.members[1:]:
            member.follow()

    def open(self) -> tuple[bytes, Token]:
        """Open a session; return its id and a token that reads files."""
        session_id = os.urandom(16)
        outcome = self.leader.writer.submit(opening(session_id.hex(), session_id)).result(10)
        outcome.raise_if_rejected()
        token = Issuer(self._key).mint(session_id, ["read:files/**"], [AUDIENCE], ttl_ms=600_000)
        return session_id, token

    def end(self, session_id: bytes) -> None:
        """End a session; returns once that is acknowledged."""
        self.leader.writer.submit(end_session(f"end-{session_id.hex()}", session_id)).result(10)

    def source(self, *, host: str = "host-1") -> FeedClient:
        """Return a follower's source over all servers."""
        targets = [str(server.socket) for server in self.servers]
        return FeedClient(FeedServers.resolve(targets, credential_file=self.credential), host, 3_000)

    def caller(self, server: int = 0) -> Caller:
        """Return a caller with the follower's credential."""
        return Caller(f"unix:{self.servers[server].socket}", self.credential.read_text())

    def close(self) -> None:
        """Stop everything."""
        for server in self.servers:
            server.close()
        for member in self.members:
            member.writer.close()


@contextmanager
def cluster(names: tuple[str, ...] = ("one",)) -> Iterator[Cluster]:
    """A cluster in a folder with a short path."""
    home = Path(tempfile.mkdtemp(prefix="sa-"))
    made = Cluster(home, names)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(home, ignore_errors=True)
