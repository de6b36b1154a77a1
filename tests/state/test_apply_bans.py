"""Bans of new sessions: one row, rules of what it holds, and openings that it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.cli.local_state import reading
from sessauth.clock import FixedClock
from sessauth.errors import Rejected, StateUnusable
from sessauth.model.change import Change, ban_sessions
from sessauth.model.session import MAX_BAN_MS, MAX_BANS, SessionSelector
from sessauth.state import layout
from sessauth.state.integrity.verify import verify
from sessauth.state.rules.validation import BANS, session_bans
from sessauth.state.writer.group import Group
from sessauth.state.writer.state_writer import StateWriter
from tests.support.carried import begin_cluster, join
from tests.support.changes import HOUR, NOW, MemoryRows, opening

ONE = SessionSelector("agent:a")
MANY_LABELS = tuple((f"n{number}", "x" * 1000) for number in range(30))


def ban(change_id: str, selector: SessionSelector = ONE, for_ms: int = HOUR, reason: str = "") -> Change:
    """Return a change that bans."""
    return ban_sessions(change_id, selector, for_ms, reason, actor="op")


def until(rows: MemoryRows) -> list[tuple[str, int]]:
    """Return the bans and for how long they still count."""
    return [(str(each.selector), each.until_ms - NOW) for each in session_bans(rows).bans]


def test_a_ban_takes_the_place_of_one_by_the_same_selector() -> None:
    """Until the later end of both; lapsed ones go with the next change, and without any there is no row."""
    rows = MemoryRows()
    assert rows.do(ban("1", for_ms=90)).applied
    assert rows.do(ban("2", SessionSelector(owner="o"), 50)).applied
    assert rows.do(ban("3", for_ms=100, reason="why")).applied
    assert rows.do(ban("3b", for_ms=60)).applied
    assert until(rows) == [("owner o", 50), ("subject agent:a", 100)]
    assert rows.do(ban("4", SessionSelector(all=True), 10), NOW + 50).applied
    assert until(rows) == [("subject agent:a", 100), ("all", 60)]
    assert rows.do(ban("5", for_ms=0), NOW + 60).applied
    assert rows.get(layout.EVIDENCE, BANS) is None
    assert rows.do(ban("6", for_ms=0), NOW + 60).rejection == "NOT_FOUND"


@pytest.mark.parametrize(
    ("change", "word", "named"),
    [
        (ban("1", SessionSelector()), "INVALID", "selector"),
        (ban("1", SessionSelector("a", all=True)), "INVALID", "selector"),
        (ban("1", for_ms=MAX_BAN_MS + 1), "INVALID", "for_ms"),
        (ban("1", reason="a\nb"), "INVALID", "reason"),
        (ban("1", SessionSelector("a\0")), "INVALID", "subject"),
        (ban("1", SessionSelector(owner="x" * 1025)), "INVALID", "owner"),
        (ban("1", SessionSelector(labels=(("", "x"),))), "INVALID", "labels"),
        (ban("1", SessionSelector(labels=tuple((f"n{n}", "") for n in range(33)))), "LIMIT", "labels"),
    ],
)
def test_a_wrong_ban_is_rejected(change: Change, word: str, named: str) -> None:
    """The field that is wrong is named; nothing is banned."""
    rows = MemoryRows()
    outcome = rows.do(change)
    assert (outcome.rejection, outcome.detail.split(":")[0]) == (word, named)
    assert rows.get(layout.EVIDENCE, BANS) is None


def test_there_are_only_so_many() -> None:
    """Their number and their bytes are bounded; the same selector is no further one."""
    rows = MemoryRows()
    for number in range(MAX_BANS):
        assert rows.do(ban(f"{number}", SessionSelector(f"s{number}"))).applied
    assert rows.do(ban("more")).rejection == "LIMIT"
    assert rows.do(ban("again", SessionSelector("s0"))).applied
    rows = MemoryRows()
    outcomes = [rows.do(ban(f"{n}", SessionSelector(f"s{n}", labels=MANY_LABELS))) for n in range(3)]
    assert [each.rejection for each in outcomes] == ["", "", "LIMIT"]


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        (ONE, True),
        (SessionSelector(owner="o", labels=(("k", "v"),)), True),
        (SessionSelector(all=True), True),
        (SessionSelector("agent:a", "other"), False),
        (SessionSelector(labels=(("k", "w"),)), False),
        (SessionSelector(labels=(("k", "v"), ("l", "v"))), False),
    ],
)
def test_an_opening_that_fits_is_refused_until_it_lapses(
    tmp_path: Path, selector: SessionSelector, fits: bool
) -> None:
    """It costs no row, so its id is free afterwards; the ban is part of a state that verifies."""
    clock = FixedClock(NOW)
    change = opening("open", b"s" * 16, subject="agent:a", owner="o", labels={"k": "v"})
    with StateWriter.open(tmp_path / "state", create=True, clock=clock) as log:
        log.submit(ban("ban", selector, 1000)).result().raise_if_rejected()
        seq = log.head().seq
        if fits:
            with pytest.raises(Rejected) as refused:
                log.submit(change).result()
            assert refused.value.word == "BANNED"
            assert log.head().seq == seq
        log.run(lambda group: verify(group.rows))
        clock.advance(1000)
        assert log.submit(change).result().applied


def test_a_row_that_no_change_writes(tmp_path: Path) -> None:
    """It is found by what verifies a state, and opens nothing."""

    def work(group: Group) -> None:
        group.rows.put(layout.EVIDENCE, BANS, b"\xff")
        with pytest.raises(StateUnusable, match="row of bans"):
            verify(group.rows)
        with pytest.raises(StateUnusable, match="row of bans"):
            group.submit(opening("open"))

    with StateWriter.open(tmp_path / "state", create=True, clock=FixedClock(NOW)) as log:
        log.run(work)


def test_a_host_that_joins_later_has_it(tmp_path: Path) -> None:
    """A snapshot has the bans, as each host that follows does."""
    _, (one, two) = begin_cluster(tmp_path, FixedClock(NOW), ("one", "two"))
    one.writer.submit(ban("ban")).result().raise_if_rejected()
    two.follow()
    join(tmp_path / "late", one.writer.source(), FixedClock(NOW))
    with reading(tmp_path / "late") as rows:
        assert session_bans(rows).bans
    assert one.tables() == two.tables()
    for member in (one, two):
        member.writer.close()
