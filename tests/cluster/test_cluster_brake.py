"""The freeze of a whole cluster, at any server, and typed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from sessauth.cli.main import cli
from sessauth.reasons import Reason
from sessauth.v1 import cluster_service_pb2
from sessauth.v1 import cut_off_service_pb2 as pb
from sessauth.v1 import record_pb2 as records
from sessauth.v1 import session_service_pb2 as sessions
from tests.cli.conftest import invoke
from tests.support.carried import OneEngine
from tests.support.cluster_servers import ClusterServer, two_servers
from tests.support.service import RpcError, running, wait_until
from tests.support.watching import mint, open_session

ENGINE = ["127.0.0.1:1"]
FREEZE = "CutOffService/Freeze"
THAW = "CutOffService/Thaw"


@pytest.fixture(scope="module")
def engine() -> Iterator[OneEngine]:
    """The engine of the servers, in memory."""
    with pytest.MonkeyPatch.context() as patch:
        made = OneEngine()
        for module in ("membership", "begin"):
            patch.setattr(f"sessauth.server.cluster.{module}.open_carrier", lambda *_: made)
        yield made


@pytest.fixture(scope="module")
def pair(
    engine: OneEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ClusterServer, ClusterServer]]:
    """Two servers; the first one leads."""
    with two_servers(tmp_path_factory.mktemp("pair"), ENGINE) as servers:
        yield servers


def typed(server: ClusterServer, *words: str) -> dict[str, object]:
    """Type ``sessauth freeze`` or ``thaw`` on a server's host."""
    options = ["--target", str(server.config.socket), "--credential-file"]
    file = server.config.home / "typed.credential"
    if not file.exists():
        file.write_text(server.operator.credential)
        file.chmod(0o600)
    result = CliRunner().invoke(cli, [*options, str(file), *words, "--json"])
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.output))


def opens(server: ClusterServer) -> bool:
    """Open a session; False while the server has not heard of the thaw: a follower hears of it later."""
    try:
        return bool(open_session(server.operator).id)
    except RpcError as refused:
        if refused.word != "FROZEN":
            raise
        return False


def test_every_check_of_every_host_is_denied(
    pair: tuple[ClusterServer, ClusterServer], caplog: pytest.LogCaptureFixture
) -> None:
    """Set at a server that follows: it is the leader's change, and ends still go through."""
    one, two = pair
    token = mint(one.operator, open_session(one.operator).id).token
    other = open_session(one.operator)
    assert wait_until(lambda: two.reason(token) is Reason.ALLOWED)

    shown = typed(two, "freeze", "--reason", "drill")

    text = "cluster frozen by operator: drill"
    assert shown == {"braked": True, "reason": text, "host": "", "cluster": text}
    assert two.reason(token) is one.reason(token) is Reason.STATE_BRAKED
    assert one.operator.call(
        "ClusterService/GetStanding", cluster_service_pb2.GetStandingRequest()
    ).cluster_brake
    two.operator.call(
        "SessionService/EndSession", sessions.EndSessionRequest(request_id="e", session_id=other.id)
    )
    assert typed(two, "freeze", "--show")["braked"]

    with caplog.at_level("INFO", "sessauth.server"):
        assert typed(one, "thaw") == {"braked": False, "reason": "", "host": "", "cluster": ""}
    changes = [getattr(each, "fields", {}) for each in caplog.records if each.message == "local_change"]
    assert {"what": "cluster_brake_cleared", "reason": text, "actor": "operator"} in changes
    assert one.reason(token) is Reason.ALLOWED
    assert wait_until(lambda: two.reason(token) is Reason.ALLOWED)


def test_the_end_of_many_is_handed_on(pair: tuple[ClusterServer, ClusterServer]) -> None:
    """Asked at a server that follows: the leader ends them; both hosts refuse their tokens, and new ones."""
    one, two = pair
    opened = [open_session(one.operator) for _ in range(3)]
    token = mint(one.operator, opened[0].id).token
    assert wait_until(lambda: two.reason(token) is Reason.ALLOWED)
    selector = records.SessionSelector(subject=opened[0].subject)

    request = pb.EndSessionsRequest(selector=selector, reason="drill", refuse_new_ms=60_000)
    answer = two.operator.call("CutOffService/EndSessions", request)

    assert answer.ended >= 3 and answer.remaining == 0
    assert two.reason(token) is one.reason(token) is Reason.SESSION_ENDED
    try:
        for server in pair:
            with pytest.raises(RpcError) as refused:
                open_session(server.operator)
            assert refused.value.word == "BANNED"
            bans = server.operator.call("CutOffService/ListBans", pb.ListBansRequest()).bans
            assert [each.selector for each in bans] == [selector]
    finally:
        two.operator.call("CutOffService/LiftBan", pb.LiftBanRequest(selector=selector))
    open_session(two.operator)


