"""Two servers: the report of each is the sum of both, and what one of them saw all of them tell."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from sessauth.client._usage_messages import batch_message
from sessauth.server.keys.credentials import CredentialFile
from sessauth.usage.session_usage import ObservationBatch, SessionObservation
from sessauth.v1 import feed_service_pb2 as feeds
from sessauth.v1 import usage_service_pb2 as pb
from tests.support.carried import OneEngine
from tests.support.cluster_servers import ClusterServer, two_servers
from tests.support.events import OPENED, USED_AFTER_END, Watch, watching
from tests.support.follower_host import FollowerHost, follower_host
from tests.support.observations import block, claimed, observed, usage
from tests.support.service import Caller, RpcError, wait_until
from tests.support.watching import end, open_session

ENGINE = ["127.0.0.1:1"]
USAGE = {"usage": {"enabled": True}}


@dataclass
class Pair:
    """Two servers, and callers at each with the same credentials."""

    one: ClusterServer
    two: ClusterServer
    gateways: list[Caller]
    followers: list[Caller]

    @property
    def both(self) -> tuple[ClusterServer, ClusterServer]:
        """The servers."""
        return self.one, self.two

    def observe(self, index: int, *seen: SessionObservation) -> None:
        """Have a gateway report at a server, as a process of its own."""
        number = time.monotonic_ns()
        batch = ObservationBatch(number.to_bytes(16, "big"), 1, sessions=seen)
        self.gateways[index].call("UsageService/ReportObservations", batch_message(batch))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two servers over an engine in memory; the first one leads."""
    engine = OneEngine()
    with pytest.MonkeyPatch.context() as patch:
        for module in ("membership", "begin"):
            patch.setattr(f"sessauth.server.cluster.{module}.open_carrier", lambda *_: engine)
        with two_servers(tmp_path_factory.mktemp("cluster"), ENGINE, USAGE, USAGE) as (one, two):
            file = CredentialFile(one.config.credentials_file)
            keys = [file.add("gw", "gateway"), file.add("edge", "follower")]
            shutil.copy(one.config.credentials_file, two.config.credentials_file)
            callers = [[Caller(f"unix:{server.config.socket}", key) for server in (one, two)] for key in keys]
            made = Pair(one, two, *callers)
            assert wait_until(lambda: accepted(made))
            yield made
            for caller in (*made.gateways, *made.followers):
                caller.close()


def accepted(pair: Pair) -> bool:
    """Return True once both servers know the new credentials."""
    try:
        for index in (0, 1):
            pair.observe(index)
    except RpcError:
        return False
    return True


def opened(pair: Pair) -> bytes:
    """Open a session that both servers have."""
    session = open_session(pair.one.operator)
    assert wait_until(lambda: pair.two.control.writer.get_session(session.id) is not None)
    return bytes(session.id)


def report(server: ClusterServer, session_id: bytes) -> pb.GetReportResponse:
    """Return the report of a session, asked at a server."""
    request = pb.GetReportRequest(session_id=session_id)
    answer: pb.GetReportResponse = server.operator.call("UsageService/GetReport", request)
    return answer


def is_whole(server: ClusterServer, session_id: bytes, allowed: int) -> Callable[[], bool]:
    """Return a condition: the report has so many calls, and nothing is missing."""

    def whole() -> bool:
        found = report(server, session_id).reports[0]
        return found.observation.allowed == allowed and not found.missing

    return whole


def test_each_server_gives_the_sum(pair: Pair) -> None:
    """Asked at either; hosts and their verifiers are named."""
    session_id = opened(pair)
    for index, calls in enumerate((2, 3)):
        seen = observed(session_id, block("r", calls=calls))
        seen.usage = usage("files/a")
        pair.observe(index, seen)
    for server in pair.both:
        assert wait_until(is_whole(server, session_id, 5))
        answer = report(server, session_id)
        assert [(each.name, each.allowed) for each in answer.reports[0].verifiers] == [
            ("server/one/gw", 2),
            ("server/two/gw", 3),
        ]
        assert [(each.name, each.current) for each in answer.hosts] == [
            ("server/one", True),
            ("server/two", True),
        ]
        census = server.operator.call("UsageService/GetCensus", pb.GetCensusRequest(session_id=session_id))
        assert [each.observation.calls for each in census.blocks] == [5]


def test_a_use_after_the_end_is_published_at_every_server(pair: Pair) -> None:
    """Whichever server's gateway saw it."""
    for index in (0, 1):
        session_id = opened(pair)
        end(pair.one.operator, session_id)
        wanted = {"session_ids": [session_id], "kinds": [USED_AFTER_END]}
        watches = [Watch(server.operator, from_now=True, **wanted) for server in pair.both]
        try:
            for watch in watches:
                watch.synced()
            pair.observe(index, observed(session_id, late=claimed(4)))
            for watch in watches:
                event = watch.event()
                assert (event.count, event.claimed) == (4, True)
                assert event.verifier == f"server/{('one', 'two')[index]}/gw"
        finally:
            for watch in watches:
                watch.close()


@pytest.mark.parametrize("host", ["server/one", "server/two", "edge", ""])
def test_a_follower_reports_for_no_other_host(pair: Pair, host: str) -> None:
    """At either server; nothing comes into the sums."""
    session_id = opened(pair)
    seen = pb.HostSession(observation=pb.SessionObservation(session_id=session_id, allowed=1_000))
    request = pb.ReportHostUsageRequest(host=host, run_id=bytes(16), number=1, first_late=1, sessions=[seen])
    for caller in pair.followers:
        with pytest.raises(RpcError) as refused:
            caller.call("UsageService/ReportHostUsage", request)
        assert refused.value.word == "PERMISSION_DENIED"
    with pytest.raises(RpcError) as refused:
        pair.gateways[0].call("UsageService/ReportHostUsage", request)
    assert refused.value.word == "PERMISSION_DENIED"
    assert report(pair.one, session_id).reports[0].observation.allowed == 0


