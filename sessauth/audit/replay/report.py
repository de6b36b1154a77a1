"""The report of a replay, and trials: recorded calls evaluated by a ceiling that was not in force.

:class:`MemoryRows` is a state in memory: recorded changes are applied to it, and the kernel's view reads it.

A :class:`Trial` shows the effect of a ceiling before a session is opened with it. Its sessions are treated as
if they had been opened with that ceiling, and not in observe mode. All else is as recorded: the tokens'
blocks, facts, and the ceilings of ancestors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from ..._fast._check import View
from ..._fast._codec import Redecider, Redecision
from ...crypto.keys import KeyRecord
from ...errors import UsageError
from ...model.change import Head
from ...model.session import ScopeRecord, Session
from ...reasons import Level, Reason, Stage, SurveyVerdict
from ...scopes.scope import Scope
from ...state import layout
from ...state.rules.effects import CostRows, Delete, DeletePrefix, Put, current_session
from ...state.rules.validation import RuleViolation, validate_ceiling

# Every key begins with the id of its session, or with as many other bytes.
_GROUP_BYTES = 16


class MemoryRows(CostRows):
    """Tables as dicts, for ``state.rules.apply`` and as a source of the kernel's view.

    A renewal of a lease is no change: ``leases`` has the deadline that a session was opened with.
    """

    def __init__(self, head: Head) -> None:
        """Start empty at a head."""
        self.current = head
        self.sessions, self.leases, self.revoked = layout.SESSIONS, layout.LEASES, layout.REVOKED
        self.keys, self.meta = layout.KEYS, layout.META
        self.brake = bytes(64)
        self._identity = 1
        self._tables: dict[str, dict[bytes, dict[bytes, bytes]]] = {name: {} for name in layout.TABLES}

    def head(self) -> Head:
        """Return the head of the log."""
        return self.current

    def move(self, head: Head) -> None:
        """Set the head."""
        self.current = head
        self._identity += 1

    def forget(self) -> None:
        """Drop every row. A view reads all of its rows again."""
        for table in self._tables.values():
            table.clear()
        self._identity += 1

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a row's value."""
        if table == layout.META and key == layout.HEAD_KEY:
            return self.current.encode()
        return self._tables[table].get(key[:_GROUP_BYTES], {}).get(key)

    def session(self, session_id: bytes) -> Session | None:
        """Return a session."""
        data = self.get(layout.SESSIONS, session_id)
        return None if data is None else current_session(self, Session.decode(data))

    def session_ids(self) -> Iterator[bytes]:
        """Yield the ids of all sessions, ascending."""
        yield from sorted(self._tables[layout.SESSIONS])

    def is_revoked(self, session_id: bytes, block_id: bytes) -> bool:
        """Return True if a block is revoked."""
        return self.get(layout.REVOKED, session_id + block_id) is not None

    def key(self, key_id: bytes) -> KeyRecord | None:
        """Return an issuer key."""
        data = self.get(layout.KEYS, key_id)
        return None if data is None else KeyRecord.decode(data)

    def key_count(self) -> int:
        """Return how many issuer keys there are."""
        return sum(map(len, self._tables[layout.KEYS].values()))

    def perform(self, writes: tuple[Put | Delete | DeletePrefix, ...]) -> None:
        """Perform the writes of a change."""
        for write in writes:
            table = self._tables[write.table]
            if isinstance(write, Put):
                table.setdefault(write.key[:_GROUP_BYTES], {})[write.key] = write.value
            elif isinstance(write, Delete):
                self._drop(table, write.key)
            else:
                for key in list(table.get(write.prefix[:_GROUP_BYTES], {})):
                    if key.startswith(write.prefix):
                        self._drop(table, key)

    @staticmethod
    def _drop(table: dict[bytes, dict[bytes, bytes]], key: bytes) -> None:
        group = table.get(key[:_GROUP_BYTES], {})
        group.pop(key, None)
        if not group:
            table.pop(key[:_GROUP_BYTES], None)

    def begin(self) -> MemoryTransaction:
        """Start a read."""
        return MemoryTransaction(self, self._identity)


