"""Which events a watcher of sessions is told, by what it asked for and by whose sessions it may see."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from ...model.session import Session
from ...v1 import event_service_pb2 as pb
from .. import request_fields
from ..keys.credentials import Principal
from ..rpc.access import ISSUER
from ..status import invalid, refused
from .event import Event

MAX_SESSIONS: Final = 64
# What holds for all that descend from a session too: their calls are held to its status, ceiling and facts.
_HANDED_DOWN: Final = frozenset(
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
# All that an issuer is told of another's session that its own descends from.
_OF_ANOTHERS: Final = ("kind", "session_id", "epoch", "revision", "seq", "at_ms", "cause")


class EventFilter:
    """The filters of one request. Safe to use from several threads."""

    def __init__(
        self,
        request: pb.WatchSessionsRequest,
        principal: Principal,
        get_session: Callable[[bytes], Session | None],
    ) -> None:
        """Read a request.

        Raises INVALID_ARGUMENT for what makes no sense, and NOT_FOUND for a session that nothing can be told
        of from now on: one that is not there, or is not the issuer's.
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
            request_fields.session_id(each, f"session_ids[{index}]")
            for index, each in enumerate(request.session_ids)
        )
        # Of each watched session that is known: all that it descends from, which never changes.
        self._lines: dict[bytes, frozenset[bytes]] = {}
        self._lock = threading.Lock()
        for session_id in self._ids:
            session = get_session(session_id)
            if session is not None and self._may_see(session.owner):
                self._lines[session_id] = frozenset(line_of(session, get_session))
            elif request.from_now:
                raise refused("NOT_FOUND", "session_ids: no such session")

    def __call__(self, event: Event) -> bytes | None:
        """Return the response that tells a watcher of an event, None if it is not told."""
        message = event.message
        if event.told_always:
            return event.encoded
        if self._kinds and message.kind not in self._kinds:
            return None
        visible = self._may_see(message.owner)
        if self._ids:
            with self._lock:
                if visible and message.session_id in self._ids:
                    # Also of a session that was purged since: its own events say whose child it was.
                    self._lines.setdefault(message.session_id, frozenset(event.ancestor_ids))
                inherited = sorted(each for each, line in self._lines.items() if message.session_id in line)
            if inherited and message.kind in _HANDED_DOWN:
                return self._inherited(message, inherited, hidden=not visible)
            if message.session_id not in self._ids and not (
                self._children and self._ids.intersection(event.ancestor_ids)
            ):
                return None
        return event.encoded if visible and self._fits(message) else None

    def _may_see(self, owner: str) -> bool:
        return not self._owned_by or owner == self._owned_by

    def _fits(self, message: pb.SessionEvent) -> bool:
        return (
            (not self._subject or message.subject == self._subject)
            and (not self._purpose or message.purpose == self._purpose)
            and (not self._owner or message.owner == self._owner)
        )

    @staticmethod
    def _inherited(message: pb.SessionEvent, inherited: list[bytes], *, hidden: bool) -> bytes:
        """Return the response for an event of an ancestor; of another's session an issuer learns no more."""
        told = pb.SessionEvent()
        if hidden:
            for name in _OF_ANOTHERS:
                setattr(told, name, getattr(message, name))
        else:
            told.CopyFrom(message)
        told.inherited_by.extend(inherited)
        return Event.of(told).encoded


def line_of(session: Session, get_session: Callable[[bytes], Session | None]) -> list[bytes]:
    """Return the ids of all that a session descends from, the parent first."""
    line: list[bytes] = []
    parent_id = session.parent_id
    while parent_id and parent_id not in line:
        line.append(parent_id)
        parent = get_session(parent_id)
        parent_id = parent.parent_id if parent is not None else b""
    return line
