"""An engine that lost the log: alarm, and what an operator then decides. And a host that leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessauth.errors import StateError, StateUnusable
from sessauth.reasons import Reason
from sessauth.server.cluster.repair import adopt
from sessauth.state.replication.carrier import AppendStatus, LogHead
from sessauth.state.replication.membership import leave
from sessauth.state.writer.state_writer import StateWriter
from sessauth.verifier.verifier import Verifier
from tests.support.carried import OneEngine
from tests.support.cluster_servers import ClusterServer, two_servers
from tests.support.service import wait_until
from tests.support.watching import mint, open_session

ENGINE = ["127.0.0.1:1"]


@pytest.fixture
def pair(tmp_path: Path, engine: OneEngine) -> Iterator[tuple[ClusterServer, ClusterServer]]:
    """Two servers; the first one leads."""
    with two_servers(tmp_path, ENGINE) as servers:
        yield servers


def stopped_reason(server: ClusterServer, token: str) -> Reason:
    """Return what an embedded verifier of a stopped server's folder says."""
    with Verifier.embedded(server.config.state_dir, audience="gw") as verifier:
        return verifier.check(token, "read", "files/a/x").reason


def lose(engine: OneEngine, engine_id: str = "one") -> None:
    """Wipe the log, terms and all; what stands there then may be another engine."""
    with engine.changed:
        engine.records.clear()
        engine.terms, engine.engine_id = 0, engine_id
        engine.head, engine.leading = LogHead(0, b""), None


def test_all_hosts_deny_once_the_engine_was_wiped(
    pair: tuple[ClusterServer, ClusterServer], engine: OneEngine
) -> None:
    """Nobody writes into the new log, and the health service says so."""
    token = mint(pair[0].operator, open_session(pair[0].operator).id).token
    lose(engine)

    for server in pair:
        assert wait_until(lambda at=server: at.control.membership.alarm is not None)  # type: ignore[misc]
        assert wait_until(lambda at=server: at.reason(token) is Reason.STALE_STATE)  # type: ignore[misc]
        assert server.control.membership is not None and server.control.membership.alarm is not None
        assert server.control.membership.alarm.fault == "ENGINE_WENT_BACK"
        assert not server.control.is_ready()
    assert engine.head.number == 0


@pytest.mark.parametrize(("keep", "engine_id"), [(False, "one"), (True, "one"), (True, "another")])
def test_the_log_goes_on_from_the_most_advanced_folder(
    pair: tuple[ClusterServer, ClusterServer], engine: OneEngine, keep: bool, engine_id: str
) -> None:
    """Both servers serve again; sessions live on only if the operator vouched for the folder."""
    one, two = pair
    session = open_session(one.operator)
    token = mint(one.operator, session.id).token
    assert wait_until(lambda: two.reason(token) is Reason.ALLOWED)
    lose(engine, engine_id)
    for server in pair:
        server.stop()

    answer = adopt(one.config, end_sessions=not keep)

    assert answer["sessions"] == ("kept" if keep else "all ended")
    expected = Reason.ALLOWED if keep else Reason.SESSION_ENDED
    for server in pair:
        again = ClusterServer(server.config, server.operator.credential)
        try:
            assert wait_until(lambda at=again: at.reason(token) is expected)  # type: ignore[misc]
        finally:
            again.stop()


def test_what_ends_an_alarm_ends_the_sessions_too(
    pair: tuple[ClusterServer, ClusterServer], engine: OneEngine
) -> None:
    """One record does both: hosts allow again behind it."""
    one, two = pair
    token = mint(one.operator, open_session(one.operator).id).token
    assert wait_until(lambda: two.reason(token) is Reason.ALLOWED)
    lose(engine)
    for server in pair:
        server.stop()
    # A second record would be refused.
    engine.answers = [(AppendStatus.APPENDED, True), (AppendStatus.FENCED, False)]

    answer = adopt(one.config, end_sessions=True)

    assert answer["record"] == engine.head.number
    assert len(engine.answers) == 1
    engine.answers.clear()
    again = ClusterServer(one.config, one.operator.credential)
    try:
        assert wait_until(lambda: again.reason(token) is Reason.SESSION_ENDED)
    finally:
        again.stop()


def test_a_server_that_was_behind_does_not_lead_at_another_engine(
    pair: tuple[ClusterServer, ClusterServer], engine: OneEngine
) -> None:
    """It holds less than a backup that was put back, so its own records would not tell it."""
    one, two = pair
    two.stop()
    open_session(one.operator)
    backup = dict(engine.records), engine.head
    open_session(one.operator)
    one.stop()
    with engine.changed:
        engine.records, engine.head = backup
        engine.engine_id = "another"

    again = ClusterServer(two.config, two.operator.credential)
    try:
        assert wait_until(lambda: again.control.membership.alarm is not None)  # type: ignore[union-attr]
        assert again.control.membership is not None and again.control.membership.alarm is not None
        assert again.control.membership.alarm.fault == "OTHER_PAST"
        assert engine.head == backup[1]
    finally:
        again.stop()


def test_a_log_that_is_there_is_not_replaced(
    pair: tuple[ClusterServer, ClusterServer], engine: OneEngine
) -> None:
    """Nothing was lost, so nothing is to be decided."""
    for server in pair:
        server.stop()
    before = engine.head
    with pytest.raises(StateError, match="the engine lost nothing"):
        adopt(pair[0].config)
    assert engine.head == before


def test_a_folder_that_left_is_a_single_hosts(pair: tuple[ClusterServer, ClusterServer]) -> None:
    """Its sessions ended, it needs no log, and is never stale; a cluster does not take it back."""
    one, two = pair
    token = mint(one.operator, open_session(one.operator).id).token
    assert wait_until(lambda: two.reason(token) is Reason.ALLOWED)
    two.stop()

    leave(two.config.state_dir)

    assert stopped_reason(two, token) is Reason.SESSION_ENDED
    with StateWriter.open(two.config.state_dir) as writer:
        assert not writer.is_carried
        assert writer.hosts() == []
    with pytest.raises(StateUnusable) as refused:
        ClusterServer(two.config, two.operator.credential)
    assert refused.value.problem == "NOT_IN_CLUSTER"
    assert one.reason(token) is Reason.ALLOWED
