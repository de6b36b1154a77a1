"""ClusterService: the position of a server's host in the log."""

from __future__ import annotations

from ...clock import Clock, SystemClock
from ...state.lmdb.cluster_rows import read_position
from ...state.writer.state_writer import StateWriter
from ...v1 import cluster_service_pb2 as pb
from ..cluster.part import ClusterPart
from ..rpc.call import CallContext
from ..status import refused
from .base import Service


class ClusterService(Service):
    """Answers ClusterService from the folder, and by its part in the cluster."""

    descriptor = pb.DESCRIPTOR.services_by_name["ClusterService"]

    def __init__(self, log: StateWriter, part: ClusterPart, clock: Clock | None = None) -> None:
        """Answer by the process's ``part``; a single host, which has none, refuses."""
        self._log = log
        self._part = part
        self._clock = clock or SystemClock()

    def get_standing(self, request: pb.GetStandingRequest, call: CallContext) -> pb.GetStandingResponse:
        """Return the standing of this host."""
        part = self._required()
        with self._log.source().rows() as rows:
            head, position = rows.head(), read_position(rows)
        alarm = part.alarm
        answer = pb.GetStandingResponse(
            cluster_id=head.cluster_id,
            incarnation=head.incarnation,
            host=part.host,
            revision=head.revision,
            leading=self._log.leads,
            fresh=alarm is None and not self._log.stale,
            alarm="" if alarm is None else alarm.fault,
            alarm_message="" if alarm is None else str(alarm),
            brake=self._log.braked,
            cluster_brake=self._log.cluster_brake,
            hosts=self._hosts(part),
            refused_by=", ".join(part.refused_by),
        )
        if position is not None:
            answer.number, answer.digest, answer.term = position.number, position.digest, position.term
        return answer

    def _hosts(self, part: ClusterPart) -> list[pb.HostStanding]:
        reports = {} if part.feed is None else part.feed.hosts.by_host()
        now_ms, hosts = self._clock.steady_ms(), []
        for record in self._log.hosts():
            standing = pb.HostStanding(name=record.name, address=record.address)
            report = reports.get((record.principal, record.name))
            if report is not None:
                standing.reported, standing.age_ms = True, max(0, now_ms - report.at_ms)
                standing.number, standing.alarm = report.applied, report.alarm
            hosts.append(standing)
        return hosts

    def _required(self) -> ClusterPart:
        if self._part.carried is None:
            raise refused("NOT_IN_CLUSTER", "this server is a single host")
        return self._part
