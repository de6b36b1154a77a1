"""FeedService over a real socket, and the source that a follower reads it by."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessauth.client._feed import FeedClient, FeedServer, FeedServers
from sessauth.clock import SystemClock
from sessauth.errors import RecordRefused
from sessauth.server.cluster.cluster_feed import RecentRecords
from sessauth.state.replication import snapshot as snapshot_file
from sessauth.state.replication.carrier import Barrier, CarrierError, CompactedRecords, EngineSource
from sessauth.v1 import feed_service_pb2 as pb
from tests.support.carried import OneEngine
from tests.support.feeding import Cluster, cluster
from tests.support.service import RpcError, running, wait_until


@pytest.fixture
def source(fed: Cluster) -> Iterator[FeedClient]:
    """A follower's source."""
    made = fed.source()
    yield made
    made.close()


def read_to(source: FeedClient, number: int, after: int = 0) -> dict[int, bytes]:
    """Return all records behind ``after`` once the last of them has come."""
    found: dict[int, bytes] = {}
    until = time.monotonic() + 20
    while after < number and time.monotonic() < until:
        source.wait(after, 200)
        try:
            page = source.read(after, 3)
        except CarrierError:
            # Each failure of a stream is told once; the next server has been asked already.
            continue
        found.update(page)
        after += len(page)
    return found


def test_records_come_as_the_engine_has_them(fed: Cluster, source: FeedClient) -> None:
    """Those from before the stream, and those that come meanwhile; from any number."""
    for _ in range(5):
        fed.open()
    assert read_to(source, fed.engine.head.number) == fed.engine.records
    before = fed.engine.head.number
    fed.open()
    assert read_to(source, before + 1, before) == {before + 1: fed.engine.records[before + 1]}
    assert read_to(source, before + 1, 2) == {n: fed.engine.records[n] for n in range(3, before + 2)}


def test_a_record_comes_at_once(fed: Cluster, source: FeedClient) -> None:
    """The record wakes the one that waits; no period does."""
    last = fed.engine.head.number
    read_to(source, last)
    began = time.monotonic()
    opened = threading.Timer(0.2, fed.open)
    opened.start()
    source.wait(last, 10_000)
    assert time.monotonic() - began < 5
    assert source.read(last, 1)
    opened.join()


def test_a_barrier_has_the_head_and_states_the_host(fed: Cluster, source: FeedClient) -> None:
    """The number and digest of the engine's head; the server stores who asked, and what it holds."""
    read_to(source, 1)
    source.read(1, 1)
    assert source.barrier().head == fed.engine.head
    (report,) = fed.servers[0].feed.hosts.all()
    assert (report.host, report.principal, report.applied) == ("host-1", "host-1", 1)


def test_an_alarm_is_said_to_every_server(
    fed: Cluster, source: FeedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It proves nothing, registers nobody, and is apart from the host's reports; another one waits."""
    monkeypatch.setattr("sessauth.client._feed.ALARM_SECONDS", 600.0)
    source.report_alarm(7, "GAP")
    source.report_alarm(8, "GAP")

    hosts = fed.servers[0].feed.hosts
    (report,) = hosts.by_host().values()
    assert (report.host, report.applied, report.alarm) == ("host-1", 7, "GAP")
    assert hosts.all() == [] and fed.leader.writer.host("host-1") is None
    source.barrier()
    (report,) = hosts.by_host().values()
    assert report.alarm == "" and len(hosts.all()) == 1


@pytest.mark.parametrize("alarm", ["gap", "G" * 33, "A B", "A\n"])
def test_an_alarm_is_a_word(fed: Cluster, alarm: str) -> None:
    """Anything else is refused by its field, and not stored."""
    request = pb.BarrierRequest(host="host-1", instance=b"i" * 16, staleness_ms=3_000, alarm=alarm)
    caller = fed.caller()
    with closing(caller), pytest.raises(RpcError) as refused:
        caller.call("FeedService/Barrier", request)
    assert (refused.value.word, refused.value.field) == ("INVALID_ARGUMENT", "alarm")
    assert fed.servers[0].feed.hosts.by_host() == {}


class SlowEngine(OneEngine):
    """Counts barriers that are under way, and takes a while for each."""

    def __init__(self) -> None:
        """Begin without any."""
        super().__init__()
        self.asked = self.at_once = self.most = 0

    def barrier(self, name: str = "", beat: bytes = b"") -> Barrier:
        """Return the head after 50 ms."""
        self.asked += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        time.sleep(0.05)
        self.at_once -= 1
        return super().barrier()


def test_barriers_are_shared(fed: Cluster) -> None:
    """Twenty callers at once cost two barriers: one that was under way counts for nobody who came later."""
    from sessauth.server.cluster.cluster_feed import SharedBarriers

    engine = SlowEngine()
    shared = SharedBarriers(EngineSource(engine, "one"))
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: shared.barrier(10), range(20)))
    shared.close()
    assert engine.most == 1
    assert engine.asked <= 3


