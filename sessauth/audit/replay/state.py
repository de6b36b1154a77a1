"""The state at a revision, built from recorded changes, with the extent to which it is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ... import limits
from ..._fast._check import WireError
from ...crypto.issuer_key import KeyRecord, KeyStatus
from ...model.change import Change, ChangeKind
from ...model.log_records import Head
from ...state import layout
from ...state.rules.apply import apply
from ...state.rules.effects import Put
from .memory_rows import MemoryRows
from .reader import UNKNOWN, ChangeRecord, History

_OF_KEYS = (ChangeKind.ADD_KEY, ChangeKind.SET_KEY_STATUS)
# No decision depends on them.
_OF_NO_DECISION = (ChangeKind.ADD_CREDENTIAL, ChangeKind.REMOVE_CREDENTIAL, ChangeKind.BAN_SESSIONS)
# Called with the record of a change whose result differs, and the result.
Complaint = Callable[[ChangeRecord, str], None]


class ReplayedState:
    """A state that advances from revision to revision.

    A log that is complete from its first change gives the whole state. One that begins later, or has a gap,
    gives the sessions that were opened since; the others are unknown.
    """

    def __init__(self, history: History, complain: Complaint) -> None:
        """Begin before the first change of a history."""
        self._changes = _with_revisions([history.changes[seq] for seq in sorted(history.changes)])
        self._at = 0
        self._complain = complain
        # The parent of each session that was opened, or nothing.
        self._opened: dict[bytes, bytes] = {}
        self._doubtful: set[bytes] = set()
        # Changes without a recorded revision.
        self._guessed = {change.seq for change in history.changes.values() if not change.revision}
        first = self._changes[0] if self._changes else None
        self.whole = first is not None and first.seq == 1
        self.keys_known = self.whole
        self.last_revision = max((change.revision for change in self._changes), default=0)
        head = Head(
            layout.FORMAT,
            layout.MIN_READER_FORMAT,
            bytes(16),
            # Any incarnation; a change that begins the history's own may be among these.
            bytes(16),
            # Without changes no revision matches.
            revision=limits.MAX_TIME_MS if first is None else first.revision - first.applied,
            seq=0 if first is None else first.seq - 1,
            digest=bytes(32),
        )
        self.rows = MemoryRows(head)

    def stands_at(self, revision: int) -> bool:
        """Return True if it is at just this revision: the log has the changes up to it."""
        return self.rows.current.revision == revision

    def knows(self, session_id: bytes) -> bool:
        """Return True if a session and its ancestors are as the log says, or known not to exist."""
        if self.whole and not self._doubtful:
            return True
        for _ in range(limits.MAX_ANCESTORS + 2):
            if session_id in self._doubtful:
                return False
            parent_id = self._opened.get(session_id)
            if not parent_id:
                return self.whole or parent_id is not None
            session_id = parent_id
        return False

    def has(self, session_id: bytes) -> bool:
        """Return True if there is such a session."""
        return self.rows.get(layout.SESSIONS, session_id) is not None

    def advance(self, revision: int) -> None:
        """Apply every change up to a revision, which is not before the current one."""
        while self._at < len(self._changes) and self._changes[self._at].revision <= revision:
            record = self._changes[self._at]
            self._at += 1
            if record.seq != self.rows.current.seq + 1:
                self._forget(record.seq - 1, record.revision - record.applied)
            self._apply(record)

    def _forget(self, seq: int, revision: int) -> None:
        """Drop everything and go on: any row may have changed."""
        self.whole = self.keys_known = False
        self._opened.clear()
        self.rows.forget()
        head = self.rows.current
        # A view must read its keys again.
        generation = head.keys_generation + 1
        self.rows.move(replace(head, seq=seq, revision=revision, keys_generation=generation))

    def _apply(self, record: ChangeRecord) -> None:
        try:
            change = Change.decode(record.body)
        except WireError as error:
            self._complain(record, f"no change of this version: {error}")
            self._doubt(record, None)
            return
        if not self._can_judge(change):
            self._follow(record)
            return
        if not self.whole and change.kind is ChangeKind.SET_KEY_STATUS and record.applied:
            self._assume_key(change)
        applied = apply(self.rows, change)
        word = applied.outcome.rejection or "APPLIED"
        same = record.outcome in (word, UNKNOWN) and applied.head.revision == record.revision
        if not same and not self.whole and change.kind in (*_OF_KEYS, *_OF_NO_DECISION):
            # The key, the credential or the ban is older than the log.
            self._follow(record)
            return
        if not same:
            if record.seq not in self._guessed:
                self._complain(record, f"{word} at revision {applied.head.revision}")
            self._doubt(record, change)
            return
        self.rows.perform(applied.writes)
        self.rows.move(applied.head)
        if change.kind is ChangeKind.OPEN_SESSION and record.applied:
            self._opened[change.session_id] = _parent_of(change)

    def _can_judge(self, change: Change) -> bool:
        """Return True if everything that a change depends on is known."""
        if self.whole:
            return change.session_id not in self._doubtful
        if change.kind is ChangeKind.OPEN_SESSION:
            parent_id = _parent_of(change)
            return not parent_id or self.knows(parent_id)
        return not change.session_id or self.knows(change.session_id)

    def _assume_key(self, change: Change) -> None:
        """Add a row for a key older than the log: its owner is unknown, its status is known from now on."""
        key_id = change.body.get("key_id", b"")
        if isinstance(key_id, bytes) and len(key_id) == 32 and self.rows.key(key_id) is None:
            key = KeyRecord(key_id, bytes(32), KeyStatus.PREPARED)
            self.rows.perform((Put(layout.KEYS, key_id, key.encode()),))

    def _follow(self, record: ChangeRecord) -> None:
        """Move to a change's revision without its effects."""
        self.rows.move(replace(self.rows.current, seq=record.seq, revision=record.revision))

    def _doubt(self, record: ChangeRecord, change: Change | None) -> None:
        """Mark the subject of a change as unknown."""
        if change is None or not (
            change.session_id or change.kind in _OF_KEYS or change.kind in _OF_NO_DECISION
        ):
            self._forget(record.seq, record.revision)
            return
        if change.session_id:
            self._doubtful.add(change.session_id)
        elif change.kind in _OF_KEYS:
            self.keys_known = False
        self._follow(record)


def _with_revisions(changes: list[ChangeRecord]) -> list[ChangeRecord]:
    """Return changes with unknown revisions filled in from their neighbours."""
    filled = list(changes)
    for i, change in enumerate(filled):
        before = filled[i - 1] if i else None
        if not change.revision and before is not None and before.revision and before.seq == change.seq - 1:
            filled[i] = replace(change, revision=before.revision + change.applied)
    for i in range(len(filled) - 2, -1, -1):
        behind = filled[i + 1]
        if not filled[i].revision and behind.revision and behind.seq == filled[i].seq + 1:
            filled[i] = replace(filled[i], revision=behind.revision - behind.applied)
    return filled


def _parent_of(change: Change) -> bytes:
    parent_id = change.body.get("parent_id", b"")
    return parent_id if isinstance(parent_id, bytes) else b""
