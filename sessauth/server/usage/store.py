"""Usage of sessions, added up in the control process from the verifiers' reports.

Live sessions are held in memory, with a record each. An ended one is written to a file of its own and then
evicted. Sessions and bytes are bounded: losses are counted, and reports mention them. Nothing here decides:
without the store, or with a full one, every check gives the same answer.

Files survive a restart. A file is written whole, under another name, and renamed into place; its mode is
0600, since it may hold the arguments of calls. The number and the size of files are bounded: the oldest are
removed first.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from google.protobuf.message import DecodeError

from ... import limits
from ..._fast import _check as kernel
from ...client._usage_messages import read_session, session_message
from ...clock import Clock
from ...errors import ConfigError, UsageError
from ...model.session import ScopeRecord, Session, SessionLookup, SessionStatus, lineage
from ...usage.session_usage import (
    SESSION_BYTES,
    ObservationAck,
    ObservationBatch,
    SessionObservation,
    UseAfterEnd,
)
from ...v1 import record_pb2
from ...v1 import usage_service_pb2 as pb
from .. import request_fields
from ..log import event
from ..periodic import try_once
from ..sections import UsageSettings
from .recent_activity import RecentActivity

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
        # Of this host's verifiers; in a cluster a leader adds those of the others.
        self.recent: Final = RecentActivity(clock)
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
            # The sessions that were polled longest ago.
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
        self.recent.add(observation.session_id, observation.allowed, observation.denied)
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


MAGIC: Final = b"sessauth/usage/1\n"
SUFFIX: Final = ".usage"
MARKER: Final = "since"


class UsageFiles:
    """The files of one folder. Any thread may use it."""

    def __init__(self, folder: Path, *, max_files: int, max_bytes: int) -> None:
        """Use ``folder``, which is made (0700) with the first file; hold at most so many of so many bytes."""
        self._folder = folder
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        # Session id to size in bytes and time of writing in ns, the oldest first.
        self._files: dict[bytes, tuple[int, int]] = {}
        self._bytes = 0
        for session_id, size, written in sorted(_found(folder), key=lambda file: file[2]):
            self._files[session_id] = size, written
            self._bytes += size

    def __contains__(self, session_id: bytes) -> bool:
        """Return True if there is a file of the session."""
        return session_id in self._files

    def __len__(self) -> int:
        """Return how many files there are."""
        return len(self._files)

    def session_ids(self) -> list[bytes]:
        """Return the sessions that have a file, the last written first."""
        with self._lock:
            return list(reversed(self._files))

    def read(self, session_id: bytes) -> bytes:
        """Return the contents of a session's file; nothing if there is none, or if it can't be used."""
        if session_id not in self._files:
            return b""
        try:
            data = self._path(session_id).read_bytes()
        except OSError as error:
            event(logging.ERROR, "usage_file_unreadable", session=session_id.hex(), error=str(error))
            return b""
        if not data.startswith(MAGIC):
            event(logging.ERROR, "usage_file_unreadable", session=session_id.hex(), error="another format")
            return b""
        return data[len(MAGIC) :]

    def write(self, session_id: bytes, data: bytes) -> None:
        """Write the file of a session, durably, and remove the oldest ones where space is short.

        Raises OSError.
        """
        size = len(MAGIC) + len(data)
        path = self._path(session_id)
        put_file(path, MAGIC + data)
        written = path.stat().st_mtime_ns
        with self._lock:
            self._forget(session_id)
            self._files[session_id] = size, written
            self._bytes += size
            removed = []
            while len(self._files) > 1 and (
                len(self._files) > self._max_files or self._bytes > self._max_bytes
            ):
                oldest = next(iter(self._files))
                self._forget(oldest)
                removed.append(oldest)
        for oldest in removed:
            self._path(oldest).unlink(missing_ok=True)

    def remove_older(self, than_ns: int) -> None:
        """Remove files that were written before a time, in ns since 1970."""
        with self._lock:
            old = [one for one, (_, written) in self._files.items() if written < than_ns]
            for session_id in old:
                self._forget(session_id)
        for session_id in old:
            self._path(session_id).unlink(missing_ok=True)

    def take_marker(self) -> bytes:
        """Return the contents left by :meth:`leave_marker`, and remove them; nothing if there are none."""
        path = self._folder / MARKER
        try:
            data = path.read_bytes()
            path.unlink()
        except OSError:
            return b""
        return data

    def leave_marker(self, data: bytes) -> None:
        """Say that everything was written. Raises OSError."""
        put_file(self._folder / MARKER, data)

    def _forget(self, session_id: bytes) -> None:
        size, _ = self._files.pop(session_id, (0, 0))
        self._bytes -= size

    def _path(self, session_id: bytes) -> Path:
        return self._folder / f"{session_id.hex()}{SUFFIX}"


def put_file(path: Path, data: bytes) -> None:
    """Replace a file durably, with mode 0600; its folder is made. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with open(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _found(folder: Path) -> list[tuple[bytes, int, int]]:
    """Return session id, size and time of writing of each file; half-written ones are removed."""
    found = []
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"usage.dir: {folder} can't be read: {error.strerror or error}") from error
    for entry in entries:
        if entry.name.startswith(".") and entry.name.endswith(".new"):
            # One that can't be removed is in nobody's way.
            with suppress(OSError):
                Path(entry.path).unlink()
        if not entry.name.endswith(SUFFIX):
            continue
        try:
            session_id = bytes.fromhex(entry.name.removesuffix(SUFFIX))
        except ValueError:
            continue
        if len(session_id) == _ID_BYTES:
            status = entry.stat()
            found.append((session_id, status.st_size, status.st_mtime_ns))
    return found


