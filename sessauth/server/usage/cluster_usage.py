"""Usage of sessions over the hosts of a cluster: the sums of all, at the server that leads."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ...client._usage_messages import read_session, session_message
from ...clock import Clock
from ...model.host import SERVER_PREFIX, HostRecord
from ...model.session import Session, SessionStatus
from ...usage.observations import UseAfterEnd
from ...v1 import usage_service_pb2 as pb
from ..config.sections import UsageSettings
from ..events.uses_after_end import UsesAfterEnd
from ..log import event
from ..status import refused
from .host_report import HostUsageReport, LateUse
from .host_sums import HostSums, HostUsageStanding
from .late_uses import LateUses
from .removed_hosts import RemovedHosts
from .store import NOT_WRITTEN_MS, UsageStore

# A host that has not reported for so long is silent.
SILENT_MS: Final = 30_000
# A second has so many reports of all hosts together.
REPORTS_PER_SECOND: Final = 100
SHORTEST_PAUSE_MS: Final = 1_000
# In one report; further verifiers only go into the sum.
MAX_VERIFIERS: Final = 1_024
_TERM_BYTES: Final = 16


class ClusterState(Protocol):
    """The members used here of the writer of this host's folder."""

    def get_session(self, session_id: bytes) -> Session | None:
        """Return a session."""
        ...

    def hosts(self) -> list[HostRecord]:
        """Return the hosts of the cluster."""
        ...

    def require_leading(self) -> None:
        """Raise NotLeader if another server leads."""
        ...


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
        state: ClusterState,
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
        self.sums = HostSums(state, settings.max_bytes)
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
