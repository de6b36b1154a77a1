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
    that it reads, 0 for the oldest.
    """

    host: str
    principal: str
    instance: bytes
    applied: int
    at_ms: int
    staleness_ms: int
    reads: int = 0


class FollowedHosts:
    """The latest report of each host, by principal and name; the oldest go beyond :data:`MAX_HOSTS`."""

    def __init__(self) -> None:
        """Begin without hosts."""
        self._lock = threading.Lock()
        self._reports: dict[tuple[str, str], HostReport] = {}

    def store(self, report: HostReport) -> None:
        """Store a report in place of the host's last one."""
        key = report.principal, report.host
        with self._lock:
            self._reports.pop(key, None)
            self._reports[key] = report
            if len(self._reports) > MAX_HOSTS:
                del self._reports[next(iter(self._reports))]

    def active(self, steady_ms: int) -> list[HostReport]:
        """Return the reports of hosts that may have a proof by them at that time, the oldest first."""
        return [
            report for report in self.all() if report.at_ms + report.staleness_ms + MARGIN_MS >= steady_ms
        ]

    def all(self) -> list[HostReport]:
        """Return the reports, the oldest first."""
        with self._lock:
            return list(self._reports.values())
