"""UsageService: verifiers tell what they saw of sessions; reports and censuses are read."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from ...client._usage_messages import read_batch
from ...clock import Clock
from ...errors import UsageError
from ...model.session import Session
from ...state.writer.state_writer import StateWriter
from ...v1 import usage_service_pb2 as pb
from .. import request_fields
from ..rpc.access import ISSUER, WORKER
from ..rpc.call import CallContext
from ..status import invalid, refused
from ..usage.messages import census_message
from ..usage.store import UsageStore

UNIX: Final = "unix:"
# What one answer holds at most, in bytes; a client takes 12 MiB.
MAX_ANSWER_BYTES: Final = 8 << 20
MAX_PAGE: Final = 100
DEFAULT_PAGE: Final = 20
SESSIONS_BETWEEN_LOOKS: Final = 256


class UsageService:
    """Answers UsageService from what was told."""

    def __init__(self, log: StateWriter, store: UsageStore, clock: Clock) -> None:
        """Read sessions in ``log``, and what was told of them in ``store``."""
        self._log = log
        self._store = store
        self._clock = clock

    def report_observations(
        self, request: pb.ReportObservationsRequest, call: CallContext
    ) -> pb.ReportObservationsResponse:
        """Add up what a verifier saw. What is wrong with it is refused whole, and changes nothing."""
        verifier = call.principal.name
        if call.principal.role == WORKER:
            if not call.context.peer().startswith(UNIX):
                raise refused("PERMISSION_DENIED", "workers call over the Unix socket")
            verifier = request.verifier
        try:
            batch = read_batch(request, verifier, self._clock.now_ms())
        except UsageError as error:
            field, _, told = str(error).partition(": ")
            raise invalid(field, told) from error
        call.raise_if_expired()
        told_back = self._store.report_observations(batch)
        return pb.ReportObservationsResponse(
            control_id=told_back.control_id, wants_usage=told_back.wants_usage
        )

    def get_report(self, request: pb.GetReportRequest, call: CallContext) -> pb.GetReportResponse:
        """Return the report of a session, or one page of those of a purpose."""
        if bool(request.session_id) == bool(request.purpose):
            raise invalid("session_id", "state either session_id or purpose")
        if request.session_id:
            return pb.GetReportResponse(reports=[self._report(request.session_id, call)])
        if request.page_size > MAX_PAGE:
            raise invalid("page_size", f"must be 1 to {MAX_PAGE}, not {request.page_size}")
        size = request.page_size or DEFAULT_PAGE
        found = self._log.list_sessions(
            request_fields.page_start(request.page_token), size + 1, _with_purpose(request.purpose, call)
        )
        answer = pb.GetReportResponse()
        weight = 0
        for number, session in enumerate(found):
            report = self._report(session.id, call) if number < size else None
            weight += 0 if report is None else report.ByteSize()
            if report is None or (number and weight > MAX_ANSWER_BYTES):
                answer.next_page_token = request_fields.page_token(found[number - 1].id)
                break
            answer.reports.append(report)
        return answer

    def get_census(self, request: pb.GetCensusRequest, call: CallContext) -> pb.GetCensusResponse:
        """Return every block that was seen of a session's tokens."""
        report = self._report(request.session_id, call)
        return census_message(report, partial(self._log.revoked, report.session.id))

    def methods(self) -> Mapping[str, Callable[..., object]]:
        """Return the RPCs of the service by name."""
        return {
            "ReportObservations": self.report_observations,
            "GetReport": self.get_report,
            "GetCensus": self.get_census,
        }

    def _report(self, session_id: bytes, call: CallContext) -> pb.SessionReport:
        call.raise_if_expired()
        report = self._store.report(request_fields.session_id(session_id))
        if report is None or not _reaches(call, report.session.owner):
            raise refused("NOT_FOUND", "session_id: no such session, and nothing is known of one")
        return report


def _reaches(call: CallContext, owner: str) -> bool:
    return call.principal.role != ISSUER or call.principal.name == owner


def _with_purpose(purpose: str, call: CallContext) -> Callable[[Session], bool]:
    seen = itertools.count(1)

    def matches(session: Session) -> bool:
        if next(seen) % SESSIONS_BETWEEN_LOOKS == 0:
            call.raise_if_expired()
        return session.purpose == purpose and _reaches(call, session.owner)

    return matches
