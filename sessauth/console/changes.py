"""Changes of a session: first their preview, then the button, then what became of it.

Every form carries the epoch that was shown, so that a change that somebody else made meanwhile is not
overlooked: the page then says what happened.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ..errors import NotFound, Rejected, SessauthError, UsageError
from ..model.session import Session, SessionStatus
from ..scopes.scope import Scope
from ..usage.generalize import Fit
from .hits import affected, preview, preview_narrowing, read_scopes
from .one_session import CHANGING, SessionFacts, actor_of, facts_of
from .pages import base_of, moment
from .parts import ConsoleParts

KINDS: Final = ("end", "suspend", "resume", "narrow")
# Words of the log for a session that somebody else changed first.
_OVERTAKEN: Final = frozenset({"ALREADY_ENDED", "EPOCH_MISMATCH", "WRONG_STATUS"})
MAX_REASON_CHARS: Final = 256
MAX_EPOCH_DIGITS: Final = 19
READ_ONLY: Final = (
    "This console only shows. Start it with --allow-changes, or use the command line: "
    "sessauth session end, suspend, resume, narrow."
)


class SessionChanges:
    """Handlers of previews and of changes."""

    def __init__(self, parts: ConsoleParts) -> None:
        """Change the sessions of the server that ``parts`` know."""
        self._parts = parts

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
            # Nothing is read first: an end must not wait for what a page shows.
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
        """Say what happened: somebody was faster, the server refused, or nobody knows."""
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
