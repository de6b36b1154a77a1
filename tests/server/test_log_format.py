"""The format of a carried log: nothing of a later one is written before each host said that it reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import RecordRefused, Rejected, StateUnusable
from sessauth.model.change import ChangeKind, ban_sessions, cut_logins, end_session
from sessauth.model.host import (
    FORMAT,
    OLDEST_FORMAT,
    SECOND_FORMAT,
    CarriedRow,
    HostApplied,
    HostRecord,
    ServerBeat,
    ServerKey,
    SignedGroup,
)
from sessauth.model.session import SessionSelector
from sessauth.server.cluster.membership import FormatRaiser, holding_back, readers
from sessauth.state import layout
from sessauth.state.lmdb import cluster_rows
from sessauth.state.lmdb.cluster_rows import read_position
from sessauth.state.replication.carried_log import apply_records
from sessauth.state.replication.snapshot import install
from sessauth.state.writer import group as log_formats
from sessauth.v1 import feed_service_pb2 as pb
from tests.support.carried import Member, OneEngine, begin_cluster
from tests.support.changes import NOW, opening
from tests.support.cluster_servers import two_servers
from tests.support.feeding import cluster
from tests.support.service import wait_until

HOST = HostRecord("host-1", "p", b"i" * 16, 3_000)
SESSION = b"s" * 16


@dataclass
class Upgrade:
    """Two servers of a cluster that writes the oldest format, and a host of the second one."""

    engine: OneEngine
    one: Member
    two: Member
    raiser: FormatRaiser
    numbers: dict[str, int] = field(default_factory=dict)

    def beat(self, name: str, reads: int, host: HostApplied | None = None, signer: str = "") -> None:
        """Have a server say what it and its host read."""
        cluster_id = self.one.writer.head().cluster_id
        beat = ServerBeat(cluster_id, name, 1, 1, 1, (host,) if host else (), reads)
        key = ServerKey((signer or name).encode().ljust(32, b"k"))
        self.engine.barrier(name, beat.signed_by(key).encode())

    @property
    def writes(self) -> int:
        """The format that the cluster writes."""
        with self.one.writer.source().rows() as rows:
            position = read_position(rows)
        assert position is not None
        return position.writes


@pytest.fixture
def upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upgrade]:
    """A cluster that an earlier version began."""
    with monkeypatch.context() as patched:
        patched.setattr("sessauth.state.replication.membership.FORMAT", 0)
        engine, (one, two) = begin_cluster(tmp_path, FixedClock(NOW), ("one", "two"))
    one.writer.run(lambda group: cluster_rows.store_host(group, HOST))
    yield Upgrade(engine, one, two, FormatRaiser(one.writer, one.carried))
    one.writer.close()
    two.writer.close()


@pytest.fixture
def ends_are_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends are taken for a kind that came with the latest format."""
    kinds = log_formats._OLDEST_KINDS - {ChangeKind.END_SESSION}
    monkeypatch.setattr(log_formats, "_OLDEST_KINDS", kinds)


def applied(name: str = HOST.name, instance: bytes = HOST.instance, reads: int = FORMAT) -> HostApplied:
    """Return the host's part of a beat."""
    return HostApplied(name, instance, 1, reads)


@pytest.mark.usefixtures("ends_are_later")
def test_a_later_kind_waits_for_the_last_host(upgrade: Upgrade) -> None:
    """Refused with a word, and nothing is appended; written once the last host said that it reads it."""
    one, two, engine = upgrade.one, upgrade.two, upgrade.engine
    one.writer.submit(opening("open", SESSION)).result().raise_if_rejected()
    number = engine.head.number
    upgrade.beat("one", FORMAT)
    upgrade.beat("two", FORMAT, applied(reads=0))
    upgrade.raiser.poll()
    with pytest.raises(Rejected, match="upgrade the hosts") as refused:
        one.writer.submit(end_session("end", SESSION)).result()
    assert refused.value.word == "OLD_FORMAT"
    assert engine.head.number == number and upgrade.writes == OLDEST_FORMAT

    upgrade.beat("two", FORMAT, applied())
    upgrade.raiser.poll()
    assert upgrade.writes == FORMAT
    one.writer.submit(end_session("end", SESSION)).result().raise_if_rejected()
    formats = [SignedGroup.decode(engine.records[at]).record().format for at in sorted(engine.records)]
    assert formats == [OLDEST_FORMAT] * number + [FORMAT] * 2
    two.follow()
    assert two.tables() == one.tables()
    # Said in the log, so a server that takes over needs to hear nobody.
    assert one.carried.leader is not None
    one.carried.step_down("for the test")
    engine.leading = None
    two.lead()
    two.writer.submit(end_session("again", SESSION)).result()


