"""The hosts that follow this server: the last barrier request of each."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

# Far more than one server feeds.
MAX_HOSTS: Final = 4_096
# Beyond its bound a host is still named for so long.
MARGIN_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class HostReport:
    """The content of a barrier request, and its time on this server's steady clock in ms.

    ``principal`` is the caller, ``instance`` 16 bytes that change with the follower's process. A proof that
    began with the request is good for ``staleness_ms``. ``reads`` is the latest format of the log
    that it reads, 0 for the oldest. ``alarm`` is the fault of a host that applies and
    allows nothing.
    """

    host: str
    principal: str
    instance: bytes
    applied: int
    at_ms: int
    staleness_ms: int
    reads: int = 0
    alarm: str = ""


class FollowedHosts:
    """The latest report of each host, by principal and name; the oldest go beyond :data:`MAX_HOSTS`."""

    def __init__(self) -> None:
        """Begin without hosts."""
        self._lock = threading.Lock()
        self._reports: dict[tuple[str, str], HostReport] = {}
        # Apart from those: no host in an alarm has a proof, and no beat names it for that.
        self._alarms: dict[tuple[str, str], HostReport] = {}

    def store(self, report: HostReport) -> None:
        """Store a report in place of the host's last one of its kind."""
        reports = self._alarms if report.alarm else self._reports
        key = report.principal, report.host
        with self._lock:
            reports.pop(key, None)
            reports[key] = report
            if len(reports) > MAX_HOSTS:
                del reports[next(iter(reports))]

    def by_host(self) -> dict[tuple[str, str], HostReport]:
        """Return the latest report of each host, of an alarm too, by principal and name."""
        with self._lock:
            latest = dict(self._reports)
            for key, report in self._alarms.items():
                if key not in latest or latest[key].at_ms <= report.at_ms:
                    latest[key] = report
        return latest

    def active(self, steady_ms: int) -> list[HostReport]:
        """Return the reports of hosts that may have a proof by them at that time, the oldest first."""
        return [
            report for report in self.all() if report.at_ms + report.staleness_ms + MARGIN_MS >= steady_ms
        ]

    def all(self) -> list[HostReport]:
        """Return the reports, the oldest first."""
        with self._lock:
            return list(self._reports.values())
