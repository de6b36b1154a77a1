"""Usage of sessions over the hosts of a cluster: the sums of all, at the server that leads.

The leader has the sums of the other hosts in memory. A host's sum of a session replaces its earlier one. So a
report that comes twice, late or in another order counts once, and a new leader has everything again once each
host has resent its sums. Sums of a host that was removed from the cluster are missing if they never came.

Late uses that hosts reported to the leader are kept for the hosts that don't have them yet.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from ...client._usage_messages import late_message, read_session, session_message
from ...clock import Clock
from ...limits import MAX_TIME_MS
from ...model.host import SERVER_PREFIX, HostRecord
from ...model.session import Session, SessionLookup, SessionStatus
from ...state.writer.state_writer import StateWriter
from ...usage.session_usage import UseAfterEnd
from ...v1 import usage_service_pb2 as pb
from ..events import UsesAfterEnd
from ..log import event
from ..sections import UsageSettings
from ..status import refused
from .host_report import MAX_LATE, HostUsageReport, LateUse
from .recent_activity import RecentActivity
from .store import NOT_WRITTEN_MS, LossMarker, UsageStore, put_file

# A host is silent if it has not reported for this time.
SILENT_MS: Final = 30_000
# A second has so many reports of all hosts together.
REPORTS_PER_SECOND: Final = 100
SHORTEST_PAUSE_MS: Final = 1_000
# In one report; further verifiers only go into the sum.
MAX_VERIFIERS: Final = 1_024
_TERM_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class _Expected:
    """A host whose use belongs to reports; ``removed_at_ms`` is 0 while it is registered.

    ``first_run``: no earlier process of it can have lost anything.
    """

    name: str
    first_run: bool = False
    removed_at_ms: int = 0


class ClusterUsage:
    """The leader's report of all hosts. Any thread may use it."""

    def __init__(
        self,
        host: str,
        state: StateWriter,
        store: UsageStore,
        removed: RemovedHosts,
        uses_after_end: UsesAfterEnd,
        settings: UsageSettings,
        term: Callable[[], int],
        clock: Clock,
    ) -> None:
        """Add up ``store``, the one of this ``host``, and the reports of the other hosts.

        ``term()`` returns the term in which this server leads, 0 if it does not.
        """
        self.host: Final = host
        self._state = state
        self._store = store
        self._removed = removed
        self._uses_after_end = uses_after_end
        self._settings = settings
        self._current_term = term
        self._clock = clock
        self.sums = HostSums(state, settings.max_bytes, store.recent)
        self.late = LateUses()
        self._lock = threading.Lock()
        self._term = 0
        self._term_id = secrets.token_bytes(_TERM_BYTES)
        self._log_at_ms = 0

    def require_leading(self) -> None:
        """Raise NotLeader if another server leads; begin a term that is new."""
        self._state.require_leading()
        with self._lock:
            term = self._current_term()
            if term != self._term:
                self._term, self._term_id = term, secrets.token_bytes(_TERM_BYTES)
                self.sums.begin_term()

    def take(self, report: HostUsageReport) -> pb.ReportHostUsageResponse:
        """Store a host's report and publish its late uses; returns the answer. Raises NotLeader."""
        self.require_leading()
        registered = len(self._state.hosts())
        for session_id, each in report.sums.items():
            if each.observation.late and not self._is_over(session_id):
                each.observation.ClearField("late")
        message, term_id = report.message, self._term_id
        in_term = message.term_id == term_id
        now_ms, steady_ms = self._clock.now_ms(), self._clock.steady_ms()
        # Its own report may come late, from a time when another server led: its store has all of it.
        if report.host != self.host:
            self._publish(self.sums.store(report, now_ms, steady_ms, in_term=in_term))
        number = message.after_late_number if in_term else self.late.number
        late, number = self.late.behind(number, report.host)
        return pb.ReportHostUsageResponse(
            term_id=term_id,
            pause_ms=max(SHORTEST_PAUSE_MS, registered * 1_000 // REPORTS_PER_SECOND),
            late=late,
            late_number=number,
        )

    def on_used_after_end(self, session_id: bytes, verifier: str, use: UseAfterEnd) -> None:
        """Have the other hosts publish uses that a verifier of this host observed."""
        self.late.add([LateUse(session_id, self.host, verifier, use)])

    def report(self, session_id: bytes) -> pb.SessionReport | None:
        """Return a session's report over all hosts; None if it is not known. Raises NotLeader."""
        self.require_leading()
        report = self._store.report(session_id)
        if report is None:
            return None
        for each in report.verifiers:
            each.name = f"{self.host}/{each.name}"
        total = read_session(report.observation)
        reasons = set(report.missing)
        for host, part in self.sums.of_session(session_id):
            total.add(read_session(part.observation), self._settings.max_session_bytes - total.size())
            for each in part.verifiers:
                if len(report.verifiers) < MAX_VERIFIERS:
                    report.verifiers.add().CopyFrom(each)
                    report.verifiers[-1].name = f"{host}/{each.name}"
        if total.lost:
            reasons.add(pb.MISSING_LOST)
        session = self._state.get_session(session_id)
        reasons |= self._missing(session) if session is not None else {pb.MISSING_BEFORE}
        report.observation.CopyFrom(session_message(total))
        report.missing[:] = sorted(reasons)
        return report

    def last_allow_ms(self, session_id: bytes) -> int:
        """Return when a call of the session was last allowed at any host, 0 if that is not known."""
        sums = self.sums.of_session(session_id)
        return max(
            self._store.last_allow_ms(session_id), *(part.observation.last_allow_ms for _, part in sums), 0
        )

    def hosts(self) -> list[pb.HostUsage]:
        """Return this leader's records of each host, by name."""
        return [self._host_usage(host) for host in sorted(self._expected(), key=lambda each: each.name)]

    def poll(self) -> None:
        """Note hosts that were removed; called once a second."""
        try:
            self._removed.update({record.name for record in self._state.hosts()}, self._clock.now_ms())
        except OSError as error:
            now_ms = self._clock.steady_ms()
            if now_ms >= self._log_at_ms:
                self._log_at_ms = now_ms + NOT_WRITTEN_MS
                event(logging.ERROR, "usage_not_written", error=str(error))

    def _publish(self, uses: Sequence[LateUse]) -> None:
        self.late.add(uses)
        for each in uses:
            self._uses_after_end.on_used_after_end(
                each.session_id, f"{each.host}/{each.verifier}", each.use, counted=False
            )

    def _is_over(self, session_id: bytes) -> bool:
        session = self._state.get_session(session_id)
        return session is not None and self._store.is_over(session)

    def _expected(self) -> list[_Expected]:
        found = {
            record.name: _Expected(record.name, bool(record.principal) and record.instances == 1)
            for record in self._state.hosts()
        }
        for name, at_ms in self._removed.removed_at_ms.items():
            found.setdefault(name, _Expected(name, removed_at_ms=at_ms))
        found.setdefault(self.host, _Expected(self.host))
        return list(found.values())

    def _host_usage(self, host: _Expected) -> pb.HostUsage:
        usage = pb.HostUsage(name=host.name, removed_at_ms=host.removed_at_ms)
        if host.name == self.host:
            own = pb.ReportHostUsageRequest()
            self._store.describe(own)
            usage.since_ms, usage.reported_at_ms, usage.current = own.since_ms, self._clock.now_ms(), True
        elif (standing := self.sums.standing(host.name)) is not None:
            usage.since_ms, usage.reported_at_ms = standing.since_ms, standing.reported_at_ms
            usage.waiting = standing.waiting
            usage.current = self._is_current(standing)
        return usage

    def _is_current(self, standing: HostUsageStanding) -> bool:
        """Return True if everything of the host came in this term, and it is not silent since."""
        silent = self._clock.steady_ms() - standing.steady_ms > SILENT_MS
        return bool(standing.whole_at_ms) and (standing.last or not silent)

    def _missing(self, session: Session) -> set[pb.Missing]:
        """Return why some of the other hosts' use of a session may be missing."""
        missing = set()
        ended_ms = session.ended_at_ms if session.status is SessionStatus.ENDED else 0
        if session.opened_at_ms < self._removed.forgotten_until_ms:
            missing.add(pb.MISSING_HOST)
        if self.sums.lost.touches(session):
            missing.add(pb.MISSING_LOST)
        if ended_ms and ended_ms <= self.sums.evicted_until_ms:
            missing.add(pb.MISSING_BEFORE)
        for host in self._expected():
            if host.name == self.host or (host.removed_at_ms and host.removed_at_ms < session.opened_at_ms):
                continue
            standing = self.sums.standing(host.name)
            if standing is None or not self._has_all(standing, host, ended_ms):
                missing.add(pb.MISSING_HOST)
            if standing is not None and standing.reported_at_ms:
                missing |= self._missing_at(standing, host, session)
        return missing

    def _has_all(self, standing: HostUsageStanding, host: _Expected, ended_ms: int) -> bool:
        if host.removed_at_ms:
            return bool(standing.whole_at_ms) and standing.last
        # A report long after the end holds all of it, whatever happened to the host since.
        settled = bool(ended_ms) and standing.whole_at_ms > ended_ms + SILENT_MS
        return settled or self._is_current(standing)

    def _missing_at(self, standing: HostUsageStanding, host: _Expected, session: Session) -> set[pb.Missing]:
        missing = set()
        # Before its first run no call can have been allowed there.
        since_open = host.first_run and not standing.past_runs
        if standing.since_ms > session.opened_at_ms and not since_open:
            missing.add(pb.MISSING_BEFORE)
        since_ms = standing.usage_since_ms
        if not since_ms or (since_ms > session.opened_at_ms and not since_open):
            missing.add(pb.MISSING_USAGE)
        if standing.losses.touches(session):
            missing.add(pb.MISSING_LOST)
        return missing


def require_host(host: str, principal: str, record: HostRecord | None) -> None:
    """Require that a caller may report for a host: it registered it, or it is that server itself.

    Raises PERMISSION_DENIED.
    """
    if host.startswith(SERVER_PREFIX):
        allowed = principal == host and record is not None
    else:
        allowed = record is not None and record.principal == principal and not record.leaving
    if not allowed:
        raise refused("PERMISSION_DENIED", "host: is no host that the caller registered")


# Approximate size of a sum in memory beside its encoding.
SUM_BYTES: Final = 300
# Runs of a host that are over: a report of them that comes late is refused.
MAX_PAST_RUNS: Final = 8
# Far longer than a report is under way.
SETTLED_MS: Final = 20_000
# Sessions that are searched for one that ended, when space is short.
MAX_EVICTION_STEPS: Final = 64


@dataclass(slots=True)
class HostUsageStanding:
    """The last report of a host; ``…_ms`` are the leader's wall clock unless the host states them.

    ``whole_at_ms``: the time by which everything of the host had come; 0: never in this term. ``last``: its
    process ended in order after this report.
    """

    run_id: bytes = b""
    past_runs: deque[bytes] = field(default_factory=lambda: deque(maxlen=MAX_PAST_RUNS))
    began_ms: int = 0
    number: int = 0
    since_ms: int = 0
    usage_since_ms: int = 0
    losses: LossMarker = field(default_factory=LossMarker)
    waiting: int = 0
    reported_at_ms: int = 0
    whole_at_ms: int = 0
    steady_ms: int = 0
    last: bool = False
    # The number of the last late use that came.
    late_number: int = 0

    def takes(self, message: pb.ReportHostUsageRequest, steady_ms: int) -> bool:
        """Return True if a report follows the last one; the next run of the host begins with it.

        Raises OVERLOADED for another run that does not: it is over, or the clock of its host was set back.
        """
        if message.run_id != self.run_id:
            # No call lasts as long as this silence of a run.
            earlier = message.run_began_ms <= self.began_ms and steady_ms - self.steady_ms < SETTLED_MS
            if message.run_id in self.past_runs or (self.run_id and earlier):
                raise refused("OVERLOADED", "run_id: another run of this host has reported; retry later")
            if self.run_id:
                self.past_runs.append(self.run_id)
            self.run_id, self.began_ms = message.run_id, message.run_began_ms
            self.number = self.late_number = self.whole_at_ms = 0
        return message.number > self.number

    def update(
        self, message: pb.ReportHostUsageRequest, now_ms: int, steady_ms: int, *, in_term: bool
    ) -> None:
        """Store a report's statements about its host; before it knows the term, it may have more to send."""
        self.number, self.waiting = message.number, message.waiting
        self.since_ms, self.usage_since_ms = message.since_ms, message.usage_since_ms
        self.losses = LossMarker(message.lost_first_ms, message.lost_last_ms)
        self.reported_at_ms, self.steady_ms, self.last = now_ms, steady_ms, message.last
        if in_term and not message.waiting:
            self.whole_at_ms = now_ms

    def new_late(self, report: HostUsageReport) -> tuple[LateUse, ...]:
        """Return the late uses of a report that did not come before."""
        first = report.message.first_late
        late = report.late[max(0, self.late_number + 1 - first) :]
        self.late_number = max(self.late_number, first + len(report.late) - 1)
        return late


class HostSums:
    """Sums by session and host, bounded in bytes. Any thread may use it."""

    def __init__(self, sessions: SessionLookup, max_bytes: int, recent: RecentActivity) -> None:
        """Store sums of ``sessions`` only, in at most ``max_bytes``; ``recent`` counts what they grow by."""
        self._sessions = sessions
        self._recent = recent
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._hosts: dict[str, HostUsageStanding] = {}
        # Encoded HostSessions by host, of each session; those that changed longest ago first.
        self._sums: OrderedDict[bytes, dict[str, bytes]] = OrderedDict()
        self._bytes = 0
        # Sums of sessions that ended up to then may have been evicted.
        self.evicted_until_ms = 0
        # Sums that did not fit.
        self.lost = LossMarker()

    def begin_term(self) -> None:
        """Have each host resend its sums: meanwhile they may have gone to another leader."""
        with self._lock:
            for standing in self._hosts.values():
                standing.reported_at_ms = standing.whole_at_ms = standing.steady_ms = 0

    def store(
        self, report: HostUsageReport, now_ms: int, steady_ms: int, *, in_term: bool
    ) -> tuple[LateUse, ...]:
        """Store a report, and return its late uses that are new.

        One that came before, or comes after a later one, changes nothing. ``in_term``: the host knew that
        this server leads. Raises OVERLOADED for one of an earlier run of its host.
        """
        known = [each for each in report.sums if self._sessions.get_session(each) is not None]
        with self._lock:
            standing = self._hosts.setdefault(report.host, HostUsageStanding())
            if not standing.takes(report.message, steady_ms):
                return ()
            # Until everything has come once, a sum may hold calls of any time.
            if standing.whole_at_ms:
                self._count_recent(report, known)
            standing.update(report.message, now_ms, steady_ms, in_term=in_term)
            for session_id in known:
                self._put(session_id, report.host, report.sums[session_id].SerializeToString(), now_ms)
            return standing.new_late(report)

    def standing(self, host: str) -> HostUsageStanding | None:
        """Return the last report of a host; None if there was none."""
        return self._hosts.get(host)

    def of_session(self, session_id: bytes) -> list[tuple[str, pb.HostSession]]:
        """Return each host's sum of a session, by host."""
        with self._lock:
            found = sorted(self._sums.get(session_id, {}).items())
        return [(host, pb.HostSession.FromString(data)) for host, data in found]

    def _count_recent(self, report: HostUsageReport, session_ids: Iterable[bytes]) -> None:
        for session_id in session_ids:
            earlier = self._sums.get(session_id, {}).get(report.host, b"")
            before = pb.HostSession.FromString(earlier).observation
            now = report.sums[session_id].observation
            # A host that lost its sums begins again from 0.
            allowed, denied = max(0, now.allowed - before.allowed), max(0, now.denied - before.denied)
            self._recent.add(session_id, allowed, denied)

    def _put(self, session_id: bytes, host: str, data: bytes, now_ms: int) -> None:
        by_host = self._sums.get(session_id, {})
        before = len(by_host[host]) + SUM_BYTES if host in by_host else 0
        size = len(data) + SUM_BYTES
        if not self._has_room(size - before, session_id):
            # The earlier sum stays, and is too small.
            self.lost.record(now_ms)
            return
        self._bytes += size - before
        self._sums.setdefault(session_id, {})[host] = data
        self._sums.move_to_end(session_id)

    def _has_room(self, size: int, wanted: bytes) -> bool:
        """Make space for so many bytes: evicts sessions that ended, the first to change first."""
        if not self._over(size):
            return True
        for session_id in list(islice(self._sums, MAX_EVICTION_STEPS)):
            session = self._sessions.get_session(session_id)
            if session_id == wanted or (session is not None and session.status is not SessionStatus.ENDED):
                # The next call looks at others.
                self._sums.move_to_end(session_id)
                continue
            if session is not None:
                self.evicted_until_ms = max(self.evicted_until_ms, session.ended_at_ms)
            self._bytes -= sum(len(data) + SUM_BYTES for data in self._sums.pop(session_id).values())
            if not self._over(size):
                return True
        return False

    def _over(self, size: int) -> bool:
        return self._bytes + size > self._max_bytes


# A host that asks later than this many misses the first of them.
MAX_WAITING: Final = 4_096


class LateUses:
    """The last late uses, numbered from 1. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[LateUse] = deque(maxlen=MAX_WAITING)
        self._number = 0

    @property
    def number(self) -> int:
        """The number of the last one."""
        return self._number

    def add(self, uses: Iterable[LateUse]) -> None:
        """Add uses."""
        with self._lock:
            for use in uses:
                self._number += 1
                self._waiting.append(use)

    def behind(self, number: int, host: str) -> tuple[list[pb.LateUse], int]:
        """Return the uses after a number that are not of ``host``, and the number that they reach."""
        with self._lock:
            first = self._number - len(self._waiting)
            begin = max(number, first)
            found = list(islice(self._waiting, begin - first, begin - first + MAX_LATE))
        messages = [
            pb.LateUse(
                session_id=late.session_id, host=late.host, verifier=late.verifier, use=late_message(late.use)
            )
            for late in found
            if late.host != host
        ]
        return messages, begin + len(found)


FILE: Final = "hosts.json"
MAX_REMOVED: Final = 1_024


class RemovedHosts:
    """The registered hosts as this server last knew them, and those that were removed since; in a file.

    So it finds hosts that were removed while it did not run. One thread at a time may call :meth:`update`.
    """

    def __init__(self, folder: Path, keep_ms: int) -> None:
        """Read the file in ``folder``; removed hosts are forgotten after ``keep_ms``."""
        self._file = folder / FILE
        self._keep_ms = keep_ms
        self._present: set[str] = set()
        # Names, and the times at which they were found to be removed, in ms since 1970.
        self.removed_at_ms: dict[str, int] = {}
        # A file that can't be read forgets hosts that were removed before this time; 0 if none was forgotten.
        self.forgotten_until_ms = 0
        self._load()

    def update(self, present: set[str], now_ms: int) -> None:
        """Note which hosts are registered now. Raises OSError, and notes nothing, if the disk fails."""
        removed = self.removed_at_ms | dict.fromkeys(self._present - present, now_ms)
        removed = {
            name: at_ms
            for name, at_ms in removed.items()
            if name not in present and at_ms + self._keep_ms > now_ms
        }
        newest = sorted(removed.items(), key=lambda item: item[1])[-MAX_REMOVED:]
        removed = dict(newest)
        forgotten = min(self.forgotten_until_ms, now_ms)
        forgotten = forgotten if forgotten + self._keep_ms > now_ms else 0
        if (removed, present, forgotten) == (self.removed_at_ms, self._present, self.forgotten_until_ms):
            return
        content: dict[str, Any] = {"present": sorted(present), "removed": removed}
        content |= {"forgotten_until": forgotten} if forgotten else {}
        put_file(self._file, json.dumps(content).encode())
        self._present, self.removed_at_ms, self.forgotten_until_ms = set(present), removed, forgotten

    def _load(self) -> None:
        try:
            content = json.loads(self._file.read_bytes())
            self._present, self.removed_at_ms, self.forgotten_until_ms = _fields(content)
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as error:
            event(logging.ERROR, "usage_file_unreadable", file=str(self._file), error=str(error))
            self.forgotten_until_ms = MAX_TIME_MS


def _fields(content: object) -> tuple[set[str], dict[str, int], int]:
    """Return the fields of the file; raises ValueError for other types or times."""
    fields = content if isinstance(content, dict) else {}
    present, removed = fields.get("present"), fields.get("removed")
    forgotten = fields.get("forgotten_until", 0)
    if not isinstance(present, list) or not isinstance(removed, dict):
        raise ValueError("present: a list of names, and removed: an object of times, are expected")
    if not all(isinstance(name, str) for name in present):
        raise ValueError("present: names are texts")
    for name, value in (*removed.items(), ("forgotten_until", forgotten)):
        if type(value) is not int or not 0 <= value <= MAX_TIME_MS:
            raise ValueError(f"{name!a}: a time in ms since 1970 is expected")
    return set(present), removed, forgotten
