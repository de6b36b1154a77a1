"""The observation sink: batches are reported once, whole, and within their limits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from sessauth._fast._check import DecisionQueue
from sessauth.errors import PermissionDenied, Unavailable, UsageError
from sessauth.model.change import end_session
from sessauth.model.session import Session
from sessauth.state.lmdb.rows import stored_lineage
from sessauth.usage.collector import ObservationSink
from sessauth.usage.session_usage import ObservationAck, ObservationBatch, SessionObservation
from tests.support.service import wait_until
from tests.support.state_fixture import NOW, SESSION, StateFixture
from tests.support.token_forger import Record
from tests.vectors.world import ask, child, root, token


@dataclass
class Listener:
    """A control process that a test has in its hand."""

    wants_usage: bool = False
    control_id: bytes = bytes(16)
    failure: Exception | None = None
    # Every batch, also those that were answered with a failure.
    received: list[ObservationBatch] = field(default_factory=list)
    acknowledged: dict[int, ObservationBatch] = field(default_factory=dict)
    came: threading.Event = field(default_factory=threading.Event)

    def report_observations(self, batch: ObservationBatch) -> ObservationAck:
        """Accept a batch, unless it is time to fail."""
        self.received.append(batch)
        self.came.set()
        if self.failure is not None:
            raise self.failure
        self.acknowledged[batch.number] = batch
        return ObservationAck(self.control_id, self.wants_usage)

    def total(self, session_id: bytes) -> SessionObservation:
        """Return the sum of a session's observations."""
        total = SessionObservation(session_id)
        # A copy: the thread of the sink may report meanwhile.
        for batch in tuple(self.acknowledged.values()):
            for seen in batch.sessions:
                if seen.session_id == session_id:
                    total.add(seen, 1 << 30)
        return total


READ = "read:files/**"
PARENT = token(root(READ))
CHILD = token(root(READ), child("read:files/a/**"))
SIBLING = token(root(READ), child("read:files/**"))
Make = Callable[..., ObservationSink]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateFixture]:
    """A state folder with a session that lives."""
    state = StateFixture(tmp_path_factory.mktemp("state"))
    yield state
    state.close()


@pytest.fixture
def state(shared: StateFixture) -> StateFixture:
    """The shared one, with a queue of its own."""
    shared.verifier.decision_queue = DecisionQueue(1 << 20)
    return shared


@pytest.fixture
def listener() -> Listener:
    """A control process that wants no usage."""
    return Listener()


@pytest.fixture
def make(listener: Listener) -> Iterator[Make]:
    """Give a function that makes a sink which reports to the listener at once."""
    made: list[ObservationSink] = []

    def sink(**options: Any) -> ObservationSink:
        made.append(ObservationSink(listener, **{"every_ms": 1, "wants_usage": False, **options}))
        return made[-1]

    yield sink
    for each in made:
        each.close()


def feed(state: StateFixture, sink: ObservationSink) -> None:
    """Drain the queue into the sink."""
    queue = state.verifier.decision_queue
    assert queue is not None
    sink.consume(queue.drain(), 0)


def test_blocks_are_told_with_what_they_say(state: StateFixture, make: Make, listener: Listener) -> None:
    """Each block of each chain has its parent, its calls and its payload; the session has its last allow."""
    sink = make()
    state.check(SIBLING)
    state.check(CHILD, resource="files/a/x", now_ms=NOW + 5)
    assert not state.check(CHILD, resource="files/b", now_ms=NOW + 9)
    feed(state, sink)
    sink.close()
    total = listener.total(SESSION)
    above, first, second = sorted(total.blocks.values(), key=lambda block: (block.index, block.first_ms))

    assert (total.allowed, total.denied, total.last_allow_ms, total.lost) == (2, 1, NOW + 5, 0)
    assert (above.parent_id, first.parent_id, second.parent_id) == (b"", above.block_id, above.block_id)
    assert (above.calls, above.allowed, above.first_ms, above.last_ms) == (3, 2, NOW, NOW + 9)
    assert (second.calls, second.allowed, second.first_ms, second.last_ms) == (2, 1, NOW + 5, NOW + 9)
    assert all(block.payload for block in (above, first, second))
    assert total.usage is None


