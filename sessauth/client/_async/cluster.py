"""Calls about a cluster: how its servers stand, and the brake of all of its hosts."""

from __future__ import annotations

from ...model.standing import ClusterStanding
from .._requests import standing as cluster_calls
from .calls import AsyncCalls


class AsyncClusterCalls(AsyncCalls):
    """Calls of ClusterService."""

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
