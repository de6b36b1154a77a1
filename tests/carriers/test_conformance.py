"""Facts of the port that hold for every engine."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sessauth.state.replication.carrier import MAX_RECORD_BYTES, CarrierError, CompactedRecords, LogHead
from tests.carriers.conftest import Engine
from tests.support.log_writer import (
    APPENDED,
    FENCED,
    GIVE_UP_MS,
    REFUSED,
    START,
    LogWriter,
    behind,
    digest,
    new_leader,
)


def test_one_server_leads(engine: Engine) -> None:
    """A second server does not become the leader, and reads who is."""
    one, two = engine.open("one"), engine.open("two")
    assert one.leader() is None

    leader = one.lead("one", "host:7", 60_000)

    assert leader is not None and leader.term > 0
    assert (leader.name, leader.address) == ("one", "host:7")
    assert two.lead("two", "host:8", 60_000) is None
    assert two.leader() == one.leader() == leader


def test_a_leader_that_resigned_is_followed_at_once(engine: Engine) -> None:
    """The next term is higher, and the key of the old one can't be held."""
    one, two = engine.open("one"), engine.open("two")
    first = new_leader(one, "one")

    one.resign(first)
    second = new_leader(two, "two")

    assert second.term > first.term
    assert not one.hold(first)
    assert two.hold(second)


def test_a_lease_that_nobody_holds_lapses(engine: Engine) -> None:
    """The key goes by itself; its server then neither holds it nor appends."""
    one, two = engine.open("one"), engine.open("two")
    writer = LogWriter(one, new_leader(one, "one", 1_000))
    writer.append(b"first")

    engine.lapse()

    assert two.leader() is None
    assert writer.attempt(b"second").status is FENCED
    new_leader(two, "two")
    assert not one.hold(writer.leader)


def test_only_the_carrier_that_got_a_term_holds_it(engine: Engine) -> None:
    """Another server does neither hold nor give back what it reads of a leader."""
    one, two = engine.open("one"), engine.open("two")
    leader = new_leader(one)

    two.resign(leader)

    assert not two.hold(leader)
    assert one.hold(leader)


def test_records_are_read_as_they_were_appended(engine: Engine) -> None:
    """A reader gets them in order, by pages, and from any number on."""
    one, two = engine.open("one"), engine.open("two")
    records = [b"record %d" % number for number in range(1, 6)]
    LogWriter(one, new_leader(one)).append(*records)

    assert two.read(0, 100) == [*enumerate(records, 1)]
    assert two.read(2, 2) == [(3, records[2]), (4, records[3])]
    assert two.read(5, 10) == two.read(9, 10) == []


def test_numbers_of_several_digits_are_in_order(engine: Engine) -> None:
    """Record 16 comes behind record 15, and 256 behind 255."""
    one = engine.open()
    LogWriter(one, new_leader(one)).append(*(b"%d" % number for number in range(1, 301)))

    assert [number for number, _ in one.read(0, 1000)] == [*range(1, 301)]


def test_the_same_bytes_again_are_appended(engine: Engine) -> None:
    """Also when another server leads, and when the record was the last and was trimmed."""
    one, two = engine.open("one"), engine.open("two")
    leader = new_leader(one)
    writer = LogWriter(one, leader)
    writer.append(b"first")

    def again() -> object:
        return one.append(leader.term, START, b"first", digest(b"first"), GIVE_UP_MS).status

    assert again() is APPENDED
    two.trim(1)
    assert again() is APPENDED
    writer.append(b"second")
    one.resign(leader)
    new_leader(two, "two")
    last = one.append(leader.term, behind(START, b"first"), b"second", digest(b"second"), GIVE_UP_MS)
    assert last.status is APPENDED
    assert two.read(1, 10) == [(2, b"second")]


def test_other_bytes_under_a_number_are_fenced(engine: Engine) -> None:
    """The record that is there stays."""
    one = engine.open()
    leader = new_leader(one)
    LogWriter(one, leader).append(b"first")

    answer = one.append(leader.term, START, b"other", digest(b"other"), GIVE_UP_MS)

    assert answer.status is FENCED
    assert answer.detail
    assert one.read(0, 10) == [(1, b"first")]


