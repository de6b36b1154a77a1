"""Hosts in receipts: which hold an end, which are outlived, and what a leader may know of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import NotLeader, Rejected, ServerError
from sessauth.model.change import end_session
from sessauth.model.host import HostApplied, HostRecord, ServerBeat, ServerKey
from sessauth.model.receipt import VerifierState
from sessauth.server.cluster.cluster_feed import BeatWriter, FollowedHosts, HostReport
from sessauth.server.evidence.host_evidence import HostEvidence
from sessauth.server.evidence.registry import MARGIN_MS
from sessauth.state.lmdb import cluster_rows
from sessauth.state.replication.carrier import BeatReplaced, CarrierError, EngineSource
from tests.support.carried import Member, OneEngine, begin_cluster, join
from tests.support.changes import NOW, opening

BOUND_MS = 3_000
PAST_MS = BOUND_MS + MARGIN_MS
HOST = "host-1"
ONE, TWO = "server/one", "server/two"
ACKNOWLEDGED, OUTLIVED, WAITING = (VerifierState.ACKNOWLEDGED, VerifierState.OUTLIVED, VerifierState.WAITING)


@dataclass
class World:
    """Two servers over one engine, the first of which leads, and a host that follows the second."""

    clock: FixedClock
    engine: OneEngine
    one: Member
    two: Member
    evidence: HostEvidence
    fed_by_one: FollowedHosts
    fed_by_two: FollowedHosts
    beat_of_two: BeatWriter

    def end(self, name: str = "a") -> int:
        """Open and end a session; return the revision of its end."""
        session_id = name.encode() * 16
        self.one.writer.submit(opening(f"open-{name}", session_id)).result().raise_if_rejected()
        ended = self.one.writer.submit(end_session(f"end-{name}", session_id)).result()
        ended.raise_if_rejected()
        return ended.revision

    def ask(self, applied: int, *, at_two: bool = True, instance: bytes = b"i" * 16) -> None:
        """Have the host ask a server for a barrier."""
        fed = self.fed_by_two if at_two else self.fed_by_one
        fed.store(HostReport(HOST, "p", instance, applied, self.clock.steady_ms(), BOUND_MS))
        if at_two:
            self.beat()

    def beat(self) -> None:
        """Have the second server follow, and make a barrier."""
        self.two.follow()
        beat = self.beat_of_two
        EngineSource(self.engine, "two", beat, beat.stored, beat.hosts).barrier()

    def states(self, revision: int, evidence: HostEvidence | None = None) -> dict[str, VerifierState]:
        """Return the states against an end."""
        evidence = evidence or self.evidence
        mark = evidence.mark(revision)
        return {each.name: each.state for each in evidence.statuses(mark, revision)}


def register(member: Member, name: str = HOST, instance: bytes = b"i" * 16, principal: str = "p") -> None:
    """Register a host."""
    record = HostRecord(name, principal, instance, BOUND_MS)
    member.writer.decide(lambda group: cluster_rows.store_host(group, record), 0).result()


def raising(error: Exception) -> Callable[[], None]:
    """Return a function that raises an error."""

    def fail() -> None:
        raise error

    return fail


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """All proofs from before are over; the host is registered."""
    clock = FixedClock(NOW)
    engine, (one, two) = begin_cluster(tmp_path, clock, ("one", "two"))
    register(one)
    two.follow()
    followed, of_two = FollowedHosts(), FollowedHosts()
    evidence = HostEvidence(one.writer, one.carried, followed, clock, BOUND_MS)
    key = ServerKey(b"two".ljust(32, b"k"))
    beats = BeatWriter(one.writer.head().cluster_id, "two", key, of_two, lambda: two.number, clock)
    made = World(clock, engine, one, two, evidence, followed, of_two, beats)
    made.beat()
    evidence.refresh(0)
    clock.advance(2 * PAST_MS)
    yield made
    one.writer.close()
    two.writer.close()


def test_a_host_is_waited_for_until_it_holds_the_end(world: World) -> None:
    """The leader learns that from its own followers and from beats; it holds the end itself."""
    world.ask(0)
    world.evidence.poll()
    end = world.end()
    assert world.states(end) == {HOST: WAITING, ONE: ACKNOWLEDGED, TWO: WAITING}
    world.beat()
    assert world.states(end) == {HOST: WAITING, ONE: ACKNOWLEDGED, TWO: ACKNOWLEDGED}
    world.ask(world.one.number - 1)
    assert world.states(end)[HOST] is WAITING
    world.ask(world.one.number)
    assert world.states(end)[HOST] is ACKNOWLEDGED
    further = world.end("b")
    world.ask(world.one.number, at_two=False)
    assert world.states(further)[HOST] is ACKNOWLEDGED


def test_a_host_that_is_gone_is_outlived_after_its_bound(world: World) -> None:
    """Not a moment before; of later ends at once, until it comes back."""
    world.ask(0)
    end = world.end()
    world.beat()
    assert world.states(end)[HOST] is WAITING
    world.clock.advance(PAST_MS - 1)
    world.beat()
    assert world.states(end)[HOST] is WAITING
    world.clock.advance(1)
    world.beat()
    assert world.states(end)[HOST] is OUTLIVED
    world.clock.advance(2 * PAST_MS)
    world.beat()
    world.states(end)
    world.clock.advance(PAST_MS)
    later = world.end("b")
    world.beat()
    assert world.states(later) == {HOST: OUTLIVED, ONE: ACKNOWLEDGED, TWO: ACKNOWLEDGED}
    world.ask(0)
    newest = world.end("c")
    assert world.states(newest)[HOST] is WAITING


def test_a_proof_behind_the_end_does_not_count(world: World) -> None:
    """A host that asks but does not get on can prove nothing: it is outlived a bound after the end."""
    world.ask(0)
    end = world.end()
    assert world.states(end)[HOST] is WAITING
    for _ in range(PAST_MS // 100):
        world.clock.advance(100)
        world.ask(0)
    assert world.states(end)[HOST] is OUTLIVED


def test_a_new_leader_waits_a_bound(world: World) -> None:
    """It has heard nobody, whatever the beats say; and it needs no word of the old one."""
    end = world.end()
    world.beat()
    world.one.carried.step_down("the test")
    world.engine.resign(world.engine.leading)  # type: ignore[arg-type]
    evidence = HostEvidence(world.two.writer, world.two.carried, world.fed_by_two, world.clock, BOUND_MS)
    with pytest.raises(NotLeader):
        raise evidence.refusal() or AssertionError
    world.clock.advance(2 * PAST_MS)
    world.two.lead()
    assert evidence.refusal() is None
    assert world.states(end, evidence) == {HOST: WAITING, ONE: WAITING, TWO: ACKNOWLEDGED}
    world.clock.advance(PAST_MS)
    assert world.states(end, evidence) == {HOST: OUTLIVED, ONE: OUTLIVED, TWO: ACKNOWLEDGED}


def test_without_beats_nobody_is_outlived_at_once(world: World) -> None:
    """An engine that does not answer hides whoever asked another server, and another process of this name."""
    end = world.end()
    world.engine.silent = True
    assert world.states(end) == {HOST: WAITING, ONE: WAITING, TWO: WAITING}
    world.clock.advance(PAST_MS)
    assert world.states(end) == {HOST: OUTLIVED, ONE: OUTLIVED, TWO: OUTLIVED}


def test_a_leader_whose_name_was_taken_over_closes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder says nothing of the other process, which may feed hosts: a bound must pass."""
    world.evidence.poll()
    silent_s = "sessauth.server.evidence.host_evidence.SILENT_SECONDS"
    monkeypatch.setattr(silent_s, 0.0)
    monkeypatch.setattr(world.engine, "beats", raising(BeatReplaced("one")))
    end = world.end()
    assert world.states(end) == {HOST: WAITING, ONE: WAITING, TWO: WAITING}
    world.clock.advance(PAST_MS - 1)
    assert world.states(end) == {HOST: WAITING, ONE: WAITING, TWO: WAITING}
    monkeypatch.undo()
    world.evidence.refresh(world.clock.steady_ms())
    assert world.states(end)[ONE] is ACKNOWLEDGED