def test_a_registered_follower_reports_at_any_server(pair: Pair) -> None:
    """A server that does not lead hands it on; a faulty report names the field."""
    session_id = opened(pair)
    instance = bytes(15) + b"\x01"
    wanted = feeds.RegisterHostRequest(host="edge", instance=instance, staleness_ms=3_000)
    pair.followers[0].call("FeedService/RegisterHost", wanted)
    request = pb.ReportHostUsageRequest(
        host="edge",
        run_id=instance,
        number=1,
        first_late=1,
        since_ms=1,
        usage_since_ms=1,
        sessions=[pb.HostSession(observation=pb.SessionObservation(session_id=session_id, allowed=7))],
    )
    first = pair.followers[1].call("UsageService/ReportHostUsage", request)
    assert len(first.term_id) == 16
    assert report(pair.one, session_id).reports[0].observation.allowed == 7
    assert {each.name: each.current for each in report(pair.two, session_id).hosts}["edge"] is False

    request.number, request.term_id = 2, first.term_id
    pair.followers[0].call("UsageService/ReportHostUsage", request)
    assert {each.name: each.current for each in report(pair.two, session_id).hosts}["edge"] is True
    request.number = 0
    with pytest.raises(RpcError) as refused:
        pair.followers[1].call("UsageService/ReportHostUsage", request)
    assert (refused.value.word, refused.value.field) == ("INVALID_ARGUMENT", "number")


def test_calls_at_a_follower_are_in_the_sum(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its gateways report to it; it reports to a server that does not lead. Its end leaves nothing out."""
    session_id = opened(pair)

    def over(host: FollowerHost) -> bool:
        session = host.control.writer.get_session(session_id)
        return session is not None and session.ended_at_ms > 0

    def found() -> pb.SessionReport:
        return report(pair.two, session_id).reports[0]

    home = tmp_path_factory.mktemp("hosts") / "host-1"
    with follower_host(home, (pair.two, pair.one), **USAGE) as follower:
        assert wait_until(lambda: follower.control.writer.get_session(session_id) is not None)
        batch = ObservationBatch(b"f" * 16, 1, sessions=(observed(session_id, block("r", calls=4)),))
        follower.gateway().call("UsageService/ReportObservations", batch_message(batch))
        assert wait_until(lambda: found().observation.allowed == 4)
        end(pair.one.operator, session_id)
        assert wait_until(lambda: over(follower))
        late = ObservationBatch(b"f" * 16, 2, sessions=(observed(session_id, late=claimed(2)),))
        with watching(pair.one.operator, session_ids=[session_id]) as watch:
            follower.gateway("gateway-2").call("UsageService/ReportObservations", batch_message(late))
            assert watch.event().verifier == "host-1/gateway-2"
        last = ObservationBatch(b"l" * 16, 1, sessions=(observed(session_id, block("r")),))
        follower.gateway("gateway-3").call("UsageService/ReportObservations", batch_message(last))

    assert found().observation.allowed == 5


def test_a_place_that_a_server_has_not_reached_is_waited_for(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server that sent it was ahead. One that stays behind says so, and the watch tries again."""
    watch = Watch(pair.one.operator, from_now=True)
    synced = watch.synced()
    watch.close()
    ahead = {"after_revision": synced.revision + 1, "incarnation": synced.incarnation, "kinds": [OPENED]}
    again = Watch(pair.two.operator, **ahead)
    opened(pair)
    second = open_session(pair.one.operator)
    assert again.event().session_id == second.id
    again.close()
    monkeypatch.setattr("sessauth.server.services.event.BEHIND_SECONDS", 0.0)
    far = Watch(pair.two.operator, **{**ahead, "after_revision": 1 << 40})
    assert far.refused().word == "ENGINE_UNREACHABLE"
    without = Watch(pair.two.operator, after_revision=1 << 40)
    assert without.refused().word == "INVALID"


def test_a_watch_goes_on_at_another_server_and_so_do_the_sums(pair: Pair) -> None:
    """The last test: the first server ends. Nothing is lost, and nothing comes twice."""
    session_id = opened(pair)
    pair.observe(1, observed(session_id, block("r", calls=6)))
    assert wait_until(lambda: report(pair.one, session_id).reports[0].observation.allowed == 6)
    watch = Watch(pair.one.operator, from_now=True, kinds=[OPENED])
    synced = watch.synced()
    before = [open_session(pair.one.operator).id for _ in range(3)]
    seen = [watch.event() for _ in range(2)]
    watch.close()
    pair.one.stop()
    assert wait_until(lambda: pair.two.leads)
    after = [open_session(pair.two.operator).id for _ in range(3)]

    again = Watch(
        pair.two.operator,
        after_revision=seen[-1].revision,
        incarnation=synced.incarnation,
        kinds=[OPENED],
    )
    rest = [again.event() for _ in range(4)]
    again.close()
    assert [event.session_id for event in (*seen, *rest)] == [*before, *after]
    assert [event.seq for event in (*seen, *rest)] == sorted({event.seq for event in (*seen, *rest)})

    found = report(pair.two, session_id)
    assert found.reports[0].observation.allowed == 6
    current = {each.name: each.current for each in found.hosts}
    assert (current["server/one"], current["server/two"]) == (False, True)
    assert pb.MISSING_HOST in found.reports[0].missing
