"""A cluster whose parts are hosts of their own: three members of etcd, two servers and a follower."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from sessauth.carriers.etcd.carrier import EtcdCarrier
from sessauth.reasons import Reason
from sessauth.server.keys.credentials import CredentialFile
from sessauth.v1 import record_pb2 as record
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from sessauth.verifier.verifier import Verifier
from tests.support.cluster_processes import Cluster, ServerHost, cluster_processes
from tests.support.etcd_cluster import EtcdCluster
from tests.support.follower_process import FollowerProcess
from tests.support.namespaces import Cables, address
from tests.support.service import RpcError, wait_until

SCOPES: Final = ["read:files/**"]
MEMBERS: Final = {"m0": ("a", 11), "m1": ("a", 12), "m2": ("b", 13)}
SERVERS: Final = {"one": ("a", 21), "two": ("b", 22)}
HOST: Final = "host-1"
PORT: Final = 7443
SAMPLE_SECONDS: Final = 0.002


@dataclass
class Watch:
    """Checks of one token on one host, again and again, and what came of them. Times are monotonic."""

    verifier: Verifier
    token: str
    # Begin of the last check that allowed, and of each that gave another reason than the one before.
    last_allowed: float = 0.0
    turns: list[tuple[float, Reason]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            reason = self.verifier.check(self.token, "read", "files/x").reason
            if reason is Reason.ALLOWED:
                self.last_allowed = began
            if not self.turns or self.turns[-1][1] is not reason:
                self.turns.append((began, reason))
            time.sleep(SAMPLE_SECONDS)

    def since(self, moment: float, reason: Reason, seconds: float = 60.0) -> float:
        """Return the seconds from a moment until the reason is, or was given behind it."""

        def first() -> float | None:
            return next((at for at, given in self.turns if at >= moment and given is reason), None)

        assert wait_until(lambda: first() is not None, seconds), (reason, self.turns)
        found = first()
        assert found is not None
        return found - moment

    def end(self) -> None:
        """Check no more."""
        self._ended.set()
        self._thread.join()


@dataclass
class CutWorld:
    """The parts, the cables between them, and a verifier on each host that judges calls."""

    cables: Cables
    engine: EtcdCluster
    cluster: Cluster
    verifiers: dict[str, Verifier]

    def begin(self) -> tuple[bytes, str]:
        """Open a session, and return its id and a token that all hosts know."""
        opening = sessions.OpenSessionRequest(request_id=f"o{time.monotonic()}", subject="a", ceiling=SCOPES)
        session_id: bytes = self.cluster.ask("SessionService/OpenSession", opening).session.id
        minted = tokens.MintRequest(session_id=session_id, scopes=SCOPES, audience=["gw"])
        token: str = self.cluster.ask("TokenService/Mint", minted).token
        for verifier in self.verifiers.values():
            assert wait_until(lambda checked=verifier: checked.check(token, "read", "files/x").allowed, 30)
        return session_id, token

    def end(self, host: ServerHost, session_id: bytes, timeout: float = 30.0) -> float:
        """End a session at one server; return the seconds until that is acknowledged."""
        began = time.monotonic()
        request = sessions.EndSessionRequest(request_id=f"e{session_id.hex()}", session_id=session_id)
        host.operator.call("SessionService/EndSession", request, timeout=timeout)
        return time.monotonic() - began

    def end_at_last(self, host: ServerHost, session_id: bytes) -> float:
        """End a session at one server, asked again until it is acknowledged; return the seconds."""
        began = time.monotonic()
        while True:
            try:
                self.end(host, session_id, 1.0)
            except RpcError:
                assert time.monotonic() - began < 60
                time.sleep(0.02)
            else:
                return time.monotonic() - began

    def is_ended(self, host: ServerHost, session_id: bytes) -> bool:
        """Return True if a server's own folder has the end of a session."""
        with suppress(RpcError):
            request = sessions.GetSessionRequest(session_id=session_id)
            found = host.operator.call("SessionService/GetSession", request).session.status
            return bool(found == record.SESSION_STATUS_ENDED)
        return False

    @contextmanager
    def watched(self, token: str) -> Iterator[dict[str, Watch]]:
        """Check a token on each host meanwhile."""
        watches = {name: Watch(verifier, token) for name, verifier in self.verifiers.items()}
        try:
            yield watches
        finally:
            for watch in watches.values():
                watch.end()

    def lead_by(self, name: str) -> ServerHost:
        """Have a server lead."""
        while (leader := self.cluster.leader()).name != name:
            assert leader.process is not None
            leader.process.terminate()
            assert wait_until(lambda: self.cluster.other(leader).leads)
            leader.start()
        return leader


@contextmanager
def cut_world(folder: Path) -> Iterator[CutWorld]:
    """Run all parts, each in a network namespace of its own."""
    cables = Cables()
    for host, (rack, number) in {**MEMBERS, **SERVERS, HOST: ("a", 31)}.items():
        cables.add(host, rack, number)
    engine = EtcdCluster(folder, 3)
    try:
        for member in engine.members:
            member.host = address("engine", MEMBERS[member.name][1])
            member.client_port, member.peer_port = 2379, 2380
        for member in engine.members:
            with cables.at(member.name):
                member.start(engine.members, {}, "cuts")
        probe = EtcdCarrier(engine.addresses, b"probe")
        engine.await_quorum(probe)
        probe.close()
        places = {
            name: (f"{address('service', number)}:{PORT}", partial(cables.at, name))
            for name, (_, number) in SERVERS.items()
        }
        with cluster_processes(folder, engine.addresses, places=places) as cluster:
            credential = folder / "host-1.credential"
            credential.write_text(
                CredentialFile(cluster.hosts[0].config.credentials_file).add(HOST, "follower")
            )
            credential.chmod(0o600)
            second = cluster.hosts[1].config.credentials_file
            second.write_bytes(cluster.hosts[0].config.credentials_file.read_bytes())
            with cables.at(HOST):
                follower = FollowerProcess(
                    folder / HOST, [place for place, _ in places.values()], credential, insecure_tcp="true"
                )
            try:
                follower.wait_for("fresh")
                folders = {host.name: host.config.state_dir for host in cluster.hosts}
                verifiers = {
                    name: Verifier.embedded(path, audience="gw")
                    for name, path in {**folders, HOST: follower.state}.items()
                }
                yield CutWorld(cables, engine, cluster, verifiers)
            finally:
                follower.process.kill()
                follower.process.wait()
    finally:
        engine.close()
