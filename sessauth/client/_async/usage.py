"""Calls about the observed use of sessions."""

from __future__ import annotations

from .._requests import usage as usage_calls
from .._results import Census, ReportPage, SessionReport
from .calls import AsyncCalls


class AsyncUsageCalls(AsyncCalls):
    """Calls of UsageService."""

    async def get_report(self, session_id: bytes) -> SessionReport:
        """Return the grants of a session and its use as verifiers observed it, after its end too."""
        return await self._run(usage_calls.get_report(session_id))

    async def list_reports(self, purpose: str, *, page_size: int = 0, page_token: str = "") -> ReportPage:
        """Return one page of the reports of all sessions with a purpose that the caller reaches.

        Args:
            purpose: as the sessions were opened with.
            page_size: 1 to 100; 0: 20. A page of large reports may have fewer.
            page_token: from an earlier page.
        """
        return await self._run(usage_calls.list_reports(purpose, page_size, page_token))

    async def get_census(self, session_id: bytes) -> Census:
        """Return every block of a session's tokens that any verifier observed."""
        return await self._run(usage_calls.get_census(session_id))
