"""Evaluates recorded calls by a ceiling that was not in force: a trial before a session is opened with it.

Sessions are treated as if they had been opened with the ceiling, and not in observe mode. All else is as
recorded: the tokens' blocks, facts, and the ceilings of ancestors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ..._fast._check import View
from ..._fast._codec import Redecider, Redecision
from ...errors import UsageError
from ...model.session import ScopeRecord, Session
from ...reasons import Level, Reason, Stage, SurveyVerdict
from ...scopes.scope import Scope
from ...state import layout
from ...state.rules.validation import RuleViolation, validate_ceiling
from .memory_rows import MemoryRows, MemoryTransaction

# Rows of refused calls; calls beyond them are counted.
MAX_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Trial:
    """A ceiling, and the sessions that it is tried on: one by its id, those of a purpose, or all."""

    ceiling: tuple[ScopeRecord, ...]
    session_id: bytes = b""
    purpose: str = ""

    @classmethod
    def of(cls, scopes: Sequence[Scope], session_id: bytes = b"", purpose: str = "") -> Trial:
        """Return the trial of scopes. Raises UsageError if a session can't have them as its ceiling."""
        records = [scope.to_record() for scope in scopes]
        try:
            return cls(tuple(validate_ceiling({"scopes": records})), session_id, purpose)
        except RuleViolation as violation:
            raise UsageError(violation.detail) from None

    def includes(self, session: Session) -> bool:
        """Return True if it is tried on a session."""
        return self.session_id in (b"", session.id) and self.purpose in ("", session.purpose)


@dataclass(frozen=True, slots=True, order=True)
class RefusedCall:
    """Calls that the ceiling refuses, and its scope, condition and argument; -1 and empty without one."""

    action: str
    resource: str
    reason: str
    scope: int = -1
    clause: int = -1
    argument: str = ""


@dataclass(slots=True)
class TrialReport:
    """Counts of allowed calls. ``undecided``: by the unknown part; ``unknown``: of an unknown session."""

    sessions: set[bytes] = field(default_factory=set)
    admitted: int = 0
    refused: int = 0
    undecided: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    rows: Counter[RefusedCall] = field(default_factory=Counter)

    def count(self, out: Redecision, action: str, resource: str, *, knows_arguments: bool) -> None:
        """Count an allowed call."""
        if out.verdict == SurveyVerdict.YES:
            self.admitted += 1
        elif out.verdict == SurveyVerdict.MAYBE:
            self.undecided["tool" if knows_arguments else "arguments"] += 1
        elif (out.stage, out.level) != (Stage.SCOPE, Level.CEILING):
            # The record can't be true, which the replay reports.
            self.unknown += 1
        else:
            self.refused += 1
            row = RefusedCall(action, resource, Reason(out.reason).name, out.scope, out.clause, out.argument)
            if row in self.rows or len(self.rows) < MAX_ROWS:
                self.rows[row] += 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        names = RefusedCall.__slots__
        return {
            "sessions": len(self.sessions),
            "admitted": self.admitted,
            "refused": self.refused,
            "undecided": dict(sorted(self.undecided.items())),
            "unknown": self.unknown,
            "refused_calls": [
                {"calls": calls, **{name: getattr(row, name) for name in names}}
                for row, calls in sorted(self.rows.items(), key=lambda item: (-item[1], item[0]))
            ],
        }


class TrialRows:
    """The rows of a replayed state, with the ceiling in place of those of the trial's sessions."""

    def __init__(self, rows: MemoryRows, trial: Trial) -> None:
        """Read through ``rows``."""
        self.rows = rows
        self.sessions, self.leases, self.revoked = rows.sessions, rows.leases, rows.revoked
        self.keys, self.meta, self.brake = rows.keys, rows.meta, rows.brake
        self._trial = trial

    def begin(self) -> TrialTransaction:
        """Start a read."""
        return TrialTransaction(self, self.rows.begin())

    def tried(self, row: bytes) -> bytes:
        """Return a session's row as it would be with the ceiling."""
        session = Session.decode(row)
        if not self._trial.includes(session):
            return row
        return replace(session, ceilings=(self._trial.ceiling,), observe=False).encode()


class TrialTransaction:
    """A read of :class:`TrialRows`."""

    __slots__ = ("_read", "_rows")

    def __init__(self, rows: TrialRows, read: MemoryTransaction) -> None:
        """Read through a transaction."""
        self._rows, self._read = rows, read

    def id(self) -> int:
        """Return the number of the last write."""
        return self._read.id()

    def get(self, key: bytes, *, db: str) -> bytes | None:
        """Return a row's value."""
        row = self._read.get(key, db=db)
        return row if row is None or db != layout.SESSIONS else self._rows.tried(row)

    def abort(self) -> None:
        """Do nothing."""


def trial_redecider(rows: MemoryRows, trial: Trial) -> Redecider:
    """Return the evaluation of calls by the ceiling of a trial."""
    return Redecider(View(TrialRows(rows, trial)))