def test_streams_share_the_reading(fed: Cluster) -> None:
    """Fifty streams behind the same record read the engine no more often than one."""
    reads = 0

    class Counting(EngineSource):
        def __init__(self) -> None:
            super().__init__(fed.engine, "one")
            whole = self.read

            def read(after: int, limit: int) -> list[tuple[int, bytes]]:
                nonlocal reads
                reads += 1
                return whole(after, limit)

            self.read = read

    feed = RecentRecords(Counting())
    head = fed.engine.head.number
    assert feed.next(head, 0.2) == (b"", head)
    got: list[tuple[bytes, int]] = []
    threads = [threading.Thread(target=lambda: got.append(feed.next(head, 20))) for _ in range(50)]
    for thread in threads:
        thread.start()
    fed.open()
    for thread in threads:
        thread.join()
    feed.close()
    assert {reached for _, reached in got} == {head + 1}
    assert reads < 10


def test_trimmed_records_are_refused(fed: Cluster, source: FeedClient) -> None:
    """A host behind the engine's first record gets COMPACTED, and reads on from a later one."""
    for _ in range(4):
        fed.open()
    fed.engine.trim(3)
    with pytest.raises(CompactedRecords, match="below 4"):
        read_to(source, fed.engine.head.number, 1)
    assert min(read_to(source, fed.engine.head.number, 3)) == 4


def test_a_server_that_is_gone_is_left(tmp_path: Path) -> None:
    """Records and barriers come from the next server."""
    with cluster(("one", "two")) as fed:
        source = fed.source()
        read_to(source, fed.engine.head.number)
        fed.servers[0].close()
        fed.servers[1].close()
        with pytest.raises(CarrierError):
            source.barrier()
        fed.servers[1] = fed.listen(fed.members[1])
        assert wait_until(lambda: _answers(source), 20)
        last = fed.engine.head.number
        fed.open()
        assert read_to(source, last + 1, last)
        source.close()