class MemoryTransaction:
    """A read: over before the next change is applied."""

    __slots__ = ("_identity", "_rows")

    def __init__(self, rows: MemoryRows, identity: int) -> None:
        """Read rows under the number of the last write."""
        self._rows = rows
        self._identity = identity

    def id(self) -> int:
        """Return that number."""
        return self._identity

    def get(self, key: bytes, default: None, db: str) -> bytes | None:
        """Return a row's value; the tables' handles are their names."""
        return self._rows.get(db, key)

    def abort(self) -> None:
        """Do nothing: there is nothing to release."""


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

    def get(self, key: bytes, default: None, db: str) -> bytes | None:
        """Return a row's value."""
        row = self._read.get(key, None, db)
        return row if row is None or db != layout.SESSIONS else self._rows.tried(row)

    def abort(self) -> None:
        """Do nothing."""


def trial_redecider(rows: MemoryRows, trial: Trial) -> Redecider:
    """Return the evaluation of calls by the ceiling of a trial."""
    return Redecider(View(TrialRows(rows, trial)))


# So that one forged file does not fill the memory; the rest is counted.
MAX_SHOWN: Final = 1_000


class Standing(StrEnum):
    """The standing of a recorded decision after the call was evaluated again."""

    # The result is the recorded one.
    CONFIRMED = "confirmed"
    # The log agrees as far as it goes; the rest of the verdict is the record's own word.
    ON_TRUST = "on_trust"
    # It depends on the call's arguments, or on facts about its tool.
    UNDECIDED = "undecided"
    # The state of the decision is not in the log, or its chain is not.
    UNDECIDABLE = "undecidable"
    # It can't be: for another reason, at another place, by another scope or epoch.
    DIFFERENT_REASON = "different_reason"
    # A recorded allow is a denial, or the other way round.
    FLIPPED = "flipped"


class ReplayFault(StrEnum):
    """Other contradictions within a log."""

    # A change that has another outcome after the changes before it.
    DIFFERENT_OUTCOME = "different_outcome"
    # Two changes with one number.
    TWO_CHANGES = "two_changes"
    # The first payload of a chain does not match its id.
    WRONG_CHAIN = "wrong_chain"
    # Two chains of the same ids.
    TWO_CHAINS = "two_chains"


FOUND: Final = frozenset({Standing.DIFFERENT_REASON, Standing.FLIPPED})


@dataclass(frozen=True, slots=True)
class ReplayedCall:
    """One decision, made again. ``why``: the thing it depends on, or the contradiction."""

    standing: Standing
    why: str = ""
    comes_out: str = ""


@dataclass(frozen=True, slots=True)
class ReplayFinding:
    """One record that can't be true, and its place. ``id`` names the decision or the change."""

    kind: Standing | ReplayFault
    file: str
    line: int
    n: int
    id: str
    at_ms: int = 0
    session: str = ""
    recorded: str = ""
    comes_out: str = ""
    why: str = ""


@dataclass(slots=True)
class ReplayReport:
    """Counts of a replay. ``found`` counts all findings; ``findings`` are the first of them."""

    decisions: int = 0
    changes: int = 0
    chains: int = 0
    unreadable: int = 0
    # Histories whose first changes, with the issuer keys that there were, are not in the log.
    begun_later: int = 0
    standings: Counter[Standing] = field(default_factory=Counter)
    on_trust: Counter[str] = field(default_factory=Counter)
    undecided: Counter[str] = field(default_factory=Counter)
    undecidable: Counter[str] = field(default_factory=Counter)
    found: int = 0
    findings: list[ReplayFinding] = field(default_factory=list)
    # Allowed calls by another ceiling, if one is tried.
    trial: TrialReport | None = None

    def count(self, call: ReplayedCall) -> None:
        """Count a decision."""
        self.decisions += 1
        self.standings[call.standing] += 1
        by_standing = {
            Standing.ON_TRUST: self.on_trust,
            Standing.UNDECIDED: self.undecided,
            Standing.UNDECIDABLE: self.undecidable,
        }
        if call.standing in by_standing:
            by_standing[call.standing][call.why] += 1

    def add(self, finding: ReplayFinding) -> None:
        """Count a finding."""
        self.found += 1
        if len(self.findings) < MAX_SHOWN:
            self.findings.append(finding)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        counts = ("decisions", "changes", "chains", "unreadable", "begun_later")
        return {
            **{name: getattr(self, name) for name in counts},
            **{standing.value: self.standings[standing] for standing in Standing},
            "on_trust_by": dict(sorted(self.on_trust.items())),
            "undecided_by": dict(sorted(self.undecided.items())),
            "undecidable_by": dict(sorted(self.undecidable.items())),
            "found": self.found,
            "findings": [{**asdict(each), "kind": each.kind.value} for each in self.findings],
            **({"trial": self.trial.to_dict()} if self.trial is not None else {}),
        }
