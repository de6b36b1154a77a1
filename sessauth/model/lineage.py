"""A session and the sessions that it descends from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from ..limits import MAX_ANCESTORS
from ..scopes.scope import Scope
from .session import Session


class SessionLookup(Protocol):
    """A reader of sessions by id."""

    def get_session(self, session_id: bytes) -> Session | None:
        """Return a session."""
        ...


def lineage(session: Session | None, read: Callable[[bytes], Session | None]) -> Iterator[Session]:
    """Yield a session and its ancestors, the parent first, up to the first that ``read`` does not find.

    ``read`` is called for an ancestor only once the session before it was used.
    """
    for _ in range(MAX_ANCESTORS + 1):
        if session is None:
            return
        yield session
        session = read(session.parent_id) if session.parent_id else None


def ancestor_ids(session: Session, read: Callable[[bytes], Session | None]) -> tuple[bytes, ...]:
    """Return the ids of a session's ancestors, the parent first; a purged one is the last that is known."""
    return tuple(member.parent_id for member in lineage(session, read) if member.parent_id)


def ceiling_layers(session_id: bytes, read: Callable[[bytes], Session | None]) -> Iterator[list[Scope]]:
    """Yield the layers of a session's ceiling and then its ancestors', as a check counts them."""
    for session in lineage(read(session_id) if session_id else None, read):
        for layer in session.ceilings:
            yield [Scope.from_record(scope) for scope in layer]
