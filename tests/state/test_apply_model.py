"""Random changes against a model of a few lines, with the promises held at every step."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sessauth.model.change import (
    ChangeOutcome,
    end_session,
    narrow_session,
    purge_session,
    resume_session,
    revoke,
    suspend_session,
    update_facts,
)
from sessauth.model.session import Fact, SessionStatus
from tests.support.cases import examples
from tests.support.changes import NOW, MemoryRows, opening, scopes

_IDS = [bytes([n]) * 16 for n in range(5)]
_BLOCKS = [bytes([n]) * 32 for n in range(4)]
_ids = st.sampled_from(_IDS)


class Lifecycle(RuleBasedStateMachine):
    """Sessions live by the model; rows live by apply."""

    def __init__(self) -> None:
        """Start with no session."""
        super().__init__()
        self.rows = MemoryRows()
        self.model: dict[bytes, dict[str, Any]] = {}
        self.now = NOW
        self.count = 0
        self.revisions = [0]

    def do(self, change: Any, applied: bool) -> ChangeOutcome:
        """Apply a change and hold whether it was applied."""
        outcome = self.rows.do(change, self.now)
        assert outcome.applied == applied, (change, outcome)
        self.revisions.append(outcome.revision)
        return outcome

    def new_id(self) -> str:
        """Return a fresh request id."""
        self.count += 1
        return str(self.count)

    def dead(self, session_id: bytes) -> bool:
        """Return True if the session or an ancestor is over."""
        line = self.line(session_id)
        return any(s is None or s["ended"] or self.now >= s["expires"] for s in line)

    def line(self, session_id: bytes) -> list[dict[str, Any] | None]:
        """Return the session and those above it; None for one that is gone."""
        found: list[dict[str, Any] | None] = []
        while session_id:
            entry = self.model.get(session_id)
            found.append(entry)
            if entry is None:
                break
            session_id = entry["parent"]
        return found

    @rule(session_id=_ids, parent=st.one_of(st.just(b""), _ids), ttl=st.integers(1, 50))
    def open(self, session_id: bytes, parent: bytes, ttl: int) -> None:
        """Open a session, perhaps under another."""
        line = self.line(parent) if parent else []
        fits = not any(s is None or s["ended"] or s["suspended"] or self.now >= s["expires"] for s in line)
        applied = session_id not in self.model and fits and len(line) <= 3
        self.do(opening(self.new_id(), session_id, parent_id=parent, ttl_ms=ttl), applied)
        if applied:
            ends = [s["expires"] for s in line if s]
            self.model[session_id] = {
                "parent": parent, "expires": min([self.now + ttl, *ends]), "ended": False, "suspended": False,
                "epoch": 1, "revoked": set(),
            }  # fmt: skip

    @rule(session_id=_ids, kind=st.sampled_from(["suspend", "resume", "narrow", "facts"]))
    def change(self, session_id: bytes, kind: str) -> None:
        """Change a session that must be usable."""
        entry = self.model.get(session_id)
        usable = entry is not None and not self.dead(session_id)
        request = self.new_id()
        if kind == "suspend":
            applied = usable and entry is not None and not entry["suspended"]
            self.do(suspend_session(request, session_id), applied)
        elif kind == "resume":
            applied = usable and entry is not None and entry["suspended"]
            self.do(resume_session(request, session_id), applied)
        elif kind == "narrow":
            applied = usable
            self.do(narrow_session(request, session_id, scopes("read:files/**")), applied)
        else:
            applied = usable
            self.do(update_facts(request, session_id, set_facts=[Fact("n", self.count)]), applied)
        if applied and entry is not None:
            entry["suspended"] = {"suspend": True, "resume": False}.get(kind, entry["suspended"])
            entry["epoch"] += kind != "facts"

    @rule(session_id=_ids)
    def end(self, session_id: bytes) -> None:
        """End a session that has not been ended."""
        entry = self.model.get(session_id)
        applied = entry is not None and not entry["ended"]
        self.do(end_session(self.new_id(), session_id), applied)
        if applied and entry is not None:
            entry["ended"] = True
            entry["epoch"] += 1

    @rule(session_id=_ids, blocks=st.sets(st.sampled_from(_BLOCKS), min_size=1))
    def revoke(self, session_id: bytes, blocks: set[bytes]) -> None:
        """Revoke blocks of a session of any status."""
        entry = self.model.get(session_id)
        self.do(revoke(self.new_id(), session_id, blocks), entry is not None)
        if entry is not None:
            entry["revoked"] |= blocks

    @rule(session_id=_ids)
    def purge(self, session_id: bytes) -> None:
        """Purge an ended session."""
        entry = self.model.get(session_id)
        applied = entry is not None and entry["ended"]
        self.do(purge_session(self.new_id(), session_id), applied)
        if applied:
            del self.model[session_id]

    @rule(ms=st.integers(1, 20))
    def wait(self, ms: int) -> None:
        """Let time go by."""
        self.now += ms

    @invariant()
    def rows_are_the_model(self) -> None:
        """Status, epoch, hard end and revocations of every session are the model's."""
        assert set(self.rows.session_ids()) == set(self.model)
        for session_id, entry in self.model.items():
            session = self.rows.session(session_id)
            assert session is not None
            status = (
                SessionStatus.ENDED if entry["ended"]
                else SessionStatus.SUSPENDED if entry["suspended"] else SessionStatus.ACTIVE
            )  # fmt: skip
            assert (session.status, session.epoch, session.expires_at_ms) == (
                status, entry["epoch"], entry["expires"],
            )  # fmt: skip
            assert session.revoked_count == len(entry["revoked"])
            assert {b for b in _BLOCKS if self.rows.is_revoked(session_id, b)} == entry["revoked"]

    @invariant()
    def the_log_only_grows(self) -> None:
        """Revisions never go down and seq is dense."""
        assert self.revisions == sorted(self.revisions)
        assert self.rows.head().seq == len(self.revisions) - 1


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
