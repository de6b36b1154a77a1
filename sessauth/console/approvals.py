"""Approvals: the exact request, and the answer of a person.

A grant is signed in this process, with a key that stays here, over the call that the page showed. A console
without an approver key shows the command that grants elsewhere.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Awaitable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ..approvals.approver import Approver
from ..approvals.request import ApprovalRequest
from ..errors import InvalidApproval, Rejected, SessauthError
from ..model.approval import ApprovalStatus
from .logins import Login, SigningCodes
from .pages import base_of
from .parts import ConsoleParts, id_of

STATUSES: Final = ("waiting", "granted", "denied", "used")
MAX_ROWS: Final = 100
MAX_REASON_CHARS: Final = 256
NO_KEY: Final = (
    "This console has no approver key. On the approver's machine: sessauth approval ui --approver-key FILE, "
    "or sessauth approval grant."
)
WRONG_CODE: Final = (
    "This is not the code that the terminal shows for this call, or it is over; nothing was signed. "
    "Press Sign once more: the terminal then shows another."
)
READ_ONLY: Final = "This console only shows. Start it with --allow-changes, or use sessauth approval deny."


class ApprovalPages:
    """The list, one approval, and its answers."""

    def __init__(self, parts: ConsoleParts) -> None:
        """Show the approvals of the server that ``parts`` know."""
        self._parts = parts
        key = parts.terms.approver
        self._approver = Approver(key, parts.clock) if key else None
        self._codes = SigningCodes(parts.clock)
        self._public_key = key.public_key if key else b""

    async def list(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the template and the values of the list."""
        parts = self._parts
        status = request.query_params.get("status", "waiting")
        status = status if status in STATUSES else "waiting"
        found = await parts.answers.get(
            ("approvals", status), lambda: parts.client.list_approvals(status=status, page_size=MAX_ROWS)
        )
        now_ms = parts.clock.now_ms()
        rows = sorted(found.value.approvals, key=lambda each: each.record.requested_at_ms, reverse=True)
        return "approvals.html", {
            "rows": [(each, each.record.waits(now_ms) and self._is_mine(each)) for each in rows],
            "more": bool(found.value.next_page_token),
            "status": status,
            "statuses": STATUSES,
            "at_ms": found.at_ms,
        }

    async def one(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the template and the values of one approval."""
        asked, at_ms = await self._fetch(request)
        try:
            text, fault = asked.render(), ""
        except InvalidApproval as error:
            text, fault = "", str(error)
        now_ms = self._parts.clock.now_ms()
        waits = not fault and asked.record.waits(now_ms)
        return "approval.html", {
            "record": asked.record,
            "text": text,
            "fault": fault,
            "shown": _shown(asked) if text else "",
            "waits": waits,
            "standing": len(asked.record.standing(now_ms)) if not fault else 0,
            "over": asked.record.expires_at_ms <= now_ms,
            "asks_code": False,
            "grantable": waits and self._is_mine(asked),
            "deniable": waits
            and asked.record.status is ApprovalStatus.PENDING
            and (self._approver is not None or self._parts.terms.allow_changes),
            "no_key": NO_KEY,
            "at_ms": at_ms,
        }

    async def grant(self, request: Request) -> Response:
        """Sign the call that the page showed, once its code is typed, and hand the signature in."""
        if self._approver is None:
            return self._parts.pages.refused(request, NO_KEY)
        form, login = request.state.form, request.state.login
        try:
            asked, _ = await self._fetch(request, fresh=True)
            shown = _shown(asked)
            if shown != form.get("shown", ""):
                return self._parts.pages.refused(
                    request,
                    "What is asked for is not the call that the page showed; nothing was signed.",
                    409,
                )
            # A request that can't be signed is refused before a person types a code.
            signed = self._approver.grant(asked)
            if not form.get("code"):
                return await self._ask_code(request, asked, login, shown)
            if not self._codes.use(login, shown, form["code"]):
                return self._parts.pages.refused(request, WRONG_CODE)
        except SessauthError as error:
            return await self._failed(request, error)
        return await self._answer(request, self._parts.client.grant_approval(asked, signed))

    async def _ask_code(
        self, request: Request, approval: ApprovalRequest, login: Login, shown: str
    ) -> Response:
        """Have the terminal show a code, and ask for it below the request that it signs."""
        self._parts.terms.show_code(self._codes.new(login, shown), approval)
        template, values = await self.one(request)
        return self._parts.pages.answer(request, template, **{**values, "asks_code": True})

    async def deny(self, request: Request) -> Response:
        """Deny the call until the request expires."""
        parts = self._parts
        if self._approver is None and not parts.terms.allow_changes:
            return parts.pages.refused(request, READ_ONLY)
        reason = request.state.form.get("reason", "")[:MAX_REASON_CHARS]
        try:
            ids = _ids(request)
        except SessauthError as error:
            return parts.live.failure(request, error)
        return await self._answer(request, parts.client.deny_approval(*ids, reason))

    async def _answer(self, request: Request, change: Awaitable[ApprovalRequest]) -> Response:
        """Hand an answer in, and lead back to the approval; or say what became of it."""
        try:
            await self._parts.answers.ask(change)
        except (InvalidApproval, Rejected) as error:
            return await self._failed(request, error)
        except SessauthError as error:
            again = "Look at the approval before you press once more."
            return self._parts.live.not_made(request, error, again)
        session_id, approval_id = _ids(request)
        for status in STATUSES:
            self._parts.answers.forget(("approvals", status))
        self._parts.answers.forget(("approval", session_id, approval_id))
        place = f"/approvals/{session_id.hex()}/{approval_id.hex()}"
        return RedirectResponse(f"{base_of(request)}{place}", 303)

    async def _fetch(self, request: Request, *, fresh: bool = False) -> tuple[ApprovalRequest, int]:
        """Return an approval, and when the server answered."""
        parts, (session_id, approval_id) = self._parts, _ids(request)
        key = ("approval", session_id, approval_id)
        if fresh:
            parts.answers.forget(key)
            asked = await parts.answers.ask(parts.client.get_approval(session_id, approval_id))
            return asked, parts.answers.reach.answered_at_ms
        found = await parts.answers.get(key, lambda: parts.client.get_approval(session_id, approval_id))
        return found.value, found.at_ms

    async def _failed(self, request: Request, error: SessauthError) -> Response:
        """Say what happened: it was answered elsewhere, or it is over; nothing was done."""
        if not isinstance(error, InvalidApproval | Rejected):
            return self._parts.live.failure(request, error)
        try:
            asked, _ = await self._fetch(request, fresh=True)
        except SessauthError as other:
            return self._parts.live.failure(request, other)
        return self._parts.pages.answer(
            request, "answered.html", code=409, record=asked.record, message=str(error)
        )

    def _is_mine(self, approval: ApprovalRequest) -> bool:
        """Return True if the key of this console may sign, and has not."""
        record = approval.record
        signed = any(each.public_key == self._public_key for each in record.statements)
        return self._public_key in record.keys and not signed


def _shown(approval: ApprovalRequest) -> str:
    """Return the digest of all that the page shows of a request but signatures, answers and budgets.

    The server of the button may be another one than that of the page: not only the call is held, but the
    session, the scope, the caller and the time too. Raises InvalidApproval if a part can't be shown.
    """
    record = dataclasses.replace(
        approval.record, statements=(), status=ApprovalStatus.PENDING, denied_by="", reason=""
    )
    text = dataclasses.replace(approval, record=record, remaining=()).render()
    return hashlib.sha256(text.encode()).hexdigest()


def _ids(request: Request) -> tuple[bytes, bytes]:
    return id_of(request, "session", 16), id_of(request, "approval", 16)
