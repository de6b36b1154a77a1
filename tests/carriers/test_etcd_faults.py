"""Three members of etcd, of which some are stopped, killed, wiped or cut off."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sessauth.carriers.etcd.carrier import EtcdCarrier
from sessauth.state.replication.carrier import MAX_RECORD_BYTES, CarrierError, LogHead
from tests.support.etcd_cluster import EtcdCluster, EtcdMember, etcd_cluster
from tests.support.log_writer import (
    APPENDED,
    FENCED,
    START,
    UNKNOWN,
    LogWriter,
    behind,
    digest,
    new_leader,
    until,
)
from tests.support.service import wait_until
from tests.support.tcp_proxy import TcpProxy

Open = Callable[..., EtcdCarrier]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """Three members, whose writes are durable."""
    with etcd_cluster(tmp_path_factory.mktemp("etcd"), 3) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: EtcdCluster) -> Iterator[EtcdCluster]:
    """The members, all of which run before and after the test."""
    yield shared
    shared.start()
    carrier = EtcdCarrier(shared.addresses, b"probe")
    shared.await_quorum(carrier)
    carrier.close()
    # A member that only just came back is not up to date yet.
    for address in shared.addresses:
        carrier = EtcdCarrier([address], b"probe")
        shared.await_quorum(carrier)
        carrier.close()


@pytest.fixture
def open_carrier(cluster: EtcdCluster) -> Iterator[Open]:
    """Connect carriers of one log: to all members, or to the stated addresses."""
    cluster_id, opened = secrets.token_bytes(16), list[EtcdCarrier]()

    def connect(addresses: list[str] | None = None) -> EtcdCarrier:
        opened.append(EtcdCarrier(addresses or cluster.addresses, cluster_id))
        return opened[-1]

    yield connect
    for carrier in opened:
        carrier.close()


def _addresses(cluster: EtcdCluster, first: EtcdMember) -> list[str]:
    """Return all addresses, that of ``first`` in front."""
    return [first.address, *(member.address for member in cluster.members if member is not first)]


def _another(cluster: EtcdCluster) -> EtcdMember:
    """Return a member that runs and does not lead."""
    leading = cluster.leading()
    running = [member for member in cluster.members if member.process is not None and not member.stopped]
    return next(member for member in running if member is not leading)


@pytest.mark.parametrize("leads", [True, False])
def test_a_stopped_member_costs_an_append_seconds_at_most(
    cluster: EtcdCluster, open_carrier: Open, leads: bool
) -> None:
    """It is half-open: its connections stay, and new ones are accepted. The next member takes the record."""
    silent = cluster.leading() if leads else _another(cluster)
    one = open_carrier(_addresses(cluster, silent))
    writer = LogWriter(one, new_leader(one))
    writer.append(b"first")

    silent.stop()
    writer.append(b"second", b"third")
    cluster.start()

    expected = [(1, b"first"), (2, b"second"), (3, b"third")]
    returned = open_carrier([silent.address])
    until(lambda: _read_all(returned) == expected)
    assert one.read(0, 10) == expected


def test_a_stopped_member_does_not_hold_a_barrier_up(cluster: EtcdCluster, open_carrier: Open) -> None:
    """The next one is asked after 300 ms, and from then on at first."""
    silent = _another(cluster)
    for _ in range(5):
        one = open_carrier(_addresses(cluster, silent))
        one.barrier("one", b"before")
        silent.stop()
        begin = time.monotonic()
        one.barrier("one", b"during")
        if time.monotonic() - begin >= 0.28:
            break
        # A busy machine took so long for the first barrier that the member was left by then.
        cluster.start()
    else:
        pytest.fail("the stopped member was never asked first")

    one.barrier("one", b"last")
    cluster.start()
    # What the silent one still had of the second barrier does not replace the third.
    time.sleep(0.3)
    assert one.beats() == {"one": b"last"}


def test_a_new_connection_to_a_stopped_member_is_left(cluster: EtcdCluster, open_carrier: Open) -> None:
    """A server that starts while its first member is silent leads and appends all the same."""
    silent = _another(cluster)
    silent.stop()
    one = open_carrier(_addresses(cluster, silent))

    writer = LogWriter(one, new_leader(one))
    writer.append(b"first")

    assert one.read(0, 10) == [(1, b"first")]


def test_a_killed_leader_of_etcd_loses_nothing(cluster: EtcdCluster, open_carrier: Open) -> None:
    """Appends go on once another member leads, and every acknowledged record is there, once."""
    one = open_carrier()
    writer = LogWriter(one, new_leader(one))
    records = [b"record %d" % number for number in range(40)]
    writer.append(*records[:20])
    killed = cluster.leading()

    killed.kill()
    writer.append(*records[20:])

    expected = [*enumerate(records, 1)]
    assert open_carrier([_another(cluster).address]).read(0, 100) == expected
    cluster.start()
    returned = open_carrier([killed.address])
    until(lambda: _read_all(returned) == expected)


def _read_all(carrier: EtcdCarrier) -> list[tuple[int, bytes]]:
    try:
        return carrier.read(0, 100)
    except CarrierError:
        return []


def test_a_paused_leader_of_ours_is_fenced(cluster: EtcdCluster, open_carrier: Open) -> None:
    """Its lease lapsed, another server took over and appended: what it still sends is not written."""
    one, two = open_carrier(), open_carrier()
    old = LogWriter(one, new_leader(one, ttl_ms=1_000))
    old.append(b"first")

    until(lambda: two.leader() is None)
    assert old.attempt(b"late").status is FENCED
    new = LogWriter(two, new_leader(two, "two"), two.barrier("two", b"").head)
    assert old.attempt(b"late").status is FENCED
    new.append(b"second")

    assert old.attempt(b"late").status is FENCED
    assert not one.hold(old.leader)
    assert two.read(0, 10) == [(1, b"first"), (2, b"second")]


def test_a_lease_that_is_held_does_not_lapse(cluster: EtcdCluster, open_carrier: Open) -> None:
    """Longer than its time, and over the end of etcd's own leader."""
    one = open_carrier()
    leader = new_leader(one, ttl_ms=2_000)
    cluster.leading().kill()
    end = time.monotonic() + 3.5

    while time.monotonic() < end:
        try:
            assert one.hold(leader)
        except CarrierError:
            continue
        time.sleep(0.2)

    assert open_carrier().leader() == leader


