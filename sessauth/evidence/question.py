"""The question of a pack: which sessions, and from when to when."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..audit.read.query import FolderReader
from ..errors import NotFound, UsageError
from ..model.change import Change, ChangeKind
from .reader.manifest import PackQuestion

# Each has a receipt and a report.
MAX_SESSIONS: Final = 10_000
_OPENED: Final = b'"change":"open_session"'


@dataclass(slots=True)
class _Openings:
    """Openings of sessions in the log: purposes, children and times, by ids in hex."""

    purposes: dict[str, set[str]] = field(default_factory=dict)
    children: dict[str, set[str]] = field(default_factory=dict)
    opened_ms: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, folders: Iterable[Path]) -> _Openings:
        """Read the openings of audit folders. Raises StateUnusable if one can't be read."""
        found = cls()
        for folder in folders:
            for entry in FolderReader(folder).entries(_OPENED):
                if entry.kind == "change" and entry.record.get("change") == ChangeKind.OPEN_SESSION.value:
                    found._add(str(entry.record.get("session")), str(entry.record.get("body")), entry.at_ms)
        return found

    def _add(self, session: str, body: str, at_ms: int) -> None:
        self.opened_ms[session] = min(self.opened_ms.get(session, at_ms), at_ms)
        try:
            change = Change.decode(base64.b64decode(body, validate=True)).body
        except ValueError:
            return
        self.purposes.setdefault(str(change.get("purpose") or ""), set()).add(session)
        parent = change.get("parent_id")
        if isinstance(parent, bytes) and parent:
            self.children.setdefault(parent.hex(), set()).add(session)

    def with_descendants(self, sessions: Iterable[str]) -> frozenset[str]:
        """Return sessions and all that descend from them."""
        found: set[str] = set()
        waiting = list(sessions)
        while waiting:
            session = waiting.pop()
            if session not in found:
                found.add(session)
                waiting += self.children.get(session, ())
        return frozenset(found)


def of_session(
    folders: Sequence[Path], session: str, since_ms: int, until_ms: int, show: str
) -> PackQuestion:
    """Return the question for a session, in hex, and those that descend from it.

    Without ``since_ms`` it begins with the opening of the session, or with the log if that is not in it.
    Raises StateUnusable if a folder can't be read.
    """
    return _of("session", session, _Openings.read(folders), [session], "", since_ms, until_ms, show)


def of_purpose(
    folders: Sequence[Path], purpose: str, since_ms: int, until_ms: int, show: str
) -> PackQuestion:
    """Return the question for all sessions of a purpose that the log opens. Raises as above, and NotFound."""
    openings = _Openings.read(folders)
    sessions = openings.purposes.get(purpose)
    if not sessions:
        raise NotFound("no session of that purpose was opened in the log")
    return _of("purpose", "", openings, sessions, purpose, since_ms, until_ms, show)


def of_time(since_ms: int, until_ms: int, show: str) -> PackQuestion:
    """Return the question for everything from a time on, until another. Times in ms since 1970."""
    return _checked(PackQuestion("time", "", frozenset(), "", since_ms, until_ms, show))


def _of(
    kind: str,
    root: str,
    openings: _Openings,
    roots: Iterable[str],
    purpose: str,
    since_ms: int,
    until_ms: int,
    show: str,
) -> PackQuestion:
    sessions = openings.with_descendants(roots)
    if not since_ms:
        since_ms = min(openings.opened_ms.get(session, 0) for session in sessions)
    return _checked(PackQuestion(kind, root, sessions, purpose, since_ms, until_ms, show))


def _checked(question: PackQuestion) -> PackQuestion:
    if len(question.sessions) > MAX_SESSIONS:
        raise UsageError(
            f"--purpose: has {len(question.sessions)} sessions; a pack has {MAX_SESSIONS} at most"
        )
    if question.since_ms >= question.until_ms:
        raise UsageError("--from, --to: nothing lies between them")
    return question
