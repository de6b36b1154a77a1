"""Facts of the shown records: calls, changes and ends of sessions, and extents of other streams."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import wire
from .findings import EvidenceFault, EvidenceFinding
from .manifest import PackQuestion
from .stream import Record, RecordPlace

APPLIED = "APPLIED"


@dataclass(slots=True)
class RecordCounts:
    """Counts of one session's records. ``claimed`` calls were denied before their signature was verified."""

    session: str
    allowed: int = 0
    denied: int = 0
    claimed: int = 0
    changes: int = 0
    first_ms: int = 0
    last_ms: int = 0
    last_allow_ms: int = 0
    # The allow by the latest revision of each incarnation of the state: a restored one counts anew.
    allows: dict[str, tuple[int, RecordPlace]] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Return the counts that a manifest states."""
        return {name: getattr(self, name) for name in ("allowed", "denied", "claimed", "changes")}


@dataclass(frozen=True, slots=True)
class RecordedEnd:
    """The recorded end of a session: the revision behind it, the incarnation, the time in ms since 1970."""

    revision: int
    incarnation: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class StreamExtent:
    """The extent of a stream as another one records it: so many lines, the last with this chain, in hex."""

    stream: str
    count: int
    head: str
    place: RecordPlace


@dataclass(slots=True)
class Facts:
    """Facts of one host's streams, or of all, for one question."""

    question: PackQuestion
    sessions: dict[str, RecordCounts] = field(default_factory=dict)
    # By session and incarnation.
    ends: dict[tuple[str, str], RecordedEnd] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    anchors: list[StreamExtent] = field(default_factory=list)
    findings: list[EvidenceFinding] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    lost: int = 0
    sampled: int = 0
    records: int = 0
    _incarnation: str = ""
    _changes: set[tuple[str, str]] = field(default_factory=set)

    def take(self, place: RecordPlace, kind: str, record: Record) -> None:
        """Take one shown record."""
        if kind == "decision":
            self._decision(place, record)
        elif kind == "change":
            self._change(place, record)
        elif kind == "begin":
            self._incarnation = str(record.get("incarnation"))
            self.hosts.add(str(record.get("host", "")))
        elif kind == "lost":
            count = record.get("count")
            self.lost += count if type(count) is int and count > 0 else 1
        elif kind == "stream":
            self._anchor(place, record)

    def of(self, session: str) -> RecordCounts:
        """Return the facts of a session."""
        facts = self.sessions.get(session)
        if facts is None:
            facts = self.sessions[session] = RecordCounts(session)
        return facts

    def end_of(self, session: str, incarnation: str) -> RecordedEnd | None:
        """Return a session's shown end in an incarnation, by itself or with an ancestor; None without one."""
        found = []
        members: set[str] = set()
        while session and session not in members:
            members.add(session)
            if end := self.ends.get((session, incarnation)):
                found.append(end)
            session = self.parents.get(session, "")
        return min(found, key=lambda end: end.revision, default=None)

    def survived(self) -> Iterator[EvidenceFinding]:
        """Yield a finding for each session that a call was allowed of by the state behind its end."""
        for facts in self.sessions.values():
            for incarnation, (revision, place) in facts.allows.items():
                end = self.end_of(facts.session, incarnation)
                if end is not None and revision >= end.revision:
                    words = (
                        f"a call of session {facts.session} was allowed at revision {revision}; it ended at "
                    )
                    yield _finding(EvidenceFault.SURVIVED, place, f"{words}{end.revision}")

    def _decision(self, place: RecordPlace, record: Record) -> None:
        at_ms = record.get("at_ms")
        session, claimed = record.get("session"), record.get("claimed")
        if type(at_ms) is not int:
            self.findings.append(_finding(EvidenceFault.FOREIGN, place, "a decision without a time"))
            return
        named = session if isinstance(session, str) and session else claimed
        if not isinstance(named, str) or not self.question.asks(named, at_ms):
            return
        self.records += 1
        facts = self.of(named)
        facts.first_ms = min(facts.first_ms or at_ms, at_ms)
        facts.last_ms = max(facts.last_ms, at_ms)
        if record.get("sampled") is not True and record.get("sampled") != 1:
            self.sampled += 1
        if named is not session:
            facts.claimed += 1
        elif record.get("allowed") is True:
            facts.allowed += 1
            facts.last_allow_ms = max(facts.last_allow_ms, at_ms)
            revision = record.get("revision")
            latest = facts.allows.get(self._incarnation)
            if type(revision) is int and (latest is None or revision > latest[0]):
                facts.allows[self._incarnation] = revision, place
        else:
            facts.denied += 1

    def _change(self, place: RecordPlace, record: Record) -> None:
        session, at_ms, revision = (record.get(name) for name in ("session", "at_ms", "revision"))
        if not isinstance(session, str) or type(at_ms) is not int or type(revision) is not int:
            self.findings.append(_finding(EvidenceFault.FOREIGN, place, "a change without its fields"))
            return
        change = str(record.get("change")).lower()
        if record.get("outcome") == APPLIED:
            if change == "end_session" and revision > 0:
                end = RecordedEnd(revision, self._incarnation, at_ms)
                self.ends.setdefault((session, self._incarnation), end)
            elif change == "open_session":
                self._opened(place, session, record)
        # Each host records all changes, and after a crash some twice.
        key = self._incarnation, str(record.get("seq"))
        if session and self.question.asks(session, at_ms) and key not in self._changes:
            self._changes.add(key)
            self.records += 1
            facts = self.of(session)
            facts.changes += 1
            facts.first_ms = min(facts.first_ms or at_ms, at_ms)
            facts.last_ms = max(facts.last_ms, at_ms)

    def _opened(self, place: RecordPlace, session: str, record: Record) -> None:
        try:
            body = base64.b64decode(str(record.get("body")), validate=True)
            self.parents[session], _ = wire.opening_of(body)
        except ValueError:
            words = "the change that opens a session can't be read"
            self.findings.append(_finding(EvidenceFault.FOREIGN, place, words))
        if opens_unnamed(self.question, "change", record):
            words = f"session {session} is of the question, which does not name it"
            self.findings.append(_finding(EvidenceFault.HIDDEN, place, words))

    def _anchor(self, place: RecordPlace, record: Record) -> None:
        stream, count, head = (record.get(name) for name in ("stream", "count", "head"))
        if isinstance(stream, str) and type(count) is int and count > 0 and isinstance(head, str):
            self.anchors.append(StreamExtent(stream, count, head, place))
        else:
            words = "a stream record without its fields"
            self.findings.append(_finding(EvidenceFault.FOREIGN, place, words))


def opens_unnamed(question: PackQuestion, kind: str, record: Record) -> bool:
    """Return True if a record opens a session that the question is about, and that is not among its sessions.

    Without this the signer of a pack could hide a child session by not naming it in the question.
    """
    at_ms, change = record.get("at_ms"), str(record.get("change")).lower()
    if kind != "change" or change != "open_session" or record.get("outcome") != APPLIED:
        return False
    # A copy of the log goes on behind the time of the question.
    late = type(at_ms) is not int or at_ms >= question.until_ms
    if late or question.kind == "time" or str(record.get("session")) in question.sessions:
        return False
    try:
        parent, purpose = wire.opening_of(base64.b64decode(str(record.get("body")), validate=True))
    except ValueError:
        return False
    return parent in question.sessions or (question.kind == "purpose" and purpose == question.purpose)


def _finding(kind: EvidenceFault, place: RecordPlace, words: str) -> EvidenceFinding:
    return EvidenceFinding(kind, place.member, place.line, place.n, words)
