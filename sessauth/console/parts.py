"""The parts of a running console that the handlers of its pages share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from starlette.requests import Request

from ..approvals.approver import ApproverKey
from ..approvals.request import ApprovalRequest
from ..client import AsyncClient, IdentityStatus
from ..clock import Clock
from ..errors import NotFound
from .board import Board, LivePages
from .decision_log import DecisionLog
from .pages import Pages
from .recent import DatedAnswer, RecentAnswers

# The server counts living logins row by row.
_IDENTITY_MS: Final = 3_000


@dataclass(frozen=True, slots=True)
class ConsoleTerms:
    """Terms of a console: its permission to change, the approver who signs, the audit folder.

    ``audit``: the folder of this machine's audit, None if it is not to be read. ``server``: the address that
    is shown on each page, so that two consoles are told apart. ``show_code`` shows a code on the approver's
    terminal, with the request that it signs.
    """

    allow_changes: bool = False
    approver: ApproverKey | None = None
    audit: Path | None = None
    # Functions that write a new file about a session, by the kind of evidence: its pack, its story.
    evidence: Mapping[str, Callable[[bytes, Path], None]] = field(default_factory=dict)
    # The approvals alone, for an approver's machine.
    approvals_only: bool = False
    server: str = ""
    show_code: Callable[[str, ApprovalRequest], None] = lambda _code, _request: None


@dataclass(frozen=True, slots=True)
class ConsoleParts:
    """Parts that handlers use."""

    terms: ConsoleTerms
    clock: Clock
    answers: RecentAnswers
    board: Board
    pages: Pages
    live: LivePages
    log: DecisionLog | None

    @property
    def client(self) -> AsyncClient:
        """The client of the server."""
        return self.answers.client

    async def identity_status(self) -> DatedAnswer[IdentityStatus]:
        """Return the state of the identity providers."""
        return await self.answers.get("identity", self.client.get_identity_status, _IDENTITY_MS)

    def session_id(self, request: Request) -> bytes:
        """Return the session that the path names. Raises NotFound if it names none."""
        return id_of(request, "session", 16)


class Handlers:
    """Handlers of requests, by the parts of a console."""

    def __init__(self, parts: ConsoleParts) -> None:
        """Answer with the pages of ``parts``."""
        self._parts = parts


def id_of(request: Request, name: str, size: int) -> bytes:
    """Return the id of ``size`` bytes in a part of the path. Raises NotFound for another text."""
    try:
        found = bytes.fromhex(request.path_params[name])
    except ValueError:
        found = b""
    if len(found) != size:
        raise NotFound(f"{name}: the address names none")
    return found
