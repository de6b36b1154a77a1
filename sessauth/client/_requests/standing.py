"""Descriptions of ClusterService's calls, for both clients."""

from __future__ import annotations

from typing import Any

from ...model.standing import ClusterStanding, HostStanding
from ...v1 import cluster_service_pb2 as pb
from .._transport import RpcRequest


def get_standing() -> RpcRequest[ClusterStanding]:
    """Describe GetStanding."""
    return RpcRequest(
        "ClusterService/GetStanding", pb.GetStandingRequest(), pb.GetStandingResponse, _standing
    )


def _standing(answer: Any) -> ClusterStanding:
    values = {name: getattr(answer, name) for name in ClusterStanding.__slots__ if name != "hosts"}
    hosts = (
        HostStanding(**{name: getattr(host, name) for name in HostStanding.__slots__})
        for host in answer.hosts
    )
    return ClusterStanding(**values, hosts=tuple(hosts))
