"""Cuts of logins: moments, found by what they name, kept while a token that they refuse could count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessauth.cli.local_state import reading
from sessauth.clock import FixedClock
from sessauth.errors import StateUnusable
from sessauth.model.change import Change, cut_logins
from sessauth.state import layout
from sessauth.state.integrity.verify import verify
from sessauth.state.rules import logins
from sessauth.state.rules.logins import CUTS, cut_of_login, login_cut, verify_cuts
from sessauth.state.writer.group import Group
from sessauth.state.writer.state_writer import StateWriter
from tests.support.carried import begin_cluster, join
from tests.support.changes import HOUR, NOW, MemoryRows

ISSUER = "https://idp.corp/one"


def cut(change_id: str, up_to_ms: int = NOW, keep_ms: int = HOUR, **of: Any) -> Change:
    """Return a change that cuts."""
    moments = {"up_to_ms": up_to_ms, **of.pop("moments", {})}
    return cut_logins(change_id, of.pop("issuer", ISSUER), moments, keep_ms, **of, actor="op")


def pairs(rows: MemoryRows) -> list[tuple[bytes, bytes]]:
    """Return the rows of cuts."""
    return [(key, value) for key, value in rows.tables[layout.EVIDENCE].items() if key.startswith(CUTS)]


def test_a_user_s_logins_up_to_the_moment_are_cut() -> None:
    """Nobody else's, at no other issuer, and none that began later."""
    rows = MemoryRows()
    assert rows.do(cut("1", subject="ann", reason="left")).applied
    found = cut_of_login(rows, ISSUER, "ann", "s", NOW)
    assert found is not None
    assert (found.reason, found.cut_by, found.up_to_ms) == ("left", "op", NOW)
    assert cut_of_login(rows, ISSUER, "ann", "", NOW + 1) is None
    assert cut_of_login(rows, ISSUER, "bob", "", NOW) is None
    assert cut_of_login(rows, ISSUER + "/", "ann", "", NOW) is None
    # A name of a user is no name of a login.
    assert cut_of_login(rows, ISSUER, "bob", "ann", NOW) is None


def test_a_login_that_was_cut_stays_so_at_any_time() -> None:
    """A refreshed token of it may state a later time."""
    rows = MemoryRows()
    assert rows.do(cut("1", sid="s")).applied
    assert cut_of_login(rows, ISSUER, "ann", "s", NOW + HOUR) is not None
    assert cut_of_login(rows, ISSUER, "ann", "t", NOW) is None


def test_logins_without_a_sid_are_cut_alone() -> None:
    """A provider that names a login and its user says nothing of the user's other logins."""
    rows = MemoryRows()
    assert rows.do(cut("1", subject="ann", without_sid=True)).applied
    assert cut_of_login(rows, ISSUER, "ann", "", NOW) is not None
    assert cut_of_login(rows, ISSUER, "ann", "", NOW + 1) is None
    assert cut_of_login(rows, ISSUER, "ann", "s", NOW) is None
    assert cut_of_login(rows, ISSUER, "bob", "", NOW) is None


def test_an_earlier_moment_changes_nothing_of_a_later_one() -> None:
    """It only keeps the row for longer."""
    rows = MemoryRows()
    assert rows.do(cut("1", NOW, reason="first", subject="ann")).applied
    assert rows.do(cut("2", NOW - 5, 2 * HOUR, reason="second", subject="ann")).applied
    found = login_cut(rows, ISSUER, "ann")
    assert found is not None
    assert (found.up_to_ms, found.reason, found.keep_until_ms) == (NOW, "first", NOW + 2 * HOUR)
    assert rows.do(cut("3", NOW + 5, reason="third", subject="ann")).applied
    found = login_cut(rows, ISSUER, "ann")
    assert found is not None
    assert (found.up_to_ms, found.reason, found.keep_until_ms) == (NOW + 5, "third", NOW + 2 * HOUR)