def test_a_process_has_no_age_before_its_first_beat_is_stored(world: World) -> None:
    """Until then another process of its name may have proved hosts fresh, which its beats do not name."""
    key = ServerKey(b"two".ljust(32, b"k"))
    cluster = world.one.writer.head().cluster_id
    later = BeatWriter(cluster, "two", key, FollowedHosts(), lambda: world.two.number, world.clock)
    source = EngineSource(world.engine, "two", later, later.stored)
    world.engine.silent = True
    with pytest.raises(CarrierError):
        source.barrier()
    world.clock.advance(2 * PAST_MS)
    world.engine.silent = False
    world.two.follow()
    world.ask(0)

    source.barrier()
    end = world.end()
    world.clock.advance(PAST_MS - 1)
    source.barrier()
    assert world.states(end)[HOST] is WAITING
    world.clock.advance(PAST_MS)
    source.barrier()
    assert world.states(end)[HOST] is OUTLIVED


def test_a_server_that_began_anew_knows_nobody(world: World) -> None:
    """Its process before may have fed hosts that its beats do not name any more."""
    signer = ServerKey(b"two".ljust(32, b"k"))
    cluster = world.one.writer.head().cluster_id
    end = world.end()
    world.engine.barrier("two", ServerBeat(cluster, "two", 1, PAST_MS - 1, 0).signed_by(signer).encode())
    assert world.states(end)[HOST] is WAITING
    world.clock.advance(2 * PAST_MS)
    later = world.end("b")
    world.engine.barrier("two", ServerBeat(cluster, "two", 2, PAST_MS, 0).signed_by(signer).encode())
    assert world.states(later)[HOST] is OUTLIVED


