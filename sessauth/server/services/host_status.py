"""StatusService: the present status of this server."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from ...model.server_status import ServerStatus
from ...v1 import status_service_pb2 as pb
from ..rpc.call import CallContext
from .base import Service


@dataclass(slots=True)
class StatusService(Service):
    """Answers StatusService by ``read``, which is set when all parts of the process are there."""

    descriptor = pb.DESCRIPTOR.services_by_name["StatusService"]

    read: Callable[[], ServerStatus] = ServerStatus

    def get_status(self, request: pb.GetStatusRequest, call: CallContext) -> pb.GetStatusResponse:
        """Return the status."""
        return pb.GetStatusResponse(**dataclasses.asdict(self.read()))
