"""The host of a gateway: ``sessauth follow --workers 1`` behind two servers, all of them processes."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from sessauth.client import Client
from sessauth.clock import SystemClock
from sessauth.model.receipt import VerifierState
from sessauth.reasons import Reason
from sessauth.server.keys.credentials import CredentialFile
from sessauth.tokens.prover import HolderKey
from sessauth.v1 import cut_off_service_pb2 as cut_off
from sessauth.v1 import evidence_service_pb2 as evidence
from sessauth.v1 import key_service_pb2 as keys
from sessauth.verifier.verifier import Verifier
from tests.cli.conftest import invoke
from tests.support.cluster_processes import Cluster, cluster_processes
from tests.support.etcd_cluster import etcd_cluster
from tests.support.follower_process import FollowerProcess
from tests.support.interop_server import free_port
from tests.support.scrape import scrape
from tests.support.service import Caller, home_folder, serves, wait_until
from tests.support.watching import end, mint, open_session

SECTIONS = '[audit]\nenabled = true\n[metrics]\naddress = "127.0.0.1:{port}"\n'


@dataclass
class Followed:
    """Two servers, a follower's host, and a gateway's credential, which that host alone knows."""

    servers: Cluster
    host: FollowerProcess
    credential: str
    operator_credential: str
    metrics_port: int

    @property
    def leader(self) -> Caller:
        """An operator at the leader."""
        return self.servers.leader().operator

    def operator(self) -> Caller:
        """An operator at the follower."""
        return Caller(f"unix:{self.host.socket}", self.operator_credential)

    def client(self, **options: Any) -> Client:
        """The gateway's client at the follower's host."""
        return Client(str(self.host.socket), self.credential, timeout_ms=10_000, **options)

    def at_worker(self) -> Client:
        """The gateway's client, whose checks go to the worker."""
        return self.client(check_target=str(self.host.home / "run" / "check-0.sock"))

    def verifier(self, **options: Any) -> Verifier:
        """A verifier in the gateway's process, registered at the follower."""
        return Verifier.embedded(
            self.host.state,
            audience="gw",
            server=self.host.socket,
            credential=self.credential,
            timeout_ms=10_000,
            **options,
        )

    def token(self, scope: str = "read:files/**", **options: Any) -> tuple[bytes, str]:
        """Open a session at the leader; return its id and a token, once the host has the session."""
        session = open_session(self.leader)
        token = mint(self.leader, session.id, scope, **options).token
        self.await_session(session.id)
        return session.id, token

    def await_session(self, session_id: bytes) -> None:
        """Wait until the host's folder has a session."""
        with self.client() as client:
            assert wait_until(lambda: any(each.id == session_id for each in client.list_sessions().sessions))


@pytest.fixture(scope="module")
def followed() -> Iterator[Followed]:
    """A follower of both servers, with a worker."""
    with (
        home_folder() as folder,
        etcd_cluster(folder, 1, {"unsafe-no-fsync": "true"}) as engine,
        cluster_processes(folder, engine.addresses) as cluster,
    ):
        credential, port = folder / "host.credential", free_port()
        first, second = (each.config.credentials_file for each in cluster.hosts)
        credential.write_text(CredentialFile(first).add("host", "follower"))
        credential.chmod(0o600)
        shutil.copy(first, second)
        addresses = [each.config.tcp.address for each in cluster.hosts]
        host = FollowerProcess(
            folder / "host",
            addresses,
            credential,
            "--workers",
            "1",
            sections=SECTIONS.format(port=port),
            insecure_tcp="true",
            staleness_ms="1500",
        )
        try:
            host.wait_for("fresh")
            operator = cluster.hosts[0].operator.credential
            shutil.copy(first, host.state / "credentials.toml")
            gateway = CredentialFile(host.state / "credentials.toml").add("gateway", "gateway", ("gw",))
            made = Followed(cluster, host, gateway, operator, port)
            for path in (host.socket, host.home / "run" / "check-0.sock"):
                caller = Caller(f"unix:{path}", operator)
                assert wait_until(lambda asked=caller: serves(asked)), host.log  # type: ignore[misc]
                caller.close()
            yield made
        finally:
            host.process.kill()
            host.process.wait()