@pytest.mark.parametrize("lost", ["list", "process"])
def test_a_beat_whose_list_is_not_there_hides_nobody(world: World, lost: str) -> None:
    """Any host may have asked just now; the server's own record counts all the same."""
    world.ask(0)
    world.clock.advance(2 * PAST_MS)
    world.beat()
    end = world.end()
    assert world.states(end)[HOST] is OUTLIVED
    world.ask(0)
    if lost == "list":
        del world.engine.beat_of["two/hosts"]
    else:
        key = ServerKey(b"two".ljust(32, b"k"))
        other = FollowedHosts()
        other.store(HostReport("host-2", "p", b"i" * 16, 0, world.clock.steady_ms(), BOUND_MS))
        cluster = world.one.writer.head().cluster_id
        later = BeatWriter(cluster, "two", key, other, lambda: 0, world.clock)
        world.engine.barrier("two/hosts", later.hosts.changed())
    end = world.end("b")
    world.engine.barrier("two", world.beat_of_two())
    assert world.states(end)[HOST] is WAITING


@pytest.mark.parametrize("forge", ["stranger", "other server", "other cluster", "altered", "no beat"])
def test_the_engine_can_make_no_acknowledgement(world: World, forge: str) -> None:
    """A beat that its server did not sign says nothing; whoever it hides may have asked just now."""
    world.ask(0)
    end = world.end()
    cluster = world.one.writer.head().cluster_id
    number = world.one.number
    name = "one" if forge == "other server" else "two"
    signer = ServerKey((b"s" if forge == "stranger" else b"two").ljust(32, b"k"))
    cluster = b"x" * 16 if forge == "other cluster" else cluster
    applied = HostApplied(HOST, b"i" * 16, number)
    data = ServerBeat(cluster, name, 9, 10**9, number, (applied,)).signed_by(signer).encode()
    if forge == "altered":
        data = data[:-1] + bytes([data[-1] ^ 1])
    world.engine.barrier("two", b"" if forge == "no beat" else data)
    assert world.states(end) == {HOST: WAITING, ONE: ACKNOWLEDGED, TWO: WAITING}