MOMENT = st.tuples(st.sampled_from(["ann", "bob"]), st.integers(1, 50))


@given(st.lists(MOMENT, max_size=12), st.randoms(use_true_random=False))
def test_order_and_repeats_change_nothing(moments: list[tuple[str, int]], random: object) -> None:
    """The latest moment of each user counts."""
    shuffled = [*moments, *moments]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    rows = MemoryRows()
    for number, (user, at_ms) in enumerate(shuffled):
        assert rows.do(cut(str(number), at_ms, subject=user)).applied
    for user in ("ann", "bob"):
        latest = max((at_ms for name, at_ms in moments if name == user), default=0)
        for at_ms in (latest, latest + 1):
            assert (cut_of_login(rows, ISSUER, user, "", at_ms) is not None) == (0 < at_ms <= latest)
    verify_cuts(pairs(rows))


def test_cuts_that_are_over_are_dropped_by_later_ones() -> None:
    """One that was made again stays until its own time."""
    rows = MemoryRows()
    for number in range(6):
        assert rows.do(cut(str(number), keep_ms=10, subject=f"u{number}")).applied
    assert rows.do(cut("again", keep_ms=HOUR, subject="u0")).applied
    for number in range(4):
        assert rows.do(cut(f"later {number}", keep_ms=HOUR, subject="late"), NOW + 11).applied
    named = [f"u{number}" for number in range(6)]
    assert [name for name in named if login_cut(rows, ISSUER, name)] == ["u0"]
    assert verify_cuts(pairs(rows)) == 2


def test_a_name_that_is_cut_again_and_again_has_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fills no queue, and what is kept for longer does not hold up what is over."""
    monkeypatch.setattr(logins, "MAX_CUTS", 3)
    rows = MemoryRows()
    for number in range(20):
        at_ms = NOW + 6 * number
        assert rows.do(cut(f"a{number}", at_ms, 10, subject="ann"), at_ms).applied
        assert rows.do(cut(f"b{number}", at_ms, 5, subject=f"u{number}"), at_ms).applied
        assert verify_cuts(pairs(rows)) <= 3
    assert login_cut(rows, ISSUER, "ann") is not None
    assert login_cut(rows, ISSUER) is None


def test_a_disabled_account_is_kept_until_it_is_enabled() -> None:
    """Then its row goes as any other."""
    rows = MemoryRows()
    assert rows.do(cut("1", keep_ms=10, subject="ann", moments={"disabled_ms": NOW})).applied
    for number in range(5):
        assert rows.do(cut(f"x{number}", keep_ms=5, subject=f"x{number}"), NOW + 100 * number).applied
    found = cut_of_login(rows, ISSUER, "ann", "", NOW + HOUR)
    assert found is not None and found.is_disabled
    enabled = cut("2", keep_ms=10, subject="ann", moments={"enabled_ms": NOW + 600})
    assert rows.do(enabled, NOW + 600).applied
    assert cut_of_login(rows, ISSUER, "ann", "", NOW + HOUR) is None
    for number in range(5):
        assert rows.do(cut(f"y{number}", keep_ms=5, subject=f"y{number}"), NOW + 1000 + number).applied
    assert login_cut(rows, ISSUER, "ann") is None
    verify_cuts(pairs(rows))


def test_a_full_queue_cuts_all_logins_of_the_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cut is forgotten; people log in again."""
    monkeypatch.setattr(logins, "MAX_CUTS", 3)
    rows = MemoryRows()
    for number in range(3):
        assert rows.do(cut(str(number), subject=f"u{number}")).applied
    assert cut_of_login(rows, ISSUER, "u3", "", NOW) is None
    assert rows.do(cut("3", subject="u3")).applied
    assert cut_of_login(rows, ISSUER, "anyone", "", NOW) is not None
    assert cut_of_login(rows, ISSUER, "anyone", "", NOW + 1) is None
    assert verify_cuts(pairs(rows)) == 4