def test_a_gateway_is_answered_by_the_hosts_worker(followed: Followed) -> None:
    """Allowed while the session lives, denied once it has ended at the leader."""
    session_id, token = followed.token()
    with followed.at_worker() as worker:
        assert worker.check(token, "read", "files/a").reason is Reason.ALLOWED
        end(followed.leader, session_id)
        assert wait_until(lambda: worker.check(token, "read", "files/a").reason is Reason.SESSION_ENDED)


def test_a_host_that_acknowledged_allows_nothing_more(followed: Followed) -> None:
    """Its word is that of one commit, which each of its processes judges by, registered or not."""
    with followed.verifier() as verifier, followed.at_worker() as worker:
        acknowledged = 0
        for _ in range(10):
            session_id, token = followed.token()
            assert all(each.check(token, "read", "files/a") for each in (verifier, worker))
            with Client(followed.leader.target, followed.operator_credential) as leader:
                receipt = leader.end(session_id).receipt
            assert receipt is not None
            reasons = [each.check(token, "read", "files/a").reason for each in (verifier, worker)]
            states = {host.name: host.state for host in receipt.unverified.hosts}
            if states["host"] is VerifierState.ACKNOWLEDGED:
                acknowledged += 1
                assert reasons == [Reason.SESSION_ENDED] * 2
        assert acknowledged


def test_costs_of_all_processes_of_the_host_are_counted_at_the_leader(followed: Followed) -> None:
    """Embedded verifier, worker and control process take one each; then the leader has no use left."""
    _, token = followed.token("read:files/** needs uses(3)")
    with followed.verifier() as verifier, followed.at_worker() as worker, followed.client() as client:
        checks = [each.check(token, "read", "files/a").reason for each in (verifier, worker, client)]
        assert checks == [Reason.ALLOWED] * 3
        with Client(followed.leader.target, followed.operator_credential) as leader:
            assert leader.check(token, "read", "files/a", audience="gw").reason is Reason.USES_EXHAUSTED


def test_a_bound_token_is_judged_on_the_host(followed: Followed) -> None:
    """The follower's own proof keys, signed by a server; its processes share one table of proofs."""
    holder = HolderKey.generate()
    session = open_session(followed.leader)
    with Client(followed.leader.target, followed.operator_credential) as leader:
        token = leader.mint(session.id, ["read:files/**"], ["gw"], to=holder.public)
        there = leader.verifier_keys()
    jwks = followed.leader.call("KeyService/GetJwks", keys.GetJwksRequest()).jwks
    with followed.client(issuer_keys=jwks) as client, followed.at_worker() as worker:
        followed.await_session(session.id)
        offered = client.verifier_keys()
        key = offered.current(SystemClock().now_ms())
        assert key is not None and offered.verifier_id != there.verifier_id
        proof = holder.prove(token, "read", "files/a", b"", key)
        reasons = [each.check(token, "read", "files/a", proof=proof).reason for each in (worker, client)]
        assert reasons == [Reason.ALLOWED, Reason.REPLAYED]
        foreign = there.current(SystemClock().now_ms())
        assert foreign is not None
        assert not worker.check(
            token, "read", "files/a", proof=holder.prove(token, "read", "files/a", b"", foreign)
        )


def test_verifiers_of_the_host_register_there(followed: Followed) -> None:
    """The follower lists them; the leader knows the host alone."""
    operator = followed.operator()
    with followed.verifier(register_as="gateway-1"):
        listed = operator.call("EvidenceService/ListVerifiers", evidence.ListVerifiersRequest()).verifiers
        assert [each.name for each in listed] == ["sessauth/control", "gateway-1", "sessauth/worker-0"]
    there = followed.leader.call("EvidenceService/ListVerifiers", evidence.ListVerifiersRequest()).verifiers
    assert [each.name for each in there] == ["sessauth/control"]
    operator.close()


