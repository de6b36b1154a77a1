"""Equal rows at two servers: after groups of all kinds, read in any pages, and once the other one leads."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth.clock import FixedClock
from sessauth.crypto.keys import IssuerKey, KeyStatus
from sessauth.errors import Rejected
from sessauth.model.change import (
    Change,
    ChangeOutcome,
    Settlement,
    add_credential,
    add_key,
    answer_approval,
    ban_sessions,
    cut_logins,
    end_session,
    narrow_session,
    new_incarnation,
    once_change_id,
    purge_session,
    remove_credential,
    request_approval,
    resume_session,
    retry_change_id,
    revoke,
    set_key_status,
    settle_permit,
    suspend_session,
    update_facts,
)
from sessauth.model.session import Fact, SessionSelector
from sessauth.state import layout
from sessauth.state.integrity.verify import verify
from sessauth.state.lmdb.cluster_rows import store_receipt
from sessauth.state.writer.group import Group, Retention
from sessauth.state.writer.opening import probe
from sessauth.state.writer.state_writer import sweep
from tests.support.carried import Member, begin_cluster
from tests.support.cases import examples
from tests.support.changes import NOW, opening, scopes
from tests.support.costs import charge, pending_record, signing, spending, use
from tests.support.receipts import receipt

SESSIONS = [bytes([n]) * 16 for n in (1, 2, 3, 4)]
ITEMS = [bytes([n]) * 16 for n in (11, 12)]
KEYS = [IssuerKey(bytes([n]) * 32) for n in (21, 22)]
SMALL = Retention(changes=12, outcomes=9, outcomes_ms=300, ended_ms=150)
_Make = Callable[[str, bytes, int, int], Change]
# By id, session, a small number, and the time.
MAKERS: dict[str, _Make] = {
    "open": lambda id_, session, n, now: opening(
        id_, session, parent_id=b"" if n < 3 else SESSIONS[n % 4], ttl_ms=100 + 50 * n, lease_ms=100 * (n % 2)
    ),
    "narrow": lambda id_, session, n, now: narrow_session(id_, session, scopes("read:files/**")),
    "facts": lambda id_, session, n, now: update_facts(id_, session, set_facts=[Fact("n", n)]),
    "suspend": lambda id_, session, n, now: suspend_session(id_, session),
    "resume": lambda id_, session, n, now: resume_session(id_, session),
    "end": lambda id_, session, n, now: end_session(id_, session),
    "revoke": lambda id_, session, n, now: revoke(id_, session, [bytes([n]) * 32]),
    "purge": lambda id_, session, n, now: purge_session(id_, session),
    "key": lambda id_, session, n, now: add_key(id_, KEYS[n % 2].public_key, status=KeyStatus.ACTIVE),
    "retire": lambda id_, session, n, now: set_key_status(id_, KEYS[n % 2].key_id, KeyStatus.RETIRED),
    "caller": lambda id_, session, n, now: add_credential(
        id_, f"c{n % 4}", ("operator", "gateway")[n % 2], bytes([n]) * 32, actor="o"
    ),
    "uncaller": lambda id_, session, n, now: remove_credential(id_, f"c{n % 4}"),
    "ban": lambda id_, session, n, now: ban_sessions(
        id_, SessionSelector(f"s{n % 3}"), 50 * (n % 4), actor="o"
    ),
    "cut": lambda id_, session, n, now: cut_logins(
        id_, "https://idp", {("up_to_ms", "disabled_ms", "enabled_ms")[n % 3]: now - n}, 1 + 20 * n,
        subject=f"u{n % 2}", actor="o",
    ),
    "incarnation": lambda id_, session, n, now: new_incarnation(id_, bytes([n]) * 16, now),
    "spend": lambda id_, session, n, now: spending(
        session, retry_change_id("g", id_.encode()) if n % 2 else once_change_id(), gateway="g",
        request_digest=b"q" * 32, expected_epoch=1 + n // 4, uses=[use(9, 0)], budgets=[charge(n, 20)],
        permit_id=ITEMS[n % 2] if n > 2 else b"", permit_deadline_ms=now + 20 * n,
    ),
    "settle": lambda id_, session, n, now: settle_permit(
        once_change_id(), session, ITEMS[n % 2], (Settlement.COMMIT, Settlement.RELEASE)[n // 4], gateway="g"
    ),
    "ask": lambda id_, session, n, now: request_approval(
        once_change_id(), pending_record(session, ITEMS[n % 2], epoch=1 + n // 4, expires_at_ms=now + 20 * n)
    ),
    "answer": lambda id_, session, n, now: answer_approval(
        id_, session, ITEMS[n % 2], statement=signing(pending_record(session, ITEMS[n % 2], epoch=1), n % 3)
    ),
}  # fmt: skip
_session = st.sampled_from(SESSIONS)
_number = st.integers(0, 7)
_change = st.tuples(st.sampled_from(sorted(MAKERS)), st.sampled_from("abcdefghijkl"), _session, _number)
_row = st.tuples(st.sampled_from(["keep", "receipt", "local", "sweep"]), st.just(""), _session, _number)
_open = st.tuples(st.just("open"), st.uuids().map(str), _session, _number)
_steps = st.lists(st.one_of(_open, _change, _row), min_size=1, max_size=6)
_plan = st.lists(st.tuples(_steps, st.sampled_from([0, 0, 1, 40, 60, 120, 400])), min_size=1, max_size=10)


class Pair:
    """Two servers, and the outcomes that callers of the leader got."""

    def __init__(self, folder: Path) -> None:
        """Begin; the first one leads."""
        self.clock = FixedClock(NOW)
        self.engine, (self.leader, self.other) = begin_cluster(folder, self.clock, ("one", "two"), SMALL)
        self.outcomes: dict[str, tuple[Change, ChangeOutcome]] = {}

    def play(self, plan: Any) -> None:
        """Run groups of steps, one commit each, and let time go by between them."""
        for steps, ms in plan:
            made = self.leader.writer.run(
                lambda group, steps=steps: [self.step(group, *step) for step in steps]
            )
            for change, outcome in filter(None, made):
                # Neither a conflict nor an answer that costs no write is stored.
                if outcome.seq:
                    self.outcomes[change.id] = change, outcome
            self.clock.advance(ms)
            if ms > 100:
                self.leader.writer.sweep()

    def step(
        self, group: Group, kind: str, change_id: str, session: bytes, n: int
    ) -> tuple[Change, ChangeOutcome] | None:
        """Make a change, or write a row beside the changes; a rejection is an answer."""
        try:
            if kind == "keep":
                group.keep_alive(session)
            elif kind == "receipt":
                store_receipt(group, receipt(session_id=session, revision=n % 7 + 1))
            elif kind == "local":
                probe(group)
            elif kind == "sweep":
                sweep(group, n + 1)
            else:
                change = MAKERS[kind](change_id, session, n, self.clock.now_ms())
                return change, group.submit(change)
        except Rejected:
            pass
        return None

    def follow(self, page: int) -> None:
        """Have the other one follow, and hold that its rows are the leader's."""
        self.other.follow(page)
        ours, theirs = self.leader.tables(), self.other.tables()
        for table in ours:
            assert theirs[table] == ours[table], table
        assert evidence(self.other, b"r") == evidence(self.leader, b"r")
        assert evidence(self.other, b"c") == evidence(self.leader, b"c")
        assert evidence(self.other, b"x") == evidence(self.leader, b"x")
        for member in (self.leader, self.other):
            member.writer.run(lambda group: verify(group.rows))

    def take_over(self) -> None:
        """Have the other one lead; what was answered by the first is answered the same."""
        self.leader.restart()
        self.leader, self.other = self.other, self.leader
        self.leader.lead()
        for change, outcome in self.outcomes.values():
            if self.leader.writer.outcome(change.id) is not None:
                again = self.leader.writer.run(lambda group, change=change: group.submit(change))
                assert again == outcome

    def close(self) -> None:
        """Close both."""
        for member in (self.leader, self.other):
            member.writer.close()


def evidence(member: Member, kind: bytes) -> dict[bytes, bytes | None]:
    """Return the rows of receipts, or of credentials with their mark."""
    with member.writer.source().rows() as rows:
        keys = rows.keys_after(layout.EVIDENCE, b"", 99, kind)
        return {key: rows.get(layout.EVIDENCE, key) for key in keys}


@settings(max_examples=examples(40), deadline=None)
@given(before=_plan, after=_plan, page=st.integers(1, 9))
def test_rows_are_equal_whatever_was_written_by_either(before: Any, after: Any, page: int) -> None:
    """Changes of all kinds, leases, sweeps, receipts, compaction: in any groups, read in any pages."""
    folder = Path(tempfile.mkdtemp(prefix="sessauth-pair-"))
    pair = Pair(folder)
    try:
        pair.play(before)
        pair.follow(page)
        pair.take_over()
        pair.play(after)
        pair.follow(page)
        assert pair.other.number == pair.leader.number == pair.engine.head.number
    finally:
        pair.close()
        shutil.rmtree(folder)
