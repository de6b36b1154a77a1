"""The sums of a cluster's other hosts, in the memory of the server that leads.

A host's sum of a session takes the place of its earlier one. So a report that comes twice, late or in another
order counts once, and a new leader has everything again once each host has resent its sums.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from ...model.lineage import SessionLookup
from ...model.session import SessionStatus
from ...v1 import usage_service_pb2 as pb
from ..status import refused
from .host_report import HostUsageReport, LateUse
from .store import LossMarker

# Approximate size of a sum in memory beside its encoding.
SUM_BYTES: Final = 300
# Runs of a host that are over: a report of them that comes late is refused.
MAX_PAST_RUNS: Final = 8
# Far longer than a report is under way.
SETTLED_MS: Final = 20_000
# Sessions that are looked at for one that ended, where space is short.
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
            # A call does not live so long as a run that is silent for this time.
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

    def __init__(self, sessions: SessionLookup, max_bytes: int) -> None:
        """Store sums of ``sessions`` only, in at most ``max_bytes``."""
        self._sessions = sessions
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
            standing.update(report.message, now_ms, steady_ms, in_term=in_term)
            for session_id in known:
                self._put(session_id, report.host, report.sums[session_id].SerializeToString(), now_ms)
            return standing.new_late(report)

    def standing(self, host: str) -> HostUsageStanding | None:
        """Return the last report of a host; None if there was none."""
        return self._hosts.get(host)

    def names(self) -> list[str]:
        """Return the hosts that have reported."""
        with self._lock:
            return list(self._hosts)

    def of_session(self, session_id: bytes) -> list[tuple[str, pb.HostSession]]:
        """Return each host's sum of a session, by host."""
        with self._lock:
            found = sorted(self._sums.get(session_id, {}).items())
        return [(host, pb.HostSession.FromString(data)) for host, data in found]

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