def test_its_metrics_and_audit_are_a_servers(followed: Followed) -> None:
    """A page with the same names, and a chained stream of each process."""
    _, token = followed.token()
    with followed.at_worker() as worker:
        assert worker.check(token, "read", "files/a")
    page = scrape(followed.metrics_port)
    assert page.value("sessauth_leading") == 0
    assert page.value("sessauth_ready") == 1
    assert page.value("sessauth_refusing_servers") == page.value("sessauth_cluster_brake") == 0
    verified = invoke("--home", followed.host.home, "audit", "verify", "--json")
    assert verified.code == 0, verified.output


def test_the_brake_of_the_cluster_is_its_own(followed: Followed) -> None:
    """Set at a server: the worker and the embedded verifier deny, until it is released there."""
    _, token = followed.token()
    with followed.at_worker() as worker, followed.verifier() as verifier:
        judges = (worker, verifier)

        def both(reason: Reason) -> bool:
            return all(each.check(token, "read", "files/a").reason is reason for each in judges)

        assert wait_until(lambda: both(Reason.ALLOWED))
        followed.leader.call("CutOffService/Freeze", cut_off.FreezeRequest(reason="drill"))
        try:
            assert wait_until(lambda: both(Reason.STATE_BRAKED))
            assert scrape(followed.metrics_port).value("sessauth_cluster_brake") == 1
            shown = invoke("--home", followed.host.home, "cluster", "status", "--json").json
            assert shown["cluster_brake"] == "cluster frozen by operator: drill"
        finally:
            followed.leader.call("CutOffService/Thaw", cut_off.ThawRequest())
        assert wait_until(lambda: both(Reason.ALLOWED))
    # Health is looked at less often than checks are made: a later test starts from SERVING.
    with closing(followed.operator()) as operator:
        assert wait_until(lambda: serves(operator))


def test_its_status_is_that_of_its_folder(followed: Followed) -> None:
    """No engine is asked: the host has no way to it."""
    shown = invoke("--home", followed.host.home, "cluster", "status", "--json")
    assert shown.code == 0, shown.output
    assert shown.json["record"] > 0 and not shown.json["stale"]
    assert "host" in shown.json["hosts"].split(", ")
    assert shown.json["follows"].split(", ") == [each.config.tcp.address for each in followed.servers.hosts]


def test_a_host_whose_servers_are_silent_says_so_and_denies(followed: Followed) -> None:
    """NOT_SERVING, STALE_STATE at each process, and back again."""
    _, token = followed.token()
    operator = followed.operator()
    with followed.at_worker() as worker, followed.verifier() as verifier:
        judges = (worker, verifier)
        assert all(each.check(token, "read", "files/a") for each in judges)
        for server in followed.servers.hosts:
            server.signal(signal.SIGSTOP)
        try:
            assert wait_until(lambda: not serves(operator))
            for each in judges:
                assert each.check(token, "read", "files/a").reason is Reason.STALE_STATE
            checked = invoke("--home", followed.host.home, "state", "check", "--json")
            assert (checked.code, checked.json["stale"]) == (5, True)
        finally:
            for server in followed.servers.hosts:
                server.signal(signal.SIGCONT)
        assert wait_until(lambda: serves(operator))
        assert all(each.check(token, "read", "files/a") for each in judges)
    operator.close()


def test_it_drains_and_goes_on(followed: Followed) -> None:
    """SIGTERM ends it with its worker and its sockets; started again it needs no snapshot."""
    host = followed.host
    assert host.stop() == 0
    assert not host.socket.exists() and '"event": "draining"' in host.log
    session = open_session(followed.leader)
    token = mint(followed.leader, session.id, "read:files/**").token
    host.start("--workers", "1")
    with followed.at_worker() as worker:

        def allows() -> bool:
            try:
                return bool(worker.check(token, "read", "files/a"))
            except Exception:  # noqa: BLE001 - its socket is not there yet
                return False

        assert wait_until(allows), host.log
    assert host.log.count('"event": "joined"') == 1
