"""Calls about servers: the status of one, how those of a cluster stand, and the brake of all hosts."""

from __future__ import annotations

from ...model.server_status import ServerStatus
from ...model.standing import ClusterStanding
from .._requests import server_status as status_calls
from .._requests import standing as cluster_calls
from .calls import AsyncCalls


class AsyncClusterCalls(AsyncCalls):
    """Calls of StatusService and ClusterService."""

    async def server_status(self) -> ServerStatus:
        """Return the server as it stands now, also while it denies every check."""
        return await self._run(status_calls.get_status())

    async def cluster_standing(self) -> ClusterStanding:
        """Return how the server's host stands in the log, also in an alarm.

        Raises Rejected NOT_IN_CLUSTER on a single host.
        """
        return await self._run(cluster_calls.get_standing())

    async def set_cluster_brake(self, engaged: bool, reason: str = "") -> None:
        """Have every host of the cluster deny every check, or no longer; ``reason`` has up to 256 bytes.

        Brakes that were set on a host stay. Raises Rejected NOT_IN_CLUSTER on a single host.
        """
        await self._run(cluster_calls.set_brake(engaged, reason))
