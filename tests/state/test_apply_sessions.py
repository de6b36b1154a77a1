"""The rules of changes to sessions, judged without a disk."""

from __future__ import annotations

import os
from typing import Any

import pytest

from sessauth.model.change import (
    Change,
    ChangeKind,
    end_session,
    narrow_session,
    new_incarnation,
    purge_session,
    resume_session,
    revoke,
    suspend_session,
    update_facts,
)
from sessauth.model.session import EndCause, Fact, SessionStatus
from sessauth.state.rules.apply import encode_or_refuse
from tests.support.changes import HOUR, NOW, MemoryRows, opening, scopes

ID = b"s" * 16


def opened(rows: MemoryRows, session_id: bytes = ID, **given: Any) -> None:
    """Open a session, which must succeed."""
    assert rows.do(opening(f"open-{session_id.hex()}", session_id, **given)).applied


def test_open_writes_one_session() -> None:
    """An opened session is active at epoch 1, with what was asked for."""
    rows = MemoryRows()
    outcome = rows.do(
        opening(
            "1", ID, subject="agent", purpose="ticket 7", owner="svc", lease_ms=5000, labels={"team": "a"},
            facts=[Fact("case", "7", visible=True), Fact("amount", 3)],
        )
    )  # fmt: skip
    session = rows.session(ID)
    assert outcome.applied and (outcome.revision, outcome.seq, outcome.epoch) == (1, 1, 1)
    assert session is not None and session.status is SessionStatus.ACTIVE
    assert (session.subject, session.purpose, session.owner) == ("agent", "ticket 7", "svc")
    assert (session.opened_at_ms, session.expires_at_ms) == (NOW, NOW + HOUR)
    assert [fact.name for fact in session.facts] == ["amount", "case"]
    assert session.labels == {"team": "a"}
    assert rows.tables["leases"][ID] == (NOW + 5000).to_bytes(8, "big")


@pytest.mark.parametrize(
    ("fields", "word", "names"),
    [
        ({"subject": ""}, "INVALID", "subject"),
        ({"subject": "a\nb"}, "INVALID", "subject"),
        ({"subject": "é" * 513}, "INVALID", "subject"),
        ({"owner": "\x9b"}, "INVALID", "owner"),
        ({"ttl_ms": 5, "expires_at_ms": NOW + 5}, "INVALID", "expires_at_ms"),
        ({"expires_at_ms": NOW}, "INVALID", "expires_at_ms"),
        ({"ttl_ms": 2**53}, "INVALID", "expires_at_ms"),
        ({"lease_ms": 1}, "INVALID", "lease_ms"),
        ({"parent_id": b"short"}, "INVALID", "parent_id"),
        ({"parent_id": b"p" * 16}, "PARENT_NOT_LIVE", "parent_id"),
        ({"issuer_key_ids": [b"short"]}, "INVALID", "issuer_key_ids"),
        ({"issuer_key_ids": [b"k" * 32] * 2}, "INVALID", "issuer_key_ids"),
        ({"issuer_key_ids": [bytes([n]) * 32 for n in range(17)]}, "LIMIT", "issuer_key_ids"),
        ({"facts": [Fact("a", 1), Fact("a", 2)]}, "INVALID", "a is there twice"),
        ({"facts": [Fact("a-b", 1)]}, "INVALID", "facts"),
        ({"facts": [Fact("a", "x" * 1025)]}, "INVALID", "facts.a"),
        ({"facts": [Fact(f"f{n}", n) for n in range(33)]}, "LIMIT", "facts"),
        ({"labels": {f"l{n}": "" for n in range(33)}}, "LIMIT", "labels"),
        ({"labels": {"": "x"}}, "INVALID", "labels"),
    ],
)
def test_open_refuses_and_names_the_field(fields: dict[str, Any], word: str, names: str) -> None:
    """A session that is against the rules is rejected with the field, and nothing is written."""
    rows = MemoryRows()
    outcome = rows.do(opening("1", ID, **fields))
    assert (outcome.rejection, rows.session(ID), rows.head().revision) == (word, None, 0)
    assert names in outcome.detail


