"""Properties of the engine in memory under any order of calls and faults: one log, no wrong answer."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sessauth.clock import FixedClock
from sessauth.state.replication.carrier import CarrierError, LogHead
from tests.support.cases import examples
from tests.support.log_writer import APPENDED, FENCED, REFUSED, START, UNKNOWN, LogWriter, behind, digest
from tests.support.memory_carrier import Fault, MemoryCarrier, MemoryEngine

SERVERS = st.sampled_from(["one", "two"])


class _Servers(RuleBasedStateMachine):
    """Two servers that take turns to lead, and lose answers, leases and connections."""

    @initialize()
    def begin(self) -> None:
        self.clock = FixedClock(1_000_000)
        self.engine = MemoryEngine(self.clock)
        self.carriers = {name: MemoryCarrier(self.engine, name) for name in ("one", "two")}
        self.writers: dict[str, LogWriter] = {}
        self.appended: dict[int, bytes] = {}
        # Records that were fenced or refused, which may never be there.
        self.denied: set[bytes] = set()
        self.terms: list[int] = []
        self.records = 0

    @rule(name=SERVERS, ttl_ms=st.integers(1, 5_000))
    def lead(self, name: str, ttl_ms: int) -> None:
        """Become the leader, and take the head from a barrier."""
        try:
            leader = self.carriers[name].lead(name, name, ttl_ms)
            if leader is not None:
                self.terms.append(leader.term)
                self.writers[name] = LogWriter(
                    self.carriers[name], leader, self.carriers[name].barrier(name, b"").head
                )
        except CarrierError:
            pass

    @rule(name=SERVERS, faults=st.lists(st.sampled_from(Fault), max_size=3), give_up_ms=st.integers(0, 4_000))
    def append(self, name: str, faults: list[Fault], give_up_ms: int) -> None:
        """Append by what a server knows, right or not."""
        writer = self.writers.get(name)
        if writer is None:
            return
        self.records += 1
        record = b"%d by %s" % (self.records, name.encode())
        number = writer.head.number + 1
        self.engine.faults.clear()
        self.engine.faults.extend(faults)
        answer = writer.attempt(record, give_up_ms)
        self.engine.faults.clear()
        if answer.status is APPENDED:
            assert self.appended.setdefault(number, record) == record
        elif answer.status in (FENCED, REFUSED):
            self.denied.add(record)
        else:
            self._retry(writer, record, number)

    def _retry(self, writer: LogWriter, record: bytes, number: int) -> None:
        """Send the same bytes again, as a leader does."""
        head, was = writer.head, self.engine.record(number)
        answer = writer.attempt(record, 1_000)
        if answer.status is APPENDED:
            assert self.appended.setdefault(number, record) == record
            return
        assert was != record or answer.status is UNKNOWN
        assert writer.head == head

    @rule(name=SERVERS)
    def hold(self, name: str) -> None:
        """Keep the key, if it is there: only the last term can."""
        writer = self.writers.get(name)
        try:
            if writer is not None and self.carriers[name].hold(writer.leader):
                assert writer.leader.term == max(self.terms)
        except CarrierError:
            pass

    @rule(name=SERVERS)
    def resign(self, name: str) -> None:
        """Give the key back."""
        if name in self.writers:
            self.carriers[name].resign(self.writers[name].leader)

    @rule(ms=st.integers(1, 6_000))
    def pass_time(self, ms: int) -> None:
        """Let leases lapse."""
        self.clock.advance(ms)

    @rule(name=SERVERS, silent=st.booleans())
    def cut(self, name: str, silent: bool) -> None:
        """Cut a server off, and let it be back."""
        (self.engine.cut.add if silent else self.engine.cut.discard)(name)

    @invariant()
    def the_log_is_one(self) -> None:
        """Every acknowledged record is there, none that was denied is, and numbers have no gap."""
        if not hasattr(self, "engine"):
            return
        found = dict(self.engine.read(0, 1_000))
        assert [*found] == [*range(1, len(found) + 1)]
        assert found.items() >= self.appended.items()
        assert not self.denied.intersection(found.values())
        last = LogHead(len(found), digest(found[len(found)])) if found else START
        assert self.engine.head() == last
        assert self.terms == sorted(set(self.terms))


TestServers = _Servers.TestCase
TestServers.settings = settings(max_examples=examples(150), stateful_step_count=30, deadline=None)


def _engine() -> tuple[MemoryEngine, LogWriter]:
    engine = MemoryEngine(FixedClock(1_000_000))
    carrier = MemoryCarrier(engine, "one")
    leader = carrier.lead("one", "one:1", 60_000)
    assert leader is not None
    writer = LogWriter(carrier, leader)
    writer.append(b"1", b"2", b"3")
    return engine, writer


def test_a_refusal_is_definitive_but_behind_a_loss() -> None:
    """Refused at once: refused. Refused after a lost answer: unknown, and the record may be there."""
    engine, writer = _engine()
    engine.faults.append(Fault.REFUSED)
    assert writer.attempt(b"4").status is REFUSED
    engine.faults.extend([Fault.LOST_AFTER, Fault.REFUSED])

    assert writer.attempt(b"4").status is UNKNOWN
    assert engine.record(4) == b"4"
    assert writer.attempt(b"4").status is APPENDED


def test_a_lost_answer_is_found_by_the_next_attempt() -> None:
    """Within a call, and by a call that comes later."""
    engine, writer = _engine()
    engine.faults.append(Fault.LOST_AFTER)
    assert writer.attempt(b"4").status is APPENDED
    engine.faults.extend([Fault.LOST_BEFORE, Fault.LOST_AFTER])
    assert writer.attempt(b"5", 2_000).status is UNKNOWN

    assert writer.attempt(b"other").status is FENCED
    assert writer.attempt(b"5").status is APPENDED


def test_a_lost_past_shows() -> None:
    """A wiped and a restored engine have the old id and a lower revision, and fence who knew more."""
    engine, writer = _engine()
    saved = engine.save()
    writer.append(b"4")
    before = writer.carrier.barrier("one", b"")

    engine.restore(saved)
    restored = writer.carrier.barrier("one", b"")
    assert restored.engine_id == before.engine_id
    assert restored.engine_revision < before.engine_revision
    assert writer.attempt(b"5").status is FENCED
    engine.wipe()

    assert writer.carrier.barrier("one", b"").head == START
    assert writer.attempt(b"5").status is FENCED


def test_an_intruder_can_alter_what_is_read() -> None:
    """The engine judges no record: that is the reader's part."""
    engine, writer = _engine()

    engine.alter(2, b"forged")
    engine.replay(1, 3)

    assert writer.carrier.read(0, 10) == [(1, b"1"), (2, b"forged"), (3, b"1")]


def test_silence_is_not_an_answer() -> None:
    """Calls fail, appends are unknown, and all goes on behind it."""
    engine, writer = _engine()
    engine.silent = True
    for call in (writer.carrier.leader, writer.carrier.beats, lambda: writer.carrier.read(0, 1)):
        with pytest.raises(CarrierError):
            call()
    assert writer.attempt(b"4").status is UNKNOWN
    engine.silent = False

    writer.append(b"4")
    assert writer.head == behind(LogHead(3, digest(b"3")), b"4")
