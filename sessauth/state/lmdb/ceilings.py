"""The scopes of a session's ceilings: for explaining a denial, and for reports of what was used."""

from __future__ import annotations

from typing import Protocol

from ... import limits
from ...model.session import Session
from ...scopes.scope import Scope
from ..rules.ports import ReadTransaction


class SessionSource(Protocol):
    """What sessions are read from: a view's source."""

    @property
    def sessions(self) -> object:
        """The table of sessions."""
        ...

    def begin(self) -> ReadTransaction:
        """Start a read."""
        ...


def ceiling_layers(source: SessionSource, session_id: bytes) -> list[list[Scope]]:
    """Return the layers of a session's ceiling and then its ancestors', as a check counts them."""
    layers: list[list[Scope]] = []
    transaction = source.begin()
    try:
        for _ in range(limits.MAX_ANCESTORS + 1):
            data = transaction.get(session_id, db=source.sessions)
            if data is None:
                break
            session = Session.decode(data)
            layers += [[Scope.from_record(scope) for scope in layer] for layer in session.ceilings]
            if not session.parent_id:
                break
            session_id = session.parent_id
    finally:
        transaction.abort()
    return layers