@pytest.mark.parametrize("head", [LogHead(1, digest(b"other")), LogHead(7, digest(b"first")), START])
def test_an_append_behind_another_head_is_fenced(engine: Engine, head: LogHead) -> None:
    """Number and digest must both be those of the last record."""
    one = engine.open()
    writer = LogWriter(one, new_leader(one))
    writer.append(b"first")

    answer = one.append(writer.leader.term, head, b"second", digest(b"second"), GIVE_UP_MS)

    assert answer.status is FENCED
    assert one.barrier("one", b"").head == behind(START, b"first")


def test_a_leader_that_another_followed_is_fenced(engine: Engine) -> None:
    """Nothing of the old leader is written, before and after the new one's first record."""
    one, two = engine.open("one"), engine.open("two")
    old = LogWriter(one, new_leader(one))
    old.append(b"first")
    one.resign(old.leader)
    new = LogWriter(two, new_leader(two, "two"), old.head)

    assert old.attempt(b"late").status is FENCED
    new.append(b"second")
    assert old.attempt(b"late").status is FENCED
    assert two.read(0, 10) == [(1, b"first"), (2, b"second")]


def test_term_0_never_appends(engine: Engine) -> None:
    """Not even where nobody leads, whose key has the revision 0."""
    one = engine.open()

    assert one.append(0, START, b"first", digest(b"first"), GIVE_UP_MS).status is FENCED
    assert one.append(-1, START, b"first", digest(b"first"), GIVE_UP_MS).status is FENCED
    assert one.read(0, 10) == []


def test_a_record_of_a_mebibyte_is_the_largest(engine: Engine) -> None:
    """One byte more is refused, as is a record of no bytes; several of the largest are read in pages."""
    one = engine.open()
    writer = LogWriter(one, new_leader(one))
    largest = bytes([7]) * MAX_RECORD_BYTES

    assert writer.attempt(largest + b"x").status is REFUSED
    assert writer.attempt(b"").status is REFUSED
    writer.append(*([largest] * 20))
    found: list[tuple[int, bytes]] = []
    while page := one.read(len(found), 100):
        found += page
    assert found == [(number, largest) for number in range(1, 21)]


def test_a_digest_of_another_size_is_the_callers_mistake(engine: Engine) -> None:
    """It is no answer of an engine."""
    one = engine.open()

    with pytest.raises(ValueError):
        one.append(new_leader(one).term, START, b"first", b"short", GIVE_UP_MS)


def test_one_of_two_appends_at_once_succeeds(engine: Engine) -> None:
    """A head has one record behind it, whoever appends at the same time."""
    one, two = engine.open("one"), engine.open("two")
    term = new_leader(one).term
    head = START
    with ThreadPoolExecutor(2) as pool:
        for number in range(20):
            records = [b"%d by %d" % (number, writer) for writer in range(2)]
            calls = [
                pool.submit(carrier.append, term, head, record, digest(record), GIVE_UP_MS)
                for carrier, record in zip((one, two), records, strict=True)
            ]
            answers = [call.result().status for call in calls]
            assert sorted(answers, key=str) == [APPENDED, FENCED]
            head = behind(head, records[answers.index(APPENDED)])
            assert one.read(number, 10) == [(number + 1, records[answers.index(APPENDED)])]


def test_a_barrier_has_the_head_and_a_revision_that_rises(engine: Engine) -> None:
    """The id of the engine stays, and the head is that of the last append."""
    one, two = engine.open("one"), engine.open("two")
    first = two.barrier("two", b"a")
    writer = LogWriter(one, new_leader(one))
    writer.append(b"first")

    second = two.barrier("two", b"b")

    assert first.head == START
    assert second.head == writer.head
    assert second.engine_id == first.engine_id != ""
    assert second.engine_revision > first.engine_revision > 0


def test_beats_are_the_last_of_each_server(engine: Engine) -> None:
    """A server that was started anew replaces its own; the same beat may come twice."""
    one, two = engine.open("one"), engine.open("two")
    one.barrier("one", b"1")
    one.barrier("one", b"1")
    two.barrier("two", b"2")
    again = engine.open("one")
    again.barrier("one", b"3")
    again.barrier("one", b"4")

    assert two.beats() == again.beats() == {"one": b"4", "two": b"2"}


def test_barriers_of_threads_are_all_proofs(engine: Engine) -> None:
    """Each of many at once returns, and the beat is one of theirs."""
    one = engine.open()
    beats = [b"%d" % number for number in range(16)]

    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda beat: one.barrier("one", beat), beats)]

    assert {barrier.head for barrier in found} == {START}
    assert one.beats()["one"] in beats