def test_what_changes_nothing_needs_the_lead(
    engine: OneEngine, pair: tuple[ClusterServer, ClusterServer]
) -> None:
    """A server that lost the lead, and does not know yet, can't say that all is frozen, thawed or ended."""
    one, _ = pair
    nobody = pb.EndSessionsRequest(selector=records.SessionSelector(subject="agent:nobody"))
    for method, request in (
        (FREEZE, pb.FreezeRequest(reason="again")),
        (FREEZE, pb.FreezeRequest(reason="again")),
        (THAW, pb.ThawRequest()),
        (THAW, pb.ThawRequest()),
        ("CutOffService/EndSessions", nobody),
    ):
        before = engine.head.number
        one.operator.call(method, request)
        assert engine.head.number > before, method


def test_frozen_no_server_gives_authority(pair: tuple[ClusterServer, ClusterServer]) -> None:
    """Neither the leader nor a server that follows opens a session; a lease is renewed all the same."""
    one, two = pair
    leased = open_session(one.operator, lease_ms=600_000)
    two.operator.call(FREEZE, pb.FreezeRequest())
    try:
        for server in pair:
            with pytest.raises(RpcError) as refused:
                open_session(server.operator)
            assert refused.value.word == "FROZEN"
        two.operator.call("SessionService/KeepAlive", sessions.KeepAliveRequest(session_id=leased.id))
    finally:
        one.operator.call(THAW, pb.ThawRequest())
    assert wait_until(lambda: opens(two))


def test_the_host_of_the_leader_frozen_by_itself(pair: tuple[ClusterServer, ClusterServer]) -> None:
    """Its checks are denied and the other host's are not; nobody is given authority at either server."""
    one, two = pair
    token = mint(one.operator, open_session(one.operator).id).token
    assert wait_until(lambda: two.reason(token) is Reason.ALLOWED)
    state = str(one.config.state_dir)
    assert typed(one, "freeze", "--state", state)["host"] == "frozen by hand"
    try:
        assert one.reason(token) is Reason.STATE_BRAKED
        assert two.reason(token) is Reason.ALLOWED
        for server in pair:
            with pytest.raises(RpcError) as refused:
                open_session(server.operator)
            assert refused.value.word == "FROZEN"
    finally:
        assert not typed(one, "thaw", "--state", state)["braked"]
    assert wait_until(lambda: opens(two))


def test_it_survives_a_take_over_and_a_restart(
    pair: tuple[ClusterServer, ClusterServer],
) -> None:
    """The server that leads next has it, and the one that comes back."""
    one, two = pair
    token = mint(one.operator, open_session(one.operator).id).token
    assert wait_until(lambda: two.reason(token) is Reason.ALLOWED)
    one.operator.call(FREEZE, pb.FreezeRequest())
    one.stop()
    assert wait_until(lambda: two.leads)
    assert two.reason(token) is Reason.STATE_BRAKED
    again = ClusterServer(one.config, one.operator.credential)
    try:
        assert again.reason(token) is Reason.STATE_BRAKED
        two.operator.call(THAW, pb.ThawRequest())
        assert wait_until(lambda: again.reason(token) is Reason.ALLOWED)
    finally:
        again.stop()
    _without_a_server(again)


def _without_a_server(stopped: ClusterServer) -> None:
    """Neither command claims what is the cluster's to do; a freeze by hand is ended by hand alone."""
    home = stopped.config.home
    frozen, thawed = (invoke("--home", home, word) for word in ("freeze", "thaw"))
    assert (frozen.code, "this host alone is known to be frozen" in frozen.err) == (4, True)
    assert (thawed.code, "the cluster is not thawed" in thawed.err) == (4, True)
    assert not frozen.out and not thawed.out
    shown = invoke("--home", home, "freeze", "--show")
    assert (shown.code, shown.out) == (0, "FROZEN: frozen by hand\n")
    assert invoke("--home", home, "thaw", "--this-host").out == "not frozen\n"


@pytest.mark.parametrize("reason", ["x" * 257, "a\nb", "a\0b"])
def test_a_reason_that_is_none(pair: tuple[ClusterServer, ClusterServer], reason: str) -> None:
    """It is refused by its field, and nothing is braked."""
    with pytest.raises(RpcError) as refused:
        pair[1].operator.call(FREEZE, pb.FreezeRequest(reason=reason))
    assert (refused.value.word, refused.value.field) == ("INVALID_ARGUMENT", "reason")
    assert not pair[1].control.writer.cluster_brake


def test_a_single_host_is_in_no_cluster() -> None:
    """It has no standing, and is frozen by itself."""
    with running() as service:
        with pytest.raises(RpcError) as refused:
            service.operator.call("ClusterService/GetStanding", cluster_service_pb2.GetStandingRequest())
        assert refused.value.word == "NOT_IN_CLUSTER"
        assert not service.operator.call("CutOffService/GetFreeze", pb.GetFreezeRequest()).in_cluster
