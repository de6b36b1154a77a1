"""The page of a session: its grants and their use, its tokens, decisions and life."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from starlette.requests import Request

from ..audit.read.query import Entry, LoggedDecision
from ..client import BlockCensus, Census, EventKind, Missing, SessionEvent, SessionReport
from ..errors import PermissionDenied, SessauthError, Unavailable
from ..limits import MAX_BLOCKS
from ..model.change import Change, ChangeKind
from ..model.receipt import SignedReceipt
from ..model.session import LOGINS_OWNER, PROVIDER_LABEL, SUBJECT_LABEL, Session, SessionStatus
from ..scopes.safe_text import visible
from ..scopes.scope import Scope
from ..scopes.value import Value, value_of, value_to_text
from ..usage.report import UsageReport
from ..usage.session_usage import SessionObservation
from .decision_log import SessionRecords
from .pages import stated, used_layer
from .parts import ConsoleParts
from .recent import FRESH_MS, DatedAnswer, leads_elsewhere

# Sessions that are asked about at a time, where many are.
AT_ONCE: Final = 8


async def report_of(parts: ConsoleParts, session_id: bytes, fresh_ms: int) -> DatedAnswer[SessionReport]:
    """Return a session's report with its age. It has the session as it is now, lease included."""
    return await parts.answers.get(
        ("report", session_id), lambda: parts.client.get_report(session_id), fresh_ms
    )


async def session_of(parts: ConsoleParts, session_id: bytes) -> DatedAnswer[Session]:
    """Return a session as it is now, with its numbers of open permits and approvals, and no use."""
    return await parts.answers.get(("session", session_id), lambda: parts.client.get_session(session_id))


MAX_DECISIONS: Final = 25
MAX_STEPS: Final = 60
VERDICTS: Final = ("all", "denied", "allowed")
# Interval at which the whole log is read for an open page.
WHOLE_MS: Final = 15_000
MINUTE_MS: Final = 60_000
# The curve of calls has so many minutes at most, the last ones.
MAX_MINUTES: Final = 60
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
    whole = request.query_params.get("whole") == "1"
    verdict = request.query_params.get("verdict", VERDICTS[0])
    verdict = verdict if verdict in VERDICTS else VERDICTS[0]
    records = await _records(parts, session_id, whole=whole)
    events = parts.board.events_of(session_id)
    steps = list(_steps(facts, events, records, await _receipt(parts, session)))
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
        "decisions": _decisions(records, verdict),
        "verdict": verdict,
        "verdicts": VERDICTS,
        "whole": whole,
        "log": parts.log,
        "curve": _curve(session, records, parts.clock.now_ms()) if parts.log else None,
        "lacks_until_ms": records.whole_since_ms if records.whole_since_ms > session.opened_at_ms else 0,
        "steps": steps[-MAX_STEPS:],
        "more_steps": max(0, len(steps) - MAX_STEPS),
        "actor": actor_of(session, events),
        "login_of": _login_of(session),
    }


def _login_of(session: Session) -> dict[str, str] | None:
    """Return the provider and the user of a login's session; None for another session."""
    labels = session.labels
    if session.owner != LOGINS_OWNER or not {PROVIDER_LABEL, SUBJECT_LABEL} <= labels.keys():
        return None
    return {"provider": labels[PROVIDER_LABEL], "user": labels[SUBJECT_LABEL]}


async def receipt_of(parts: ConsoleParts, session_id: bytes) -> SignedReceipt:
    """Return the receipt of an ended session. Raises Rejected for another one."""
    answer = await parts.answers.get(("receipt", session_id), lambda: parts.client.get_receipt(session_id))
    return answer.value


async def _receipt(parts: ConsoleParts, session: Session) -> SignedReceipt | None:
    if session.status is not SessionStatus.ENDED:
        return None
    try:
        return await receipt_of(parts, session.id)
    except SessauthError:
        # The closure page says why there is none.
        return None


async def _records(parts: ConsoleParts, session_id: bytes, *, whole: bool) -> SessionRecords:
    """Return the records that are held, or those of the whole log; none without an audit."""
    log, name = parts.log, session_id.hex()
    if log is None:
        return SessionRecords((), (), 0)
    if not whole:
        return log.of_session(name)
    found = await parts.answers.compute(
        ("records", session_id), lambda: asyncio.to_thread(log.read_session, name), WHOLE_MS
    )
    return found.value


def _decisions(records: SessionRecords, verdict: str) -> list[LoggedDecision]:
    wanted = {"allowed": True, "denied": False}.get(verdict)
    fitting = (
        entry
        for entry in records.decisions
        if wanted is None or (entry.record.get("allowed") is True) is wanted
    )
    return [LoggedDecision.of(entry.record) for entry in islice(fitting, MAX_DECISIONS)]


@dataclass(frozen=True, slots=True)
class CallCurve:
    """Allowed and denied calls of each minute from ``since_ms`` on, in ms since 1970."""

    since_ms: int
    minutes: Sequence[tuple[int, int]]

    @property
    def most(self) -> int:
        """The most calls of one verdict in a minute, at least 1."""
        return max(1, *(max(each) for each in self.minutes))

    @property
    def sums(self) -> tuple[int, int]:
        """All allowed and all denied calls."""
        return sum(each for each, _ in self.minutes), sum(each for _, each in self.minutes)


