"""What both clients can do about how sessions were used, blocking and awaited."""

from __future__ import annotations

from typing import TypeVar

from ..usage.observations import ObservationAck, ObservationBatch
from ._reports import Census, ReportPage, SessionReport
from ._requests import usage as usage_calls
from ._transport import RpcRequest

T = TypeVar("T")


class UsageCalls:
    """The blocking calls; a client mixes them in."""

    def _run(self, call: RpcRequest[T]) -> T:
        raise NotImplementedError

    def get_report(self, session_id: bytes) -> SessionReport:
        """Return what a session was granted and what verifiers saw of it, after its end too."""
        return self._run(usage_calls.get_report(session_id))

    def list_reports(self, purpose: str, *, page_size: int = 0, page_token: str = "") -> ReportPage:
        """Return one page of the reports of all sessions with a purpose that the caller reaches.

        Args:
            purpose: as the sessions were opened with.
            page_size: 1 to 100; 0: 20. A page of large reports may have fewer.
            page_token: from an earlier page.
        """
        return self._run(usage_calls.list_reports(purpose, page_size, page_token))

    def get_census(self, session_id: bytes) -> Census:
        """Return every block of a session's tokens that any verifier saw."""
        return self._run(usage_calls.get_census(session_id))

    def tell(self, telling: ObservationBatch) -> ObservationAck:
        """Tell what a verifier saw; for gateways that embed one, which do it by themselves."""
        return self._run(usage_calls.tell(telling))


class AsyncUsageCalls:
    """The awaited calls; a client mixes them in."""

    async def _run(self, call: RpcRequest[T]) -> T:
        raise NotImplementedError

    async def get_report(self, session_id: bytes) -> SessionReport:
        """Return what a session was granted and what verifiers saw of it, after its end too."""
        return await self._run(usage_calls.get_report(session_id))

    async def list_reports(self, purpose: str, *, page_size: int = 0, page_token: str = "") -> ReportPage:
        """Return one page of the reports of all sessions with a purpose that the caller reaches."""
        return await self._run(usage_calls.list_reports(purpose, page_size, page_token))

    async def get_census(self, session_id: bytes) -> Census:
        """Return every block of a session's tokens that any verifier saw."""
        return await self._run(usage_calls.get_census(session_id))

    async def tell(self, telling: ObservationBatch) -> ObservationAck:
        """Tell what a verifier saw; for gateways that embed one, which do it by themselves."""
        return await self._run(usage_calls.tell(telling))
