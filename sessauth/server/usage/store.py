"""Usage of sessions, added up in the control process from the verifiers' reports.

Live sessions are held in memory. An ended one is written to a file of its own and then evicted. Sessions and
bytes are bounded: losses are counted, and reports say so. Nothing here decides: without it, or with it full,
every check gives the same answer.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeAlias

from ...clock import Clock
from ...model.lineage import SessionLookup, lineage
from ...model.session import Session, SessionStatus
from ...usage.observations import (
    SESSION_BYTES,
    ObservationAck,
    ObservationBatch,
    SessionObservation,
    UseAfterEnd,
)
from ...v1 import usage_service_pb2 as pb
from ..config.sections import UsageSettings
from ..log import event
from ..periodic import try_once
from .files import UsageFiles
from .session_entry import Layers, SessionUsageEntry, read_entry

MAX_SENDERS: Final = 4_096
_ID_BYTES: Final = 16
# Sessions that are polled for their end in a second, and the time that may go to writing files then.
POLLED_SESSIONS: Final = 200
WRITING_SECONDS: Final = 0.2
# Quiet time before a written session is written again or evicted: late uses come together.
QUIET_MS: Final = 10_000
# A full disk must not be filled by the log of it: of failures, one is logged in this time.
NOT_WRITTEN_MS: Final = 60_000
# Bound of a stop: thousands of files on a slow disk must not keep the process from ending.
CLOSING_SECONDS: Final = 1.5

# Called with session id, verifier and uses.
OnUsedAfterEnd: TypeAlias = Callable[[bytes, str, UseAfterEnd], object]
# Called with the id of a session whose sum has changed; the store's lock is held.
OnChange: TypeAlias = Callable[[bytes], object]


@dataclass(slots=True)
class LossMarker:
    """First and last time, in ms, of losses that may concern any session."""

    first_ms: int = 0
    last_ms: int = 0

    def record(self, now_ms: int) -> None:
        """Note a loss."""
        self.first_ms = self.first_ms or now_ms
        self.last_ms = now_ms

    def touches(self, session: Session) -> bool:
        """Return True if a session may have been used at the time of the losses."""
        until_ms = session.ended_at_ms or self.last_ms
        return bool(self.first_ms) and session.opened_at_ms <= self.last_ms and until_ms >= self.first_ms


class UsageStore:
    """Adds up batches of observations and reports on sessions. Any thread may use it."""

    def __init__(
        self, sessions: SessionLookup, settings: UsageSettings, files: UsageFiles, clock: Clock
    ) -> None:
        """Accept observations of ``sessions`` only; store ended ones in ``files``."""
        self._sessions = sessions
        self._settings = settings
        self._files = files
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, SessionUsageEntry] = OrderedDict()
        self._bytes = 0
        self._full = False
        self._senders: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        self._lost = LossMarker()
        # Failures to write that were not logged since the last that was, and when the next one may be.
        self._not_logged = 0
        self._log_at_ms = 0
        self.control_id: Final = secrets.token_bytes(_ID_BYTES)
        self.on_used_after_end: OnUsedAfterEnd | None = None
        self.on_change: OnChange | None = None
        now_ms = clock.now_ms()
        before = _read_marker(files.take_marker())
        # From these times on every reported observation is held.
        self._since_ms = before.get("since_ms", now_ms)
        self._usage_since_ms = before.get("usage_since_ms", now_ms)

    def report_observations(self, batch: ObservationBatch) -> ObservationAck:
        """Add a verifier's batch. Unknown sessions are ignored, and so is a number that came before."""
        now_ms = self._clock.now_ms()
        # Sessions are read before the lock is held: that may take long.
        known = self._find_sessions(batch)
        after_end: list[tuple[bytes, str, UseAfterEnd]] = []
        with self._lock:
            if self._is_new(batch):
                if batch.lost:
                    self._lost.record(now_ms)
                for observation in batch.sessions:
                    over = known.get(observation.session_id)
                    if over is None:
                        continue
                    if not over:
                        observation.late.clear()
                    if not self._settings.enabled:
                        observation.usage = None
                    # Copies: the entry adds to its own.
                    uses = map(replace, observation.late.values())
                    after_end += [(observation.session_id, batch.verifier, use) for use in uses]
                    self._add(observation, batch.verifier, now_ms)
        callback = self.on_used_after_end
        if callback is not None:
            for use in after_end:
                try_once("used after the end", partial(callback, *use))
        return ObservationAck(self.control_id, self._settings.enabled)

    def last_allow_ms(self, session_id: bytes) -> int:
        """Return when a call of the session was last allowed, in ms since 1970; 0 if that is not known."""
        with self._lock:
            entry = self._entry(session_id)
            return 0 if entry is None else entry.observation.last_allow_ms

    def report(self, session_id: bytes) -> pb.SessionReport | None:
        """Return a session's report; None if neither the session nor its usage is stored."""
        session = self._sessions.get_session(session_id)
        layers = self._inherited(session)
        with self._lock:
            return self._report(session, layers, self._entry(session_id))

    def sum_of(self, session_id: bytes) -> pb.HostSession | None:
        """Return the reports of this host's verifiers on a session; None if there are none."""
        with self._lock:
            entry = self._entry(session_id)
            return None if entry is None else entry.host_session()

    def session_ids(self) -> list[bytes]:
        """Return the sessions with a sum: those in memory, then those in files, the last written first."""
        with self._lock:
            return list(dict.fromkeys((*self._entries, *self._files.session_ids())))

    def describe(self, request: pb.ReportHostUsageRequest) -> None:
        """State in a report of this host from when on its sums are whole."""
        with self._lock:
            request.since_ms = self._since_ms
            request.usage_since_ms = self._usage_since_ms if self._settings.enabled else 0
            request.lost_first_ms, request.lost_last_ms = self._lost.first_ms, self._lost.last_ms

    def is_over(self, session: Session) -> bool:
        """Return True if a session or one of its ancestors has ended, or its time has passed."""
        now_ms = self._clock.now_ms()
        return any(
            member.status is SessionStatus.ENDED or member.ends_at_ms() <= now_ms
            for member in lineage(session, self._sessions.get_session)
        )

    def write_ended(self) -> None:
        """Write ended sessions to their files and evict them; called once a second."""
        now_ms = self._clock.now_ms()
        with self._lock:
            self._full = False
            # Those that were polled longest ago.
            polled = list(self._entries)[:POLLED_SESSIONS]
            for session_id in polled:
                self._entries.move_to_end(session_id)
        until = time.monotonic() + WRITING_SECONDS
        for session_id in polled:
            if time.monotonic() > until:
                break
            self._write_if_ended(session_id, now_ms)
        self._files.remove_older((now_ms - self._settings.keep_ms) * 1_000_000)

    def close(self) -> None:
        """Write everything for the next start, within the time that a stop may take.

        The marker is left only if nothing was lost, so the next start knows.
        """
        with self._lock:
            session_ids = list(self._entries)
        until = time.monotonic() + CLOSING_SECONDS
        written = [time.monotonic() < until and self._write(session_id) for session_id in session_ids]
        since = {"since_ms": self._since_ms}
        if self._settings.enabled:
            since["usage_since_ms"] = self._usage_since_ms
        if all(written) and not self._lost.first_ms:
            try_once("usage", lambda: self._files.leave_marker(json.dumps(since).encode()))

    def _find_sessions(self, batch: ObservationBatch) -> dict[bytes, bool]:
        """Return the stored sessions of a batch, each with True if it has late uses and is over."""
        found: dict[bytes, bool] = {}
        for observation in batch.sessions:
            if observation.session_id in self._entries and not observation.late:
                found[observation.session_id] = False
                continue
            session = self._sessions.get_session(observation.session_id)
            if session is not None:
                found[observation.session_id] = bool(observation.late) and self.is_over(session)
        return found

    def _inherited(self, session: Session | None) -> Layers:
        """Return the layers of the ancestors' ceilings."""
        if session is None:
            return []
        members = lineage(session, self._sessions.get_session)
        return [layer for member in members if member is not session for layer in member.ceilings]

    def _is_new(self, batch: ObservationBatch) -> bool:
        key = batch.verifier, batch.sender_id
        if batch.number <= self._senders.get(key, 0):
            return False
        self._senders[key] = batch.number
        self._senders.move_to_end(key)
        while len(self._senders) > MAX_SENDERS:
            self._senders.popitem(last=False)
        return True

    def _add(self, observation: SessionObservation, verifier: str, now_ms: int) -> None:
        entry = self._entry(observation.session_id)
        if entry is None and self._has_room(SESSION_BYTES):
            entry = self._insert(SessionUsageEntry(SessionObservation(observation.session_id)))
        if entry is None or observation.session_id not in self._entries:
            self._lost.record(now_ms)
            return
        room = min(self._settings.max_session_bytes - entry.bytes, self._settings.max_bytes - self._bytes)
        self._bytes += entry.add(observation, verifier, room, now_ms)
        if self.on_change is not None:
            self.on_change(observation.session_id)

    def _entry(self, session_id: bytes) -> SessionUsageEntry | None:
        """Return a session's entry, from memory or else from its file."""
        entry = self._entries.get(session_id)
        if entry is not None or session_id not in self._files:
            return entry
        entry = read_entry(self._files.read(session_id), self._clock.now_ms())
        if entry is not None and self._has_room(entry.bytes):
            self._insert(entry)
        return entry

    def _insert(self, entry: SessionUsageEntry) -> SessionUsageEntry:
        self._entries[entry.observation.session_id] = entry
        self._bytes += entry.bytes
        return entry

    def _has_room(self, size: int) -> bool:
        """Make space for another session: evicts written ones, the first to end first."""
        if self._fits(size):
            return True
        if not self._full:
            written = [entry for entry in self._entries.values() if entry.ended_at_ms and entry.is_written]
            for entry in sorted(written, key=lambda candidate: candidate.ended_at_ms):
                self._evict(entry)
                if self._fits(size):
                    return True
            # Nothing changes that within the second.
            self._full = True
        return False

    def _fits(self, size: int) -> bool:
        settings = self._settings
        return len(self._entries) < settings.max_sessions and self._bytes + size <= settings.max_bytes

    def _evict(self, entry: SessionUsageEntry) -> None:
        if self._entries.pop(entry.observation.session_id, None) is not None:
            self._bytes -= entry.bytes

    def _write_if_ended(self, session_id: bytes, now_ms: int) -> None:
        session = self._sessions.get_session(session_id)
        if session is not None and session.status is not SessionStatus.ENDED:
            return
        with self._lock:
            entry = self._entries.get(session_id)
            if entry is None:
                return
            entry.ended_at_ms = now_ms if session is None else session.ended_at_ms
            quiet = entry.touched_ms + QUIET_MS < now_ms
            if entry.is_written and quiet:
                self._evict(entry)
            write = not entry.is_written and (quiet or entry.final is None)
        if write:
            self._write(session_id)

    def _write(self, session_id: bytes) -> bool:
        """Write a session's report; False if that failed and is to be tried again."""
        session = self._sessions.get_session(session_id)
        layers = self._inherited(session)
        with self._lock:
            entry = self._entries.get(session_id)
            if entry is None or entry.is_written:
                return True
            version = entry.version
            report = self._report(session, layers, entry)
        if report is None:
            return True
        try:
            self._files.write(session_id, report.SerializeToString())
        except OSError as error:
            self._log_not_written(session_id, error)
            return False
        with self._lock:
            entry.written = version
            entry.final = report if report.session.ended_at_ms else None
        return True

    def _log_not_written(self, session_id: bytes, error: OSError) -> None:
        now_ms = self._clock.steady_ms()
        if now_ms < self._log_at_ms:
            self._not_logged += 1
            return
        self._log_at_ms = now_ms + NOT_WRITTEN_MS
        not_logged, self._not_logged = self._not_logged, 0
        fields = {"session": session_id.hex(), "not_logged": not_logged}
        event(logging.ERROR, "usage_not_written", error=str(error), **fields)

    def _report(
        self, session: Session | None, layers: Layers, entry: SessionUsageEntry | None
    ) -> pb.SessionReport | None:
        missing = set() if session is None else self._missing(session)
        if entry is None:
            if session is None:
                return None
            entry = SessionUsageEntry(SessionObservation(session.id))
        return entry.report(session, layers, missing)

    def _missing(self, session: Session) -> set[pb.Missing]:
        """Return the reasons why some of a session's usage may be missing here."""
        missing = set()
        if session.opened_at_ms < self._since_ms:
            missing.add(pb.MISSING_BEFORE)
        if not self._settings.enabled or session.opened_at_ms < self._usage_since_ms:
            missing.add(pb.MISSING_USAGE)
        if self._lost.touches(session):
            missing.add(pb.MISSING_LOST)
        return missing


def _read_marker(data: bytes) -> dict[str, int]:
    try:
        values = json.loads(data) if data else {}
    except ValueError:
        values = {}
    return {name: value for name, value in values.items() if isinstance(value, int)}
