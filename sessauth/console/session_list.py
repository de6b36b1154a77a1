"""The page of all sessions: the newest first, or those with the most denied calls, or the most calls.

The server ranks by the calls of the last ten minutes (``ListActivity``), and the board keeps the order of
opening. So no page sorts sessions, and it reads only those that it shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request

from ..client import Activity
from ..errors import PermissionDenied, SessauthError
from ..model.session import Session, SessionStatus
from ..usage.session_usage import SessionObservation
from .parts import Handlers
from .recent import DatedAnswer, leads_elsewhere
from .sessions import AT_ONCE, MINUTE_MS, CallCurve, session_of

ROWS: Final = 25
# Sessions that the server ranks for a page that is sorted by calls, and for the strip above the others.
RANKED: Final = 100
MOST_DENIED: Final = 5
# Counts of calls come from verifiers' reports, which are seconds apart themselves.
COUNTS_MS: Final = 3_000
MAX_WANTED_CHARS: Final = 200
STATUSES: Final = ("living", "suspended", "ended", "all")
SORTS: Final = ("newest", "denied", "calls")


class SessionsPage(Handlers):
    """The page of all sessions; filtered and in pages, so that thousands don't hitch."""

    async def view(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the template and its values."""
        query, board = request.query_params, self._parts.board
        wanted = query.get("q", "").strip()[:MAX_WANTED_CHARS]
        status = _choice(query.get("status", ""), STATUSES, "all")
        sort = _choice(query.get("sort", ""), SORTS, SORTS[0])
        # Allowed and denied calls of the last ten minutes by session, where these are what is sorted by.
        counts: dict[bytes, tuple[int, int]] = {}
        found: Sequence[Session]
        newest = sort == SORTS[0]
        ranking = ("denied", MOST_DENIED, "") if newest else (sort, RANKED, wanted)
        # The strip is asked for while the rows are read.
        asked = asyncio.ensure_future(self._activity(*ranking))
        await asyncio.sleep(0)
        if newest:
            found = board.find(wanted, status)
        else:
            activity, _ = await asked
            ranked = activity.value.sessions if activity else ()
            counts = {each.session.id: (sum(each.allowed), sum(each.denied)) for each in ranked}
            found = [each.session for each in ranked if _has_status(each.session, status)]
        last = max(0, (len(found) - 1) // ROWS)
        number = min(_number(query.get("page", "1")) - 1, last)
        rows = found[number * ROWS : (number + 1) * ROWS]
        read = await self._read(rows)
        activity, uncounted = await asked
        for each in rows:
            if each.id in read and read[each.id][0].status is not each.status:
                board.put(read[each.id][0])
        return "sessions.html", {
            "rows": [
                {
                    "session": session,
                    "observation": observation,
                    "counts": counts.get(each.id) if counts else _counts_of_life(observation),
                }
                for each in rows
                for session, observation in (read.get(each.id, (each, None)),)
            ],
            "q": wanted,
            "status": status,
            "statuses": STATUSES,
            "sort": sort,
            "sorts": SORTS,
            "most_denied": list(_most_denied(activity)) if activity and newest else [],
            "gaps": activity.value.gaps if activity else (),
            "uncounted": uncounted,
            "found": len(found),
            "living": board.living,
            "known": board.known,
            "more": board.more,
            "complete": board.complete,
            "fault": board.fault,
            "at_ms": self._parts.answers.reach.answered_at_ms,
            "first": number * ROWS + 1 if rows else 0,
            "before": _address(wanted, status, sort, number) if number else "",
            "after": _address(wanted, status, sort, number + 2) if number < last else "",
        }

    async def _activity(self, order: str, limit: int, words: str) -> tuple[DatedAnswer[Activity] | None, str]:
        """Return the most active sessions; None and the cause if the server does not tell."""
        parts = self._parts
        try:
            answer = await parts.answers.get(
                ("activity", order, limit, words),
                lambda: parts.client.list_activity(order=order, limit=limit, words=words),
                COUNTS_MS,
            )
        except SessauthError as error:
            return None, str(error)
        return answer, ""

    async def _read(self, rows: Sequence[Session]) -> dict[bytes, tuple[Session, SessionObservation | None]]:
        """Return the living sessions that are shown as they are now, as far as they can be had."""
        parts = self._parts
        living = [each for each in rows if each.status is not SessionStatus.ENDED]
        if not living:
            return {}
        ids = [each.id for each in living]
        # What the board knows is a part of the key: after an event no answer from before it is shown.
        key = ("reports", *((each.id, each.status, each.epoch) for each in living))
        try:
            reports = await parts.answers.get(key, lambda: parts.client.get_reports(ids), COUNTS_MS)
            return {each.session.id: (each.session, each.observation) for each in reports.value}
        except SessauthError as error:
            # The rows are shown without counts; the top of the page says if the server is lost.
            if not isinstance(error, PermissionDenied) and not leads_elsewhere(error):
                return {}
        gate = asyncio.Semaphore(AT_ONCE)

        async def read(session: Session) -> Session:
            async with gate:
                try:
                    return (await session_of(parts, session.id)).value
                except SessauthError:
                    return session

        return {each.id: (each, None) for each in await asyncio.gather(*map(read, living))}


def _most_denied(activity: DatedAnswer[Activity]) -> Iterator[tuple[Session, CallCurve]]:
    """Yield the sessions that were denied a call, the most denied first, with their calls by minute."""
    for each in activity.value.sessions:
        if any(each.denied):
            begun_ms = activity.at_ms - activity.value.elapsed_ms - MINUTE_MS * (len(each.denied) - 1)
            yield each.session, CallCurve(begun_ms, list(zip(each.allowed, each.denied, strict=True)))


def _counts_of_life(observation: SessionObservation | None) -> tuple[int, int] | None:
    return (observation.allowed, observation.denied) if observation else None


def _has_status(session: Session, status: str) -> bool:
    ended = session.status is SessionStatus.ENDED
    return status == "all" or (not ended if status == "living" else session.status.name == status.upper())


def _choice(text: str, choices: Sequence[str], otherwise: str) -> str:
    return text if text in choices else otherwise


def _number(text: str) -> int:
    return max(1, int(text[:9])) if text.isascii() and text.isdecimal() else 1


def _address(wanted: str, status: str, sort: str, number: int) -> str:
    return "/?" + urlencode({"q": wanted, "status": status, "sort": sort, "page": number})
