"""Check workers of a server that does not lead."""

from __future__ import annotations

from sessauth.reasons import Reason
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.cluster_processes import cluster_processes
from tests.support.etcd_cluster import etcd_cluster
from tests.support.service import Caller, home_folder, serves, wait_until
from tests.support.watching import item


def test_a_workers_call_that_costs_something_reaches_the_leader() -> None:
    """Worker, its control process, the leader: each use is counted once, whichever worker is asked."""
    with (
        home_folder() as folder,
        etcd_cluster(folder, 1, {"unsafe-no-fsync": "true"}) as engine,
        cluster_processes(folder, engine.addresses, workers=1) as cluster,
    ):
        opening = sessions.OpenSessionRequest(subject="a", ceiling=["read:**"])
        session = cluster.ask("SessionService/OpenSession", opening).session
        minted = tokens.MintRequest(
            session_id=session.id, scopes=["read:files/** needs uses(3)"], audience=["gw"]
        )
        token = cluster.ask("TokenService/Mint", minted).token
        workers = [
            Caller(f"unix:{host.config.check_socket(0)}", host.operator.credential) for host in cluster.hosts
        ]
        for worker in workers:
            assert wait_until(lambda asked=worker: serves(asked))  # type: ignore[misc]
        request = pb.CheckRequest(item=item(token), audience="gw", at_least_revision=session.revision)
        reasons = [
            Reason(worker.call("AuthorizationService/Check", request).decision.reason)
            for worker in (*workers, *workers, *workers)
        ]
        for worker in workers:
            worker.close()

    assert reasons == [Reason.ALLOWED] * 3 + [Reason.USES_EXHAUSTED] * 3
