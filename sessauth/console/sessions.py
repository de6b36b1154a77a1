"""The page of all sessions, the living first; filtered and in pages, so that thousands don't hitch."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request

from ..client import SessionReport
from ..errors import SessauthError
from ..model.session import Session, SessionStatus
from .parts import ConsoleParts
from .recent import DatedAnswer

ROWS: Final = 25
# Counts of calls come from verifiers' reports, which are seconds apart themselves.
COUNTS_MS: Final = 3_000
MAX_WANTED_CHARS: Final = 200
_AT_ONCE: Final = 8
STATUSES: Final = ("living", "suspended", "ended", "all")


class SessionsPage:
    """The view of the page."""

    def __init__(self, parts: ConsoleParts) -> None:
        """Show what ``parts`` know."""
        self._parts = parts

    async def view(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the template and its values."""
        wanted = request.query_params.get("q", "").strip()[:MAX_WANTED_CHARS]
        status = request.query_params.get("status", "all")
        status = status if status in STATUSES else "all"
        board = self._parts.board
        every = board.ordered()
        found = [each for each in every if _has(each, status) and _fits(each, wanted)]
        last = max(0, (len(found) - 1) // ROWS)
        number = min(_number(request.query_params.get("page", "1")) - 1, last)
        rows = found[number * ROWS : (number + 1) * ROWS]
        reports = await self._reports(rows)
        living = sum(each.status is not SessionStatus.ENDED for each in every)
        return "sessions.html", {
            "rows": [
                {
                    "session": board.current(report.session) if report else each,
                    "observation": report.observation if report else None,
                }
                for each in rows
                for report in (reports.get(each.id),)
            ],
            "q": wanted,
            "status": status,
            "statuses": STATUSES,
            "found": len(found),
            "living": living,
            "known": len(every),
            "more": board.more,
            "complete": board.complete,
            "at_ms": self._parts.answers.reach.answered_at_ms,
            "first": number * ROWS + 1 if rows else 0,
            "before": _address(wanted, status, number) if number else "",
            "after": _address(wanted, status, number + 2) if number < last else "",
        }

    async def _reports(self, rows: list[Session]) -> dict[bytes, SessionReport]:
        """Return the reports of the living sessions that are shown, as far as they can be had."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def report(session: Session) -> SessionReport | None:
            async with gate:
                try:
                    found = await report_of(self._parts, session.id, COUNTS_MS)
                    return found.value
                except SessauthError:
                    # The row is shown without counts; the top of the page says if the server is lost.
                    return None

        asked = [each for each in rows if each.status is not SessionStatus.ENDED]
        found = await asyncio.gather(*map(report, asked))
        return {session.id: each for session, each in zip(asked, found, strict=True) if each}


async def report_of(parts: ConsoleParts, session_id: bytes, fresh_ms: int) -> DatedAnswer[SessionReport]:
    """Return a session's report with its age. It has the session as it is now, lease included."""
    return await parts.answers.get(
        ("report", session_id), lambda: parts.client.get_report(session_id), fresh_ms
    )


def _has(session: Session, status: str) -> bool:
    if status == "living":
        return session.status is not SessionStatus.ENDED
    return status == "all" or session.status.name == status.upper()


def _fits(session: Session, wanted: str) -> bool:
    if not wanted:
        return True
    texts = (session.subject, session.purpose, session.owner, *session.labels.values())
    return session.id.hex().startswith(wanted.lower()) or any(wanted in text for text in texts)


def _number(text: str) -> int:
    return max(1, int(text[:9])) if text.isascii() and text.isdecimal() else 1


def _address(wanted: str, status: str, number: int) -> str:
    return "/?" + urlencode({"q": wanted, "status": status, "page": number})
