"""The page of one session: its grants and their use, its tokens and children, its decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request

from ..audit.read.query import Query
from ..client import BlockCensus, Census, SessionEvent, SessionReport
from ..errors import PermissionDenied, SessauthError
from ..limits import MAX_BLOCKS
from ..model.session import Session, SessionStatus
from ..scopes.scope import Scope
from ..scopes.value import value_of, value_to_text
from ..usage.generalize import Fit
from ..usage.report import LayerUse, UsageReport
from .parts import ConsoleParts
from .recent import FRESH_MS, DatedAnswer
from .sessions import report_of

MAX_DECISIONS: Final = 25
MAX_EVENTS: Final = 12
MAX_BLOCK_ROWS: Final = 60
MAX_CHILDREN: Final = 60
# Suggestions are computed anew so often at most.
USAGE_MS: Final = 4_000
CENSUS_MS: Final = 2_000


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """All that is known of a session: from the server, from events, from the audit of this machine.

    ``usage`` is None where the server does not collect what calls looked like.
    """

    session: Session
    report: SessionReport
    census: Census
    usage: UsageReport | None
    children: Sequence[Session]
    at_ms: int


async def facts_of(parts: ConsoleParts, session_id: bytes) -> SessionFacts:
    """Return what is known of a session. Raises what the client raises."""
    report, census = await asyncio.gather(
        report_of(parts, session_id, FRESH_MS),
        parts.answers.get(("census", session_id), lambda: _census(parts, session_id), CENSUS_MS),
    )
    parts.board.put(report.value.session)
    usage: DatedAnswer[UsageReport | None] = await parts.answers.get(
        ("usage", session_id), lambda: asyncio.to_thread(_usage, report.value, parts.clock.now_ms()), USAGE_MS
    )
    children = parts.board.descendants(session_id)
    session = parts.board.current(report.value.session)
    return SessionFacts(session, report.value, census.value, usage.value, children, report.at_ms)


async def _census(parts: ConsoleParts, session_id: bytes) -> Census:
    """Return the census of a session; an empty one for an issuer, who may not read it."""
    try:
        return await parts.client.get_census(session_id)
    except PermissionDenied:
        return Census((), (), ())


def _usage(report: SessionReport, now_ms: int) -> UsageReport | None:
    usage = report.usage
    return None if usage is None else UsageReport.of([(report.granted, usage)], now_ms=now_ms)


class OneSession:
    """The view of the page."""

    def __init__(self, parts: ConsoleParts) -> None:
        """Show what ``parts`` know."""
        self._parts = parts

    async def view(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the template and its values."""
        parts = self._parts
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
            "observation": facts.report.observation,
            "verifiers": facts.report.verifiers,
            "missing": [each.name for each in facts.report.missing],
            "facts": [
                (each.name, value_to_text(value_of(each.value)), each.visible) for each in session.facts
            ],
            "layers": list(layer_rows(facts)),
            "usage": facts.usage,
            "children": facts.children[:MAX_CHILDREN],
            "more_children": max(0, len(facts.children) - MAX_CHILDREN),
            "depths": depths(session_id, facts.children),
            "blocks": list(block_rows(facts.census))[:MAX_BLOCK_ROWS],
            "more_blocks": max(0, len(facts.census.blocks) - MAX_BLOCK_ROWS),
            "late": facts.census.late,
            "decisions": decisions,
            "log": parts.log,
            "events": events[:MAX_EVENTS],
            "ended_by": ended_by(events),
        }


def ended_by(events: Sequence[SessionEvent]) -> str:
    """Return the principal that ended or suspended a session last, as far as events say it; else empty."""
    kinds = ("ENDED", "SUSPENDED", "NARROWED", "RESUMED")
    return next((event.actor for event in events if event.kind.name in kinds), "")


def layer_rows(facts: SessionFacts) -> Iterator[dict[str, Any]]:
    """Yield each granted list of scopes with its use; without usage only what is granted."""
    if facts.usage is not None:
        yield from (_used_layer(layer) for layer in facts.usage.layers)
        return
    for number, layer in enumerate(facts.report.granted.ceilings):
        scopes = [{"text": str(Scope.from_record(each)), "calls": None, "enough": ()} for each in layer]
        yield {"id": "", "title": f"ceiling, layer {number}", "scopes": scopes, "most": 0, "suggested": False}


def _used_layer(layer: LayerUse) -> dict[str, Any]:
    suggestion = layer.suggestion(Fit.KINDS)
    parts = {part.index: part for part in suggestion.parts}
    scopes = []
    for index, use in enumerate(layer.scopes):
        part = parts.get(index)
        scopes.append(
            {
                "text": str(use.scope),
                "calls": use.span.calls,
                "last_ms": use.span.last_ms,
                "outcome": part.outcome if part else "",
                "enough": [str(each) for each in part.scopes] if part else (),
            }
        )
    return {
        "id": layer.layer.id,
        "title": "ceiling" if layer.layer.kind == "ceiling" else "minted into tokens",
        "ceiling": layer.layer.kind == "ceiling",
        "scopes": scopes,
        "most": max((use.span.calls for use in layer.scopes), default=0),
        "suggested": bool(suggestion.scopes) and any(part.outcome != "kept" for part in suggestion.parts),
        "why": suggestion.why,
    }


def block_rows(census: Census) -> Iterator[dict[str, Any]]:
    """Yield the blocks of a session's tokens as a tree: parents before their children, with their depth."""
    known = {block.observation.block_id for block in census.blocks}
    tops = [block for block in census.blocks if block.observation.parent_id not in known]
    left = dict.fromkeys(known)

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
            for child in census.children(block.observation.block_id):
                yield from below(child, depth + 1)

    for block in (*tops, *census.blocks):
        yield from below(block, 0)


def depths(session_id: bytes, children: Sequence[Session]) -> dict[bytes, int]:
    """Return how far below a session each of its descendants is; parents come before their children."""
    found = {session_id: 0}
    for child in children:
        found[child.id] = found.get(child.parent_id, 0) + 1
    return found


async def children_facts(parts: ConsoleParts, children: Sequence[Session]) -> list[Census]:
    """Return the censuses of sessions, as far as they can be had."""
    found = []
    for child in children:
        try:
            found.append(await parts.client.get_census(child.id))
        except SessauthError:
            # A preview without a child's tokens says how many children there are all the same.
            continue
    return found
