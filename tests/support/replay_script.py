"""A play of one session, of which each test of replay tells a part; and logs that were changed behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sessauth.audit.replay import ReplayReport, replay
from sessauth.crypto.keys import KeyStatus
from sessauth.model.change import add_key, end_session, open_session
from sessauth.scopes.scope import Scope
from tests.support.audit_play import Play
from tests.support.resigned_log import reseal
from tests.support.token_forger import id16
from tests.vectors.world import ISSUER, NOW, SESSION, ask, root, token

OPENED = NOW - 1_000
LEASE_MS = 500
CALL = ask(action=b"read", resource=b"files/a")
GATED = ask(action=b"read", resource=b"gated/a", arguments=b'{"owner":"acme"}')
PLAIN = token(root("read:files/**"))
MIXED = token(root("read:files/**", 'read:gated/* where owner == "acme" free *'))
OTHER = id16("another session")
OTHERS = token(root("read:files/**", root_fields={"session_id": OTHER}))


def scopes(*texts: str) -> list[Any]:
    """Scopes as a change has them."""
    return [Scope.parse(text).to_record() for text in texts]


class Script(Play):
    """A play with a session, which each test continues."""

    def __init__(self, folder: Path, incarnation: bytes = b"i" * 16, *, recorded: bool = True) -> None:
        """Add the issuer and open the session; with ``recorded`` False the log lacks both."""
        super().__init__(folder, incarnation)
        self._number = 0
        self.do(add_key(self.next_id(), ISSUER.public, status=KeyStatus.ACTIVE), OPENED, recorded=recorded)
        self.open(SESSION, recorded=recorded)

    def next_id(self) -> str:
        """A request id."""
        self._number += 1
        return f"change-{self._number}"

    def open(
        self, session_id: bytes, *, recorded: bool = True, ceiling: str = "*:**", **options: Any
    ) -> None:
        """Open a session that lives as long as the tokens do."""
        options = {"subject": "agent", "ttl_ms": 3_600_000, **options}
        opened = open_session(self.next_id(), session_id, scopes(ceiling), **options)
        assert self.do(opened, OPENED, recorded=recorded).applied

    def end(self, session_id: bytes = SESSION) -> None:
        """End a session."""
        assert self.do(end_session(self.next_id(), session_id), NOW).applied


def replayed(play: Play, folder: Path, **options: Any) -> ReplayReport:
    """End a play and replay its folder."""
    play.close()
    return replay(folder, **options)


def changed(folder: Path, edit: Callable[[dict[str, Any]], None], kind: str = "decision") -> ReplayReport:
    """Replay a folder in which each record of a kind was edited."""
    to = folder.with_name("changed")

    def edited(record: dict[str, Any]) -> dict[str, Any]:
        if record["kind"] == kind:
            edit(record)
        return record

    reseal(folder, to, edited)
    return replay(to)


ALLOWED: dict[str, Any] = {"allowed": True, "reason": "ALLOWED", "stage": "NONE", "at": None}
