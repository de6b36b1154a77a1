"""Two servers over a PostgreSQL: what one writes the other denies by, and it takes over."""

from __future__ import annotations

from pathlib import Path

from sessauth.reasons import Reason
from tests.support.cluster_servers import ClusterServer, two_servers
from tests.support.postgres_server import postgres_server
from tests.support.service import wait_until
from tests.support.watching import end, mint, open_session


def knows_the_leader(server: ClusterServer) -> bool:
    """Return True once a server can hand a change on."""
    membership = server.control.membership
    refusal = membership.carried.refusal() if membership is not None else None
    return refusal is not None and bool(refusal.address)


def test_two_servers_over_postgresql(tmp_path: Path) -> None:
    """Begin, join, hand on, end, take over: each by the settings alone."""
    with postgres_server() as engine, two_servers(tmp_path, [engine.conninfo]) as (one, two):
        assert wait_until(lambda: knows_the_leader(two))
        session = open_session(two.operator)
        token = mint(two.operator, session.id).token
        assert [server.reason(token) for server in (two, one)] == [Reason.ALLOWED] * 2
        end(two.operator, session.id)
        assert two.reason(token) is Reason.SESSION_ENDED
        assert wait_until(lambda: one.reason(token) is Reason.SESSION_ENDED)

        engine.kill()
        assert wait_until(lambda: two.reason(token) is Reason.STALE_STATE)
        engine.start()
        assert wait_until(lambda: two.reason(token) is Reason.SESSION_ENDED)

        assert wait_until(lambda: one.leads or two.leads)
        one.stop()
        assert wait_until(lambda: two.leads)
        open_session(two.operator)
