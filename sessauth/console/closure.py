"""The closure page: who can't allow a call of an ended session any more, verifier by verifier."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ..errors import Rejected, SessauthError, Unavailable
from ..model.receipt import SignedReceipt
from .one_session import actor_of
from .parts import ConsoleParts
from .recent import leads_elsewhere
from .sessions import session_of

MEANS: Final = {
    "CLOSED": "No verifier that was registered can allow a call of it any more.",
    "PARTIAL": "Not all have acknowledged the end yet, or permits are open.",
    "UNKNOWN": "Who was registered when it ended can't be known.",
}
# The word for a receipt of a session that has not ended.
_LIVES: Final = "WRONG_STATUS"


class ClosurePage:
    """The view of the page, and the receipt as a file."""

    def __init__(self, parts: ConsoleParts) -> None:
        """Show the receipts of the server that ``parts`` know."""
        self._parts = parts

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
