"""Changes of a session: a preview, then a button, then the result.

A preview names the tokens, the permits and the calls of the last minutes that an end, a suspension or a
narrowing would refuse. Every form carries the epoch that was shown. If somebody else changed the session in
the meantime, the page says so and changes nothing; only an end goes on.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ..client import BlockCensus, Census
from ..errors import NotFound, Rejected, ScopeError, SessauthError, UsageError
from ..model.session import Session, SessionStatus
from ..scopes import containment
from ..scopes.scope import Scope
from ..scopes.value import value_of
from ..usage.kinds.observed import Observed, SessionPrice, price_of
from ..usage.profile import CEILING, GrantLayer, ceilings
from ..usage.tighten import Fit
from .decision_log import DecisionLog
from .pages import base_of, moment
from .parts import ConsoleParts, Handlers
from .sessions import CHANGING, NO_CENSUS, SessionFacts, actor_of, facts_of, read_each

WINDOW_MS: Final = 600_000
MAX_CALLS: Final = 40
MAX_TOKENS: Final = 60
MAX_CHILDREN: Final = 50


@dataclass(frozen=True, slots=True)
class RecentCalls:
    """Allowed calls of one action on one resource. ``verdict``: the effect of a narrowing on them."""

    action: str
    resource: str
    count: int
    last_ms: int
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class HitToken:
    """A token that verifiers observed, by its last block; ``verdict`` as of ``RecentCalls``."""

    block_id: bytes
    label: str
    allowed: int
    last_ms: int
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Hits:
    """The preview of a change.

    ``window_ms``: calls are those of so many last ms in the audit of this machine; 0: those of the last
    minutes, counted since the session was opened. ``unknown`` names what could not be read.
    """

    children: Sequence[Session]
    tokens: Sequence[HitToken]
    more_tokens: int
    calls: Sequence[RecentCalls]
    window_ms: int
    permits: int
    approvals: int
    price: SessionPrice | None = None
    # Faults of a narrowing: scopes that can't be read, or that narrow nothing.
    fault: str = ""
    nothing: str = ""
    unknown: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Affected:
    """All that a change affects: a session, and the living ones below it.

    ``read`` are those below that could be read, each as it is now, with its census.
    """

    facts: SessionFacts
    living: Sequence[Session]
    read: Sequence[tuple[Session, Census]]

    @property
    def sessions(self) -> list[Session]:
        """The session, and those below it that could be read."""
        return [self.facts.session, *(session for session, _ in self.read)]

    @property
    def censuses(self) -> list[Census]:
        """The census of each."""
        return [self.facts.census, *(census for _, census in self.read)]

    def unknown(self) -> Iterator[str]:
        """Yield the gaps of a preview, in words."""
        if self.facts.elsewhere:
            yield f"how the session was used. {self.facts.elsewhere}"
        elif any(census is NO_CENSUS for census in self.censuses):
            yield "which tokens are in use, of all or of some of the sessions"
        if unread := len(self.living) - len(self.read):
            yield f"tokens, permits and approvals of {unread} of the child sessions"


async def affected(parts: ConsoleParts, facts: SessionFacts) -> Affected:
    """Read the effects of a change of a session, as far as they can be known."""
    living = [each for each in facts.children if each.status is not SessionStatus.ENDED]
    read = await read_each(parts, living[:MAX_CHILDREN])
    return Affected(facts, living, [each for each in read if each is not None])


def preview(hit: Affected, log: DecisionLog | None, now_ms: int) -> Hits:
    """Return the tokens that an end or a suspension hits: all of the session and of its living children."""
    tokens = [_token(block) for census in hit.censuses for block in census.tokens()]
    calls, window_ms = _calls(hit, log, now_ms)
    return Hits(
        children=hit.living,
        tokens=tokens[:MAX_TOKENS],
        more_tokens=max(0, len(tokens) - MAX_TOKENS),
        calls=calls,
        window_ms=window_ms,
        permits=sum(each.open_permits for each in hit.sessions),
        approvals=sum(each.open_approvals for each in hit.sessions),
        unknown=list(hit.unknown()),
    )


def preview_narrowing(hit: Affected, text: str, log: DecisionLog | None, now_ms: int) -> Hits:
    """Return the effects of a narrowing to the scopes in ``text``, one a line, with its fault if any."""
    before, facts = preview(hit, log, now_ms), hit.facts
    try:
        scopes = read_scopes(text)
    except UsageError as error:
        return replace(before, fault=str(error))
    records = [scope.to_record() for scope in scopes]
    layers = facts.report.granted.ceilings
    refused = [
        part
        for layer in facts.session.ceilings
        for verdict, part in [containment.contains(layer, records, same_facts=True)]
        if verdict < 0
    ]
    nothing = [
        number
        for number, layer in enumerate(layers)
        if containment.contains(records, layer, same_facts=True)[0] == 1
    ]
    hit_tokens = [_hit_token(block, records) for census in hit.censuses for block in census.tokens()]
    return replace(
        before,
        fault=f"nothing of it lies inside the ceiling: {refused[0]}" if refused else "",
        nothing=f"layer {nothing[0]} of the ceiling lies inside of it already" if nothing else "",
        tokens=hit_tokens[:MAX_TOKENS],
        calls=[replace(call, verdict=_call_verdict(call, scopes)) for call in before.calls],
        price=_price(facts, scopes),
    )


def read_scopes(text: str) -> list[Scope]:
    """Return the scopes of lines; empty lines and comments don't count.

    Raises UsageError, naming the line that can't be read, or if there is none.
    """
    scopes = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                scopes.append(Scope.parse(line.strip()))
            except ScopeError as error:
                raise UsageError(f"line {number}: {error}") from None
    if not scopes:
        raise UsageError("no scope is stated: write at least one, or end the session")
    return scopes


def _token(block: BlockCensus) -> HitToken:
    used = block.observation
    return HitToken(used.block_id, block.info.label if block.info else "", used.allowed, used.last_ms)


def _hit_token(block: BlockCensus, scopes: list[dict[str, Any]]) -> HitToken:
    token, info = _token(block), block.info
    if info is None or not info.scopes:
        return token
    verdicts = {
        verdict
        for verdict, _ in containment.compare(
            scopes, [scope.to_record() for scope in info.scopes], same_facts=True
        )
    }
    if verdicts == {1}:
        return replace(token, verdict="keeps all")
    return replace(token, verdict="loses all" if verdicts == {-1} else "keeps a part")


def _calls(hit: Affected, log: DecisionLog | None, now_ms: int) -> tuple[list[RecentCalls], int]:
    """Return the allowed calls of the last minutes, the most frequent first; and ``Hits.window_ms``.

    An audit that has none of them may not be that of the calls: then what verifiers reported counts.
    """
    since_ms, window_ms = now_ms - WINDOW_MS, 0
    if log is not None and not log.fault:
        window_ms = min(WINDOW_MS, max(0, now_ms - log.whole_since_ms))
        counts: Counter[tuple[str, str]] = Counter()
        last: dict[tuple[str, str], int] = {}
        ids = {each.id.hex() for each in (hit.facts.session, *hit.living)}
        for each in log.allowed_calls(ids, now_ms - window_ms):
            key = (each.action, each.resource)
            counts[key] += 1
            last[key] = max(last.get(key, 0), each.at_ms)
        if counts:
            top = counts.most_common(MAX_CALLS)
            return [RecentCalls(*key, count, last[key]) for key, count in top], window_ms
    usage = hit.facts.report.usage
    rows = [] if usage is None else [row for row in usage.calls if row[1].last_ms >= since_ms]
    rows.sort(key=lambda row: -row[1].calls)
    found = [RecentCalls(*key, span.calls, span.last_ms) for key, span in rows[:MAX_CALLS]]
    return found, 0 if found else window_ms


def _call_verdict(call: RecentCalls, scopes: Sequence[Scope]) -> str:
    fitting = [each for each in scopes if _covers(each, call)]
    permitting = [each for each in fitting if not each.exception]
    exceptions = [each for each in fitting if each.exception]
    if not all(each.conditions for each in exceptions):
        return "denied"
    if not permitting and not all(each.exception for each in scopes):
        return "denied"
    is_open = not permitting or any(not (each.conditions or each.free_paths) for each in permitting)
    return "allowed" if is_open and not exceptions else "by arguments"


def _covers(scope: Scope, call: RecentCalls) -> bool:
    bare = Scope(scope.actions, scope.resource, everything_free=True)
    return GrantLayer(CEILING, [bare]).matching_positions(call.action, call.resource)[0][1] >= 0


def _price(facts: SessionFacts, scopes: Sequence[Scope]) -> SessionPrice | None:
    """Return how many of the session's calls the scopes would have denied, by what their arguments were."""
    usage = facts.report.usage
    if usage is None:
        return None
    values: Mapping[str, Any] = {fact.name: value_of(fact.value) for fact in facts.session.facts}
    granted = ceilings([list(map(Scope.from_record, layer)) for layer in facts.report.granted.ceilings])
    prices = [price_of(layer, Observed(usage, values), scopes) for layer in granted]
    return max(prices, key=lambda price: price.calls, default=None)


