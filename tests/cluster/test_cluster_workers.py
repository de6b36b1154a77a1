"""Check workers of the servers of a cluster, over real members of etcd."""

from __future__ import annotations

import secrets
import stat
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from sessauth.clock import SystemClock
from sessauth.crypto.keys import VerifierKey
from sessauth.reasons import Reason
from sessauth.state.host.proof_keys import HostProofKeys
from sessauth.state.lmdb.reader import StateReader
from sessauth.tokens.prover import HolderKey
from sessauth.tokens.token import Token
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from sessauth.v1 import usage_service_pb2 as usage
from tests.cli.conftest import Ran, invoke
from tests.support.cluster_processes import Cluster, ServerHost, cluster_processes
from tests.support.etcd_cluster import etcd_cluster
from tests.support.service import Caller, RpcError, home_folder, serves, wait_until
from tests.support.stated import UNAUTHENTICATED
from tests.support.watching import item

USAGE = "[usage]\nenabled = true\n"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two servers with a worker each."""
    with (
        home_folder() as folder,
        etcd_cluster(folder, 1, {"unsafe-no-fsync": "true"}) as engine,
        cluster_processes(folder, engine.addresses, workers=1, more=USAGE) as made,
    ):
        yield made


def token_of(cluster: Cluster, scope: str, holder: HolderKey | None = None) -> tuple[str, int]:
    """Return a token, bound to ``holder`` if there is one, and its session's revision; both hosts have it."""
    opening = sessions.OpenSessionRequest(subject="a", ceiling=["read:**"])
    session = cluster.ask("SessionService/OpenSession", opening).session
    minting = tokens.MintRequest(session_id=session.id, scopes=[scope], audience=["gw"])
    if holder is not None:
        minting.next_key, minting.proof_key = holder.public.next_key, holder.public.proof_key
    token = cluster.ask("TokenService/Mint", minting).token
    for host in cluster.hosts:
        with closing(StateReader.open(host.config.state_dir)) as reader:
            assert wait_until(lambda at=reader: revision_of(at) >= session.revision)  # type: ignore[misc]
    return token, session.revision


def revision_of(reader: StateReader) -> int:
    """Return the revision that a host's folder has reached."""
    with reader.rows() as rows:
        return rows.head().revision


def worker_of(host: ServerHost) -> Caller:
    """Return a caller of a server's worker, which serves."""
    worker = Caller(f"unix:{host.config.check_socket(0)}", host.operator.credential)
    assert wait_until(lambda: serves(worker))
    return worker


def proof_for(host: ServerHost, holder: HolderKey, token: str) -> bytes:
    """Return a holder's proof for a host."""
    keys = HostProofKeys.read(host.config.state_dir)
    key = keys.counting(SystemClock().now_ms())[0]
    # Holders get it signed; the test knows the host.
    named = VerifierKey(keys.verifier_id, key.public_key, key.not_before_ms, key.expires_at_ms, bytes(16))
    return holder.prove(Token.parse(token), "read", "files/a/x", b"", named)


def test_a_workers_call_that_costs_something_reaches_the_leader(cluster: Cluster) -> None:
    """Worker, its control process, the leader: each use is counted once, whichever worker is asked."""
    token, revision = token_of(cluster, "read:files/** needs uses(3)")
    workers = [worker_of(host) for host in cluster.hosts]
    request = pb.CheckRequest(item=item(token), audience="gw", at_least_revision=revision)
    reasons = [
        Reason(worker.call("AuthorizationService/Check", request).decision.reason)
        for worker in (*workers, *workers, *workers)
    ]
    for worker in workers:
        worker.close()
    assert reasons == [Reason.ALLOWED] * 3 + [Reason.USES_EXHAUSTED] * 3


