"""The pages that cut many agents off: ends by a selection or by a user's logins, bans, the freeze of all.

Each is first a preview. A form has an id, and what it asks for is done once however often it is sent: an end
that is sent again would end what was opened since, and a freeze would undo a thaw in between.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ..client import EndedSessions, EndPreview
from ..errors import NotFound, PermissionDenied, SessauthError, UsageError
from ..limits import MAX_LABELS
from ..model.session import ISSUER_LABEL, LOGINS_OWNER, SUBJECT_LABEL, SessionBan, SessionSelector
from .pages import base_of
from .parts import ConsoleParts, Handlers
from .session_changes import MAX_REASON_CHARS

# Lengths of a ban, in ms, by the word for each.
BANS: Final = {
    "no": 0,
    "10 minutes": 600_000,
    "1 hour": 3_600_000,
    "8 hours": 28_800_000,
    "1 day": 86_400_000,
}
# The length that a closure page proposes: the night.
KEEP_OFF: Final = "8 hours"
SHOWN: Final = 25
# A call works for some seconds at most; the rest is for a server that is slow to answer.
CALL_MS: Final = 25_000
# Forms that are remembered.
MAX_FORMS: Final = 1_000
ALL: Final = "all"
READ_ONLY: Final = (
    "This console only shows. Start it with --allow-changes, or use the command line: "
    "sessauth session end, session lift-ban, identity cut, freeze, thaw."
)
_AGAIN: Final = "Load this page anew to send the same form again: it counts once."
_OLD_FORM: Final = "The form has no id; load the page anew."


@dataclass(slots=True)
class BulkEnd:
    """An end of many sessions, under way or over. ``fault``: why it stopped before the last one."""

    selector: SessionSelector
    reason: str
    refuse_new_ms: int
    done: EndedSessions | None = None
    over: bool = False
    fault: str = ""

    async def run(self, parts: ConsoleParts) -> None:
        """End them, call by call, until the search is complete."""
        client, given = parts.client.with_timeout(CALL_MS), arguments_of(self.selector)
        refuse_new_ms = self.refuse_new_ms
        try:
            while self.done is None or self.done.next_page_token:
                token = self.done.next_page_token if self.done else ""
                more = await parts.answers.ask(
                    client.end_sessions(
                        **given, reason=self.reason, refuse_new_ms=refuse_new_ms, page_token=token
                    )
                )
                self.done = self.done.with_more(more) if self.done else more
                refuse_new_ms = 0
                parts.board.changed()
        except SessauthError as error:
            self.fault = str(error)
        finally:
            self.over = True
            parts.board.changed()


class CutOffPages(Handlers):
    """Handlers of previews, changes and their outcomes."""

    def __init__(self, parts: ConsoleParts) -> None:
        """Remember no form yet."""
        super().__init__(parts)
        self._forms: OrderedDict[str, asyncio.Future[Any]] = OrderedDict()
        self._ends: OrderedDict[str, BulkEnd] = OrderedDict()
        self._running: set[asyncio.Task[None]] = set()

    async def show(self, request: Request) -> Response:
        """Answer with the selection, its preview if one is stated, the bans, and the state of the freeze."""
        parts, query = self._parts, request.query_params
        stated = _stated(query, query.getlist("label"))
        hits: EndPreview | None = None
        fault = ""
        selector = SessionSelector()
        try:
            if any(stated.values()):
                selector = selector_of(stated)
                hits = await self._preview(**arguments_of(selector))
        except UsageError as error:
            fault = str(error)
        except SessauthError as error:
            return parts.live.failure(request, error)
        try:
            bans = await self._allowed(parts.client.list_bans())
            freeze = await self._allowed(parts.client.get_freeze())
        except SessauthError as error:
            return parts.live.failure(request, error)
        return parts.pages.answer(
            request,
            "cut_off.html",
            stated=stated,
            selector=selector,
            hits=hits,
            shown=hits.selected[:SHOWN] if hits else (),
            fault=fault,
            bans=None if bans is None else [(ban, _address(ban.selector)) for ban in bans],
            freeze=freeze,
            lengths=list(BANS),
            refuse_new=query.get("refuse_new", ""),
            request_id=secrets.token_hex(16),
            at_ms=parts.answers.reach.answered_at_ms,
        )

    async def end(self, request: Request) -> Response:
        """Begin the end, and lead to its outcome."""
        parts, form = self._parts, request.state.form
        if not parts.terms.allow_changes:
            return parts.pages.refused(request, READ_ONLY)
        try:
            selector = selector_of(_stated(form))
            request_id = _request_id(form)
            if selector.all and form.get("confirm", "").strip().lower() != ALL:
                raise UsageError(f"every session: type the word {ALL} to end them")
            refuse_new_ms = BANS.get(form.get("refuse_new", "no"), -1)
            if refuse_new_ms < 0:
                raise UsageError("refuse new: there is no such time")
        except UsageError as error:
            return parts.pages.refused(request, str(error), 400)
        if request_id not in self._ends:
            job = BulkEnd(selector, form.get("reason", "")[:MAX_REASON_CHARS], refuse_new_ms)
            self._ends[request_id] = job
            while len(self._ends) > MAX_FORMS:
                self._ends.popitem(last=False)
            task = asyncio.create_task(job.run(parts))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return RedirectResponse(f"{base_of(request)}/cut-off/outcome/{request_id}", 303)

    async def outcome(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the template and the values of the outcome of an end."""
        job = self._ends.get(request.path_params["form"])
        if job is None:
            raise NotFound("this console has begun no such end")
        return "cut_off_outcome.html", {
            "job": job,
            "shown": job.done.sessions[:SHOWN] if job.done else (),
            "again": _address(job.selector),
            "live": not job.over,
            "at_ms": self._parts.answers.reach.answered_at_ms,
        }

    async def show_user(self, request: Request) -> Response:
        """Answer with the living logins of a provider's user, and the button that ends them."""
        parts, query = self._parts, request.query_params
        try:
            provider, user = _user_of(query)
            status = (await parts.identity_status()).value
            issuer = next((each.issuer for each in status.providers if each.name == provider), None)
            if issuer is None:
                raise NotFound("provider: the settings have no such identity provider")
            labels = {ISSUER_LABEL: issuer, SUBJECT_LABEL: user}
            hits = await self._preview(owner=LOGINS_OWNER, labels=labels)
        except SessauthError as error:
            return parts.live.failure(request, error)
        return parts.pages.answer(
            request,
            "cut_user.html",
            provider=provider,
            user=user,
            hits=hits,
            shown=hits.selected[:SHOWN],
            request_id=secrets.token_hex(16),
            at_ms=parts.answers.reach.answered_at_ms,
        )

    async def cut_user(self, request: Request) -> Response:
        """End the logins of a user, refuse their tokens, and answer with what was done."""
        parts, form = self._parts, request.state.form
        try:
            provider, user = _user_of(form)
        except UsageError as error:
            return parts.pages.refused(request, str(error), 400)
        reason = form.get("reason", "")[:MAX_REASON_CHARS]
        return await self._change(
            request,
            lambda: parts.client.cut_logins(provider, subject=user, reason=reason),
            lambda done: parts.pages.answer(
                request, "cut_user_outcome.html", provider=provider, user=user, done=done
            ),
        )

    async def show_ban(self, request: Request) -> Response:
        """Answer with a ban, and the button that lifts it."""
        query = request.query_params
        try:
            ban = await self._ban(selector_of(_stated(query, query.getlist("label"))))
        except SessauthError as error:
            return self._parts.live.failure(request, error)
        return self._parts.pages.answer(
            request,
            "ban.html",
            ban=ban,
            labels=_lines(ban.selector),
            request_id=secrets.token_hex(16),
            at_ms=self._parts.answers.reach.answered_at_ms,
        )

    async def lift(self, request: Request) -> Response:
        """Lift a ban, and lead back to the others."""
        form = request.state.form
        try:
            given = arguments_of(selector_of(_stated(form)))
        except UsageError as error:
            return self._parts.pages.refused(request, str(error), 400)
        return await self._change(
            request, lambda: self._parts.client.lift_ban(**given), _lead_to(request, "/cut-off")
        )

    async def show_freeze(self, request: Request) -> Response:
        """Answer with the state of the freeze, and what a freeze or a thaw would do."""
        parts = self._parts
        try:
            freeze = await parts.answers.ask(parts.client.get_freeze())
        except SessauthError as error:
            return parts.live.failure(request, error)
        return parts.pages.answer(
            request,
            "freeze.html",
            freeze=freeze,
            living=parts.board.living,
            request_id=secrets.token_hex(16),
            at_ms=parts.answers.reach.answered_at_ms,
        )

    async def freeze(self, request: Request) -> Response:
        """Freeze or thaw, unless somebody did it since the page was shown."""
        parts, form = self._parts, request.state.form
        step, reason = form.get("step", ""), form.get("reason", "")[:MAX_REASON_CHARS]
        if step not in ("freeze", "thaw"):
            return parts.pages.refused(request, "The form says neither freeze nor thaw.", 400)

        async def change() -> bool:
            found = await parts.client.get_freeze()
            if bool(found.host or found.cluster) is (step == "freeze"):
                return False
            await (parts.client.freeze(reason) if step == "freeze" else parts.client.thaw())
            return True

        return await self._change(request, change, _lead_to(request, "/freeze"))

    async def _change(
        self,
        request: Request,
        make: Callable[[], Awaitable[Any]],
        answer: Callable[[Any], Response],
    ) -> Response:
        """Make a change once for its form, and answer by its result."""
        parts = self._parts
        if not parts.terms.allow_changes:
            return parts.pages.refused(request, READ_ONLY)
        try:
            done = await self._once(_request_id(request.state.form), make)
        except UsageError as error:
            return parts.pages.refused(request, str(error), 400)
        except SessauthError as error:
            return parts.live.not_made(request, error, _AGAIN)
        if done is False:
            return parts.pages.refused(request, "Somebody was faster; load the page anew to see it.", 409)
        return answer(done)

    async def _once(self, form: str, make: Callable[[], Awaitable[Any]]) -> Any:
        """Return the result of the first time a form was sent; one that failed may be sent again."""
        if (made := self._forms.get(form)) is None:
            made = asyncio.ensure_future(self._parts.answers.ask(make()))
            self._forms[form] = made
            while len(self._forms) > MAX_FORMS:
                self._forms.popitem(last=False)
        try:
            return await asyncio.shield(made)
        except SessauthError:
            self._forms.pop(form, None)
            raise

    async def _preview(self, **selection: Any) -> EndPreview:
        """Return the sessions that an end of a selection would hit."""
        client = self._parts.client.with_timeout(CALL_MS)
        return await self._parts.answers.ask(client.preview_end_sessions(**selection))

    async def _allowed(self, ask: Awaitable[Any]) -> Any:
        """Return an answer; None if the credential may not ask."""
        try:
            return await self._parts.answers.ask(ask)
        except PermissionDenied:
            return None

    async def _ban(self, selector: SessionSelector) -> SessionBan:
        bans = await self._parts.answers.ask(self._parts.client.list_bans())
        for ban in bans:
            if ban.selector == selector:
                return ban
        raise NotFound("there is no such ban; it was lifted, or it is over")


