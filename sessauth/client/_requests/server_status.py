"""The description of StatusService's call, for both clients."""

from __future__ import annotations

from typing import Any

from ...model.server_status import ServerStatus
from ...v1 import status_service_pb2 as pb
from .._transport import RpcRequest


def get_status() -> RpcRequest[ServerStatus]:
    """Describe GetStatus."""
    return RpcRequest("StatusService/GetStatus", pb.GetStatusRequest(), pb.GetStatusResponse, _status)


def _status(answer: Any) -> ServerStatus:
    return ServerStatus(**{name: getattr(answer, name) for name in ServerStatus.__slots__})
