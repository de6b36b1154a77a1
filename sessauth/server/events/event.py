"""Session events as messages: those of logged changes, and those without a change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from ...errors import Rejected
from ...model.change import Change, ChangeKind, Rejection
from ...model.session import EndCause, Session
from ...state.lmdb.feed import LogEntry
from ...v1 import event_service_pb2 as pb
from ..request_fields import mask_texts

_KINDS: Final = {
    ChangeKind.OPEN_SESSION: pb.SESSION_EVENT_KIND_OPENED,
    ChangeKind.NARROW_SESSION: pb.SESSION_EVENT_KIND_NARROWED,
    ChangeKind.UPDATE_FACTS: pb.SESSION_EVENT_KIND_FACTS_CHANGED,
    ChangeKind.SUSPEND_SESSION: pb.SESSION_EVENT_KIND_SUSPENDED,
    ChangeKind.RESUME_SESSION: pb.SESSION_EVENT_KIND_RESUMED,
    ChangeKind.END_SESSION: pb.SESSION_EVENT_KIND_ENDED,
    ChangeKind.REVOKE: pb.SESSION_EVENT_KIND_REVOKED,
    ChangeKind.PURGE_SESSION: pb.SESSION_EVENT_KIND_PURGED,
    ChangeKind.NEW_INCARNATION: pb.SESSION_EVENT_KIND_RESTORED,
}
_LAPSES: Final = (EndCause.LEASE_LAPSED, EndCause.EXPIRED)
# Kinds that no filter holds back.
_UNFILTERED: Final = (pb.SESSION_EVENT_KIND_RESTORED, pb.SESSION_EVENT_KIND_SYNCED)


@dataclass(frozen=True, slots=True)
class Event:
    """An event, and its encoding as a response for subscribers that receive it unchanged.

    Concatenated responses are one response with all their events.
    """

    message: pb.SessionEvent
    encoded: bytes
    ancestor_ids: Sequence[bytes] = ()

    @classmethod
    def of(cls, message: pb.SessionEvent, ancestor_ids: Sequence[bytes] = ()) -> Event:
        """Encode a message, with the tokens in its texts masked."""
        mask_texts(message)
        return cls(message, pb.WatchSessionsResponse(events=[message]).SerializeToString(), ancestor_ids)

    @property
    def is_logged(self) -> bool:
        """True if it has a change, so that it can be sent again."""
        return self.message.seq != 0

    @property
    def is_unfiltered(self) -> bool:
        """True if it goes to every subscriber."""
        return self.message.kind in _UNFILTERED


def event_of(logged: LogEntry) -> Event | None:
    """Return the event of a logged change, None if it has none.

    Raises Rejected COMPACTED for a change whose outcome was not stored.
    """
    result, change, whose = logged.result, logged.change, logged.owner
    if result is None or whose is None:
        raise Rejected(
            Rejection.COMPACTED.value,
            f"after_revision: the outcome of change {logged.seq} was not kept; list the sessions, and watch "
            "from now on",
        )
    if change is None:
        return None
    message = pb.SessionEvent(
        kind=_KINDS[change.kind],
        session_id=change.session_id,
        parent_id=whose.ancestor_ids[0] if whose.ancestor_ids else b"",
        epoch=result.epoch,
        revision=result.revision,
        seq=logged.seq,
        at_ms=change.at_ms,
        actor=change.actor,
        reason=cast(str, change.body.get("reason", "")),
        subject=whose.subject,
        purpose=whose.purpose,
        owner=whose.owner,
    )
    _fill(message, change)
    return Event.of(message, whose.ancestor_ids)


def _fill(message: pb.SessionEvent, change: Change) -> None:
    """Add the fields of some kinds."""
    body = cast("dict[str, Any]", change.body)
    if change.kind is ChangeKind.END_SESSION:
        cause = EndCause(body.get("cause", 0))
        message.cause = cast("Any", int(cause))
        if cause in _LAPSES:
            message.kind = pb.SESSION_EVENT_KIND_LAPSED
    elif change.kind is ChangeKind.OPEN_SESSION:
        message.observe = body.get("observe", False)
    elif change.kind is ChangeKind.NARROW_SESSION:
        message.enforce = body.get("enforce", False)
    elif change.kind is ChangeKind.REVOKE:
        message.block_ids.extend(body.get("block_ids", ()))


def synced_response(revision: int, at_ms: int, incarnation: bytes, missed: int) -> bytes:
    """Return a SYNCED response: everything up to this revision was sent."""
    message = pb.SessionEvent(
        kind=pb.SESSION_EVENT_KIND_SYNCED,
        revision=revision,
        at_ms=at_ms,
        incarnation=incarnation,
        missed=missed,
    )
    return Event.of(message).encoded


def used_after_end(
    session: Session,
    ancestor_ids: Sequence[bytes],
    *,
    ended: Session,
    block_ids: Sequence[bytes],
    claimed: bool,
    verifier: str,
    at_ms: int,
    count: int,
) -> Event:
    """Return the event of tokens that were presented after an end.

    ``ended`` is the session, or the ancestor that it ended with.
    """
    message = pb.SessionEvent(
        kind=pb.SESSION_EVENT_KIND_USED_AFTER_END,
        session_id=session.id,
        parent_id=session.parent_id,
        epoch=session.epoch,
        revision=ended.revision,
        at_ms=at_ms,
        cause=cast("Any", int(ended.end_cause)),
        subject=session.subject,
        purpose=session.purpose,
        owner=session.owner,
        block_ids=block_ids,
        claimed=claimed,
        verifier=verifier,
        count=count,
    )
    return Event.of(message, ancestor_ids)
