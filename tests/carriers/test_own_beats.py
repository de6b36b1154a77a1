"""Two processes with one server's name: the later one goes on, and answers that were lost are no other's."""

from __future__ import annotations

from functools import partial

import pytest

from sessauth.state.replication import carrier as own_beats
from sessauth.state.replication.carrier import BeatReplaced, OwnBeats, beat_digest
from tests.carriers.conftest import Engine
from tests.support.log_writer import new_leader


def test_of_two_processes_with_one_name_the_later_one_proves(engine: Engine) -> None:
    """The former gets no barrier, no beats and no lead from then on; what it wrote last stays replaced."""
    former, other, leads = engine.open("one"), engine.open("two"), engine.open("three")
    former.barrier("one", b"1 of the former")
    leader = new_leader(former)
    later = engine.open("one")

    later.barrier("one", b"1 of the later")
    with pytest.raises(BeatReplaced):
        former.beats()
    for number in (2, 3):
        with pytest.raises(BeatReplaced):
            former.barrier("one", b"%d of the former" % number)
        later.barrier("one", b"%d of the later" % number)
    calls = (former.beats, partial(former.hold, leader), partial(former.lead, "one", "one:1", 1_000))
    for call in calls:
        with pytest.raises(BeatReplaced):
            call()

    former.resign(leader)
    assert leads.lead("three", "three:1", 1_000) is not None
    assert other.beats() == later.beats() == {"one": b"3 of the later"}


def test_a_copy_that_begins_at_once_gets_no_second_proof(engine: Engine) -> None:
    """Two carriers in turns: one of them goes on, whichever wrote its first beat last."""
    one, copy = engine.open("one"), engine.open("one")
    proven = [0, 0]
    for number in range(4):
        for place, carrier in enumerate((one, copy)):
            try:
                carrier.barrier("one", b"%d of %d" % (number, place))
            except BeatReplaced:
                continue
            proven[place] += 1

    assert proven == [1, 4]


def test_a_beat_whose_answer_was_lost_is_its_own() -> None:
    """Any of those that were sent on one condition may be stored; none of those before them."""
    own = OwnBeats()
    assert own.send("one", b"a") == 0
    own.learn("one", 7, beat_digest(b"a"))
    assert [own.send("one", beat) for beat in (b"b", b"c")] == [7, 7]
    own.check("one", 8, beat_digest(b"b"))
    own.learn("one", 8, beat_digest(b"b"))
    assert own.send("one", b"d") == 8
    for beat in (b"a", b"c"):
        with pytest.raises(BeatReplaced):
            own.check("one", 9, beat_digest(beat))
    with pytest.raises(BeatReplaced, match="'one'"):
        own.learn("one", 9, beat_digest(b"c"))
    with pytest.raises(BeatReplaced):
        own.send("one", b"e")
    with pytest.raises(BeatReplaced):
        own.require()
    own.check("two", 9, beat_digest(b"c"))


def test_the_first_beat_replaces_any() -> None:
    """A former process may go on writing: until an own beat is stored, none counts as another process's."""
    own = OwnBeats()
    for revision in (3, 4):
        own.send("one", b"a")
        own.check("one", revision, beat_digest(b"of the former"))
        own.learn("one", revision, beat_digest(b"of the former"))
    assert own.send("one", b"a") == 4
    own.require()


def test_an_engine_that_lost_its_past_is_no_other_process() -> None:
    """The alarm says what happened: the beat of before, or none, is stored under a lower revision."""
    own = OwnBeats()
    own.send("one", b"a")
    own.learn("one", 7, beat_digest(b"a"))
    for revision in (5, 0):
        assert own.send("one", b"b") != revision
        own.learn("one", revision, beat_digest(b"former"))
    assert own.send("one", b"b") == 0


def test_what_was_sent_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten, and counts as another process's then."""
    monkeypatch.setattr(own_beats, "MAX_SENT", 2)
    own = OwnBeats()
    own.send("one", b"0")
    own.learn("one", 1, beat_digest(b"0"))
    for beat in (b"1", b"2", b"3"):
        own.send("one", beat)
    own.check("one", 2, beat_digest(b"2"))
    with pytest.raises(BeatReplaced):
        own.check("one", 2, beat_digest(b"1"))