def _lead_to(request: Request, place: str) -> Callable[[Any], Response]:
    return lambda _: RedirectResponse(base_of(request) + place, 303)


def _user_of(fields: Mapping[str, str]) -> tuple[str, str]:
    """Return the provider and the user that a form names. Raises UsageError if it names none."""
    provider, user = fields.get("provider", ""), fields.get("user", "")
    if not provider or not user:
        raise UsageError("provider, user: state both")
    return provider, user


def selector_of(stated: Mapping[str, str]) -> SessionSelector:
    """Return the selector of a form's fields. Raises UsageError, naming the field."""
    labels = []
    for line in stated["labels"].splitlines():
        if line.strip():
            name, sign, value = line.strip().partition("=")
            if not sign or not name:
                raise UsageError("labels: write name=value, one a line")
            labels.append((name, value))
    if len(labels) > MAX_LABELS:
        raise UsageError(f"labels: at most {MAX_LABELS}")
    selector = SessionSelector(
        stated["subject"], stated["owner"], tuple(sorted(labels)), stated["all"] == "1"
    )
    if fault := selector.fault():
        raise UsageError(fault)
    return selector


def arguments_of(selector: SessionSelector) -> dict[str, Any]:
    """Return the arguments of a client's call for a selector."""
    return {
        "subject": selector.subject,
        "owner": selector.owner,
        "labels": dict(selector.labels),
        "all_sessions": selector.all,
    }


def _stated(fields: Mapping[str, str], labels: list[str] | None = None) -> dict[str, str]:
    stated = {name: fields.get(name, "") for name in ("subject", "owner", "labels", "all")}
    if labels:
        stated["labels"] = "\n".join([*stated["labels"].splitlines(), *labels])
    return stated


def _lines(selector: SessionSelector) -> str:
    return "\n".join(f"{name}={value}" for name, value in selector.labels)


def _address(selector: SessionSelector) -> str:
    """Return the query that states a selector."""
    parts = [("subject", selector.subject), ("owner", selector.owner), ("all", "1" if selector.all else "")]
    labels = [("label", f"{name}={value}") for name, value in selector.labels]
    return urlencode([*((name, value) for name, value in parts if value), *labels])


def _request_id(form: Mapping[str, str]) -> str:
    request_id = form.get("request_id", "")
    if len(request_id) != 32 or not request_id.isalnum():
        raise UsageError(_OLD_FORM)
    return request_id