def test_the_commands_of_one_host_change_the_callers_of_all(cluster: Cluster, tmp_path: Path) -> None:
    """A gateway that is added at one host checks at the other's worker, until it is removed."""
    one, two = cluster.hosts
    token, revision = token_of(cluster, "read:files/**")
    request = pb.CheckRequest(item=item(token), audience="gw", at_least_revision=revision)
    secret = tmp_path / "gw.credential"

    def typed(host: ServerHost, *words: object) -> Ran:
        options = ("--credential-file", one.config.home / "operator.credential", "--timeout-ms", 10_000)
        return invoke("--home", host.config.home, *options, *words)

    def reason(worker: Caller) -> Reason | None:
        try:
            return Reason(worker.call("AuthorizationService/Check", request).decision.reason)
        except RpcError as error:
            return None if error.code is UNAUTHENTICATED else Reason.UNSPECIFIED

    # By the server that does not lead.
    added = typed(two, "credential", "add", "gw-1", "--role", "gateway", "--audience", "gw", "--out", secret)
    assert (added.code, added.out) == (0, f"written  {secret}\n"), added.err
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    credential = secret.read_text().strip()
    workers = [Caller(f"unix:{host.config.check_socket(0)}", credential) for host in cluster.hosts]
    for worker in workers:
        assert wait_until(lambda asked=worker: reason(asked) is Reason.ALLOWED)  # type: ignore[misc]

    shown = typed(one, "credential", "list").out
    assert "gw-1" in shown and "cluster" in shown
    found = typed(one, "credential", "list", "--json").json["credentials"]
    assert {entry["name"] for entry in found} >= {"gw-1", "operator"}

    again = tmp_path / "again.credential"
    refused = typed(one, "credential", "add", "gw-1", "--role", "operator", "--out", again)
    assert (refused.code, again.exists()) == (3, False) and "gw-1 exists" in refused.err
    last = typed(one, "credential", "remove", "operator")
    assert last.code == 3 and "last operator" in last.err

    assert typed(one, "credential", "remove", "gw-1").out == "removed gw-1\n"

    for worker in workers:
        assert wait_until(lambda asked=worker: reason(asked) is None)  # type: ignore[misc]
        worker.close()
    assert typed(two, "credential", "remove", "gw-1").code == 3

    # A file of its own is for this host alone, and needs no server.
    local = typed(two, "credential", "add", "rescue", "--role", "operator", "--local").out.strip()
    own = typed(two, "credential", "list", "--local", "--json").json["credentials"]
    assert [entry["name"] for entry in own] == ["rescue"]
    caller = Caller(f"unix:{two.config.socket}", local)
    assert wait_until(lambda: serves(caller))
    caller.close()
    taken = typed(two, "credential", "add", "operator", "--role", "operator", "--local")
    assert taken.code == 2 and "caller of the cluster" in taken.err
    assert typed(two, "credential", "remove", "rescue", "--local").code == 0


def report_of(host: ServerHost, session_id: bytes) -> usage.SessionReport:
    """Return the report of a session, asked at a server."""
    request = usage.GetReportRequest(session_id=session_id)
    answer: usage.GetReportResponse = host.operator.call("UsageService/GetReport", request)
    return answer.reports[0]


def is_whole(report: usage.SessionReport, allowed: int) -> bool:
    """Return True if a report has so many allowed calls, and misses nothing."""
    return report.observation.allowed == allowed and not report.missing


def test_the_usage_of_all_workers_is_in_the_report_of_each_server(cluster: Cluster) -> None:
    """A call without costs is its worker's decision, one with costs the leader's; each counts once."""
    free, revision = token_of(cluster, "read:files/**")
    session_id = Token.parse(free).session_id
    minting = tokens.MintRequest(
        session_id=session_id, scopes=["read:files/** needs uses(3)"], audience=["gw"]
    )
    costly = cluster.ask("TokenService/Mint", minting).token
    for host in cluster.hosts:
        worker = worker_of(host)
        for token in (free, costly):
            request = pb.CheckRequest(item=item(token), audience="gw", at_least_revision=revision)
            worker.call("AuthorizationService/Check", request)
        worker.close()
    for host in cluster.hosts:
        assert wait_until(lambda at=host: is_whole(report_of(at, session_id), 4))  # type: ignore[misc]
        report = report_of(host, session_id)
        assert {each.name: each.allowed for each in report.verifiers} == {
            f"server/{cluster.leader().name}/control": 2,
            "server/one/worker-0": 1,
            "server/two/worker-0": 1,
        }


def test_a_proven_call_is_paid_for_once_over_a_leaders_death(cluster: Cluster) -> None:
    """Its retry with a new proof, at a worker of the server that takes over, is the call that was allowed."""
    holder, retry = HolderKey.generate(), secrets.token_bytes(16)
    token, revision = token_of(cluster, "read:files/** needs uses(2)", holder)
    leader = cluster.leader()
    other = cluster.other(leader)
    worker = worker_of(other)

    def reason(retry_id: bytes = b"") -> Reason:
        call = item(token, proof=proof_for(other, holder, token), retry_id=retry_id)
        request = pb.CheckRequest(item=call, audience="gw", at_least_revision=revision)
        return Reason(worker.call("AuthorizationService/Check", request, timeout=3.0).decision.reason)

    def allows(retry_id: bytes = b"") -> bool:
        with suppress(RpcError):
            return reason(retry_id) is Reason.ALLOWED
        return False

    assert reason(retry) is Reason.ALLOWED
    leader.kill()
    # Nobody answers, so nothing is charged.
    assert not allows()
    assert wait_until(lambda: allows(retry))
    assert wait_until(allows)
    assert reason(retry) is Reason.ALLOWED
    assert reason() is Reason.USES_EXHAUSTED
    worker.close()
