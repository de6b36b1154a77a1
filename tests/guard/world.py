"""A real server, a catalogue of three tools, and guards in front of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sessauth import Reason, Token, ToolCatalog
from sessauth.client import Client
from sessauth.client._results import RemoteDecision
from sessauth.guard import Guard, ToolDenied
from sessauth.reasons import Level, Stage
from tests.support.server_fixture import AUDIENCE, ServerFixture

SERVER: Final = "tools"
TOOLS: Final = (
    {"name": "get_weather", "annotations": {"readOnlyHint": True}},
    {"name": "pay", "annotations": {"destructiveHint": False}},
    {"name": "delete_repo"},
)
# A tool that the framework has, and nobody pinned.
UNKNOWN: Final = "drop_tables"
# What tokens permit by default: to read the weather and to pay small amounts, not to delete a repository.
SCOPES: Final = (f"read:mcp/{SERVER}/get_weather", f"write:mcp/{SERVER}/pay where amount <= 100")
CEILING: Final = (f"read,write:mcp/{SERVER}/**",)

_numbers = itertools.count(1)


class Broken:
    """A verifier whose every method raises what no adapter expects."""

    def __getattr__(self, name: str) -> Any:
        """Return a method that raises."""

        def method(*_: object, **__: object) -> None:
            raise RuntimeError(f"{name} is broken")

        return method


def allowed(kind: type[RemoteDecision] = RemoteDecision) -> RemoteDecision:
    """Return an allow with a permit, as a server gives it."""
    numbers = {"index": -1, "scope": -1, "clause": -1, "argument": "", "matched_index": 0, "matched_scope": 0}
    ids: dict[str, Any] = {"session_id": b"s" * 16, "block_ids": (), "decision_id": b"d" * 16}
    times = {"epoch": 0, "revision": 1, "view_age_ms": 0, "expires_at_ms": 0}
    answer: dict[str, Any] = {"allowed": True, "reason": Reason.ALLOWED, "stage": Stage.NONE}
    return kind(**answer, level=Level.NONE, **numbers, **ids, **times, permit=b"p" * 32)


@dataclass
class World:
    """The server and what happened: ``ran`` has each call that reached a tool, ``denied`` each refusal."""

    server: ServerFixture
    catalogue: Any = field(default_factory=lambda: ToolCatalog.from_mcp(SERVER, TOOLS))
    ran: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    denied: list[ToolDenied] = field(default_factory=list)

    def session(self, **terms: Any) -> Any:
        """Open a session for all tools."""
        terms = {"subject": "agent:test", "purpose": f"test {next(_numbers)}", "ceiling": CEILING, **terms}
        return self.server.operator.open_session(**terms)

    def token(self, *scopes: str, session: Any = None, **terms: Any) -> Token:
        """Mint a token with these scopes, by default :data:`SCOPES` of a new session, open."""
        session = session or self.session()
        terms.setdefault("ending", "open")
        return self.server.operator.mint(session.id, scopes or SCOPES, [AUDIENCE], **terms)

    def guard(self, *, token: Any = None, verifier: Any = None, **options: Any) -> Guard:
        """Return a guard that judges in this process and writes to ``denied``."""
        verifier = self.server.verifier if verifier is None else verifier
        return Guard(
            verifier,
            self.catalogue,
            token=token,
            audience=AUDIENCE,
            on_denied=self.denied.append,
            **options,
        )

    def end(self, token: Token) -> None:
        """End the session of a token."""
        self.server.operator.end(token.session_id)

    def dead_client(self) -> Client:
        """Return a client of a server that is not there."""
        return Client(str(self.server.home / "run" / "nobody.sock"), "sessauth_key_nobody_x", timeout_ms=300)

    def run(self, tool: str, **arguments: Any) -> str:
        """Do what a tool of this name does: note the call."""
        self.ran.append((tool, arguments))
        return f"{tool} done"

    def credential_file(self) -> Path:
        """Return the file of the gateway's credential."""
        return self.server.home / "gateway.credential"
