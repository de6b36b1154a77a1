"""The page of all sessions, and that of one: its grants and their use, its tokens, children and decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ..audit.read.query import Query
from ..client import BlockCensus, Census, EventKind, Missing, SessionEvent, SessionReport
from ..errors import PermissionDenied, Rejected, SessauthError, Unavailable
from ..limits import MAX_BLOCKS
from ..model.receipt import SignedReceipt
from ..model.session import Session, SessionStatus
from ..scopes.safe_text import visible
from ..scopes.scope import Scope
from ..scopes.value import Value, value_of, value_to_text
from ..usage.report import UsageReport
from ..usage.session_usage import SessionObservation
from .pages import stated, used_layer
from .parts import ConsoleParts, Handlers
from .recent import FRESH_MS, DatedAnswer, leads_elsewhere

ROWS: Final = 25
# Counts of calls come from verifiers' reports, which are seconds apart themselves.
COUNTS_MS: Final = 3_000
MAX_WANTED_CHARS: Final = 200
_AT_ONCE: Final = 8
STATUSES: Final = ("living", "suspended", "ended", "all")


class SessionsPage(Handlers):
    """The page of all, the living first; filtered and in pages, so that thousands don't hitch."""

    async def view(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the template and its values."""
        wanted = request.query_params.get("q", "").strip()[:MAX_WANTED_CHARS]
        status = request.query_params.get("status", "all")
        status = status if status in STATUSES else "all"
        board = self._parts.board
        found = board.find(wanted, status)
        last = max(0, (len(found) - 1) // ROWS)
        number = min(_number(request.query_params.get("page", "1")) - 1, last)
        rows = found[number * ROWS : (number + 1) * ROWS]
        read = await self._read(rows)
        for each in rows:
            if each.id in read and read[each.id][0].status is not each.status:
                board.put(read[each.id][0])
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
            "living": board.living,
            "known": board.known,
            "more": board.more,
            "complete": board.complete,
            "fault": board.fault,
            "at_ms": self._parts.answers.reach.answered_at_ms,
            "first": number * ROWS + 1 if rows else 0,
            "before": _address(wanted, status, number) if number else "",
            "after": _address(wanted, status, number + 2) if number < last else "",
        }

    async def _read(self, rows: Sequence[Session]) -> dict[bytes, tuple[Session, SessionObservation | None]]:
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


def _number(text: str) -> int:
    return max(1, int(text[:9])) if text.isascii() and text.isdecimal() else 1


def _address(wanted: str, status: str, number: int) -> str:
    return "/?" + urlencode({"q": wanted, "status": status, "page": number})


MAX_DECISIONS: Final = 25
MAX_EVENTS: Final = 12
MAX_BLOCK_ROWS: Final = 60
MAX_CHILDREN: Final = 60
# Suggestions are computed again after this time at the earliest.
USAGE_MS: Final = 4_000
CENSUS_MS: Final = 2_000
# Answers to forget when a session was changed here.
CHANGING: Final = ("session", "receipt", "report", "census", "usage")
_CHANGES: Final = frozenset(
    {EventKind.NARROWED, EventKind.FACTS_CHANGED, EventKind.SUSPENDED, EventKind.RESUMED, EventKind.REVOKED}
)
# Of a session whose tokens this console may not, or can't, learn.
NO_CENSUS: Final = Census((), (), ())


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """All that is known of a session: from the server, from events, from the audit of this machine.

    ``usage`` is None if the server does not collect the contents of calls. ``elsewhere`` tells who has the
    use of the session, if this server does not: its observation and census are empty then.
    """

    session: Session
    report: SessionReport
    census: Census
    usage: UsageReport | None
    children: Sequence[Session]
    at_ms: int
    elsewhere: str = ""


async def facts_of(parts: ConsoleParts, session_id: bytes) -> SessionFacts:
    """Return the facts of a session. Raises the client's errors."""
    elsewhere = ""
    try:
        report, dated_census = await asyncio.gather(
            report_of(parts, session_id, FRESH_MS),
            parts.answers.get(("census", session_id), lambda: _census(parts, session_id), CENSUS_MS),
        )
        census = dated_census.value
    except Unavailable as error:
        if not leads_elsewhere(error):
            raise
        report, census, elsewhere = await _without_use(parts, session_id), NO_CENSUS, str(error)
    parts.board.put(report.value.session)
    usage: DatedAnswer[UsageReport | None] = await parts.answers.compute(
        ("usage", session_id), lambda: asyncio.to_thread(_usage, report.value, parts.clock.now_ms()), USAGE_MS
    )
    children = parts.board.descendants(session_id)
    session = report.value.session
    return SessionFacts(session, report.value, census, usage.value, children, report.at_ms, elsewhere)


async def _without_use(parts: ConsoleParts, session_id: bytes) -> DatedAnswer[SessionReport]:
    """Return the report of a server that does not lead: the grants, and no use."""
    found = await session_of(parts, session_id)
    above = [(await session_of(parts, each.id)).value for each in parts.board.ancestors(found.value)]
    inherited = tuple(layer for each in above for layer in each.ceilings)
    unused = SessionObservation(session_id)
    return DatedAnswer(SessionReport(found.value, inherited, unused, (), (Missing.HOST,)), found.at_ms)


async def _census(parts: ConsoleParts, session_id: bytes) -> Census:
    """Return the census of a session; an empty one for an issuer, who may not read it."""
    try:
        return await parts.client.get_census(session_id)
    except PermissionDenied:
        return NO_CENSUS


def _usage(report: SessionReport, now_ms: int) -> UsageReport | None:
    usage = report.usage
    return None if usage is None else UsageReport.of([(report.granted, usage)], now_ms=now_ms)


async def one_session(parts: ConsoleParts, request: Request) -> tuple[str, dict[str, Any]]:
    """Return the template of a session's page, and its values."""
    session_id = parts.session_id(request)
    facts = await facts_of(parts, session_id)
    session = facts.session
    query = Query(session=session_id.hex(), action="*")
    decisions = parts.log.find(query, MAX_DECISIONS) if parts.log else []
    events = parts.board.events_of(session_id)
    return "session.html", {
        "session": session,
        "over": session.status is SessionStatus.ENDED,
        "at_ms": facts.at_ms,
        "elsewhere": facts.elsewhere,
        "observation": facts.report.observation,
        "verifiers": facts.report.verifiers,
        "missing": [each.name for each in facts.report.missing],
        "facts": [(each.name, _fact_text(value_of(each.value)), each.visible) for each in session.facts],
        "layers": list(layer_rows(facts)),
        "usage": facts.usage,
        "children": facts.children[:MAX_CHILDREN],
        "more_children": max(0, len(facts.children) - MAX_CHILDREN),
        "depths": depths(session_id, facts.children),
        "blocks": list(islice(block_rows(facts.census), MAX_BLOCK_ROWS)),
        "more_blocks": max(0, len(facts.census.blocks) - MAX_BLOCK_ROWS),
        "late": facts.census.late,
        "decisions": decisions,
        "log": parts.log,
        "events": events[:MAX_EVENTS],
        "actor": actor_of(session, events),
    }


def _fact_text(value: Value) -> str:
    """Return a fact's value to be shown as it is: a text in quotes, to be distinct from other types."""
    return visible(value) if isinstance(value, str) else stated(value_to_text(value))


def actor_of(session: Session, events: Sequence[SessionEvent]) -> str:
    """Return the principal of a session's latest change; empty if no event names one.

    A later change may have no event here yet, or none at all. A session that ends by itself has no such
    principal.
    """
    for event in events:
        if session.ended_at_ms:
            made = event.kind is EventKind.ENDED and event.at_ms == session.ended_at_ms
        else:
            # The row of a session that is suspended with one above it has not changed.
            inherited = event.kind is EventKind.SUSPENDED and event.session_id == session.inherited_from
            made = event.kind in _CHANGES and (event.revision == session.revision or inherited)
        if made:
            return event.actor
    return ""


def layer_rows(facts: SessionFacts) -> Iterator[dict[str, Any]]:
    """Yield each granted list of scopes with its use; without usage only the grants."""
    if facts.usage is not None:
        yield from (used_layer(layer) for layer in facts.usage.layers)
        return
    for number, layer in enumerate(facts.report.granted.ceilings):
        scopes = [{"text": str(Scope.from_record(each)), "calls": None, "enough": ()} for each in layer]
        yield {"id": "", "title": f"ceiling, layer {number}", "scopes": scopes, "most": 0, "suggested": False}


def block_rows(census: Census) -> Iterator[dict[str, Any]]:
    """Yield the blocks of a session's tokens as a tree: parents before their children, with their depth."""
    known = {block.observation.block_id for block in census.blocks}
    tops = [block for block in census.blocks if block.observation.parent_id not in known]
    left = dict.fromkeys(known)
    children: dict[bytes, list[BlockCensus]] = {}
    for block in census.blocks:
        children.setdefault(block.observation.parent_id, []).append(block)

    def below(block: BlockCensus, depth: int) -> Iterator[dict[str, Any]]:
        if block.observation.block_id not in left:
            return
        del left[block.observation.block_id]
        info = block.info
        yield {
            "depth": depth,
            "observation": block.observation,
            "label": info.label if info else "",
            "scopes": [str(scope) for scope in info.scopes] if info else [],
            "bound": bool(info and info.proof_key),
            "revoked": block.revoked,
        }
        if depth < MAX_BLOCKS:
            for child in children.get(block.observation.block_id, ()):
                yield from below(child, depth + 1)

    for block in (*tops, *census.blocks):
        yield from below(block, 0)


def depths(session_id: bytes, children: Sequence[Session]) -> dict[bytes, int]:
    """Return how far below a session each of its descendants is; parents come before their children."""
    found = {session_id: 0}
    for child in children:
        found[child.id] = found.get(child.parent_id, 0) + 1
    return found


async def read_each(parts: ConsoleParts, sessions: Sequence[Session]) -> list[tuple[Session, Census] | None]:
    """Return each of some sessions as it is now, with its census; None for one that can't be read."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def read(child: Session) -> tuple[Session, Census] | None:
        async with gate:
            try:
                session = await session_of(parts, child.id)
            except SessauthError:
                return None
            try:
                census = await parts.answers.get(
                    ("census", child.id), lambda: _census(parts, child.id), CENSUS_MS
                )
            except SessauthError:
                return session.value, NO_CENSUS
            return session.value, census.value

    return await asyncio.gather(*map(read, sessions))


MEANS: Final = {
    "CLOSED": "No verifier that was registered can allow a call of it any more.",
    "PARTIAL": "Not all have acknowledged the end yet, or permits are open.",
    "UNKNOWN": "Who was registered when it ended can't be known.",
}
# The word for a receipt of a session that has not ended.
_LIVES: Final = "WRONG_STATUS"


class ClosurePage(Handlers):
    """The page of a receipt, and the receipt as a file."""

    async def view(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the template and its values."""
        parts = self._parts
        session_id = parts.session_id(request)
        found = await session_of(parts, session_id)
        session = found.value
        values: dict[str, Any] = {
            "session": session,
            "receipt": None,
            "at_ms": found.at_ms,
            "means": "",
            "refusal": "",
            "actor": actor_of(session, parts.board.events_of(session_id)),
        }
        try:
            signed = await self._receipt(session_id)
        except (Rejected, Unavailable) as error:
            # Of a session that lives the page says so, and turns when the session ends.
            if not isinstance(error, Rejected) and not leads_elsewhere(error):
                raise
            if not isinstance(error, Rejected) or error.word != _LIVES:
                values["refusal"] = str(error)
            return "closure.html", values
        receipt = signed.unverified
        values |= {
            "receipt": receipt,
            "means": MEANS.get(receipt.state.name, ""),
            "at_ms": receipt.made_at_ms,
        }
        return "closure.html", values

    async def download(self, request: Request) -> Response:
        """Answer with the signed receipt in its text form, as a file."""
        try:
            session_id = self._parts.session_id(request)
            signed = await self._receipt(session_id)
        except SessauthError as error:
            return self._parts.live.failure(request, error)
        name = f"closure-{session_id.hex()}.receipt"
        return PlainTextResponse(
            signed.text + "\n", headers={"content-disposition": f'attachment; filename="{name}"'}
        )

    async def _receipt(self, session_id: bytes) -> SignedReceipt:
        parts = self._parts
        answer = await parts.answers.get(
            ("receipt", session_id), lambda: parts.client.get_receipt(session_id)
        )
        return answer.value