@pytest.mark.parametrize("failure", [Unavailable("away"), RuntimeError("away")])
def test_what_is_not_answered_is_told_again_under_its_number(
    state: StateFixture, make: Make, listener: Listener, failure: Exception
) -> None:
    """A failure loses nothing and counts nothing twice; what comes meanwhile has the next number."""
    listener.failure = failure
    sink = make()
    state.check(PARENT)
    feed(state, sink)
    assert wait_until(lambda: len(listener.received) >= 2)
    state.check(PARENT)
    feed(state, sink)
    assert sink.problem == "away"
    listener.failure = None
    assert wait_until(lambda: listener.total(SESSION).allowed == 2)

    assert {batch.number for batch in listener.received} == {1, 2}
    # The sink gets the answer a moment after the listener gave it.
    assert wait_until(lambda: sink.problem == "")


@pytest.mark.parametrize("failure", [UsageError("sessions: wrong"), PermissionDenied("not you")])
def test_what_is_refused_for_good_is_lost_and_said_so(
    state: StateFixture, make: Make, listener: Listener, failure: Any
) -> None:
    """It is not sent for ever: the next batch counts the loss."""
    listener.failure = failure
    sink = make()
    state.check(PARENT)
    feed(state, sink)
    assert wait_until(lambda: bool(listener.received) and bool(sink.problem))
    listener.failure = None
    sink.close()

    assert sum(batch.lost for batch in listener.acknowledged.values()) == 1
    assert listener.total(SESSION).allowed == 0


def test_usage_is_told_only_where_it_is_wanted(state: StateFixture, make: Make, listener: Listener) -> None:
    """The first batch is empty, to ask; arguments leave only once the answer wants them."""
    listener.failure = Unavailable("away")
    sink = make(wants_usage=None, lineage_of=lineage_of(state))
    state.check(token(root("read:files/** free *")), arguments=b'{"owner":"acme"}')
    feed(state, sink)
    assert wait_until(lambda: bool(listener.received))
    listener.wants_usage, listener.failure = True, None
    assert wait_until(lambda: listener.total(SESSION).allowed == 1)
    usage = listener.total(SESSION).usage

    assert all(not batch.sessions for batch in listener.received if batch.number == 1)
    assert usage is not None
    assert b"acme" in usage.to_json()
    assert usage.allowed.calls == 1

    listener.wants_usage = False
    state.check(PARENT)
    feed(state, sink)
    assert wait_until(lambda: listener.total(SESSION).allowed == 2)
    state.check(token(root("read:files/** free *")), arguments=b'{"owner":"umbrella"}')
    feed(state, sink)
    assert wait_until(lambda: listener.total(SESSION).allowed == 3)
    told = listener.total(SESSION).usage
    assert told is not None
    assert b"umbrella" not in told.to_json()


def lineage_of(state: StateFixture) -> Callable[[bytes], list[Session]]:
    """Read a state's sessions with their ancestors."""
    source = state.writer.source()
    return lambda session_id: stored_lineage(source, session_id)


def test_sessions_and_bytes_are_bounded(state: StateFixture, make: Make, listener: Listener) -> None:
    """Observations beyond the bounds are counted, as the session's own if there is room for that."""
    another = state.open("another")
    sink = make(max_sessions=1, every_ms=10_000)
    state.check(PARENT)
    state.check(of("another"))
    feed(state, sink)
    sink.close()
    assert [batch.lost for batch in listener.acknowledged.values()] == [1]
    assert (listener.total(SESSION).allowed, listener.total(another).allowed) == (1, 0)

    listener.acknowledged.clear()
    small = make(max_bytes=1_600, every_ms=10_000)
    state.check(PARENT)
    state.check(CHILD, resource="files/a/x")
    feed(state, small)
    small.close()
    total = listener.total(SESSION)
    assert (total.allowed, total.lost, len(total.blocks)) == (2, 1, 1)


