"""What verifiers told of sessions, added up in the control process.

Of sessions that live it is held in memory; that of one that ended is written to a file of its own and then
let go. All is bounded, in sessions and in bytes; what finds no room is counted, and reports say so. It
decides nothing: without it, or with it full, every check is what it was.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeAlias

from ...clock import Clock
from ...limits import MAX_ANCESTORS
from ...model.session import Session, SessionStatus
from ...usage.observations import SESSION_BYTES, ObservationAck, ObservationBatch, SessionObservation
from ...v1 import usage_service_pb2 as pb
from ..config.sections import UsageSettings
from ..log import event
from ..periodic import try_once
from .files import UsageFiles
from .session_entry import Layers, SessionUsageEntry, read_kept

MAX_SENDERS: Final = 4_096
_ID_BYTES: Final = 16
# How many sessions are looked at in a second, whether they ended, and for how long files may be written then.
LOOKS: Final = 200
WRITING_SECONDS: Final = 0.2
# How long what was written stays in memory too, and is not written again: late uses come together.
STAYS_MS: Final = 10_000
# How long a stop may take for it: thousands of files on a slow disk must not keep the process from ending.
CLOSING_SECONDS: Final = 1.5

# Session id, block ids, whether they are only claimed, verifier, the last time in ms, how often.
LateCall: TypeAlias = tuple[bytes, tuple[bytes, ...], bool, str, int, int]
AfterEnd: TypeAlias = Callable[[bytes, tuple[bytes, ...], bool, str, int, int], object]


class SessionLookup(Protocol):
    """Where sessions are read."""

    def get_session(self, session_id: bytes) -> Session | None:
        """Return a session."""
        ...


@dataclass(slots=True)
class _LossMarker:
    """When something was lost that may have been of any session, in ms."""

    first_ms: int = 0
    last_ms: int = 0

    def note(self, now_ms: int) -> None:
        self.first_ms = self.first_ms or now_ms
        self.last_ms = now_ms

    def touches(self, session: Session) -> bool:
        until_ms = session.ended_at_ms or self.last_ms
        return bool(self.first_ms) and session.opened_at_ms <= self.last_ms and until_ms >= self.first_ms


class UsageStore:
    """Adds up batches of observations by session. Any thread may use it."""

    def __init__(
        self, sessions: SessionLookup, settings: UsageSettings, files: UsageFiles, clock: Clock
    ) -> None:
        """Know of ``sessions`` only, and of what ``files`` hold of them."""
        self._sessions = sessions
        self._settings = settings
        self._files = files
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, SessionUsageEntry] = OrderedDict()
        self._bytes = 0
        self._full = False
        self._senders: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        self._lost = _LossMarker()
        self.control_id: Final = secrets.token_bytes(_ID_BYTES)
        # Told of each use after the end, in the order of a LateCall.
        self.on_used_after_end: AfterEnd | None = None
        now_ms = clock.now_ms()
        before = _read_marker(files.take_marker())
        # From when on everything is known, if it was told.
        self._since_ms = before.get("since_ms", now_ms)
        self._usage_since_ms = before.get("usage_since_ms", now_ms)

    def report_observations(self, batch: ObservationBatch) -> ObservationAck:
        """Add up a batch. Unknown sessions change nothing, nor does a number that was counted before."""
        now_ms = self._clock.now_ms()
        # Sessions are read before the lock is held: that may take long.
        known = self._look_up(batch)
        after_end: list[LateCall] = []
        with self._lock:
            if self._is_new(batch):
                if batch.lost:
                    self._lost.note(now_ms)
                for seen in batch.sessions:
                    over = known.get(seen.session_id)
                    if over is None:
                        continue
                    if not over:
                        seen.late.clear()
                    if not self._settings.enabled:
                        seen.usage = None
                    after_end += _late_uses(seen, batch.verifier)
                    self._add(seen, batch.verifier, now_ms)
        callback = self.on_used_after_end
        if callback is not None:
            for use in after_end:
                try_once("used after the end", partial(callback, *use))
        return ObservationAck(self.control_id, self._settings.enabled)

    def last_allow_ms(self, session_id: bytes) -> int:
        """Return when a call of the session was last allowed, in ms since 1970; 0 if that is not known."""
        with self._lock:
            kept = self._find(session_id)
            return 0 if kept is None else kept.seen.last_allow_ms

    def report(self, session_id: bytes) -> pb.SessionReport | None:
        """Return what is known of a session; None if there is no such session, and nothing of it."""
        session = self._sessions.get_session(session_id)
        layers = self._inherited(session)
        with self._lock:
            return self._report(session, layers, self._find(session_id))

    def tend(self) -> None:
        """Write down what ended, and let it go from memory; called once a second."""
        now_ms = self._clock.now_ms()
        with self._lock:
            self._full = False
            # Those that were looked at longest ago.
            looked_at = list(self._kept)[:LOOKS]
            for session_id in looked_at:
                self._kept.move_to_end(session_id)
        until = time.monotonic() + WRITING_SECONDS
        for session_id in looked_at:
            if time.monotonic() > until:
                break
            self._look_at(session_id, now_ms)
        self._files.remove_older((now_ms - self._settings.keep_ms) * 1_000_000)

    def close(self) -> None:
        """Write everything down, so that the next start knows it; for so long as a stop may take.

        If something was left, the next start knows that as well.
        """
        with self._lock:
            kept = list(self._kept)
        until = time.monotonic() + CLOSING_SECONDS
        written = [time.monotonic() < until and self._write(session_id) for session_id in kept]
        since = {"since_ms": self._since_ms}
        if self._settings.enabled:
            since["usage_since_ms"] = self._usage_since_ms
        if all(written) and not self._lost.first_ms:
            try_once("usage", lambda: self._files.leave_marker(json.dumps(since).encode()))

    def _look_up(self, batch: ObservationBatch) -> dict[bytes, bool]:
        """Return which of the sessions there are, and whether they are over, where that matters."""
        found: dict[bytes, bool] = {}
        for seen in batch.sessions:
            if seen.session_id in self._kept and not seen.late:
                found[seen.session_id] = False
                continue
            session = self._sessions.get_session(seen.session_id)
            if session is not None:
                found[seen.session_id] = bool(seen.late) and self._is_over(session)
        return found

    def _is_over(self, session: Session) -> bool:
        now_ms = self._clock.now_ms()
        return any(
            one.status is SessionStatus.ENDED or one.ends_at_ms() <= now_ms for one in self._line(session)
        )

    def _line(self, session: Session) -> Iterable[Session]:
        """Yield a session and its ancestors."""
        one: Session | None = session
        for _ in range(MAX_ANCESTORS + 1):
            if one is None:
                return
            yield one
            one = self._sessions.get_session(one.parent_id) if one.parent_id else None

    def _inherited(self, session: Session | None) -> Layers:
        """Return the layers of the ancestors' ceilings."""
        if session is None:
            return []
        return [layer for one in self._line(session) if one is not session for layer in one.ceilings]

    def _is_new(self, batch: ObservationBatch) -> bool:
        key = batch.verifier, batch.sender_id
        if batch.number <= self._senders.get(key, 0):
            return False
        self._senders[key] = batch.number
        self._senders.move_to_end(key)
        while len(self._senders) > MAX_SENDERS:
            self._senders.popitem(last=False)
        return True

    def _add(self, seen: SessionObservation, verifier: str, now_ms: int) -> None:
        kept = self._find(seen.session_id)
        if kept is None and self._room_for(SESSION_BYTES):
            kept = self._keep(SessionUsageEntry(SessionObservation(seen.session_id)))
        if kept is None or seen.session_id not in self._kept:
            self._lost.note(now_ms)
            return
        room = min(self._settings.max_session_bytes - kept.bytes, self._settings.max_bytes - self._bytes)
        self._bytes += kept.add(seen, verifier, room, now_ms)

    def _find(self, session_id: bytes) -> SessionUsageEntry | None:
        """Return what is known of a session, from memory or else from its file."""
        kept = self._kept.get(session_id)
        if kept is not None or session_id not in self._files:
            return kept
        kept = read_kept(self._files.read(session_id), self._clock.now_ms())
        if kept is not None and self._room_for(kept.bytes):
            self._keep(kept)
        return kept

    def _keep(self, kept: SessionUsageEntry) -> SessionUsageEntry:
        self._kept[kept.seen.session_id] = kept
        self._bytes += kept.bytes
        return kept

    def _room_for(self, size: int) -> bool:
        """Make room for another session: those that ended and are written go, the first to end first."""
        if self._fits(size):
            return True
        if not self._full:
            done = [kept for kept in self._kept.values() if kept.ended_at_ms and kept.is_written]
            for kept in sorted(done, key=lambda one: one.ended_at_ms):
                self._let_go(kept)
                if self._fits(size):
                    return True
            # Nothing changes that within the second.
            self._full = True
        return False

    def _fits(self, size: int) -> bool:
        return (
            len(self._kept) < self._settings.max_sessions and self._bytes + size <= self._settings.max_bytes
        )

    def _let_go(self, kept: SessionUsageEntry) -> None:
        if self._kept.pop(kept.seen.session_id, None) is not None:
            self._bytes -= kept.bytes

    def _look_at(self, session_id: bytes, now_ms: int) -> None:
        session = self._sessions.get_session(session_id)
        if session is not None and session.status is not SessionStatus.ENDED:
            return
        with self._lock:
            kept = self._kept.get(session_id)
            if kept is None:
                return
            kept.ended_at_ms = now_ms if session is None else session.ended_at_ms
            quiet = kept.touched_ms + STAYS_MS < now_ms
            if kept.is_written and quiet:
                self._let_go(kept)
            write = not kept.is_written and (quiet or kept.final is None)
        if write:
            self._write(session_id)

    def _write(self, session_id: bytes) -> bool:
        """Write what is known of a session; False if it can't be, and is tried again."""
        session = self._sessions.get_session(session_id)
        layers = self._inherited(session)
        with self._lock:
            kept = self._kept.get(session_id)
            if kept is None or kept.is_written:
                return True
            version = kept.version
            report = self._report(session, layers, kept)
        if report is None:
            return True
        try:
            self._files.write(session_id, report.SerializeToString())
        except OSError as error:
            event(logging.ERROR, "usage_not_written", session=session_id.hex(), error=str(error))
            return False
        with self._lock:
            kept.written = version
            kept.final = report if report.session.ended_at_ms else None
        return True

    def _report(
        self, session: Session | None, layers: Layers, kept: SessionUsageEntry | None
    ) -> pb.SessionReport | None:
        missing = set() if session is None else self._missing(session)
        if kept is not None:
            return kept.report(session, layers, missing)
        if session is None:
            return None
        return SessionUsageEntry(SessionObservation(session.id)).report(session, layers, missing)

    def _missing(self, session: Session) -> set[pb.Missing]:
        """Return why something of a session may not be known here."""
        missing = set()
        if session.opened_at_ms < self._since_ms:
            missing.add(pb.MISSING_BEFORE)
        if not self._settings.enabled or session.opened_at_ms < self._usage_since_ms:
            missing.add(pb.MISSING_USAGE)
        if self._lost.touches(session):
            missing.add(pb.MISSING_LOST)
        return missing


def _late_uses(seen: SessionObservation, verifier: str) -> list[LateCall]:
    return [
        (seen.session_id, late.block_ids, late.claimed, verifier, late.last_ms, late.count)
        for late in seen.late.values()
    ]


def _read_marker(data: bytes) -> dict[str, int]:
    try:
        found = json.loads(data) if data else {}
    except ValueError:
        found = {}
    return {name: value for name, value in found.items() if isinstance(value, int)}