def _curve(session: Session, records: SessionRecords, now_ms: int) -> CallCurve:
    """Return the calls of a session's last hour, or of its life if that is shorter."""
    last = (session.ended_at_ms or now_ms) // MINUTE_MS
    first = min(last, max(session.opened_at_ms // MINUTE_MS, last - MAX_MINUTES + 1))
    counts: Counter[tuple[int, bool]] = Counter(
        (entry.at_ms // MINUTE_MS, entry.record.get("allowed") is True)
        for entry in records.decisions
        if entry.record.get("session") == session.id.hex()
    )
    minutes = [(counts[minute, True], counts[minute, False]) for minute in range(first, last + 1)]
    return CallCurve(first * MINUTE_MS, minutes)


@dataclass(frozen=True, slots=True)
class LifeStep:
    """A step in the life of a session. ``place`` is the address of a page about it, within the console."""

    at_ms: int
    name: str
    actor: str = ""
    reason: str = ""
    place: str = ""
    detail: str = ""


_STEP_OF_CHANGE: Final[Mapping[str, str]] = {
    ChangeKind.NARROW_SESSION.value: "narrowed",
    ChangeKind.UPDATE_FACTS.value: "facts changed",
    ChangeKind.SUSPEND_SESSION.value: "suspended",
    ChangeKind.RESUME_SESSION.value: "resumed",
    ChangeKind.END_SESSION.value: "ended",
    ChangeKind.REVOKE.value: "revoked",
    ChangeKind.REQUEST_APPROVAL.value: "approval asked for",
    ChangeKind.ANSWER_APPROVAL.value: "approval answered",
}
_APPLIED: Final = "APPLIED"


def _steps(
    facts: SessionFacts,
    events: Sequence[SessionEvent],
    records: SessionRecords,
    signed: SignedReceipt | None,
) -> list[LifeStep]:
    """Return the steps of a session's life, the first one first."""
    session = facts.session
    place = f"/sessions/{session.id.hex()}"
    steps = [LifeStep(session.opened_at_ms, "opened", session.owner, session.purpose)]
    steps += _token_steps(facts.census)
    told = set()
    for event in events:
        if event.kind in (EventKind.OPENED, EventKind.PURGED):
            continue
        name = event.kind.name.lower().replace("_", " ")
        told.add((name, event.revision))
        above = event.session_id != session.id
        steps.append(
            LifeStep(
                event.at_ms,
                f"{name}, with session {event.session_id.hex()[:8]} above" if above else name,
                event.actor,
                event.reason,
                f"/sessions/{event.session_id.hex()}" if above else "",
                f"{event.count} times" if event.count else "",
            )
        )
    steps += (step for revision, step in _change_steps(records) if (step.name, revision) not in told)
    if session.ended_at_ms and not any(each.name.startswith(("ended", "lapsed")) for each in steps):
        cause = session.end_cause.name.lower().replace("_", " ")
        steps.append(LifeStep(session.ended_at_ms, "ended", "", session.reason, detail=cause))
    own = [entry for entry in records.decisions if entry.record.get("session") == session.id.hex()]
    denied = next((entry for entry in reversed(own) if entry.record.get("allowed") is not True), None)
    if denied is not None:
        decision = LoggedDecision.of(denied.record)
        detail = f"{decision.word} {decision.action} {decision.resource}"
        steps.append(LifeStep(denied.at_ms, "first denial", place=f"/decisions/{decision.id}", detail=detail))
    if signed is not None:
        receipt = signed.unverified
        steps.append(
            LifeStep(receipt.made_at_ms, "receipt", place=f"{place}/closure", detail=receipt.state.name)
        )
    # What was denied in the ms of the end came before it.
    return sorted(steps, key=lambda step: (step.at_ms, step.name.startswith(("ended", "receipt"))))


def _token_steps(census: Census) -> Iterator[LifeStep]:
    """Yield the mints of tokens that verifiers observed."""
    for block in census.children():
        if block.info is not None and block.info.issued_at_ms:
            detail = f"{block.observation.block_id.hex()[:8]} {block.info.label}".strip()
            yield LifeStep(block.info.issued_at_ms, "minted", detail=detail)


def _change_steps(records: SessionRecords) -> Iterator[tuple[int, LifeStep]]:
    """Yield the changes of the log that are steps, each once, with their revisions."""
    numbers: set[object] = set()
    for entry in records.changes:
        record, name = entry.record, _STEP_OF_CHANGE.get(str(entry.record.get("change")), "")
        if name and record.get("outcome") == _APPLIED and record.get("seq") not in numbers:
            numbers.add(record.get("seq"))
            at_ms, revision = record.get("changed_ms"), record.get("revision")
            step = LifeStep(
                at_ms if isinstance(at_ms, int) else entry.at_ms,
                name,
                str(record.get("actor") or ""),
                *_contents_of(entry),
            )
            yield revision if isinstance(revision, int) else 0, step


def _contents_of(entry: Entry) -> tuple[str, str, str]:
    """Return the reason of a change in the log, an address, and the contents in a few words."""
    try:
        change = Change.decode(base64.b64decode(str(entry.record.get("body")), validate=True))
    except ValueError:
        return "", "", ""
    body: Mapping[str, Any] = change.body
    approval: Mapping[str, Any] = body.get("approval") or {}
    approval_id = body.get("approval_id") or approval.get("id") or b""
    place = f"/approvals/{entry.record.get('session')}/{approval_id.hex()}" if approval_id else ""
    if approval:
        return "", place, f"{approval.get('action', '')} {approval.get('resource', '')}"
    detail = ""
    if approval_id:
        detail = "expired" if body.get("expire") else "denied" if body.get("deny") else "signed"
    if blocks := body.get("block_ids"):
        detail = " ".join(each.hex()[:8] for each in blocks[:8])
    return str(body.get("reason") or ""), place, detail


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
    gate = asyncio.Semaphore(AT_ONCE)

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