def test_a_batch_is_no_larger_than_a_server_takes(
    state: StateFixture, make: Make, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts are always reported; payloads and usage records only if they fit."""
    monkeypatch.setattr("sessauth.usage.collector.MAX_BATCH_BYTES", 900)
    queue = state.verifier.decision_queue
    assert queue is not None
    sink = make(wants_usage=True, lineage_of=lineage_of(state), forget_chains=queue.forget_chains)
    listener.wants_usage = True
    for number in range(4):
        state.check(token(root(READ, label=f"agent-{number}")))
    feed(state, sink)
    sink.close()
    total = listener.total(SESSION)

    assert (total.allowed, len(total.blocks), total.usage) == (4, 4, None)
    assert 0 < sum(not block.payload for block in total.blocks.values()) <= 4
    assert total.lost >= 4
    again = make()
    state.check(token(root(READ, label="agent-3")))
    feed(state, again)
    assert wait_until(lambda: len(listener.received) == 2)
    assert all(block.payload for block in listener.received[1].sessions[0].blocks.values())


def of(name: str, *scopes: str) -> bytes:
    """Return a token of another session."""
    from tests.support.token_forger import id16

    record: Record = root(*(scopes or (READ,)))
    return token({**record, "root": {**record["root"], "session_id": id16(name)}})


def test_uses_after_the_end_are_verified_or_only_claimed(
    state: StateFixture, make: Make, listener: Listener
) -> None:
    """The bytes of a verified token are reported with their blocks; others by the session they claim."""
    session_id = state.open("short")
    sink = make()
    known = of("short")
    state.check(known)
    feed(state, sink)
    state.do(end_session(state.change_id(), session_id))
    for presented in (known, known, of("short", "read:other/**")):
        assert not state.check(presented)
    feed(state, sink)
    sink.close()
    late = listener.total(session_id).late
    claimed = late.pop(b"")
    (verified,) = late.values()

    assert (verified.count, verified.claimed, len(verified.block_ids)) == (2, False, 1)
    assert (claimed.count, claimed.claimed, claimed.block_ids) == (1, True, ())


def test_another_control_process_is_told_what_blocks_say_again(
    state: StateFixture, make: Make, listener: Listener
) -> None:
    """It knows no earlier batches, so the queue delivers the payloads again."""
    queue = state.verifier.decision_queue
    assert queue is not None
    forgotten = threading.Event()

    def forget() -> None:
        queue.forget_chains()
        forgotten.set()

    sink = make(forget_chains=forget)

    def payload_of(number: int) -> bytes:
        state.check(PARENT)
        feed(state, sink)
        assert wait_until(lambda: number in listener.acknowledged)
        (block,) = listener.acknowledged[number].sessions[0].blocks.values()
        return block.payload

    assert payload_of(1)
    assert not payload_of(2)
    assert not forgotten.is_set()
    listener.control_id = b"1" * 16
    assert not payload_of(3)
    assert forgotten.wait(20)
    assert payload_of(4)


def test_withdrawals_are_no_calls(state: StateFixture, make: Make, listener: Listener) -> None:
    """The withdrawal of an allow was no call: it is neither counted nor a late use."""
    session_id = state.open("watched")
    sink = make()
    held = of("watched")
    state.check(held)
    state.do(end_session(state.change_id(), session_id))
    request = ask()
    batch = state.verifier._check_batch(
        [(held, request.action, request.resource)], audience=request.audience, now_ms=NOW, record=False
    )
    state.verifier.record_batch_item(batch, 0, watched=True)
    feed(state, sink)
    sink.close()
    total = listener.total(session_id)

    assert (total.allowed, total.denied, total.late) == (1, 0, {})


def test_a_check_of_a_token_alone_is_a_use_of_its_blocks_and_no_call(
    state: StateFixture, make: Make, listener: Listener
) -> None:
    """The census shows the blocks; calls, the last allow and the usage record are those of calls."""
    sink = make(wants_usage=True, lineage_of=lineage_of(state))
    alone = ask(action=b"", resource=b"", token_only=True)
    state.check(CHILD, alone)
    feed(state, sink)
    sink.close()
    total = listener.total(SESSION)

    assert (total.allowed, total.denied, total.last_allow_ms, total.usage) == (0, 0, 0, None)
    assert [(block.calls, block.allowed) for block in total.blocks.values()] == [(1, 0), (1, 0)]