def test_the_next_instance_counts_after_a_bound(world: World) -> None:
    """The one before may be another machine with the same name and credential, which still allows."""
    world.ask(0)
    register(world.one, instance=b"j" * 16)
    world.evidence.poll()
    end = world.end()
    world.ask(world.one.number, instance=b"j" * 16)
    world.ask(world.one.number, at_two=False)
    assert world.states(end)[HOST] is WAITING
    world.clock.advance(PAST_MS)
    world.ask(world.one.number, instance=b"j" * 16)
    assert world.states(end)[HOST] is ACKNOWLEDGED


def test_a_host_that_came_later_is_not_named(world: World) -> None:
    """Its first proof needs its row, which is behind the end."""
    end = world.end()
    register(world.one, "host-2", b"k" * 16)
    assert "host-2" not in world.states(end)
    assert world.states(world.end("b"))["host-2"] is WAITING


def test_a_name_is_one_credentials(world: World) -> None:
    """Another one's host can't take it; a longer bound is registered, a shorter one changes nothing."""
    with pytest.raises(Rejected, match="NAME_TAKEN"):
        register(world.one, principal="q")
    for bound, stored in ((5_000, 5_000), (2_000, 5_000)):
        wanted = HostRecord(HOST, "p", b"i" * 16, bound)
        world.one.writer.run(lambda group, w=wanted: cluster_rows.store_host(group, w))
        record = world.one.writer.host(HOST)
        assert record is not None and record.staleness_ms == stored and record.admits(wanted)


def test_a_credential_has_four_hosts(world: World) -> None:
    """A fifth name is refused and names them; their next processes, and other credentials' hosts, are not."""
    for name in ("host-2", "host-3", "host-4"):
        register(world.one, name)
    with pytest.raises(Rejected, match="host-1, host-2, host-3, host-4") as refused:
        register(world.one, "host-5")
    assert refused.value.word == "LIMIT"
    assert world.one.writer.host("host-5") is None
    register(world.one, "host-4", b"k" * 16)
    register(world.one, "host-5", principal="q")
    stored = world.one.writer.host("host-4")
    assert stored is not None and stored.instance == b"k" * 16


def test_a_host_is_removed_once_it_can_not_allow(world: World) -> None:
    """Refused while it may; then it gets no proof, and receipts name it for a bound yet."""
    world.ask(0)
    with pytest.raises(ServerError, match="may still allow") as refused:
        world.evidence.remove(HOST)
    assert refused.value.reason == "HOST_ACTIVE"
    with pytest.raises(Rejected, match="NOT_FOUND"):
        world.evidence.remove("nobody")
    world.clock.advance(2 * PAST_MS)
    world.beat()
    world.evidence.poll()
    world.clock.advance(PAST_MS)
    world.beat()
    end = world.end()
    world.evidence.remove(HOST)
    record = world.one.writer.host(HOST)
    assert record is not None and not record.admits(record)
    world.evidence.poll()
    assert HOST in world.states(end)
    world.clock.advance(PAST_MS)
    world.evidence.poll()
    assert world.one.writer.host(HOST) is None
    world.evidence.poll()
    assert HOST not in world.states(end)
    world.two.follow()
    assert world.two.writer.host(HOST) is None


def test_a_host_that_registers_again_is_not_removed(world: World) -> None:
    """It was stopped, and came back before its row was gone."""
    world.beat()
    world.clock.advance(2 * PAST_MS)
    world.evidence.remove(HOST)
    world.evidence.poll()
    register(world.one)
    world.clock.advance(PAST_MS)
    world.evidence.poll()
    record = world.one.writer.host(HOST)
    assert record is not None and not record.leaving


def test_a_snapshot_has_the_hosts(world: World, tmp_path: Path) -> None:
    """A host that joins knows all; a registration of this machine alone is not among them."""
    join(tmp_path / "three", world.one.writer.source(), world.clock)
    key = ServerKey(b"three".ljust(32, b"k"))
    three = Member(world.engine, tmp_path / "three", "three", key, world.clock)
    assert [record.name for record in three.writer.hosts()] == [HOST, ONE, TWO]
    three.writer.close()
