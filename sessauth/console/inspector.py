"""The token inspector: what a token says. It is read in this process, and neither stored nor logged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from ..errors import TokenError
from ..tokens.inspection import BlockInfo
from ..tokens.token import Token
from .pages import moment
from .parts import ConsoleParts

MAX_TOKEN_CHARS: Final = 20_000


class TokenInspector:
    """The form, and the contents of the token that it sent."""

    def __init__(self, parts: ConsoleParts) -> None:
        """Answer with the pages of ``parts``."""
        self._parts = parts

    async def show(self, request: Request) -> Response:
        """Answer with the empty form."""
        return self._parts.pages.answer(request, "token.html", info=None, blocks=[], fault="")

    async def inspect(self, request: Request) -> Response:
        """Answer with what the token says, and with an empty form: the page does not hold the token."""
        text = request.state.form.get("token", "").strip()
        pages = self._parts.pages
        if len(text) > MAX_TOKEN_CHARS:
            return pages.answer(request, "token.html", info=None, blocks=[], fault="too long for a token")
        try:
            info = Token.parse(text).inspect()
        except TokenError as error:
            return pages.answer(request, "token.html", info=None, blocks=[], fault=str(error))
        blocks = [(block, list(_limits(block))) for block in info.blocks]
        return pages.answer(request, "token.html", info=info, blocks=blocks, fault="")


def _limits(block: BlockInfo) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of what a block states."""
    times = ("issued_at_ms", "not_before_ms", "expires_at_ms")
    for name in times:
        if at_ms := getattr(block, name):
            yield name.removesuffix("_ms").removesuffix("_at").replace("_", " "), f"{moment(at_ms)} UTC"
    for name in ("audience", "scopes", "where", "source", "peer"):
        for value in getattr(block, name):
            yield name.removesuffix("s") if name == "scopes" else name, value
    if block.max_blocks:
        yield "max blocks", block.max_blocks
    if block.proof_key:
        yield "bound to", block.next_key.hex()