@pytest.mark.parametrize(
    ("ceiling", "word"),
    [
        ([], "INVALID"),
        ([{"actions": ["read"], "resource": [{"kind": 9}]}], "INVALID"),
        ([{"actions": [], "resource": [{"kind": 5}]}], "INVALID"),
        ([{"actions": ["read"], "resource": [{"kind": 5}], "needs": {"uses": 1}}], "INVALID"),
        ([{"actions": [f"a{n}"], "resource": [{"kind": 5}]} for n in range(65)], "LIMIT"),
    ],
)
def test_a_ceiling_is_held_to_the_format(ceiling: list[dict[str, Any]], word: str) -> None:
    """A ceiling has 1 to 64 well-formed scopes of known kinds, without needs."""
    rows = MemoryRows()
    change = opening("1", ID)
    body = {**change.body, "ceiling": {"scopes": ceiling}}
    assert rows.do(Change("1", ChangeKind.OPEN_SESSION, body, ID)).rejection == word


def test_an_id_opens_once() -> None:
    """A session id that is taken is refused, whoever asks."""
    rows = MemoryRows()
    opened(rows)
    assert rows.do(opening("2", ID)).rejection == "ALREADY_EXISTS"


def test_a_child_never_outlives_its_parent() -> None:
    """A lifetime is clamped to the parent's hard end; a later hard end is rejected."""
    rows = MemoryRows()
    opened(rows, ttl_ms=1000)
    assert rows.do(opening("2", b"c" * 16, parent_id=ID, ttl_ms=HOUR)).applied
    child = rows.session(b"c" * 16)
    assert child is not None and child.expires_at_ms == NOW + 1000
    late = rows.do(opening("3", b"d" * 16, parent_id=ID, expires_at_ms=NOW + 1001))
    assert late.rejection == "INVALID" and "parent" in late.detail


def test_sessions_nest_four_deep() -> None:
    """A session has at most three ancestors."""
    rows = MemoryRows()
    parent = b""
    for depth in range(4):
        session_id = bytes([depth]) * 16
        opened(rows, session_id, parent_id=parent)
        parent = session_id
    assert rows.do(opening("5", b"x" * 16, parent_id=parent)).rejection == "LIMIT"


@pytest.mark.parametrize("how", ["ended", "suspended", "expired", "grandparent ended"])
def test_a_child_needs_a_live_line(how: str) -> None:
    """No session opens under an ended, suspended or expired one, however far up."""
    rows = MemoryRows()
    opened(rows, b"g" * 16)
    opened(rows, parent_id=b"g" * 16)
    if how == "ended":
        rows.do(end_session("e", ID))
    elif how == "suspended":
        rows.do(suspend_session("s", ID))
    elif how == "grandparent ended":
        rows.do(end_session("e", b"g" * 16))
    at_ms = NOW + HOUR if how == "expired" else NOW
    assert rows.do(opening("c", b"c" * 16, parent_id=ID), at_ms).rejection == "PARENT_NOT_LIVE"


def test_narrow_replaces_a_layer_that_contains_it() -> None:
    """A ceiling that is proven to be inside the last takes its place."""
    rows = MemoryRows()
    opened(rows)
    assert rows.do(narrow_session("n", ID, scopes("read:files/a/**"))).epoch == 2
    session = rows.session(ID)
    assert session is not None and len(session.ceilings) == 1


def test_narrow_stacks_what_is_not_proven() -> None:
    """A ceiling that reaches further in places becomes another layer, so authority only shrinks."""
    rows = MemoryRows()
    opened(rows, ceiling="read:files/a/**")
    for n in range(15):
        assert rows.do(narrow_session(f"n{n}", ID, scopes(f"read,w{n}:files/**"))).applied
    session = rows.session(ID)
    assert session is not None and len(session.ceilings) == 16
    assert list(session.ceilings[0]) == list(rows_layer("read:files/a/**"))
    assert rows.do(narrow_session("last", ID, scopes("read,z:files/**"))).rejection == "LIMIT"


def rows_layer(text: str) -> tuple[dict[str, Any], ...]:
    """Return a layer as a session holds it."""
    rows = MemoryRows()
    rows.do(opening("1", ID, ceiling=text))
    session = rows.session(ID)
    assert session is not None
    return tuple(dict(scope) for scope in session.ceilings[0])


