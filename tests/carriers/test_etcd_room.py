"""The room of etcd's file: beats alone don't fill it, and a full one says so by a word of its own."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any, Final, cast

import pytest

from sessauth.carriers.etcd.carrier import EtcdCarrier
from sessauth.clock import FixedClock
from sessauth.model.host import HostApplied, ServerBeat, ServerKey
from sessauth.server.cluster.cluster_feed import BeatWriter, FollowedHosts, HostReport
from sessauth.state.replication.carrier import AppendStatus, CarrierError, EngineSource
from tests.support.etcd_cluster import EtcdCluster, etcd_cluster
from tests.support.log_writer import LogWriter, new_leader

CLUSTER: Final = b"c" * 16
KEY: Final = ServerKey(b"k" * 32)
# Two servers that prove twice a second, and their two followers in between.
BEATS_A_MINUTE: Final = 450
# Of one server: they begin 50 ms apart.
BARRIERS_AN_HOUR: Final = 72_000
MOST_BYTES: Final = 10_000_000
QUOTA: Final = 1 << 20


def _beats(carrier: EtcdCarrier, numbers: range) -> None:
    """Write beats of two servers, each with a follower."""
    for number in numbers:
        name = ("one", "two")[number % 2]
        host = HostApplied(f"host-{name}", b"i" * 16, 7)
        beat = ServerBeat(CLUSTER, name, number, 10**9, 7, (host,), 2)
        carrier.barrier(name, beat.signed_by(KEY).encode())


def _file(cluster: EtcdCluster) -> int:
    return (cluster.members[0].data / "member/snap/db").stat().st_size


def test_beats_of_an_idle_cluster_do_not_fill_etcd(tmp_path: Path) -> None:
    """Compacted each minute, after five of them the file has not grown as in three: so it stays."""
    with etcd_cluster(tmp_path, 1, {"unsafe-no-fsync": "true"}) as cluster:
        carrier, sizes = EtcdCarrier(cluster.addresses, CLUSTER), [_file(cluster)]
        for minute in range(5):
            _beats(carrier, range(minute * BEATS_A_MINUTE, (minute + 1) * BEATS_A_MINUTE))
            carrier.compact()
            sizes.append(_file(cluster))
        carrier.close()
    minute_bytes = sizes[1] - sizes[0]
    sys.stdout.write(f"bytes after each minute: {sizes}; in an hour without it {minute_bytes * 60}\n")
    # etcd sweeps in the background, so a minute or two may be left over.
    assert sizes[-1] < min(sizes[0] + 3 * minute_bytes, MOST_BYTES)


def test_a_thousand_hosts_that_say_nothing_new_write_little(tmp_path: Path) -> None:
    """Twenty barriers a second of their server are 50 MB an hour at most, before a compaction."""
    clock, followed = FixedClock(1_000_000), FollowedHosts()
    for number in range(1_000):
        followed.store(HostReport(f"host-{number}", "p", b"i" * 16, 7, clock.steady_ms(), 3_000, 2))
    with etcd_cluster(tmp_path, 1, {"unsafe-no-fsync": "true"}) as cluster:
        carrier = EtcdCarrier(cluster.addresses, CLUSTER)
        beats = BeatWriter(CLUSTER, "one", KEY, followed, lambda: 7, clock)
        source = EngineSource(carrier, "one", beats, beats.stored, beats.hosts)
        source.barrier()
        before = _file(cluster)
        for _ in range(BEATS_A_MINUTE):
            source.barrier()
        carrier.close()
        hourly = (_file(cluster) - before) * BARRIERS_AN_HOUR // BEATS_A_MINUTE
    sys.stdout.write(f"bytes an hour: {hourly}\n")
    assert 0 < hourly <= 50_000_000


@pytest.fixture
def full(tmp_path: Path) -> EtcdCluster:
    """Prepare a member whose quota is small."""
    return EtcdCluster(tmp_path, 1, {"unsafe-no-fsync": "true", "quota-backend-bytes": str(QUOTA)})


def _fill(carrier: EtcdCarrier) -> None:
    """Write until it is refused: etcd counts what it has committed, each 100 ms."""
    for number in range(5_000):
        carrier.barrier("one", b"%d" % number * 20_000)


def _maintain(cluster: EtcdCluster, what: str, **terms: str) -> dict[str, Any]:
    """Do what an operator does by etcdctl, which need not be here."""
    url = f"http://{cluster.addresses[0]}/v3/maintenance/{what}"
    with urllib.request.urlopen(url, json.dumps(terms).encode(), 30) as answer:
        return cast("dict[str, Any]", json.load(answer))


def test_a_full_etcd_is_told_apart_and_goes_on_with_room(full: EtcdCluster) -> None:
    """Its room, an append and a barrier say so; the page's commands make it take writes again."""
    full.start()
    carrier = EtcdCarrier(full.addresses, CLUSTER)
    try:
        full.await_quorum(carrier)
        writer = LogWriter(carrier, new_leader(carrier))
        writer.append(b"first")
        assert not carrier.room().full
        carrier.barrier("two", b"x" * 200_000)
        with pytest.raises(CarrierError, match="database space exceeded"):
            _fill(carrier)

        assert writer.attempt(b"second").status is AppendStatus.FULL
        assert carrier.room().full and carrier.room().size > QUOTA // 2
        assert carrier.read(0, 1) == [(1, b"first")]

        carrier.compact()
        _maintain(full, "defragment")
        for alarm in _maintain(full, "alarm", action="GET")["alarms"]:
            _maintain(full, "alarm", action="DEACTIVATE", **alarm)
        assert not carrier.room().full
        writer.append(b"second")
        carrier.barrier("one", b"again")
    finally:
        carrier.close()
        full.close()