def test_an_answer_that_is_lost_is_not_a_record_that_is_lost(
    cluster: EtcdCluster, open_carrier: Open
) -> None:
    """The record took effect, its answer did not come: the next member finds it appended, once."""
    proxy = TcpProxy(cluster.members[0].client_port)
    try:
        one = open_carrier([proxy.address, cluster.members[1].address])
        writer = LogWriter(one, new_leader(one))
        writer.append(b"first")

        proxy.swallow_answers = True
        begin = time.monotonic()
        writer.append(b"second")

        assert time.monotonic() - begin >= 0.9
        assert open_carrier().read(0, 10) == [(1, b"first"), (2, b"second")]
    finally:
        proxy.close()


def test_a_retry_of_an_unknown_append_is_answered_once(cluster: EtcdCluster, open_carrier: Open) -> None:
    """The call is unknown without another member; the same bytes later are appended, others fenced."""
    proxy = TcpProxy(cluster.members[0].client_port)
    try:
        one = open_carrier([proxy.address])
        writer = LogWriter(one, new_leader(one))
        proxy.swallow_answers = True
        assert writer.attempt(b"first", 1_200).status is UNKNOWN
        proxy.swallow_answers = False
        proxy.cut()

        assert writer.attempt(b"other").status is FENCED
        assert writer.attempt(b"first").status is APPENDED
        assert one.read(0, 10) == [(1, b"first")]
    finally:
        proxy.close()


