"""Usage over hosts: each call counts once, whatever the network does, and what is missing is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessauth.errors import NotLeader, ServerError
from sessauth.model.host import HostRecord
from sessauth.server.usage import cluster_usage
from sessauth.server.usage.cluster_usage import SILENT_MS, require_host
from sessauth.server.usage.host_report import MAX_SESSIONS, RESEND_MS
from sessauth.usage.session_usage import SessionObservation
from sessauth.v1 import usage_service_pb2 as pb
from tests.support.observations import AT, block, block_id, claimed, observed, usage
from tests.support.usage_hosts import Fault, UsageHost, UsageWorld, host_report

ONE, TWO, EDGE = "server/one", "server/two", "edge-1"
FAULTS: tuple[Fault, ...] = ("", "lost", "answer lost", "twice", "late")


@pytest.fixture
def world(tmp_path: Path) -> UsageWorld:
    """Two servers, of which the first leads, and a follower; all have reported."""
    made = UsageWorld(tmp_path, ONE, TWO, EDGE)
    made.lead(ONE)
    made.settle()
    return made


def counts(report: pb.SessionReport) -> dict[str, int]:
    """Return the allowed calls of each host's verifiers."""
    return {each.name: each.allowed for each in report.verifiers}


def test_the_report_is_the_sum_over_hosts(world: UsageWorld) -> None:
    """Counts, blocks and usage records add up; verifiers have the names of their hosts."""
    session_id = world.open()
    for number, host in enumerate(world.hosts.values(), 1):
        seen = observed(session_id, block("r", calls=number, at_ms=AT + number))
        seen.usage = usage(*["files/a"] * number)
        host.observe(seen)
    world.settle()
    assert world.leader is not None
    report = world.leader.report(session_id)

    assert counts(report) == {"server/one/gw": 1, "server/two/gw": 2, "edge-1/gw": 3}
    assert (report.observation.allowed, report.observation.blocks[0].calls) == (6, 6)
    assert report.observation.last_allow_ms == AT + 3
    assert world.leader.cluster.last_allow_ms(session_id) == AT + 3
    assert b'"files"' in report.observation.usage or report.observation.usage
    assert not report.missing


def test_only_the_leader_reports(world: UsageWorld) -> None:
    """So the answer of another server is the leader's, and never a part of it."""
    session_id = world.open()
    with pytest.raises(NotLeader):
        world.hosts[TWO].cluster.report(session_id)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_report_counts_once(world: UsageWorld, fault: Fault) -> None:
    """Lost, without an answer, twice or behind a later one: the sums are what they are."""
    session_id, edge = world.open(), world.hosts[EDGE]
    edge.observe(observed(session_id, block("r", calls=2)))
    edge.fault = fault
    world.settle()
    edge.observe(observed(session_id, block("r", calls=3)))
    world.settle()
    edge.deliver_late()
    assert world.leader is not None
    report = world.leader.report(session_id)
    assert (counts(report), list(report.missing)) == ({"edge-1/gw": 5}, [])


def test_a_new_leader_has_everything_again(world: UsageWorld) -> None:
    """Each host holds its own sums; until it has sent them the new leader names it."""
    session_id = world.open()
    for host in world.hosts.values():
        host.observe(observed(session_id, block("r")))
    world.settle()
    leader = world.lead(TWO)
    early = leader.report(session_id)
    assert counts(early) == {"server/two/gw": 1}
    assert list(early.missing) == [pb.MISSING_HOST]
    assert [each.name for each in leader.cluster.hosts() if not each.current] == [EDGE, ONE]

    world.settle()
    assert leader.report(session_id).observation.allowed == 3
    assert not leader.report(session_id).missing
    assert all(each.current for each in leader.cluster.hosts())


def test_a_leader_that_leads_again_waits_for_what_it_missed(world: UsageWorld) -> None:
    """Its own copy is of its earlier term."""
    session_id, edge = world.open(), world.hosts[EDGE]
    edge.observe(observed(session_id, block("r")))
    world.settle()
    world.lead(TWO)
    edge.observe(observed(session_id, block("r")))
    world.settle()
    leader = world.lead(ONE)
    assert pb.MISSING_HOST in leader.report(session_id).missing
    world.settle()
    assert (leader.report(session_id).observation.allowed, list(leader.report(session_id).missing)) == (2, [])