def test_a_row_that_is_not_known_waits_too(upgrade: Upgrade) -> None:
    """One of any prefix is of the latest format unless it is listed."""
    with pytest.raises(Rejected) as refused:
        upgrade.one.writer.run(lambda group: group.put_carried(layout.EVIDENCE, b"?x", b"x"))
    assert refused.value.word == "OLD_FORMAT"


def test_the_brake_of_a_cluster_waits(upgrade: Upgrade) -> None:
    """An earlier version would stop at its row."""
    with pytest.raises(Rejected) as refused:
        upgrade.one.writer.run(lambda group: cluster_rows.set_brake(group, "now", "op"))
    assert refused.value.word == "OLD_FORMAT"
    upgrade.one.writer.run(upgrade.one.carried.raise_format)
    upgrade.one.writer.run(lambda group: cluster_rows.set_brake(group, "now", "op"))
    upgrade.two.follow()
    assert upgrade.two.writer.braked


def test_a_ban_of_new_sessions_waits(upgrade: Upgrade) -> None:
    """An earlier version could not apply it, so sessions are ended without one meanwhile."""
    ban = ban_sessions("ban", SessionSelector("a"), 1000)
    with pytest.raises(Rejected) as refused:
        upgrade.one.writer.submit(ban).result()
    assert refused.value.word == "OLD_FORMAT"
    upgrade.one.writer.run(upgrade.one.carried.raise_format)
    assert upgrade.one.writer.submit(ban).result().applied
    upgrade.two.follow()
    assert upgrade.two.tables() == upgrade.one.tables()


