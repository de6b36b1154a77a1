"""Decisions: live and searched, and why exactly one was made. All of it is from this machine's audit."""

from __future__ import annotations

import asyncio
import heapq
import re
from typing import Any, Final

from starlette.requests import Request

from ..audit.read.decision_context import DecisionContext, load_context
from ..audit.read.logged_decision import LoggedDecision
from ..audit.read.query import Query, find
from ..audit.read.reader import FolderReader
from ..errors import NotFound
from .decision_log import DecisionLog
from .parts import ConsoleParts, id_of

MAX_ROWS: Final = 100
MAX_EVENTS: Final = 50
FIELDS: Final = ("session", "reason", "action", "resource", "verdict")
VERDICTS: Final = ("any", "allowed", "denied", "observe mode alone")
MAX_WANTED_CHARS: Final = 1_100
# A search of the whole log reads all of it.
WHOLE_MS: Final = 15_000
_WHOLE_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


class DecisionPages:
    """The list, and one decision."""

    def __init__(self, parts: ConsoleParts) -> None:
        """Show the decisions that ``parts`` read."""
        self._parts = parts

    async def list(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the template and the values of the list."""
        wanted = {name: request.query_params.get(name, "").strip()[:MAX_WANTED_CHARS] for name in FIELDS}
        if wanted["verdict"] not in VERDICTS:
            wanted["verdict"] = VERDICTS[0]
        log, whole = self._parts.log, request.query_params.get("whole") == "1"
        session = self._session(wanted["session"].lower())
        values: dict[str, Any] = {
            "wanted": wanted,
            "unclear": bool(wanted["session"]) and not session,
            "verdicts": VERDICTS,
            "whole": whole,
            "log": log,
            "rows": [],
            "held": 0,
            "events": list(self._parts.board.events)[: -MAX_EVENTS - 1 : -1],
            "at_ms": self._parts.clock.now_ms() if log else self._parts.answers.reach.answered_at_ms,
        }
        if log is None:
            return "decisions.html", values
        query = _query({**wanted, "session": session or wanted["session"]})
        if whole:
            found = await self._parts.answers.compute(
                ("log", *wanted.values()), lambda: asyncio.to_thread(_search, log, query), WHOLE_MS
            )
            return "decisions.html", {**values, "rows": found.value, "live": False, "at_ms": found.at_ms}
        return "decisions.html", {**values, "rows": log.find(query, MAX_ROWS), "held": len(log.entries)}

    def _session(self, digits: str) -> str:
        """Return the whole id of the session that a text stands for; empty if there is no such one."""
        if _WHOLE_ID.fullmatch(digits):
            return digits
        found = self._parts.board.beginning(digits) if digits else []
        return found[0].hex() if len(found) == 1 else ""

    async def one(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the template and the values of one decision."""
        log, decision_id = self._parts.log, id_of(request, "decision", 16)
        if log is None:
            raise NotFound("no audit is read here, so single decisions are not known")
        reading = FolderReader(log.folder)
        found = await self._parts.answers.compute(
            ("decision", decision_id),
            lambda: asyncio.to_thread(load_context, reading, decision_id),
            WHOLE_MS,
        )
        context: DecisionContext = found.value
        explained = context.explanation.removeprefix("ALLOWED").strip(" ;")
        explained = explained.removeprefix(f"{context.decision.reason.name}:").strip()
        return "decision.html", {
            "context": context,
            "decision": context.decision,
            "record": context.entry.record,
            "explained": explained if explained != context.meaning else "",
            "live": False,
            "at_ms": found.at_ms,
        }


def _query(wanted: dict[str, str]) -> Query:
    verdict = wanted["verdict"]
    return Query(
        session=wanted["session"],
        reason=wanted["reason"].upper(),
        action=wanted["action"],
        resource=wanted["resource"],
        allowed={"allowed": True, "denied": False}.get(verdict),
        observed=verdict == VERDICTS[3],
    )


def _search(log: DecisionLog, query: Query) -> list[LoggedDecision]:
    entries = (each for each in find(FolderReader(log.folder), query) if each.kind == "decision")
    latest = heapq.nlargest(MAX_ROWS, ((each.at_ms, number, each) for number, each in enumerate(entries)))
    return [LoggedDecision.of(each.record) for _, _, each in latest]