def test_a_silent_server_is_left(fed: Cluster) -> None:
    """A server that takes connections and answers nothing costs a barrier 0.7 s, once."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(fed.home / "silent"))
        silent.listen()
        targets = [str(fed.home / "silent"), str(fed.servers[0].socket)]
        servers = FeedServers.resolve(targets, credential_file=fed.credential)
        while "silent" not in servers.current.target:
            servers.leave(servers.current)
        source = FeedClient(servers, "host-1", 3_000)
        began = time.monotonic()
        assert source.barrier().head == fed.engine.head
        assert 0.6 < time.monotonic() - began < 3
        assert "silent" not in source.server
        assert read_to(source, fed.engine.head.number)
        source.close()


@pytest.mark.parametrize(("staleness_ms", "seconds"), [(1_000, 0.7), (3_000, 0.7), (9_000, 2.1)])
def test_a_longer_bound_waits_longer_for_a_barrier(
    fed: Cluster, monkeypatch: pytest.MonkeyPatch, staleness_ms: int, seconds: float
) -> None:
    """A server whose engine is far away answers late, and each host states the delay that it bears."""
    waited, unary = [], FeedServer.unary

    def record(server: FeedServer, *call: Any) -> Any:
        waited.append(call[-1])
        return unary(server, *call[:-1], 30.0)

    monkeypatch.setattr(FeedServer, "unary", record)
    servers = FeedServers.resolve([str(fed.servers[0].socket)], credential_file=fed.credential)
    with closing(FeedClient(servers, "host-1", staleness_ms)) as source:
        assert source.barrier().head == fed.engine.head
    assert waited == pytest.approx([seconds])


def test_a_server_that_sends_nothing_is_left() -> None:
    """A barrier named a record that did not come: the records of the next server do."""
    with cluster(("one", "two")) as fed:
        fed.servers[0].feed.records._source.read = lambda after, limit: []  # type: ignore[method-assign]
        source = fed.source()
        while "at-one" not in source.server:
            source._servers.leave(source._servers.current)
        source.read(0, 1)
        assert wait_until(lambda: bool(source.barrier()) and bool(_first(source)), 10)
        assert "at-two" in source.server
        source.close()


def _first(source: FeedClient) -> list[tuple[int, bytes]]:
    source.wait(0, 300)
    return source.read(0, 1)


def test_a_server_with_another_clock_proves_nothing(fed: Cluster) -> None:
    """Expiries and leases are judged by the wall clock, so a host whose clock is off goes stale."""

    class Ahead(SystemClock):
        def now_ms(self) -> int:
            return super().now_ms() + 60_000

    source = FeedClient(
        FeedServers.resolve([str(fed.servers[0].socket)], credential_file=fed.credential),
        "host-1",
        3_000,
        Ahead(),
    )
    with pytest.raises(CarrierError, match="clocks"):
        source.barrier()
    source.close()


def _answers(source: FeedClient) -> bool:
    try:
        source.barrier()
    except CarrierError:
        return False
    return True


def test_a_snapshot_is_the_servers_state(fed: Cluster, source: FeedClient, tmp_path: Path) -> None:
    """Its last record proves its head; another record, or none, does not."""
    fed.open()
    fetched = source.snapshot(tmp_path, 32 << 20)
    assert fetched.number == fed.engine.head.number
    assert fetched.record == fed.engine.records[fetched.number]
    with snapshot_file.reading(tmp_path) as rows, fed.leader.writer.source().rows() as own:
        assert rows.head() == own.head()
        snapshot_file.require_genuine(rows, fetched.record, own)
        snapshot_file.require_genuine(rows, fetched.record, None)
        for record in (b"", fed.engine.records[1]):
            with pytest.raises(RecordRefused):
                snapshot_file.require_genuine(rows, record, None)
    assert not list((fed.home / "at-one" / "snapshots").iterdir())


def test_snapshots_are_bounded(fed: Cluster) -> None:
    """A fifth at once is refused, and the place comes back."""
    feed = fed.servers[0].feed
    held = [feed.snapshot() for _ in range(4)]
    for snapshot in held:
        snapshot.__enter__()
    caller = fed.caller()
    with pytest.raises(RpcError) as refused:
        next(caller.stream("FeedService/Snapshot", iter([pb.SnapshotRequest()])))
    assert refused.value.word == "OVERLOADED"
    for snapshot in held:
        snapshot.__exit__(None, None, None)
    header = next(caller.stream("FeedService/Snapshot", iter([pb.SnapshotRequest()]))).header
    assert header.number == fed.engine.head.number
    caller.close()


def test_a_single_host_refuses() -> None:
    """A server without a cluster says that it can't be followed."""
    with running() as service:
        follower = service.add("host-1", "follower")
        request = pb.BarrierRequest(host="host-1", instance=bytes(16))
        with pytest.raises(RpcError, match="single host") as refused:
            follower.call("FeedService/Barrier", request)
        assert refused.value.word == "NOT_IN_CLUSTER"
