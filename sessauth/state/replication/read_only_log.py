"""The log of a host that only follows: it applies the servers' records, and never leads."""

from __future__ import annotations

from collections.abc import Callable

from ...errors import NotLeader
from ..writer.group import Group


class ReadOnlyLog:
    """Refuses every group of this host's own that the cluster would need."""

    def __init__(self, servers: str, address: Callable[[], str] = lambda: "") -> None:
        """Name ``servers`` to callers that write; ``address()`` is the one to ask now."""
        self._servers = servers
        self._address = address

    def refusal(self) -> NotLeader:
        """Return the error for callers that write."""
        message = f"this host only follows the cluster; ask one of its servers: {self._servers}"
        return NotLeader(message, self._address())

    def append(self, group: Group) -> None:
        """Raise NotLeader for a group that is carried; applied records and rows of this host are not."""
        if group.is_carried:
            raise self.refusal()

    def commit_failed(self, reason: str) -> None:
        """Do nothing: no group of this host was appended."""
