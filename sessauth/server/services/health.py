"""Health and status: grpc.health.v1 for each service of this process, and StatusService for people."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from grpc_health.v1 import health_pb2 as health_pb

from ...model.server_status import ServerStatus
from ...v1 import status_service_pb2 as status_pb
from ..rpc.call import CallContext
from ..status import refused
from .base import Service

OVERALL: Final = ""
WATCH_POLL_SECONDS: Final = 1.0


class HealthService(Service):
    """Holds the status of each service; ``drain`` makes NOT_SERVING final."""

    descriptor = health_pb.DESCRIPTOR.services_by_name["Health"]

    def __init__(self, services: Iterable[str]) -> None:
        """Start with every service, and the whole (``""``), NOT_SERVING."""
        self._changed = threading.Condition()
        self._serving = dict.fromkeys([OVERALL, *services], False)
        self._draining = False

    def set_ready(self, ready: bool) -> None:
        """Set the status of all services. Ignored once draining."""
        with self._changed:
            if not self._draining:
                self._serving = dict.fromkeys(self._serving, ready)
                self._changed.notify_all()

    def drain(self) -> None:
        """Set everything NOT_SERVING for good and end all watches."""
        with self._changed:
            self._serving = dict.fromkeys(self._serving, False)
            self._draining = True
            self._changed.notify_all()

    def check(
        self, request: health_pb.HealthCheckRequest, call: CallContext
    ) -> health_pb.HealthCheckResponse:
        """Return the status of one service."""
        status = self._status(request.service)
        if status == health_pb.HealthCheckResponse.SERVICE_UNKNOWN:
            raise refused("NOT_FOUND", "service: not served here")
        return health_pb.HealthCheckResponse(status=status)

    def list(self, request: health_pb.HealthListRequest, call: CallContext) -> health_pb.HealthListResponse:
        """Return the status of every service of this process."""
        answer = health_pb.HealthListResponse()
        for name in self._serving:
            answer.statuses[name].status = self._status(name)
        return answer

    def watch(
        self, requests: Iterator[health_pb.HealthCheckRequest], call: CallContext
    ) -> Iterator[health_pb.HealthCheckResponse]:
        """Yield the status of one service now and whenever it changes."""
        request = next(requests, None)
        if request is None:
            return
        last: int | None = None
        while call.context.is_active() and call.remaining > 0:
            with self._changed:
                status = self._status(request.service)
                if status == last:
                    if self._draining:
                        return
                    self._changed.wait(min(WATCH_POLL_SECONDS, call.remaining))
                    continue
            last = status
            yield health_pb.HealthCheckResponse(status=status)

    def _status(self, service: str) -> health_pb.HealthCheckResponse.ServingStatus:
        serving = self._serving.get(service)
        if serving is None:
            return health_pb.HealthCheckResponse.SERVICE_UNKNOWN
        return health_pb.HealthCheckResponse.SERVING if serving else health_pb.HealthCheckResponse.NOT_SERVING


@dataclass(slots=True)
class StatusService(Service):
    """Answers StatusService by ``read``, which is set when all parts of the process are there."""

    descriptor = status_pb.DESCRIPTOR.services_by_name["StatusService"]

    read: Callable[[], ServerStatus] = ServerStatus

    def get_status(
        self, request: status_pb.GetStatusRequest, call: CallContext
    ) -> status_pb.GetStatusResponse:
        """Return the status."""
        return status_pb.GetStatusResponse(**dataclasses.asdict(self.read()))