# Verifiers with a count of their own, for one session. The reports of others only go into the sum.
MAX_VERIFIERS: Final = 64

Layers: TypeAlias = Sequence[Sequence[ScopeRecord]]


@dataclass(slots=True)
class VerifierCount:
    """One verifier's share of a session's calls; the time of its last report in ms since 1970."""

    allowed: int = 0
    denied: int = 0
    reported_at_ms: int = 0


@dataclass(slots=True)
class SessionUsageEntry:
    """Usage of one session. ``final`` is the report of an ended one, as it was last written."""

    observation: SessionObservation
    verifiers: dict[str, VerifierCount] = field(default_factory=dict)
    final: pb.SessionReport | None = None
    bytes: int = SESSION_BYTES
    # Counts additions; ``written`` is its value at the last write.
    version: int = 0
    written: int = 0
    touched_ms: int = 0
    ended_at_ms: int = 0

    @property
    def is_written(self) -> bool:
        """True if a file holds all of it."""
        return self.written == self.version

    def add(self, observation: SessionObservation, verifier: str, room: int, now_ms: int) -> int:
        """Add an observation of ``verifier``, in at most ``room`` more bytes; returns the bytes taken."""
        allowed, denied = observation.allowed, observation.denied
        grown = self.observation.add(observation, max(0, room))
        self.bytes += grown
        self.version += 1
        self.touched_ms = now_ms
        if verifier in self.verifiers or len(self.verifiers) < MAX_VERIFIERS:
            count = self.verifiers.setdefault(verifier, VerifierCount())
            count.allowed += allowed
            count.denied += denied
            count.reported_at_ms = now_ms
        return grown

    def report(
        self, session: Session | None, layers: Layers, missing: Iterable[pb.Missing]
    ) -> pb.SessionReport | None:
        """Return it as a report.

        Args:
            session: its stored record. None once it was purged: then the last written report has it.
            layers: of its ancestors' ceilings.
            missing: this process's reasons; a report that was written after the end keeps its own.
        """
        if session is not None:
            report = report_message(session, layers)
        elif self.final is not None:
            report = pb.SessionReport()
            report.CopyFrom(self.final)
        else:
            return None
        reasons = set(missing if self.final is None else self.final.missing)
        if self.observation.lost:
            reasons.add(pb.MISSING_LOST)
        report.missing[:] = sorted(reasons)
        report.observation.CopyFrom(session_message(self.observation))
        report.ClearField("verifiers")
        report.verifiers.extend(self._activities())
        return report

    def host_session(self) -> pb.HostSession:
        """Return it as this host's sum of the session."""
        return pb.HostSession(observation=session_message(self.observation), verifiers=self._activities())

    def _activities(self) -> list[pb.VerifierActivity]:
        return [
            pb.VerifierActivity(
                name=name, allowed=count.allowed, denied=count.denied, reported_at_ms=count.reported_at_ms
            )
            for name, count in sorted(self.verifiers.items())
        ]


def read_entry(data: bytes, now_ms: int) -> SessionUsageEntry | None:
    """Read the file of a session; None if it is empty or unreadable."""
    if not data:
        return None
    try:
        report = pb.SessionReport.FromString(data)
        observation = read_session(report.observation)
    except (DecodeError, UsageError) as error:
        event(logging.ERROR, "usage_file_unreadable", error=str(error))
        return None
    verifiers = {
        count.name: VerifierCount(count.allowed, count.denied, count.reported_at_ms)
        for count in report.verifiers
    }
    ended_at_ms = report.session.ended_at_ms
    return SessionUsageEntry(
        observation,
        verifiers,
        report if ended_at_ms else None,
        observation.size(),
        touched_ms=now_ms,
        ended_at_ms=ended_at_ms,
    )


def report_message(session: Session, inherited: Iterable[Iterable[ScopeRecord]]) -> pb.SessionReport:
    """Return a report of a session's authority: its record and its ``inherited`` ceiling layers."""
    report = pb.SessionReport(
        inherited=[
            record_pb2.Ceiling.FromString(kernel.encode_message("Ceiling", {"scopes": list(layer)}))
            for layer in inherited
        ]
    )
    set_session(report, session)
    return report


def set_session(report: pb.SessionReport, session: Session) -> None:
    """Put a session's record into a report, with tokens masked: the report outlives the session."""
    report.session.CopyFrom(request_fields.session_message(session))
    request_fields.mask_texts(report.session)


def census_message(report: pb.SessionReport, is_revoked: Callable[[bytes], bool]) -> pb.GetCensusResponse:
    """Return the blocks of a report, parents first. A block below a revoked one counts as revoked."""
    observation = report.observation
    blocks = sorted(observation.blocks, key=lambda block: (block.index, block.first_ms, block.block_id))
    parents = {block.block_id: block.parent_id for block in blocks}
    revoked = {block_id: is_revoked(block_id) for block_id in parents}
    return pb.GetCensusResponse(
        blocks=[
            pb.BlockCensus(observation=block, revoked=_is_dead(block.block_id, parents, revoked))
            for block in blocks
        ],
        late=observation.late,
        missing=report.missing,
    )


def _is_dead(block_id: bytes, parents: Mapping[bytes, bytes], revoked: Mapping[bytes, Any]) -> bool:
    # Bounded: a faulty verifier may have reported a circle of parents.
    for _ in range(limits.MAX_BLOCKS):
        if revoked.get(block_id):
            return True
        block_id = parents.get(block_id, b"")
    return False