KINDS: Final = ("end", "suspend", "resume", "narrow")
# Words of the log for a session that somebody else changed first.
_OVERTAKEN: Final = frozenset({"ALREADY_ENDED", "EPOCH_MISMATCH", "WRONG_STATUS"})
MAX_REASON_CHARS: Final = 256
MAX_EPOCH_DIGITS: Final = 19
READ_ONLY: Final = (
    "This console only shows. Start it with --allow-changes, or use the command line: "
    "sessauth session end, suspend, resume, narrow."
)


class SessionChanges(Handlers):
    """Handlers of previews and of changes."""

    async def show(self, request: Request) -> Response:
        """Answer with the preview of a change; of a narrowing, with the suggested scopes of ``layer``."""
        try:
            facts = await facts_of(self._parts, self._parts.session_id(request))
        except SessauthError as error:
            return self._parts.live.failure(request, error)
        kind = request.path_params["kind"]
        if kind not in KINDS:
            return self._parts.live.failure(request, NotFound("there is no such change"))
        text = _suggested(facts, request.query_params.get("layer", "")) if kind == "narrow" else ""
        return await self._preview(request, facts, kind, text)

    async def submit(self, request: Request) -> Response:
        """Make the change, or answer with the preview of a narrowing that is not confirmed yet."""
        form, kind = request.state.form, request.path_params["kind"]
        parts = self._parts
        try:
            if kind not in KINDS:
                raise NotFound("there is no such change")
            session_id = parts.session_id(request)
            if kind == "narrow" and form.get("step") != "do":
                facts = await facts_of(parts, session_id)
                return await self._preview(request, facts, kind, form.get("scopes", ""))
            if not parts.terms.allow_changes:
                return parts.pages.refused(request, READ_ONLY)
            # Nothing is read first: an end must not wait for the content of a page.
            await parts.answers.ask(self._change(kind, session_id, form))
        except SessauthError as error:
            return await self._failed(request, kind, error)
        self._forget(session_id)
        place = f"{base_of(request)}/sessions/{session_id.hex()}"
        return RedirectResponse(f"{place}/closure" if kind == "end" else place, 303)

    def _forget(self, session_id: bytes) -> None:
        for key in CHANGING:
            self._parts.answers.forget((key, session_id))

    def _change(self, kind: str, session_id: bytes, form: dict[str, str]) -> Awaitable[Any]:
        client, reason = self._parts.client, form.get("reason", "")[:MAX_REASON_CHARS]
        stated = form.get("epoch", "")
        epoch = int(stated) if stated.isdecimal() and len(stated) <= MAX_EPOCH_DIGITS else 0
        if not epoch:
            raise UsageError("epoch: the form states none; load the page anew")
        # One id for each form: the same form sent twice is one change.
        request_id = form.get("request_id", "")
        if kind == "end":
            # No epoch: an end must not fail because somebody narrowed the session meanwhile.
            return client.end(session_id, reason, request_id=request_id)
        if kind == "suspend":
            return client.suspend(session_id, reason, expected_epoch=epoch, request_id=request_id)
        if kind == "resume":
            return client.resume(session_id, reason, expected_epoch=epoch, request_id=request_id)
        scopes = read_scopes(form.get("scopes", ""))
        return client.narrow(session_id, scopes, expected_epoch=epoch, request_id=request_id)

    async def _preview(self, request: Request, facts: SessionFacts, kind: str, text: str) -> Response:
        parts, now_ms = self._parts, self._parts.clock.now_ms()
        hit = await affected(parts, facts)
        if kind == "narrow" and text:
            hits = preview_narrowing(hit, text, parts.log, now_ms)
        else:
            hits = preview(hit, parts.log, now_ms)
        return parts.pages.answer(
            request,
            "change.html",
            session=facts.session,
            kind=kind,
            hits=hits,
            text=text,
            ceiling=_ceiling(facts) if kind == "narrow" else [],
            request_id=secrets.token_hex(16),
            at_ms=facts.at_ms,
            fault=_not_possible(facts.session, kind),
        )

    async def _failed(self, request: Request, kind: str, error: SessauthError) -> Response:
        """Report the failure: somebody was faster, the server refused, or the outcome is unknown."""
        parts = self._parts
        if not isinstance(error, Rejected) or error.word not in _OVERTAKEN:
            again = "Load this page anew to send the same form again: it counts once."
            return parts.live.not_made(request, error, again)
        session_id = parts.session_id(request)
        self._forget(session_id)
        try:
            session = (await facts_of(parts, session_id)).session
        except SessauthError as other:
            return parts.live.failure(request, other)
        return parts.pages.answer(
            request,
            "overtaken.html",
            code=409,
            session=session,
            kind=kind,
            actor=actor_of(session, parts.board.events_of(session_id)),
            word=error.word,
        )


