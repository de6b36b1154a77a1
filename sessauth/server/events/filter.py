"""Filters session events for one subscriber: by its request and by its role's permissions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from ...model.lineage import ancestor_ids
from ...model.session import Session
from ...v1 import event_service_pb2 as pb
from .. import request_fields
from ..keys.credentials import Principal
from ..rpc.access import ISSUER
from ..status import invalid, refused
from .event import Event

MAX_SESSIONS: Final = 64
# Events that concern all descendants of a session: their calls depend on its status, ceiling and facts.
_INHERITED: Final = frozenset(
    (
        pb.SESSION_EVENT_KIND_NARROWED,
        pb.SESSION_EVENT_KIND_FACTS_CHANGED,
        pb.SESSION_EVENT_KIND_SUSPENDED,
        pb.SESSION_EVENT_KIND_RESUMED,
        pb.SESSION_EVENT_KIND_ENDED,
        pb.SESSION_EVENT_KIND_LAPSED,
        pb.SESSION_EVENT_KIND_PURGED,
    )
)
# The fields that an issuer receives of another's session that its own descends from.
_FOREIGN_FIELDS: Final = ("kind", "session_id", "epoch", "revision", "seq", "at_ms", "cause")


class EventFilter:
    """The filters of one request. Safe to use from several threads."""

    def __init__(
        self,
        request: pb.WatchSessionsRequest,
        principal: Principal,
        get_session: Callable[[bytes], Session | None],
    ) -> None:
        """Read a request.

        Raises INVALID_ARGUMENT for contradictory filters, and NOT_FOUND for a session without events from now
        on: an unknown one, or one that is not the issuer's.
        """
        if len(request.session_ids) > MAX_SESSIONS:
            raise invalid("session_ids", f"must be at most {MAX_SESSIONS}, not {len(request.session_ids)}")
        if request.include_children and not request.session_ids:
            raise invalid("include_children", "needs session_ids: whose children")
        known = set(pb.SessionEventKind.values()) - {pb.SESSION_EVENT_KIND_UNSPECIFIED}
        for index, kind in enumerate(request.kinds):
            if kind not in known:
                raise invalid(f"kinds[{index}]", "is no kind of event that this server knows")
        self._owned_by = principal.name if principal.role == ISSUER else ""
        self._kinds = frozenset(request.kinds)
        self._subject = request_fields.text(request.subject, "subject")
        self._purpose = request_fields.text(request.purpose, "purpose")
        self._owner = request_fields.text(request.owner, "owner")
        self._children = request.include_children
        self._ids = frozenset(
            request_fields.session_id(session_id, f"session_ids[{index}]")
            for index, session_id in enumerate(request.session_ids)
        )
        # The ancestors of each watched session that is known; they never change.
        self._ancestors: dict[bytes, frozenset[bytes]] = {}
        self._lock = threading.Lock()
        for session_id in self._ids:
            session = get_session(session_id)
            if session is not None and self._owner_visible(session.owner):
                self._ancestors[session_id] = frozenset(ancestor_ids(session, get_session))
            elif request.from_now:
                raise refused("NOT_FOUND", "session_ids: no such session")

    def __call__(self, event: Event) -> bytes | None:
        """Return the response for an event, None if it is filtered out."""
        message = event.message
        if event.is_unfiltered:
            return event.encoded
        if self._kinds and message.kind not in self._kinds:
            return None
        visible = self._owner_visible(message.owner)
        if self._ids:
            with self._lock:
                if visible and message.session_id in self._ids:
                    # For a session that was purged since, its own events name its ancestors.
                    self._ancestors.setdefault(message.session_id, frozenset(event.ancestor_ids))
                inherited = sorted(
                    session_id for session_id, ids in self._ancestors.items() if message.session_id in ids
                )
            if inherited and message.kind in _INHERITED:
                return self._inherited(message, inherited, hidden=not visible)
            if message.session_id not in self._ids and not (
                self._children and self._ids.intersection(event.ancestor_ids)
            ):
                return None
        return event.encoded if visible and self._matches(message) else None

    def _owner_visible(self, owner: str) -> bool:
        return not self._owned_by or owner == self._owned_by

    def _matches(self, message: pb.SessionEvent) -> bool:
        return (
            (not self._subject or message.subject == self._subject)
            and (not self._purpose or message.purpose == self._purpose)
            and (not self._owner or message.owner == self._owner)
        )

    @staticmethod
    def _inherited(message: pb.SessionEvent, inherited: list[bytes], *, hidden: bool) -> bytes:
        """Return the response for an event of an ancestor; if ``hidden``, without the owner's fields."""
        copy = pb.SessionEvent()
        if hidden:
            for name in _FOREIGN_FIELDS:
                setattr(copy, name, getattr(message, name))
        else:
            copy.CopyFrom(message)
        copy.inherited_by.extend(inherited)
        return Event.of(copy).encoded