def test_what_is_sent_anew_comes_in_parts(world: UsageWorld) -> None:
    """A host with more sessions than one report takes is not whole before the last of them."""
    edge = world.hosts[EDGE]
    for number in range(1, MAX_SESSIONS + 2):
        edge.observe(observed(world.open(number), block("r")))
    world.settle()
    leader = world.lead(TWO)
    world.settle(2)
    assert {each.name: each.waiting for each in leader.cluster.hosts()}[EDGE] == 1
    assert pb.MISSING_HOST in leader.report(bytes(15) + b"\x01").missing
    world.settle(1)
    assert not leader.report(bytes(15) + b"\x01").missing


def test_a_silent_host_is_named(world: UsageWorld) -> None:
    """While a session lives; one that ended long before its last report has all of it."""
    lives, ended = world.open(1), world.open(2)
    world.end(ended)
    world.settle(7)
    del world.hosts[EDGE]
    world.settle(1 + SILENT_MS // RESEND_MS)
    assert world.leader is not None
    assert list(world.leader.report(lives).missing) == [pb.MISSING_HOST]
    assert not world.leader.report(ended).missing
    assert [each.name for each in world.leader.cluster.hosts() if not each.current] == [EDGE]


def test_a_host_that_was_killed_says_what_it_lost(world: UsageWorld) -> None:
    """Its next run knows nothing of the sessions that were open."""
    session_id, edge = world.open(), world.hosts[EDGE]
    edge.observe(observed(session_id, block("r", calls=5)))
    world.settle()
    world.registered[EDGE] = host_with(world, EDGE, instances=2)
    edge.restart(killed=True)
    edge.observe(observed(session_id, block("r")))
    world.settle()
    assert world.leader is not None
    assert list(world.leader.report(session_id).missing) == [pb.MISSING_BEFORE, pb.MISSING_USAGE]


def test_a_host_that_ended_in_order_lost_nothing(world: UsageWorld) -> None:
    """Its last report says so, and its next run goes on with the sums."""
    session_id, edge = world.open(), world.hosts[EDGE]
    edge.observe(observed(session_id, block("r", calls=5)))
    world.registered[EDGE] = host_with(world, EDGE, instances=2)
    edge.restart()
    assert world.leader is not None
    assert world.leader.report(session_id).observation.allowed == 5
    edge.observe(observed(session_id, block("r")))
    world.settle()
    report = world.leader.report(session_id)
    assert (report.observation.allowed, list(report.missing)) == (6, [])


def host_with(world: UsageWorld, name: str, *, instances: int) -> HostRecord:
    """Return the row of a host whose process is not its first."""
    return replace(world.registered[name], instances=instances)


def test_a_new_host_makes_no_report_incomplete(world: UsageWorld) -> None:
    """It can't have allowed anything before it was one."""
    session_id = world.open()
    world.clock.advance(60_000)
    world.add("edge-2")
    world.settle()
    assert world.leader is not None
    assert not world.leader.report(session_id).missing


@pytest.mark.parametrize("in_order", [True, False])
def test_a_removed_host_is_named_where_its_sums_are_missing(world: UsageWorld, in_order: bool) -> None:
    """At the leader that has its last report nothing is missing; at a later one its sums are."""
    session_id, edge = world.open(), world.hosts[EDGE]
    edge.observe(observed(session_id, block("r")))
    world.settle()
    if in_order:
        edge.pass_on.close()
    del world.hosts[EDGE], world.registered[EDGE]
    world.settle()
    assert world.leader is not None
    assert list(world.leader.report(session_id).missing) == ([] if in_order else [pb.MISSING_HOST])

    world.hosts[TWO].restart()
    leader = world.lead(TWO)
    world.settle()
    assert list(leader.report(session_id).missing) == [pb.MISSING_HOST]
    assert {each.name: bool(each.removed_at_ms) for each in leader.cluster.hosts()}[EDGE]
    assert not leader.report(world.open(2)).missing


def test_uses_after_the_end_reach_every_host_once(world: UsageWorld) -> None:
    """At the host that saw them, at the leader, and at the others; a repeated report publishes nothing."""
    session_id = world.open()
    world.end(session_id)
    edge = world.hosts[EDGE]
    edge.observe(observed(session_id, late=claimed(3)))
    edge.fault = "answer lost"
    world.settle()
    for host in world.hosts.values():
        assert [each.message.count for each in host.events] == [3], host.name
        assert host.events[0].message.verifier == "edge-1/gw"
    assert [host.uses.total for host in world.hosts.values()] == [0, 0, 3]
    assert world.leader is not None
    assert world.leader.report(session_id).observation.late[0].count == 3


def test_the_leaders_own_late_uses_reach_the_others(world: UsageWorld) -> None:
    """They travel like those of any host."""
    session_id = world.open()
    world.end(session_id)
    assert world.leader is not None
    world.leader.observe(observed(session_id, late=claimed(2)))
    world.settle()
    assert [[each.message.count for each in host.events] for host in world.hosts.values()] == [[2]] * 3


def test_late_uses_of_a_session_that_lives_are_dropped(world: UsageWorld) -> None:
    """A host may say otherwise."""
    session_id = world.open()
    assert world.leader is not None
    world.take(host_report(observed(session_id, late=claimed(3))))
    assert not world.leader.report(session_id).observation.late


def test_a_late_report_of_an_earlier_run_changes_nothing(world: UsageWorld) -> None:
    """It came behind the first one of the next run."""
    session_id, edge = world.open(), world.hosts[EDGE]
    edge.observe(observed(session_id, block("r", calls=9)))
    edge.fault = "late"
    world.settle(1)
    edge.restart()
    edge.observe(observed(session_id, block("r")))
    world.settle()
    edge.deliver_late()
    assert world.leader is not None
    assert world.leader.report(session_id).observation.allowed == 10


def test_a_report_of_a_run_that_nobody_knew_is_late_all_the_same(world: UsageWorld) -> None:
    """Its first one came behind those of the next run, which must not be refused from then on."""
    session_id, edge = world.open(), world.hosts[EDGE]
    edge.restart()
    edge.observe(observed(session_id, block("r", calls=2)))
    edge.fault = "late"
    edge.restart()
    edge.observe(observed(session_id, block("r")))
    world.settle()
    edge.deliver_late()
    world.settle()
    assert world.leader is not None
    report = world.leader.report(session_id)
    assert (report.observation.allowed, list(report.missing)) == (3, [])


def test_a_host_whose_clock_went_back_reports_again_soon(world: UsageWorld) -> None:
    """Its new run looks like an earlier one until the other is silent."""
    session_id, edge = world.open(), world.hosts[EDGE]
    edge.pass_on.close()
    edge.store.close()
    world.clock.step(-3_600_000)
    edge.start()
    edge.observe(observed(session_id, block("r")))
    world.settle(5)
    assert world.leader is not None
    assert world.leader.report(session_id).observation.allowed == 1


def test_a_leaders_own_late_report_is_not_added_to_its_own_sum(world: UsageWorld) -> None:
    """It was under way to the leader before."""
    world.lead(TWO)
    session_id, one = world.open(), world.hosts[ONE]
    one.observe(observed(session_id, block("r")))
    one.fault = "late"
    world.settle(1)
    leader = world.lead(ONE)
    one.deliver_late()
    world.settle()
    assert leader.report(session_id).observation.allowed == 1


def test_a_host_reports_for_itself_alone(world: UsageWorld) -> None:
    """A follower's credential for the hosts that it registered, a server for its own name."""
    records = world.registered
    require_host(EDGE, EDGE, records[EDGE])
    require_host(ONE, ONE, records[ONE])
    for host, principal, known in (
        (EDGE, "edge-2", EDGE),
        (ONE, EDGE, ONE),
        (ONE, TWO, ONE),
        (ONE, "", ONE),
        ("edge-9", EDGE, None),
    ):
        with pytest.raises(ServerError, match="host: "):
            require_host(host, principal, records[known] if known else None)


def test_times_from_the_future_become_now(world: UsageWorld) -> None:
    """A host's clock may be wrong, and receipts state when a call was last allowed."""
    session_id = world.open()
    world.take(host_report(observed(session_id, block("r", at_ms=AT + 10**9))))
    assert world.leader is not None
    assert world.leader.cluster.last_allow_ms(session_id) <= world.clock.now_ms()


def test_unknown_sessions_take_no_room(world: UsageWorld) -> None:
    """Made-up ids are ignored."""
    world.take(host_report(observed(b"x" * 16, block("r"))))
    assert world.leader is not None
    assert not world.leader.cluster.sums.of_session(b"x" * 16)


def test_memory_is_bounded_and_says_so(tmp_path: Path) -> None:
    """Sessions that ended go first; where none did, what finds no room is counted as lost."""
    world = UsageWorld(tmp_path, ONE, EDGE, max_bytes=2 * (cluster_usage.SUM_BYTES + 250))
    leader = world.lead(ONE)
    ids = [world.open(number) for number in (1, 2, 3)]
    for number, session_id in enumerate(ids[:2], 1):
        world.take(host_report(observed(session_id, block("r")), number=number))
    world.take(host_report(observed(ids[2], block("r")), number=3))
    assert pb.MISSING_LOST in leader.report(ids[2]).missing

    world.end(ids[0])
    world.take(host_report(observed(ids[2], block("r")), number=4))
    assert leader.cluster.sums.of_session(ids[2])
    assert pb.MISSING_BEFORE in leader.report(ids[0]).missing


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("observe"), st.sampled_from((ONE, TWO, EDGE)), st.integers(1, 3)),
        st.tuples(st.just("fault"), st.sampled_from((ONE, TWO, EDGE)), st.sampled_from(FAULTS)),
        st.tuples(st.just("lead"), st.sampled_from((ONE, TWO)), st.none()),
        st.tuples(st.just("restart"), st.sampled_from((ONE, TWO, EDGE)), st.none()),
        st.tuples(st.just("settle"), st.none(), st.none()),
        st.tuples(st.just("deliver"), st.sampled_from((ONE, TWO, EDGE)), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_whatever_happens_the_sum_is_right_in_the_end(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, object]]
) -> None:
    """Faults, take-overs and restarts in any order; no call twice, none lost, none unsaid meanwhile."""
    world = UsageWorld(tmp_path_factory.mktemp("usage"), ONE, TWO, EDGE)
    world.lead(ONE)
    session_id = world.open()
    total = 0
    for step, name, value in steps:
        host = world.hosts.get(name or "")
        if step == "observe" and host is not None and isinstance(value, int):
            host.observe(observed(session_id, block("r", calls=value)))
            total += value
        elif step == "fault" and host is not None:
            host.fault = value  # type: ignore[assignment]
        elif step == "lead":
            world.lead(name)
        elif step == "restart" and host is not None:
            host.restart()
            if world.leader is host:
                world.lead(name)
        elif step == "settle":
            world.settle(1)
        elif step == "deliver" and host is not None:
            host.deliver_late()
        assert world.leader is not None
        assert world.leader.report(session_id).observation.allowed <= total
    world.settle(6)
    world.each(lambda host: host.deliver_late())
    assert world.leader is not None
    report = world.leader.report(session_id)
    assert (report.observation.allowed, list(report.missing)) == (total, [])
    assert block_id("r") in {each.block_id for each in report.observation.blocks} or not total


def denied_lately(host: UsageHost) -> dict[bytes, int]:
    """Return the denied calls of the last ten minutes that a host knows, by session."""
    ranked = host.store.recent.ranked(by_calls=False)
    return {session_id: sum(denied) for session_id, (_, denied) in ranked}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_leader_counts_the_recent_activity_of_all_hosts(world: UsageWorld, fault: Fault) -> None:
    """Each call once, whatever happens to reports, and none of those that were made before it led."""
    session_id, edge = world.open(), world.hosts[EDGE]
    for number, host in enumerate(world.hosts.values(), 1):
        host.observe(SessionObservation(session_id, 0, number))
    edge.fault = fault
    world.settle()
    edge.observe(SessionObservation(session_id, 0, 10))
    world.settle()
    edge.deliver_late()
    assert denied_lately(world.hosts[ONE]) == {session_id: 1 + 2 + 3 + 10}

    world.lead(TWO)
    world.settle()
    edge.observe(SessionObservation(session_id, 0, 100))
    world.settle()
    assert denied_lately(world.hosts[TWO]) == {session_id: 2 + 100}