def _ceiling(facts: SessionFacts) -> list[list[str]]:
    """Return the scopes of each layer in force, those of parents first; the session's latest is the last."""
    own, inherited = facts.session.ceilings, facts.report.inherited
    return [[str(Scope.from_record(scope)) for scope in layer] for layer in (*inherited, *own)]


def _not_possible(session: Session, kind: str) -> str:
    """Return why a change can't be made of a session as it is; empty if it can."""
    if session.status is SessionStatus.ENDED:
        return (
            f"The session ended at {moment(session.ended_at_ms)} UTC; nothing of it can be changed any more."
        )
    if kind == "suspend" and session.status is SessionStatus.SUSPENDED and not session.inherited_from:
        return "The session is suspended already."
    if kind == "resume" and session.status is SessionStatus.ACTIVE:
        return "The session is not suspended."
    if kind == "resume" and session.inherited_from:
        above = session.inherited_from.hex()
        return f"The session is suspended with session {above}, below which it is; resume that one."
    return ""


def _suggested(facts: SessionFacts, layer_id: str) -> str:
    """Return the suggested scopes of a layer as lines; empty if there is none."""
    for layer in facts.usage.layers if facts.usage else ():
        if layer.layer.id == layer_id:
            return "\n".join(map(str, layer.suggestion(Fit.KINDS).scopes))
    return ""