def test_narrow_refuses_what_can_never_match() -> None:
    """A ceiling outside the last one is refused with the part, and the session stays."""
    rows = MemoryRows()
    opened(rows)
    before = rows.session(ID)
    outcome = rows.do(narrow_session("n", ID, scopes("write:files/a")))
    assert outcome.rejection == "WIDENS" and "write" in outcome.detail
    assert rows.session(ID) == before


def test_facts_change_without_a_new_epoch() -> None:
    """Facts are set and removed by name; the epoch stays."""
    rows = MemoryRows()
    opened(rows, facts=[Fact("a", 1), Fact("b", True)])
    outcome = rows.do(update_facts("f", ID, set_facts=[Fact("c", "x"), Fact("a", 2)], remove=["b"]))
    session = rows.session(ID)
    assert session is not None and outcome.epoch == 1
    assert [fact.name for fact in session.facts] == ["a", "c"]
    assert rows.do(update_facts("g", ID)).rejection == "INVALID"
    assert rows.do(update_facts("h", ID, set_facts=[Fact("a", 1)], remove=["a"])).rejection == "INVALID"
    many = [Fact(f"m{n}", n) for n in range(31)]
    assert rows.do(update_facts("i", ID, set_facts=many)).rejection == "LIMIT"


def test_suspend_and_resume() -> None:
    """Only an active session is suspended, only a suspended one resumed; the epoch moves each time."""
    rows = MemoryRows()
    opened(rows)
    assert rows.do(resume_session("1", ID)).rejection == "WRONG_STATUS"
    assert rows.do(suspend_session("2", ID, "looks odd")).epoch == 2
    assert rows.do(suspend_session("3", ID)).rejection == "WRONG_STATUS"
    session = rows.session(ID)
    assert session is not None and session.reason == "looks odd"
    assert rows.do(resume_session("4", ID)).epoch == 3


def test_an_end_is_one_row_and_final() -> None:
    """Ending writes the session's row and no other, whatever hangs below; nothing leaves ENDED."""
    rows = MemoryRows()
    opened(rows)
    for n in range(20):
        opened(rows, bytes([n]) * 16, parent_id=ID)
    before = dict(rows.tables["sessions"])
    assert rows.do(end_session("e", ID, "done")).applied
    changed = [key for key, value in rows.tables["sessions"].items() if before[key] != value]
    assert changed == [ID]
    for change in (
        resume_session("r", ID),
        suspend_session("s", ID),
        narrow_session("n", ID, scopes("read:files/a")),
        update_facts("f", ID, set_facts=[Fact("a", 1)]),
        end_session("e2", ID),
        update_facts("fc", bytes(16), set_facts=[Fact("a", 1)]),
    ):
        assert rows.do(change).rejection == "ALREADY_ENDED", change.kind


def test_a_hard_end_is_an_end() -> None:
    """A session accepts only its end and revocations after its hard end."""
    rows = MemoryRows()
    opened(rows)
    assert rows.do(suspend_session("s", ID), NOW + HOUR).rejection == "ALREADY_ENDED"
    assert rows.do(suspend_session("s2", ID), NOW + HOUR - 1).applied
    assert rows.do(revoke("r", ID, [b"b" * 32]), NOW + HOUR).applied
    assert rows.do(end_session("e", ID, cause=EndCause.EXPIRED), NOW + HOUR).applied


def test_an_end_states_a_cause_that_it_may() -> None:
    """RESTORED is only stated by a new incarnation."""
    rows = MemoryRows()
    opened(rows)
    assert rows.do(end_session("e", ID, cause=EndCause.RESTORED)).rejection == "INVALID"


def test_expected_epoch_is_held() -> None:
    """A change that expects another epoch is rejected; 0 expects none."""
    rows = MemoryRows()
    opened(rows)
    assert rows.do(suspend_session("1", ID, expected_epoch=2)).rejection == "EPOCH_MISMATCH"
    assert rows.do(suspend_session("2", ID, expected_epoch=1)).applied
    assert rows.do(resume_session("3", ID, expected_epoch=1)).rejection == "EPOCH_MISMATCH"


