"""Counts what suggestions cost honest sessions, and which attacks they leave possible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.grants.attacks import COUNTED, Attack
from benchmarks.grants.calls import Call, Server, Session
from benchmarks.grants.judge import Judge
from benchmarks.grants.subjects import SUBJECTS, suggestions
from sessauth.scopes.scope import Scope


@dataclass(slots=True)
class Counts:
    """Counts of one subject in one setting."""

    calls: int = 0
    denied: int = 0
    sessions: int = 0
    hit: int = 0
    attacks: Counter[tuple[str, bool]] = field(default_factory=Counter)
    possible: Counter[tuple[str, bool]] = field(default_factory=Counter)

    @property
    def calls_denied(self) -> float:
        """The share of honest calls that are denied, in percent."""
        return share(self.denied, self.calls)

    @property
    def sessions_hit(self) -> float:
        """The share of honest sessions with a denial, in percent."""
        return share(self.hit, self.sessions)

    @property
    def questions(self) -> float:
        """Questions a session, if a person is asked instead."""
        return self.denied / self.sessions if self.sessions else 0.0

    def attacks_possible(self, *, adapted: bool, kinds: Collection[str] = COUNTED) -> float:
        """The share of attacks of these kinds that are possible, in percent."""
        possible = sum(self.possible[kind, adapted] for kind in kinds)
        return share(possible, self.attacks_tried(adapted=adapted, kinds=kinds))

    def attacks_tried(self, *, adapted: bool, kinds: Collection[str] = COUNTED) -> int:
        """The number of attacks of these kinds."""
        return sum(self.attacks[kind, adapted] for kind in kinds)


def share(part: int, whole: int) -> float:
    """Return a part of a whole in percent; 0 of nothing."""
    return 100 * part / whole if whole else 0.0


@dataclass(frozen=True)
class Case:
    """Sessions that were learnt from, sessions and attacks that the fit never saw."""

    setting: str
    server: Server
    learnt: Sequence[Session]
    tests: Sequence[Session]
    attacks: Sequence[Attack]
    subjects: Sequence[str] = SUBJECTS


def measure(cases: Iterable[Case]) -> tuple[dict[tuple[str, str], Counts], int]:
    """Return counts by setting and subject, and the number of checks."""
    judge, planned = Judge(), []
    for case in cases:
        given = suggestions(case.server, case.learnt, case.subjects)
        for subject in case.subjects:
            planned.append((case, subject, _Opened(judge, given[subject])))
            planned[-1][2].prepare(case)
    counts: dict[tuple[str, str], Counts] = {}
    for _ in judge.open():
        for case, subject, opened in planned:
            _count(counts.setdefault((case.setting, subject), Counts()), case, opened, judge)
    return counts, judge.checks


class _Opened:
    """The judge's sessions for one suggestion: one for each set of facts that calls are made under."""

    def __init__(self, judge: Judge, scopes: Sequence[Scope]) -> None:
        self._judge, self._scopes = judge, scopes
        self._numbers: dict[tuple[tuple[str, str], ...], int] = {}

    def prepare(self, case: Case) -> None:
        for session in (*case.tests, case.learnt[0]):
            key = tuple(sorted(session.facts.items()))
            if key not in self._numbers:
                self._numbers[key] = self._judge.add(self._scopes, dict(key))

    def allows(self, server: Server, call: Call, facts: Mapping[str, str]) -> bool:
        return self._judge.allows(self._numbers[tuple(sorted(facts.items()))], server, call)


def _count(counts: Counts, case: Case, opened: _Opened, judge: Judge) -> None:
    for session in case.tests:
        denied = sum(not opened.allows(case.server, call, session.facts) for call in session.calls)
        counts.calls += len(session.calls)
        counts.denied += denied
        counts.sessions += 1
        counts.hit += denied > 0
    facts = (case.tests or case.learnt)[0].facts
    for attack in case.attacks:
        counts.attacks[attack.kind, attack.adapted] += 1
        reached = any(opened.allows(case.server, call, facts) for call in attack.calls)
        counts.possible[attack.kind, attack.adapted] += reached
