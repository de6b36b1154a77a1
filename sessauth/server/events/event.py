"""What watchers of sessions are told: an event of a logged change, and those that are of no change."""

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
_BY_ITSELF: Final = (EndCause.LEASE_LAPSED, EndCause.EXPIRED)
# Whatever a watcher asked for.
_TOLD_ALWAYS: Final = (pb.SESSION_EVENT_KIND_RESTORED, pb.SESSION_EVENT_KIND_SYNCED)


@dataclass(frozen=True, slots=True)
class Event:
    """One event and, for those that it goes to unchanged, its bytes as a whole response.

    Responses that are put one behind the other are one response with all their events.
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
    def of_the_log(self) -> bool:
        """Whether a change stands behind it, so that it can be told again."""
        return self.message.seq != 0

    @property
    def told_always(self) -> bool:
        """Whether no filter keeps it from a watcher."""
        return self.message.kind in _TOLD_ALWAYS


def event_of(logged: LogEntry) -> Event | None:
    """Return the event of a logged change, None if no watcher is told of it.

    Raises Rejected COMPACTED for a change of which it is not known what became of it.
    """
    result, change, whose = logged.result, logged.change, logged.owner
    if result is None or whose is None:
        raise Rejected(
            Rejection.COMPACTED.value,
            f"after_revision: what became of change {logged.seq} was not kept; list the sessions, and watch "
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
    """Add what only some kinds have."""
    body = cast("dict[str, Any]", change.body)
    if change.kind is ChangeKind.END_SESSION:
        cause = EndCause(body.get("cause", 0))
        message.cause = cast("Any", int(cause))
        if cause in _BY_ITSELF:
            message.kind = pb.SESSION_EVENT_KIND_LAPSED
    elif change.kind is ChangeKind.REVOKE:
        message.block_ids.extend(body.get("block_ids", ()))


def synced(revision: int, at_ms: int, incarnation: bytes, missed: int) -> bytes:
    """Return the response that says: everything up to this revision was told."""
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
    line: Sequence[bytes],
    *,
    over: Session,
    block_ids: Sequence[bytes],
    claimed: bool,
    verifier: str,
    at_ms: int,
    count: int,
) -> Event:
    """Return the event of tokens that were presented behind an end.

    ``over`` is who ended: the session, or the ancestor of ``line`` that it ended with.
    """
    message = pb.SessionEvent(
        kind=pb.SESSION_EVENT_KIND_USED_AFTER_END,
        session_id=session.id,
        parent_id=session.parent_id,
        epoch=session.epoch,
        revision=over.revision,
        at_ms=at_ms,
        cause=cast("Any", int(over.end_cause)),
        subject=session.subject,
        purpose=session.purpose,
        owner=session.owner,
        block_ids=block_ids,
        claimed=claimed,
        verifier=verifier,
        count=count,
    )
    return Event.of(message, line)
