"""Facts of the shown records: calls, changes and ends of sessions, and extents of other streams."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from . import wire
from .findings import EvidenceFault, EvidenceFinding, damaged
from .manifest import PackQuestion
from .stream import MAX_FINDINGS, Record, RecordPlace
from .wire import SessionOpening

# How long a host may allow calls after an end, unless its settings name another time (docs/cluster.md).
BOUND_MS: Final = 3_000
# Hosts of a cluster whose clocks differ by more allow nothing.
CLOCK_MS: Final = 2_000
# Sessions are not nested deeper.
_MAX_ANCESTORS: Final = 1_000
# Below each time: the begin of a stream whose first file is not here.
_UNKNOWN_MS: Final = -1


@dataclass(frozen=True, slots=True)
class RecordedEnd:
    """The recorded end of a session: the revision after it, the incarnation, the time in ms since 1970."""

    revision: int
    incarnation: str
    at_ms: int


@dataclass(slots=True)
class AllowedCalls:
    """The allowed call of a session by the latest revision of an incarnation, and the latest one by time."""

    revision: int
    by_revision: RecordPlace
    at_ms: int
    by_time: RecordPlace


class SessionEnds:
    """Ends, openings and allowed calls of sessions, by the incarnations of the state that they were in."""

    def __init__(self) -> None:
        """Begin without a session."""
        self._ends: dict[str, dict[str, RecordedEnd]] = {}
        self._parents: dict[str, str] = {}
        self._opened: dict[str, set[str]] = {}
        self._allowed: dict[tuple[str, str], AllowedCalls] = {}
        # Each incarnation began at the first time at the latest, and not before the second one.
        self._began: dict[str, tuple[int, int]] = {}
        self._stream = self._incarnation = self._renewed = ""

    @property
    def incarnation(self) -> str:
        """The incarnation of the state that the stream's records are of, hex."""
        return self._renewed or self._incarnation

    def begin(self, stream: str, file: object, incarnation: str, at_ms: object) -> None:
        """Take the begin of a file; the records after it are of its incarnation."""
        if stream != self._stream:
            self._stream, self._renewed = stream, ""
        self._incarnation = incarnation
        if type(at_ms) is int:
            self._add_begin(incarnation, at_ms, at_ms if file == 0 else _UNKNOWN_MS)

    def renew(self, incarnation: str, at_ms: int) -> None:
        """Take a change that begins an incarnation. A process that runs on names the old one in its files."""
        self._renewed = incarnation
        self._add_begin(incarnation, at_ms, at_ms)

    def _add_begin(self, incarnation: str, latest_ms: int, earliest_ms: int) -> None:
        latest, earliest = self._began.get(incarnation, (latest_ms, earliest_ms))
        self._began[incarnation] = min(latest, latest_ms), min(earliest, earliest_ms)

    def open(self, session: str, parent: str) -> None:
        """Take the opening of a session; ``parent`` is "" without one."""
        self._parents[session] = parent
        self._opened.setdefault(session, set()).add(self.incarnation)

    def end(self, session: str, end: RecordedEnd) -> None:
        """Take an end; the earlier one of two counts."""
        ends = self._ends.setdefault(session, {})
        known = ends.get(end.incarnation)
        if known is None or end.revision < known.revision:
            ends[end.incarnation] = end

    def allow(self, session: str, revision: int, at_ms: int, place: RecordPlace) -> None:
        """Take an allowed call."""
        calls = self._allowed.get((session, self.incarnation))
        if calls is None:
            self._allowed[session, self.incarnation] = AllowedCalls(revision, place, at_ms, place)
            return
        if revision > calls.revision:
            calls.revision, calls.by_revision = revision, place
        if at_ms > calls.at_ms:
            calls.at_ms, calls.by_time = at_ms, place

    def is_known(self, incarnation: str) -> bool:
        """Return True if a stream has records of an incarnation."""
        return incarnation in self._began

    def is_opened(self, session: str) -> bool:
        """Return True if the opening of a session is known."""
        return session in self._opened

    def lineage(self, session: str) -> tuple[str, ...]:
        """Return a session and those that it descends from, as far as they are known."""
        found: dict[str, None] = {}
        while session and session not in found and len(found) <= _MAX_ANCESTORS:
            found[session] = None
            session = self._parents.get(session, "")
        return tuple(found)

    def end_of(self, session: str, incarnation: str) -> RecordedEnd | None:
        """Return a session's end in an incarnation, by itself or with an ancestor; None without one."""
        found = [self._ends.get(each, {}).get(incarnation) for each in self.lineage(session)]
        return min(filter(None, found), key=lambda end: end.revision, default=None)

    def first_end_of(self, session: str) -> RecordedEnd | None:
        """Return a session's earliest end in any incarnation, by itself or with an ancestor; None without."""
        found = [end for each in self.lineage(session) for end in self._ends.get(each, {}).values()]
        return min(found, key=lambda end: end.at_ms, default=None)

    def is_recorded(self, session: str, incarnation: str) -> bool:
        """Return True if the openings of a session and of all its ancestors are of an incarnation."""
        return all(incarnation in self._opened.get(each, ()) for each in self.lineage(session))

    def survived(self, bound_ms: int) -> Iterator[EvidenceFinding]:
        """Yield a finding for each session of which a call was allowed after its end.

        That is by the state after it, later than ``bound_ms`` and the difference of clocks after it, or in
        an incarnation that began later than the one of its opening: a new one ends every session.
        """
        for (session, incarnation), calls in self._allowed.items():
            end, first = self.end_of(session, incarnation), self.first_end_of(session)
            if end is not None and calls.revision >= end.revision:
                words, place = f"at revision {calls.revision}; it ended at {end.revision}", calls.by_revision
            elif first is not None and calls.at_ms > first.at_ms + bound_ms + CLOCK_MS:
                late_ms = calls.at_ms - first.at_ms
                words, place = f"{late_ms} ms behind its end, later than hosts may (--bound)", calls.by_time
            elif self._is_of_earlier(session, incarnation):
                words, place = f"in incarnation {incarnation}, which ended it", calls.by_time
            else:
                continue
            text = f"a call of session {session} was allowed {words}"
            yield EvidenceFinding(EvidenceFault.SURVIVED, place.member, place.line, place.n, text)

    def _is_of_earlier(self, session: str, incarnation: str) -> bool:
        """Return True if an incarnation certainly began after those in which a session was opened."""
        opened = self._opened.get(session)
        if not opened or incarnation in opened or incarnation not in self._began:
            return False
        return all(
            each in self._began and self._began[each][0] < self._began[incarnation][1] for each in opened
        )


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
    # A copy of the log goes on after the time of the question.
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

    The title of a pack claims it of all of them, and the signer wrote the title.
    """
    if session == question.root:
        # The ancestor of the others descends from none of them.
        return opening.parent not in question.sessions
    return opening.parent in question.sessions or _is_of_purpose(question, opening)


def _is_of_purpose(question: PackQuestion, opening: SessionOpening) -> bool:
    return question.kind == "purpose" and opening.purpose == question.purpose
