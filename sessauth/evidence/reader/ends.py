"""Ends of sessions, by the log and by receipts, and the allowed calls that they do not admit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .findings import EvidenceFault, EvidenceFinding
from .stream import RecordPlace

# How long a host may allow calls behind an end, unless its settings name another time (docs/cluster.md).
BOUND_MS: Final = 3_000
# Hosts of a cluster whose clocks differ by more allow nothing.
CLOCK_MS: Final = 2_000
# Sessions are not nested deeper.
_MAX_ANCESTORS: Final = 1_000
# Below each time: the begin of a stream whose first file is not here.
_UNKNOWN_MS: Final = -1


@dataclass(frozen=True, slots=True)
class RecordedEnd:
    """The recorded end of a session: the revision behind it, the incarnation, the time in ms since 1970."""

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
        """Take the begin of a file; the records behind it are of its incarnation."""
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
        """Yield a finding for each session that a call was allowed of behind its end.

        That is by the state behind it, later than ``bound_ms`` and the difference of clocks behind it, or in
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
        """Return True if an incarnation certainly began behind those in which a session was opened."""
        opened = self._opened.get(session)
        if not opened or incarnation in opened or incarnation not in self._began:
            return False
        return all(
            each in self._began and self._began[each][0] < self._began[incarnation][1] for each in opened
        )
