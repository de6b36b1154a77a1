"""Facts of the shown records: calls, changes and ends of sessions, and extents of other streams."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from . import wire
from .ends import RecordedEnd, SessionEnds
from .findings import EvidenceFault, EvidenceFinding, damaged
from .manifest import PackQuestion
from .stream import MAX_FINDINGS, Record, RecordPlace
from .wire import SessionOpening

APPLIED = "APPLIED"
# The place of an allowed call that a ceiling in observe mode would have refused.
CEILING = "CEILING"


@dataclass(slots=True)
class RecordCounts:
    """Counts of one session's records. ``claimed`` calls were denied before their signature was verified.

    Observe mode alone allowed ``observed`` of the allowed calls.
    """

    session: str
    allowed: int = 0
    denied: int = 0
    claimed: int = 0
    changes: int = 0
    first_ms: int = 0
    last_ms: int = 0
    last_allow_ms: int = 0
    observed: int = 0

    def counts(self) -> dict[str, int]:
        """Return the counts that a manifest states."""
        return {name: getattr(self, name) for name in ("allowed", "denied", "claimed", "changes")}


@dataclass(frozen=True, slots=True)
class StreamExtent:
    """The extent of a stream as another one records it: so many lines, the last with this chain, in hex.

    ``at_ms`` is the time of the record.
    """

    stream: str
    count: int
    head: str
    at_ms: int
    place: RecordPlace


@dataclass(slots=True)
class Facts:
    """Facts of one host's streams, or of all, for one question.

    Records of more than ``max_sessions`` sessions raise UnreadablePack; 0: they don't.
    """

    question: PackQuestion
    max_sessions: int = 0
    sessions: dict[str, RecordCounts] = field(default_factory=dict)
    ends: SessionEnds = field(default_factory=SessionEnds)
    anchors: list[StreamExtent] = field(default_factory=list)
    findings: list[EvidenceFinding] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    clusters: set[str] = field(default_factory=set)
    # Sessions that were opened in observe mode.
    observing: set[str] = field(default_factory=set)
    lost: int = 0
    sampled: int = 0
    records: int = 0
    _changes: set[tuple[str, str]] = field(default_factory=set)

    def take(self, place: RecordPlace, kind: str, record: Record) -> None:
        """Take one shown record."""
        if kind == "decision":
            self._decision(place, record)
        elif kind == "change":
            self._change(place, record)
        elif kind == "begin":
            of = str(record.get("stream")), record.get("file"), str(record.get("incarnation"))
            self.ends.begin(*of, record.get("at_ms"))
            self.hosts.add(str(record.get("host", "")))
            self.clusters.add(str(record.get("cluster", "")))
        elif kind == "lost":
            count = record.get("count")
            self.lost += count if type(count) is int and count > 0 else 1
        elif kind == "stream":
            self._anchor(place, record)

    def of(self, session: str) -> RecordCounts:
        """Return the facts of a session."""
        facts = self.sessions.get(session)
        if facts is None:
            if self.max_sessions and len(self.sessions) >= self.max_sessions:
                raise damaged(f"more than {self.max_sessions} sessions have records", EvidenceFault.FOREIGN)
            facts = self.sessions[session] = RecordCounts(session)
        return facts

    def _decision(self, place: RecordPlace, record: Record) -> None:
        at_ms = record.get("at_ms")
        session, claimed = record.get("session"), record.get("claimed")
        allowed, revision = record.get("allowed"), record.get("revision")
        if type(at_ms) is not int:
            self._find(EvidenceFault.FOREIGN, place, "a decision without a time")
            return
        if type(allowed) is not bool or (allowed and type(revision) is not int):
            self._find(EvidenceFault.FOREIGN, place, "a decision without its answer, or its revision")
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
        elif allowed and type(revision) is int:
            facts.allowed += 1
            at = record.get("at")
            facts.observed += isinstance(at, dict) and at.get("level") == CEILING
            facts.last_allow_ms = max(facts.last_allow_ms, at_ms)
            self.ends.allow(facts.session, revision, at_ms, place)
        else:
            facts.denied += 1

    def _change(self, place: RecordPlace, record: Record) -> None:
        session, at_ms, revision = (record.get(name) for name in ("session", "at_ms", "revision"))
        if not isinstance(session, str) or type(at_ms) is not int or type(revision) is not int:
            self._find(EvidenceFault.FOREIGN, place, "a change without its fields")
            return
        change = str(record.get("change")).lower()
        if record.get("outcome") == APPLIED:
            # A change that was recorded late has its own time beside that of its record.
            changed_ms = record.get("changed_ms")
            made_ms = changed_ms if type(changed_ms) is int else at_ms
            if change == "end_session" and revision > 0:
                self.ends.end(session, RecordedEnd(revision, self.ends.incarnation, made_ms))
            elif change == "new_incarnation":
                self._renewed(place, record, made_ms)
            elif change == "open_session":
                self._opened(place, session, record)
        # Each host records all changes, and after a crash some twice.
        key = self.ends.incarnation, str(record.get("seq"))
        if session and self.question.asks(session, at_ms) and key not in self._changes:
            self._changes.add(key)
            self.records += 1
            facts = self.of(session)
            facts.changes += 1
            facts.first_ms = min(facts.first_ms or at_ms, at_ms)
            facts.last_ms = max(facts.last_ms, at_ms)

    def _renewed(self, place: RecordPlace, record: Record, made_ms: int) -> None:
        try:
            body = base64.b64decode(str(record.get("body")), validate=True)
            self.ends.renew(wire.incarnation_of(body), made_ms)
        except ValueError:
            self._find(EvidenceFault.FOREIGN, place, "the change that begins an incarnation can't be read")

    def _opened(self, place: RecordPlace, session: str, record: Record) -> None:
        try:
            body = base64.b64decode(str(record.get("body")), validate=True)
            opening = wire.opening_of(body)
        except ValueError:
            self._find(EvidenceFault.FOREIGN, place, "the change that opens a session can't be read")
            return
        self.ends.open(session, opening.parent)
        if opening.observe and (session in self.question.sessions or self.question.kind == "time"):
            self.observing.add(session)
        if session in self.question.sessions and not _is_named_rightly(self.question, session, opening):
            words = f"the question names session {session}, and its opening is not of the question"
            self._find(EvidenceFault.BAD_MANIFEST, place, words)
        if opens_unnamed(self.question, "change", record):
            words = f"session {session} is of the question, which does not name it"
            self._find(EvidenceFault.HIDDEN, place, words)

    def _anchor(self, place: RecordPlace, record: Record) -> None:
        stream, count, head, at_ms = (record.get(name) for name in ("stream", "count", "head", "at_ms"))
        if (
            isinstance(stream, str)
            and isinstance(head, str)
            and type(count) is type(at_ms) is int
            and count > 0
        ):
            self.anchors.append(StreamExtent(stream, count, head, at_ms, place))
        else:
            self._find(EvidenceFault.FOREIGN, place, "a stream record without its fields")

    def _find(self, kind: EvidenceFault, place: RecordPlace, words: str) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(EvidenceFinding(kind, place.member, place.line, place.n, words))


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
        opening = wire.opening_of(base64.b64decode(str(record.get("body")), validate=True))
    except ValueError:
        return False
    return opening.parent in question.sessions or _is_of_purpose(question, opening)


def _is_named_rightly(question: PackQuestion, session: str, opening: SessionOpening) -> bool:
    """Return True if a session that a question names is its root, of its purpose, or the child of one of it.

    The title of a pack says so of all of them, and its signer wrote that.
    """
    if session == question.root:
        # What the others descend from descends from none of them.
        return opening.parent not in question.sessions
    return opening.parent in question.sessions or _is_of_purpose(question, opening)


def _is_of_purpose(question: PackQuestion, opening: SessionOpening) -> bool:
    return question.kind == "purpose" and opening.purpose == question.purpose