def test_requests_that_do_not_arrive_are_not_records(cluster: EtcdCluster, open_carrier: Open) -> None:
    """One way is dead: unknown, and nothing is there; a slow way is only slow."""
    proxy = TcpProxy(cluster.members[0].client_port)
    try:
        one = open_carrier([proxy.address])
        writer = LogWriter(one, new_leader(one))
        proxy.swallow_requests = True
        assert writer.attempt(b"first", 1_200).status is UNKNOWN
        assert open_carrier().read(0, 10) == []
        proxy.swallow_requests = False
        proxy.cut()
        proxy.delay_s = 0.1

        begin = time.monotonic()
        writer.append(b"second")

        assert time.monotonic() - begin >= 0.1
        assert open_carrier().read(0, 10) == [(1, b"second")]
    finally:
        proxy.close()


def test_without_a_quorum_nothing_is_known_until_it_is_back(cluster: EtcdCluster, open_carrier: Open) -> None:
    """Appends are unknown, barriers and beats fail, a member's reads go on; then the record is there once."""
    one = open_carrier()
    writer = LogWriter(one, new_leader(one))
    writer.append(b"first")
    left = cluster.members[2]
    # The two others are a quorum without it, so it may learn of the record after the append.
    assert wait_until(lambda: bool(open_carrier([left.address]).read(0, 1)))
    for member in cluster.members[:2]:
        member.stop()

    with ThreadPoolExecutor(3) as pool:
        appended = pool.submit(writer.attempt, b"second", 2_500)
        barrier = pool.submit(open_carrier().barrier, "two", b"")
        beats = pool.submit(open_carrier().beats)
        assert appended.result().status is UNKNOWN
        for call in (barrier, beats):
            with pytest.raises(CarrierError):
                call.result()
    assert open_carrier([left.address]).read(0, 1) == [(1, b"first")]
    cluster.start()

    writer.append(b"second")
    assert one.read(0, 10) == [(1, b"first"), (2, b"second")]
    assert one.barrier("one", b"").head == writer.head


def test_a_wait_outlives_its_member(cluster: EtcdCluster, open_carrier: Open) -> None:
    """The member that watches is killed: the next one watches, and the record ends the wait."""
    watching = _another(cluster)
    one, two = open_carrier(), open_carrier(_addresses(cluster, watching))
    writer = LogWriter(one, new_leader(one))
    begin = time.monotonic()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(two.wait, 0, 30_000)
        time.sleep(0.2)
        watching.kill()
        time.sleep(0.2)
        assert not waiting.done()
        writer.append(b"first")
        waiting.result()

    assert time.monotonic() - begin < 20


def test_a_record_of_a_mebibyte_is_carried(cluster: EtcdCluster, open_carrier: Open) -> None:
    """Through three members that write to their disks."""
    one = open_carrier()
    record = secrets.token_bytes(MAX_RECORD_BYTES)

    LogWriter(one, new_leader(one)).append(record)

    assert open_carrier([cluster.members[1].address]).read(0, 1) in ([(1, record)], [])
    assert one.barrier("one", b"").head == behind(START, record)


def test_a_wiped_engine_takes_nothing_of_its_past(cluster: EtcdCluster, open_carrier: Open) -> None:
    """Its id is the same, and a server gets the very term of another past: the head fences the old leader."""
    one = open_carrier()
    for _ in range(40):
        one.barrier("one", b"")
    old = LogWriter(one, new_leader(one))
    old.append(b"first")
    before = one.barrier("one", b"")

    cluster.wipe()
    cluster.await_quorum(one)
    answer = old.attempt(b"second")

    after = one.barrier("one", b"")
    assert answer.status is FENCED
    assert after.engine_id == before.engine_id
    assert after.engine_revision < before.engine_revision
    assert after.head == START
    assert not one.hold(old.leader)
    while one.barrier("one", b"").engine_revision < old.leader.term - 1:
        pass
    leader = new_leader(one, "two")
    assert leader.term == old.leader.term
    assert old.attempt(b"second").status is FENCED
    stale = one.append(leader.term, old.head, b"second", digest(b"second"), 2_000)
    assert stale.status is FENCED
    assert one.append(leader.term, LogHead(0, b""), b"anew", digest(b"anew"), 2_000).status is APPENDED