@pytest.mark.parametrize(
    "text",
    [
        "except write:mcp/shell/**",
        'read:** where path not under "keys"',
        'read:** where domain(to) == "acme.com"',
        "read:** where any(x) == 1",
    ],
)
def test_a_ceiling_that_earlier_versions_would_refuse_waits(
    upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """They would come to another state than the leader, so what they can read is opened meanwhile."""
    with monkeypatch.context() as patched:
        patched.setattr("sessauth.state.replication.carried_log.FORMAT", SECOND_FORMAT)
        upgrade.one.writer.run(upgrade.one.carried.raise_format)
    later = opening("open", SESSION, text)
    with pytest.raises(Rejected) as refused:
        upgrade.one.writer.submit(later).result()
    assert refused.value.word == "OLD_FORMAT"
    upgrade.one.writer.run(upgrade.one.carried.raise_format)
    assert upgrade.one.writer.submit(later).result().applied
    upgrade.two.follow()
    assert upgrade.two.tables() == upgrade.one.tables()


def test_a_cut_of_logins_waits_for_the_third_format(
    upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ban does not, as it came with the second."""
    with monkeypatch.context() as patched:
        patched.setattr("sessauth.state.replication.carried_log.FORMAT", SECOND_FORMAT)
        upgrade.one.writer.run(upgrade.one.carried.raise_format)
    assert upgrade.writes == SECOND_FORMAT
    assert upgrade.one.writer.submit(ban_sessions("ban", SessionSelector("a"), 1000)).result().applied
    cut = cut_logins("cut", "https://idp", {"up_to_ms": 1}, 1)
    with pytest.raises(Rejected) as refused:
        upgrade.one.writer.submit(cut).result()
    assert refused.value.word == "OLD_FORMAT"
    upgrade.one.writer.run(upgrade.one.carried.raise_format)
    assert upgrade.one.writer.submit(cut).result().applied
    upgrade.two.follow()
    assert upgrade.two.tables() == upgrade.one.tables()


def test_the_address_of_a_server_is_left_out(upgrade: Upgrade) -> None:
    """Its row is written without, so that it has proofs all the same; and with it behind the switch."""
    server = HostRecord("server/three", "", b"t" * 16, 3_000, address="three:1")

    def stored() -> str:
        upgrade.one.writer.run(lambda group: cluster_rows.store_host(group, server))
        found = upgrade.one.writer.host(server.name)
        assert found is not None
        return found.address

    assert stored() == ""
    upgrade.two.follow()
    upgrade.one.writer.run(upgrade.one.carried.raise_format)
    upgrade.one.writer.run(lambda group: cluster_rows.leave_host(group, server.name))
    assert stored() == "three:1"
    upgrade.two.follow()


def test_a_row_of_a_later_format_than_its_record(upgrade: Upgrade) -> None:
    """No leader writes one: it is refused, with its signature."""
    one, two = upgrade.one, upgrade.two
    one.writer.run(lambda group: cluster_rows.leave_host(group, HOST.name))
    signed = SignedGroup.decode(upgrade.engine.records[upgrade.engine.head.number])
    record = signed.record()
    before = [upgrade.engine.records[number] for number in range(two.number + 1, record.number)]
    two.writer.run(lambda group: apply_records(group, before))
    row = CarriedRow(layout.EVIDENCE, b"hserver/x", replace(HOST, name="server/x", address="x:1").encode())
    forged = replace(record, rows=(row,)).signed_by(one.key).encode()
    with pytest.raises(RecordRefused) as refused:
        two.writer.run(lambda group: apply_records(group, [forged]))
    assert refused.value.fault == "FOREIGN_ROW"


@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"host": applied(instance=b"j" * 16)},
        {"host": applied(reads=1)},
        {"host": applied(name="server/one"), "signer": "two"},
        {"host": applied(), "signer": "one"},
        {"host": applied(), "reads": 1},
    ],
    ids=["nothing", "instance before", "reads 1", "of another server", "forged", "its server reads 1"],
)
def test_what_holds_it_back(upgrade: Upgrade, stated: dict[str, object]) -> None:
    """Each registered host must have said so itself, in its running instance, by an honest server."""
    upgrade.beat("one", FORMAT)
    upgrade.beat("two", **{"reads": FORMAT, **stated})  # type: ignore[arg-type]
    upgrade.raiser.poll()
    assert upgrade.writes == OLDEST_FORMAT


def test_a_host_that_is_away_has_said_so(upgrade: Upgrade) -> None:
    """It counts for as long as this server leads, and one that registers meanwhile does not."""
    upgrade.beat("two", FORMAT, applied())
    upgrade.raiser.poll()
    upgrade.beat("one", FORMAT)
    upgrade.beat("two", FORMAT)
    late = HostRecord("host-2", "p", b"j" * 16, 3_000)
    upgrade.one.writer.run(lambda group: cluster_rows.store_host(group, late))
    upgrade.raiser.poll()
    assert upgrade.writes == OLDEST_FORMAT
    upgrade.one.writer.run(lambda group: cluster_rows.leave_host(group, late.name))
    upgrade.one.writer.run(lambda group: cluster_rows.drop_host(group, cluster_rows.hosts(group.rows)[1]))
    upgrade.raiser.poll()
    assert upgrade.writes == FORMAT


def test_a_program_that_reads_less_stops(upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses the records, a snapshot, and a folder that a later program wrote."""
    one, two = upgrade.one, upgrade.two
    number = two.number
    one.writer.run(one.carried.raise_format)
    records = [record for _, record in upgrade.engine.read(number, 9)]
    for module in ("replication.carried_log", "replication.snapshot", "writer.opening"):
        monkeypatch.setattr(f"sessauth.state.{module}.FORMAT", OLDEST_FORMAT)
    with pytest.raises(RecordRefused, match="upgrade sessauth on this host") as refused:
        two.writer.run(lambda group: apply_records(group, records))
    assert refused.value.fault == "NEWER_FORMAT"
    with one.writer.source().rows() as rows, pytest.raises(RecordRefused) as refused:
        two.writer.run(lambda group: install(group, rows))
    assert refused.value.fault == "NEWER_FORMAT"
    with pytest.raises(StateUnusable) as unusable:
        one.restart()
    assert unusable.value.problem == "NEWER_FORMAT"


def test_two_servers_raise_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are of the earlier version at first; the log event names them."""
    engine = OneEngine()
    for module in ("membership", "begin"):
        monkeypatch.setattr(f"sessauth.server.cluster.{module}.open_carrier", lambda *_: engine)
    monkeypatch.setattr("sessauth.state.replication.membership.FORMAT", 0)
    monkeypatch.setattr("sessauth.server.cluster.cluster_feed.FORMAT", OLDEST_FORMAT)
    with two_servers(tmp_path, ["127.0.0.1:1"]) as (one, _):

        def holding() -> list[str]:
            with one.control.writer.source().rows() as rows:
                return holding_back(cluster_rows.hosts(rows), readers(rows, engine.beats()))

        def writes() -> int:
            with one.control.writer.source().rows() as rows:
                position = read_position(rows)
            return 0 if position is None else position.writes

        assert wait_until(lambda: holding() == ["server/one (reads 1)", "server/two (reads 1)"])
        assert writes() == OLDEST_FORMAT
        monkeypatch.setattr("sessauth.server.cluster.cluster_feed.FORMAT", FORMAT)
        assert wait_until(lambda: writes() == FORMAT)
        assert holding() == []


def test_a_follower_says_what_it_reads() -> None:
    """Its barrier states it; a client that states none reads the oldest."""
    with cluster() as fed:
        source = fed.source()
        try:
            source.barrier()
        finally:
            source.close()
        assert [report.reads for report in fed.servers[0].feed.hosts.all()] == [FORMAT]
        request = pb.BarrierRequest(host="host-1", instance=b"i" * 16, staleness_ms=3_000)
        caller = fed.caller()
        caller.call("FeedService/Barrier", request)
        caller.close()
        assert [report.reads for report in fed.servers[0].feed.hosts.all()] == [0]
