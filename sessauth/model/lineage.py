"""A session and the sessions that it descends from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from ..limits import MAX_ANCESTORS
from .session import Session


class SessionLookup(Protocol):
    """A reader of sessions by id."""

    def get_session(self, session_id: bytes) -> Session | None:
        """Return a session."""
        ...


def lineage(session: Session, get_session: Callable[[bytes], Session | None]) -> Iterator[Session]:
    """Yield a session and its ancestors, the parent first, as far as they are stored."""
    member: Session | None = session
    for _ in range(MAX_ANCESTORS + 1):
        if member is None:
            return
        yield member
        member = get_session(member.parent_id) if member.parent_id else None
