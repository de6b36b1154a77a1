"""The page after the end of a session: its receipt, and the evidence as files."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from ..errors import NotFound, Rejected, SessauthError, StateError, Unavailable
from .cut_off import KEEP_OFF
from .parts import ConsoleParts, Handlers
from .recent import leads_elsewhere
from .sessions import actor_of, receipt_of, session_of

MEANS: Final = {
    "CLOSED": "No verifier that was registered can allow a call of it any more.",
    "PARTIAL": "Not all have acknowledged the end yet, or permits are open.",
    "UNKNOWN": "Who was registered when it ended can't be known.",
}
# The word for a receipt of a session that has not ended.
_LIVES: Final = "WRONG_STATUS"


# Commands for the files that are not made here; files made here are named by kind, session and ending.
COMMANDS: Final = {
    "pack": "sessauth evidence --session {} --out session.pack",
    "story": "sessauth audit story {}",
}
ENDINGS: Final = {"pack": "pack", "story": "txt"}
_CHUNK_BYTES: Final = 1 << 18


class ClosurePage(Handlers):
    """The page of a receipt, and the receipt, the evidence pack and the story as files."""

    def __init__(self, parts: ConsoleParts) -> None:
        """Make one file at a time: each reads the whole log."""
        super().__init__(parts)
        self._making = asyncio.Lock()

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
            "makes_evidence": bool(parts.terms.evidence and parts.log and not parts.log.fault),
            "keep_off": KEEP_OFF,
            "commands": [each.format(session_id.hex()) for each in COMMANDS.values()],
        }
        try:
            signed = await receipt_of(parts, session_id)
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
            signed = await receipt_of(self._parts, session_id)
        except SessauthError as error:
            return self._parts.live.failure(request, error)
        name = f"closure-{session_id.hex()}.receipt"
        return PlainTextResponse(
            signed.text + "\n", headers={"content-disposition": f'attachment; filename="{name}"'}
        )

    async def evidence(self, request: Request) -> Response:
        """Answer with a file of evidence, made anew from the audit of this machine."""
        parts, kind = self._parts, request.path_params["kind"]
        try:
            session_id = parts.session_id(request)
            make = parts.terms.evidence.get(kind)
            if make is None:
                raise NotFound("this console makes no such file")
            async with self._making:
                file = await asyncio.to_thread(_made, make, session_id)
        except (NotFound, Unavailable) as error:
            return parts.live.failure(request, error)
        except SessauthError as error:
            message = f"No file was made here: {error}. Type: {COMMANDS[kind].format(session_id.hex())}"
            return parts.pages.answer(request, "message.html", code=409, title="No file", message=message)
        name = f"{kind}-{session_id.hex()}.{ENDINGS[kind]}"
        return StreamingResponse(
            _chunks(file),
            media_type="application/octet-stream",
            headers={
                "content-disposition": f'attachment; filename="{name}"',
                "content-length": str(os.fstat(file.fileno()).st_size),
            },
        )


def _made(make: Callable[[bytes, Path], None], session_id: bytes) -> BinaryIO:
    """Return a file that was made, open; it has no name any more, so it is gone when it is closed."""
    try:
        with tempfile.TemporaryDirectory(prefix="sessauth-") as folder:
            path = Path(folder) / "evidence"
            make(session_id, path)
            return path.open("rb")
    except OSError as error:
        raise StateError(f"the file can't be written: {error.strerror}") from None


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