def test_a_full_queue_takes_what_it_has_and_disables_no_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a row keeps it; a further one is cut with its issuer, or refused."""
    monkeypatch.setattr(logins, "MAX_CUTS", 2)
    rows = MemoryRows()
    for name in ("ann", "bob"):
        assert rows.do(cut(name, subject=name, moments={"disabled_ms": NOW})).applied
    assert rows.do(cut("late", subject="eve", moments={"disabled_ms": NOW})).applied
    assert cut_of_login(rows, ISSUER, "eve", "", NOW) is not None
    assert cut_of_login(rows, ISSUER, "anyone", "", NOW + 1) is None
    suspension = cut("s", 0, subject="eve", moments={"high_risk_ms": NOW})
    assert rows.do(suspension).rejection == "LIMIT"
    assert rows.do(cut("e", NOW, subject="ann", moments={"enabled_ms": NOW + 1})).applied
    assert cut_of_login(rows, ISSUER, "ann", "", NOW + 1) is None
    verify_cuts(pairs(rows))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (cut("1", issuer=""), "issuer"),
        (cut("1", subject="a", sid="b"), "subject, sid"),
        (cut("1", sid="b", without_sid=True), "subject, sid"),
        (cut("1", subject="a\0"), "subject"),
        (cut("1", sid="x" * 1025), "sid"),
        (cut("1", 0), "up_to_ms"),
        (cut("1", 1 << 53), "up_to_ms"),
        (cut("1", keep_ms=0), "keep_ms"),
        (cut("1", keep_ms=logins.MAX_KEEP_MS + 1), "keep_ms"),
        (cut("1", reason="a\nb"), "reason"),
    ],
)
def test_a_wrong_cut_names_its_field_and_writes_nothing(change: Change, named: str) -> None:
    """Its outcome is INVALID."""
    rows = MemoryRows()
    outcome = rows.do(change)
    assert outcome.rejection == "INVALID"
    assert outcome.detail.startswith(named)
    assert not pairs(rows)


def test_damaged_rows_are_found(tmp_path: Path) -> None:
    """The verification of a state sees them, and so does the reader of the cut."""
    key = logins._key(ISSUER, "ann", "", False)

    def damage(group: Group) -> None:
        verify(group.rows)
        for at, wrong in ((key, b"x"), (CUTS, b"x"), (CUTS + bytes(8), key + b"x"), (CUTS + b"zzz", b"")):
            before = group.rows.get(layout.EVIDENCE, at)
            group.rows.put(layout.EVIDENCE, at, wrong)
            with pytest.raises((StateUnusable, ValueError), match="cut"):
                verify(group.rows)
            group.rows.delete(layout.EVIDENCE, at)
            if before is not None:
                group.rows.put(layout.EVIDENCE, at, before)
        group.rows.put(layout.EVIDENCE, key, b"x")
        with pytest.raises(StateUnusable, match="cut"):
            cut_of_login(group.rows, ISSUER, "ann", "", NOW)

    with StateWriter.open(tmp_path / "state", create=True, clock=FixedClock(NOW)) as log:
        for name in ("ann", "bob"):
            assert log.submit(cut(name, subject=name)).result().applied
        log.run(damage)


def test_a_host_that_joins_later_has_it(tmp_path: Path) -> None:
    """A snapshot has the cuts, as each host that follows does."""
    _, (one, two) = begin_cluster(tmp_path, FixedClock(NOW), ("one", "two"))
    one.writer.submit(cut("cut", subject="ann")).result().raise_if_rejected()
    two.follow()
    join(tmp_path / "late", one.writer.source(), FixedClock(NOW))
    for member in (one, two):
        member.writer.close()
    for name in ("two", "late"):
        with reading(tmp_path / name) as rows:
            assert login_cut(rows, ISSUER, "ann") is not None