def test_revocations_count_each_block_once() -> None:
    """Only blocks that were not revoked yet count, in sessions of any status."""
    rows = MemoryRows()
    opened(rows)
    blocks = [os.urandom(32) for _ in range(3)]
    assert rows.do(revoke("1", ID, [blocks[0], blocks[1], blocks[0]])).applied
    rows.do(end_session("e", ID))
    assert rows.do(revoke("2", ID, blocks)).applied
    session = rows.session(ID)
    assert session is not None and session.revoked_count == 3
    assert all(rows.is_revoked(ID, block) for block in blocks)
    assert rows.do(revoke("3", ID, [b"short"])).rejection == "INVALID"
    assert rows.do(revoke("4", ID, [])).rejection == "INVALID"
    assert rows.do(revoke("5", ID, [os.urandom(32) for _ in range(257)])).rejection == "LIMIT"
    assert rows.do(revoke("6", b"x" * 16, blocks)).rejection == "NOT_FOUND"


def test_only_an_ended_session_is_purged_with_all_its_rows() -> None:
    """A purge takes the row, the lease and the revocations of one ended session, and no other's."""
    rows = MemoryRows()
    opened(rows, lease_ms=1000)
    opened(rows, b"t" * 16)
    rows.do(revoke("r", ID, [b"b" * 32]))
    rows.do(revoke("r2", b"t" * 16, [b"b" * 32]))
    assert rows.do(purge_session("p", ID)).rejection == "WRONG_STATUS"
    rows.do(end_session("e", ID))
    assert rows.do(purge_session("p", ID)).applied
    assert rows.session(ID) is None and ID not in rows.tables["leases"]
    assert list(rows.tables["revoked"]) == [b"t" * 16 + b"b" * 32]


def test_a_new_incarnation_ends_every_session() -> None:
    """All sessions end, what had ended keeps its cause, and the clock floor may go down."""
    rows = MemoryRows()
    opened(rows)
    opened(rows, b"t" * 16)
    rows.do(end_session("e", b"t" * 16))
    assert rows.do(new_incarnation("i", b"n" * 16, NOW - HOUR, "clock was wrong")).applied
    causes = [session.end_cause for session in map(rows.session, rows.session_ids()) if session]
    assert causes == [EndCause.RESTORED, EndCause.ASKED]
    assert (rows.head().incarnation, rows.head().clock_floor_ms) == (b"n" * 16, NOW - HOUR)
    assert rows.do(new_incarnation("j", b"n" * 16, 0)).rejection == "INVALID"


def test_the_same_changes_lead_to_the_same_state() -> None:
    """Two followers of one log hold equal rows and equal heads, rejections included."""
    changes = [
        opening("1", ID, lease_ms=5000),
        narrow_session("2", ID, scopes("read:files/a/*")),
        resume_session("3", ID),
        revoke("4", ID, [b"b" * 32]),
        opening("5", b"c" * 16, parent_id=ID),
        end_session("6", ID),
    ]
    first, second = MemoryRows(), MemoryRows()
    for offset, change in enumerate(changes):
        a = first.do(change, NOW + offset)
        b = second.do(Change.decode(change.stamped(NOW + offset).encode()), NOW + offset)
        assert a == b
    assert (first.tables, first.head()) == (second.tables, second.head())
    assert first.head().seq == len(changes) and first.head().revision == len(changes) - 1


@pytest.mark.parametrize(
    ("change_id", "actor", "names"),
    [("", "", "id"), ("x" * 65, "", "id"), ("a\x00", "", "id"), ("ok", "\n", "actor")],
)
def test_a_change_without_a_usable_id_is_not_logged(change_id: str, actor: str, names: str) -> None:
    """An id is a text of 1 to 64 bytes; an actor is a text."""
    encoded, wrong = encode_or_refuse(Change(change_id, ChangeKind.SUSPEND_SESSION, {}, ID, actor))
    assert not encoded and names in wrong


def test_a_change_has_bounded_bytes() -> None:
    """A change that is larger than any sensible ceiling is refused before it is logged."""
    large = opening("1", ID, facts=[Fact(f"f{n}", "x" * 1024) for n in range(100)])
    encoded, wrong = encode_or_refuse(large)
    assert not encoded and "bytes" in wrong
    broken = Change("1", ChangeKind.REVOKE, {"block_ids": ["text"]}, ID)
    assert "can't be encoded" in encode_or_refuse(broken)[1]
