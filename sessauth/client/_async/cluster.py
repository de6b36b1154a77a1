"""Calls about servers: the status of one, and the heads of a cluster's."""

from __future__ import annotations

from ...model.server_status import ServerStatus
from ...model.standing import ClusterStanding
from .._requests import server_status as status_calls
from .._requests import standing as cluster_calls
from .calls import AsyncCalls


class AsyncClusterCalls(AsyncCalls):
    """Calls of StatusService and ClusterService."""

    async def server_status(self) -> ServerStatus:
        """Return the present status of the server, also while it denies every check."""
        return await self._run(status_calls.get_status())

    async def cluster_standing(self) -> ClusterStanding:
        """Return the position of the server's host in the log, also in an alarm.

        Raises Rejected NOT_IN_CLUSTER on a single host.
        """
        return await self._run(cluster_calls.get_standing())
