"""Usage over the hosts of a cluster, composed for one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from ...clock import Clock
from ...state.writer.state_writer import StateWriter
from ...usage.observations import UseAfterEnd
from ..config.config import Config
from ..process.subsystems import ControlSubsystems
from ..usage.cluster_usage import ClusterUsage
from ..usage.pass_on import UsagePassOn
from ..usage.removed_hosts import RemovedHosts
from .part import ClusterPart


class HostUsagePart:
    """One host's part in the usage of its cluster: its own reports, and the sum of all while it leads."""

    def __init__(
        self,
        config: Config,
        part: ClusterPart,
        log: StateWriter,
        subsystems: ControlSubsystems,
        clock: Clock,
    ) -> None:
        """Compose it around the usage of ``subsystems``; nothing is sent before :meth:`start`."""
        store, uses = subsystems.usage, subsystems.uses_after_end
        removed = RemovedHosts(config.usage_dir, config.usage.keep_ms)
        self._host = part.host
        self._uses_after_end = uses
        self.cluster = ClusterUsage(part.host, log, store, removed, uses, config.usage, part.term, clock)
        self._pass_on = UsagePassOn(
            part.host,
            store,
            uses,
            part.report_usage,
            lambda: log.leads,
            clock,
            watchers=lambda: subsystems.events.watchers,
        )
        store.on_change = self._pass_on.mark
        store.on_used_after_end = self._on_used_after_end
        subsystems.receipts.last_allow_ms = self.cluster.last_allow_ms

    @classmethod
    def of(
        cls,
        config: Config,
        part: ClusterPart,
        log: StateWriter,
        subsystems: ControlSubsystems,
        clock: Clock,
    ) -> Self | None:
        """Return the part of a host of a cluster; None for a single host."""
        return cls(config, part, log, subsystems, clock) if part.host else None

    def start(self) -> None:
        """Begin to report."""
        self._pass_on.start()

    def tasks(self) -> list[tuple[str, Callable[[], object]]]:
        """Return tasks that run once a second."""
        return [("hosts of usage", self.cluster.poll)]

    def close(self) -> None:
        """Report the rest, and end."""
        self._pass_on.close()

    def _on_used_after_end(self, session_id: bytes, verifier: str, use: UseAfterEnd) -> None:
        self._uses_after_end.on_used_after_end(session_id, f"{self._host}/{verifier}", use)
        self.cluster.on_used_after_end(session_id, verifier, use)
        self._pass_on.on_used_after_end(session_id, verifier, use)