def test_trimmed_records_are_reported_as_gone(engine: Engine) -> None:
    """A reader behind them notices nothing; one before them gets the first number that is left."""
    one = engine.open()
    writer = LogWriter(one, new_leader(one))
    writer.append(*(b"%d" % number for number in range(1, 11)))

    one.trim(6)
    one.trim(6)

    for after in (0, 5):
        with pytest.raises(CompactedRecords) as gone:
            one.read(after, 100)
        assert gone.value.first == 7
    assert one.read(6, 1) == [(7, b"7")]
    one.trim(99)
    with pytest.raises(CompactedRecords) as gone:
        one.read(6, 100)
    assert gone.value.first == 11
    assert one.read(10, 100) == []
    writer.append(b"11")
    assert one.read(10, 100) == [(11, b"11")]


def test_a_compaction_takes_no_record(engine: Engine) -> None:
    """Nor beats, nor the lead; a second one at once is as good, and the engine has room."""
    one = engine.open()
    writer = LogWriter(one, new_leader(one))
    writer.append(b"1", b"2")
    one.barrier("one", b"beat")

    one.compact()
    one.compact()

    assert one.read(0, 10) == [(1, b"1"), (2, b"2")]
    assert one.beats() == {"one": b"beat"}
    writer.append(b"3")
    assert one.room().size > 0 and not one.room().full


def test_a_retry_behind_a_trimmed_log_is_not_fenced(engine: Engine) -> None:
    """Nobody can know any more whether the record is under its number: unknown, never fenced."""
    one = engine.open()
    leader = new_leader(one)
    writer = LogWriter(one, leader)
    writer.append(b"1", b"2", b"3", b"4")
    one.trim(3)

    answer = one.append(leader.term, behind(START, b"1"), b"2", digest(b"2"), GIVE_UP_MS)

    assert answer.status.name == "UNKNOWN"


def test_trimming_an_empty_log_does_nothing(engine: Engine) -> None:
    """No record is there, and none is said to be gone."""
    one = engine.open()

    one.trim(5)

    assert one.read(0, 10) == []


def test_a_wait_ends_with_the_next_record(engine: Engine) -> None:
    """Soon after it is appended, by another server too."""
    one, two = engine.open("one"), engine.open("two")
    writer = LogWriter(one, new_leader(one))
    writer.append(b"first")
    begin = time.monotonic()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(two.wait, 1, 20_000)
        time.sleep(0.2)
        assert not waiting.done()
        writer.append(b"second")
        waiting.result(20)

    assert time.monotonic() - begin < 15


def test_a_wait_ends_at_once_where_a_record_is_there(engine: Engine) -> None:
    """A record from before the call counts, a trimmed one too."""
    one = engine.open()
    LogWriter(one, new_leader(one)).append(b"first", b"second")
    one.trim(2)
    begin = time.monotonic()

    one.wait(0, 20_000)
    one.wait(1, 20_000)

    assert time.monotonic() - begin < 15


def test_a_wait_ends_with_its_time(engine: Engine) -> None:
    """Without a record it takes the time-out, and deletions are no records."""
    one = engine.open()
    LogWriter(one, new_leader(one)).append(b"first")
    begin = time.monotonic()

    threading.Timer(0.1, one.trim, [1]).start()
    one.wait(1, 400)

    assert time.monotonic() - begin >= 0.39


def test_closing_ends_calls(engine: Engine) -> None:
    """A wait ends with an error, later calls too; an append answers that nothing is known."""
    one = engine.open()
    leader = new_leader(one)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.wait, 0, 20_000)
        time.sleep(0.2)
        one.close()
        with pytest.raises(CarrierError):
            waiting.result(10)
    for call in (
        one.leader,
        one.beats,
        lambda: one.barrier("one", b""),
        lambda: one.read(0, 1),
        lambda: one.hold(leader),
        lambda: one.lead("one", "one:1", 1_000),
        lambda: one.trim(1),
        lambda: one.wait(0, 100),
    ):
        with pytest.raises(CarrierError):
            call()
    assert one.append(leader.term, START, b"x", digest(b"x"), 1_000).status.name == "UNKNOWN"
    one.resign(leader)
