"""Descriptions of UsageService's calls, for both clients and for verifiers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..._fast import _check as kernel
from ...errors import ServerError, UsageError
from ...tokens.inspection import BlockInfo
from ...usage.session_usage import BlockObservation, ObservationAck, ObservationBatch
from ...v1 import usage_service_pb2 as pb
from .._messages import newer_server, session_from_message
from .._results import BlockCensus, Census, HostUsage, Missing, ReportPage, SessionReport, VerifierActivity
from .._transport import RpcRequest
from .._usage_messages import batch_message, read_block, read_late, read_session
from .fields import check_count, check_session_id

MAX_PAGE = 100


def report_observations(batch: ObservationBatch) -> RpcRequest[ObservationAck]:
    """Describe ReportObservations. A batch has a number: the server counts it once if it is sent again."""
    return RpcRequest(
        "UsageService/ReportObservations",
        batch_message(batch),
        pb.ReportObservationsResponse,
        lambda answer: ObservationAck(answer.control_id, answer.wants_usage),
    )


def get_report(session_id: bytes) -> RpcRequest[SessionReport]:
    """Describe GetReport of one session."""
    request = pb.GetReportRequest(session_id=check_session_id(session_id))
    return RpcRequest("UsageService/GetReport", request, pb.GetReportResponse, _report)


def list_reports(purpose: str, page_size: int, page_token: str) -> RpcRequest[ReportPage]:
    """Describe GetReport of a purpose."""
    if not purpose:
        raise UsageError("purpose: must not be empty")
    request = pb.GetReportRequest(
        purpose=purpose, page_size=check_count("page_size", page_size, MAX_PAGE), page_token=page_token
    )
    return RpcRequest("UsageService/GetReport", request, pb.GetReportResponse, _page)


def get_census(session_id: bytes) -> RpcRequest[Census]:
    """Describe GetCensus."""
    request = pb.GetCensusRequest(session_id=check_session_id(session_id))
    return RpcRequest("UsageService/GetCensus", request, pb.GetCensusResponse, _census)


def _report(answer: pb.GetReportResponse) -> SessionReport:
    if len(answer.reports) != 1:
        raise ServerError("the server gave no report", "UNKNOWN_KIND")
    return _page(answer).reports[0]


def _page(answer: pb.GetReportResponse) -> ReportPage:
    try:
        hosts = _hosts(answer.hosts)
        reports = tuple(replace(_read_report(each), hosts=hosts) for each in answer.reports)
        return ReportPage(reports, answer.next_page_token)
    except (ValueError, UsageError) as error:
        raise newer_server(error) from None


def _read_report(message: pb.SessionReport) -> SessionReport:
    layers = [
        kernel.decode_message("Ceiling", layer.SerializeToString())["scopes"] for layer in message.inherited
    ]
    return SessionReport(
        session=session_from_message(message.session),
        inherited=tuple(map(tuple, layers)),
        observation=read_session(message.observation),
        verifiers=tuple(
            VerifierActivity(each.name, each.allowed, each.denied, each.reported_at_ms)
            for each in message.verifiers
        ),
        missing=_missing(message.missing),
    )


def _census(answer: pb.GetCensusResponse) -> Census:
    try:
        return Census(
            tuple(
                BlockCensus(block, each.revoked, _info(block))
                for each in answer.blocks
                for block in (read_block(each.observation),)
            ),
            tuple(map(read_late, answer.late)),
            _missing(answer.missing),
            _hosts(answer.hosts),
        )
    except (ValueError, UsageError) as error:
        raise newer_server(error) from None


def _info(block: BlockObservation) -> BlockInfo | None:
    return BlockInfo.read(block.index, block.block_id, block.payload) if block.payload else None


def _missing(values: Iterable[int]) -> tuple[Missing, ...]:
    # A gap that only a later version knows becomes UNSPECIFIED.
    known = {int(each) for each in Missing}
    return tuple(Missing(value) if value in known else Missing.UNSPECIFIED for value in values)


def _hosts(messages: Iterable[pb.HostUsage]) -> tuple[HostUsage, ...]:
    return tuple(
        HostUsage(
            each.name, each.since_ms, each.reported_at_ms, each.waiting, each.current, each.removed_at_ms
        )
        for each in messages
    )
