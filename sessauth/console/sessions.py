"""The page of all sessions, the living first; filtered and in pages, so that thousands don't hitch."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request

from ..client import SessionReport
from ..errors import PermissionDenied, SessauthError
from ..model.session import Session, SessionStatus
from ..usage.session_usage import SessionObservation
from .parts import ConsoleParts
from .recent import DatedAnswer, leads_elsewhere

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
        read = await self._read(rows)
        for each in rows:
            if each.id in read and read[each.id][0].status is not each.status:
                board.put(read[each.id][0])
        living = sum(each.status is not SessionStatus.ENDED for each in every)
        return "sessions.html", {
            "rows": [
                {"session": session, "observation": observation}
                for each in rows
                for session, observation in (read.get(each.id, (each, None)),)
            ],
            "q": wanted,
            "status": status,
            "statuses": STATUSES,
            "found": len(found),
            "living": living,
            "known": len(every),
            "more": board.more,
            "complete": board.complete,
            "fault": board.fault,
            "at_ms": self._parts.answers.reach.answered_at_ms,
            "first": number * ROWS + 1 if rows else 0,
            "before": _address(wanted, status, number) if number else "",
            "after": _address(wanted, status, number + 2) if number < last else "",
        }

    async def _read(self, rows: list[Session]) -> dict[bytes, tuple[Session, SessionObservation | None]]:
        """Return the living sessions that are shown as they are now, as far as they can be had."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def read(session: Session) -> tuple[Session, SessionObservation | None]:
            async with gate:
                try:
                    report = (await report_of(self._parts, session.id, COUNTS_MS)).value
                    return report.session, report.observation
                except SessauthError as error:
                    # The row is shown without counts; the top of the page says if the server is lost.
                    if not isinstance(error, PermissionDenied) and not leads_elsewhere(error):
                        return session, None
                try:
                    return (await session_of(self._parts, session.id)).value, None
                except SessauthError:
                    return session, None

        living = [each for each in rows if each.status is not SessionStatus.ENDED]
        found = await asyncio.gather(*map(read, living))
        return {session.id: each for session, each in zip(living, found, strict=True)}


async def report_of(parts: ConsoleParts, session_id: bytes, fresh_ms: int) -> DatedAnswer[SessionReport]:
    """Return a session's report with its age. It has the session as it is now, lease included."""
    return await parts.answers.get(
        ("report", session_id), lambda: parts.client.get_report(session_id), fresh_ms
    )


async def session_of(parts: ConsoleParts, session_id: bytes) -> DatedAnswer[Session]:
    """Return a session as it is now, with its numbers of open permits and approvals, and no use."""
    return await parts.answers.get(("session", session_id), lambda: parts.client.get_session(session_id))


def _has(session: Session, status: str) -> bool:
    if status == "living":
        return session.status is not SessionStatus.ENDED
    return status == "all" or session.status.name == status.upper()


def _fits(session: Session, wanted: str) -> bool:
    """Return True if each word begins the id, or is in a text of the session; a label is ``name=value``."""
    labels = [f"{name}={value}" for name, value in session.labels.items()]
    texts = [text.casefold() for text in (session.subject, session.purpose, session.owner, *labels)]
    return all(
        session.id.hex().startswith(word) or any(word in text for text in texts)
        for word in wanted.casefold().split()
    )


def _number(text: str) -> int:
    return max(1, int(text[:9])) if text.isascii() and text.isdecimal() else 1


def _address(wanted: str, status: str, number: int) -> str:
    return "/?" + urlencode({"q": wanted, "status": status, "page": number})
