"""Session events: made of logged changes, filtered, and sent to subscribers.

Order of events: one thread of the control process follows the log for all subscribers, and runs while there
are any. It reads each change once, makes an event of it, and offers the event to them. A subscriber has a
filter, by its request and by its role's permissions, and a bounded queue of events that wait to be sent. It
has a thread of its own, so that a slow one delays no other. The log itself is the long queue: a subscriber
that has fallen behind, or comes back, reads from there.

Uses of tokens whose session is over have no change, so each is published once and never again. A stolen or
forgotten token may be presented thousands of times a second; uses are counted, and each session gets at most
one event a second, the first at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast

from ..errors import Rejected
from ..model.change import Change, ChangeKind, Rejection
from ..model.session import EndCause, Session, SessionLookup, SessionStatus, ancestor_ids, lineage
from ..state.lmdb.environment import LmdbSource
from ..state.lmdb.feed import ChangeLog, LogEntry
from ..usage.session_usage import UseAfterEnd
from ..v1 import event_service_pb2 as pb
from . import request_fields
from .keys.credentials import Principal
from .periodic import PollingThread
from .request_fields import mask_texts
from .rpc.access import ISSUER
from .status import invalid, refused

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
# Kinds that pass every filter.
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


MAX_FILTER_SESSIONS: Final = 64
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
        if len(request.session_ids) > MAX_FILTER_SESSIONS:
            raise invalid(
                "session_ids", f"must be at most {MAX_FILTER_SESSIONS}, not {len(request.session_ids)}"
            )
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
        if message.kind in _UNFILTERED:
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


# Bound of the queue, in events. They are shared between subscribers; events that do not fit are read from the
# log once the subscriber has come so far.
MAX_WAITING: Final = 1024


class LogPosition(NamedTuple):
    """A position in the log: sequence number and revision."""

    seq: int
    revision: int


class EventSubscriber:
    """A bounded queue for one stream. The publisher never waits for the stream's thread."""

    def __init__(self, admits: Callable[[Event], bytes | None], position: LogPosition) -> None:
        """Wait for the events that ``admits`` returns a response for, after ``position``."""
        self.admits = admits
        # The position up to which events were sent. The stream's own thread moves it.
        self.position = position
        # Dropped events that are not of the log: they can't be sent again.
        self.missed = 0
        self._changed = threading.Condition()
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._offered = position
        self._fell_behind = False
        self._error: BaseException | None = None

    def begin(self, position: LogPosition) -> None:
        """Restart: everything after ``position`` is offered from now on."""
        with self._changed:
            self._waiting.clear()
            self._offered = position
            self._fell_behind = False

    def offer(self, events: Iterable[Event], upto: LogPosition) -> None:
        """Queue those of the events that are admitted; ``upto`` is the position that they reach."""
        admitted = [(event, response) for event in events if (response := self.admits(event)) is not None]
        with self._changed:
            self._offered = upto
            if self._fell_behind:
                self.missed += sum(not event.is_logged for event, _ in admitted)
                return
            for event, response in admitted:
                self._waiting.append((event.message.seq, response))
            if len(self._waiting) > MAX_WAITING:
                self._drop()
            if admitted:
                self._changed.notify()

    def fall_behind(self) -> None:
        """Have it read the next events from the log."""
        with self._changed:
            self._drop()
            self._changed.notify()

    def fail(self, error: BaseException) -> None:
        """Have the stream's thread raise ``error``; the first one counts."""
        with self._changed:
            if self._error is None:
                self._error = error
            self._changed.notify()

    def raise_if_failed(self) -> None:
        """Raise the error that ended the watch, if there is one."""
        if self._error is not None:
            raise self._error

    def next_batch(self, seconds: float) -> tuple[list[bytes], LogPosition] | None:
        """Wait up to ``seconds`` for events; return the responses that wait, and the position they reach.

        None if it fell behind. Events that were sent before (read from the log while they waited here as
        well) are left out. Raises the error that ended the watch.
        """
        with self._changed:
            if not self._waiting and not self._fell_behind and self._error is None:
                self._changed.wait(seconds)
            self.raise_if_failed()
            if self._fell_behind:
                return None
            responses = [response for seq, response in self._waiting if not 0 < seq <= self.position.seq]
            self._waiting.clear()
            return responses, max(self._offered, self.position)

    def _drop(self) -> None:
        self.missed += sum(seq == 0 for seq, _ in self._waiting)
        self._waiting.clear()
        self._fell_behind = True


POLL_SECONDS: Final = 0.02
# Changes read in one step, by this thread and by a subscriber that reads for itself.
STEP: Final = 256
# Events that are not of the log and wait for the next poll. Each session has one a second.
MAX_UNLOGGED: Final = 4096


class SessionEventPublisher(PollingThread[EventSubscriber]):
    """The subscribers of one control process."""

    def __init__(self, source: LmdbSource) -> None:
        """Follow the log of ``source``; nothing runs yet."""
        super().__init__(
            "sessauth-session-events",
            overloaded="no thread to follow the log with; retry later",
            draining="this server is about to end; watch on from another, or from its next run",
        )
        self._commit_id = source.commit_id
        self.feed = ChangeLog(source)
        self._position = LogPosition(0, 0)
        self._commit = 0
        # Events that are not of the log, until the changes before them are published.
        self._unlogged: deque[Event] = deque(maxlen=MAX_UNLOGGED)

    @property
    def watchers(self) -> int:
        """The number of open streams."""
        return len(self._members)

    @contextmanager
    def open(self, subscriber: EventSubscriber) -> Iterator[None]:
        """Publish to a subscriber for a ``with`` block; it calls :meth:`join` itself when it fell behind.

        Raises SHUTTING_DOWN while draining, OVERLOADED if no thread can be started.
        """
        try:
            self.join(subscriber)
            yield
        finally:
            with self._lock:
                self._members.discard(subscriber)
                if not self._members:
                    # The next subscriber did not watch when these happened.
                    self._unlogged.clear()

    def join(self, subscriber: EventSubscriber) -> LogPosition:
        """Restart the subscriber's queue; returns its start: up to there it reads the log itself."""
        with self._lock:
            self._add(subscriber)
            subscriber.begin(self._position)
            return self._position

    def read(self, behind: LogPosition) -> tuple[list[Event], LogPosition]:
        """Return the events of some changes after a position, and the position that they reach.

        Raises Rejected COMPACTED if the log no longer has them.
        """
        step = self.feed.entries(behind.seq, STEP)
        events = [event for event in map(event_of, step) if event is not None]
        if not step:
            return [], behind
        revision = step[-1].result.revision if step[-1].result is not None else behind.revision
        return events, LogPosition(step[-1].seq, revision)

    def publish(self, event: Event) -> None:
        """Publish an event that is not of the log, after the change that it follows."""
        with self._lock:
            if self._members:
                self._unlogged.append(event)

    def _prepare(self) -> None:
        """Follow from the log's present end."""
        head = self.feed.head()
        self._position, self._commit = LogPosition(head.seq, head.revision), 0

    def _poll(self, members: list[EventSubscriber]) -> float:
        """Offer the changes committed since the last poll."""
        if self._commit_id is not None and self._commit_id.number == self._commit:
            self._offer_unlogged()
            return POLL_SECONDS
        # Read before the log: a commit in between is found by the next poll. A read may be one commit behind
        # the id, which moves first.
        commit = self.feed.commit_id()
        try:
            events, upto = self.read(self._position)
        except Rejected:
            # The log no longer holds the next changes: each subscriber finds out if it lost any.
            head = self.feed.head()
            with self._lock:
                self._position = LogPosition(head.seq, head.revision)
                for subscriber in self._members:
                    subscriber.fall_behind()
            return POLL_SECONDS
        if upto == self._position:
            self._commit = commit
            self._offer_unlogged()
            return POLL_SECONDS
        with self._lock:
            self._position = upto
            for subscriber in self._members:
                subscriber.offer(events, upto)
        return 0.0

    def _offer_unlogged(self) -> None:
        """Offer events that are not of the log, once the changes that they follow were offered."""
        if not self._unlogged:
            return
        with self._lock:
            events = [event for event in self._unlogged if event.message.revision <= self._position.revision]
            for event in events:
                self._unlogged.remove(event)
            for subscriber in self._members:
                subscriber.offer(events, self._position)


# Sessions with uses to add up at a time. More are counted and not published.
MAX_ENDED_SESSIONS: Final = 4096
# Block ids in one event.
MAX_BLOCK_IDS: Final = 16


@dataclass(slots=True)
class _Sum:
    """Uses of one session since its last event."""

    block_ids: dict[bytes, None] = field(default_factory=dict)
    claimed: bool = True
    verifier: str = ""
    at_ms: int = 0
    count: int = 0

    def add(self, verifier: str, use: UseAfterEnd) -> None:
        for block_id in use.block_ids:
            if len(self.block_ids) < MAX_BLOCK_IDS:
                self.block_ids[block_id] = None
        # One use with valid signatures is more than a claim.
        self.claimed = self.claimed and use.claimed
        self.verifier, self.at_ms = verifier, use.last_ms
        self.count += use.count


class _EndedSession(NamedTuple):
    """A session that is over, the ids of its ancestors, and the member of its lineage that ended first."""

    session: Session
    ancestor_ids: Sequence[bytes]
    ended: Session


class UsesAfterEnd:
    """Adds up uses by session, and publishes events of them."""

    def __init__(self, sessions: SessionLookup, publish: Callable[[Event], None]) -> None:
        self._sessions = sessions
        self._publish = publish
        # Uses that were not published, since too many sessions were used at once.
        self.dropped = 0
        # Uses at this host of sessions that are over, since this process began.
        self.total = 0
        self._lock = threading.Lock()
        # Sessions with an event in this second, and their uses since.
        self._sums: dict[bytes, _Sum] = {}

    def on_used_after_end(
        self, session_id: bytes, verifier: str, use: UseAfterEnd, *, counted: bool = True
    ) -> None:
        """Record that ``verifier`` observed uses of an ended session's tokens; from any thread.

        Ignored if the state does not know the session (16 bytes), or if it lives. Uses at another host of a
        cluster are not ``counted``: that one does.
        """
        if use.count < 1:
            return
        total = use.count if counted else 0
        with self._lock:
            current = self._sums.get(session_id)
            if current is not None:
                self.total += total
                current.add(verifier, use)
                return
        # Looked up before it occupies an entry: made-up ids must not crowd out sessions that existed.
        ended = self._find_ended(session_id)
        if ended is None:
            return
        with self._lock:
            self.total += total
            current = self._sums.get(session_id)
            if current is not None:
                # Another thread came first.
                current.add(verifier, use)
                return
            if len(self._sums) >= MAX_ENDED_SESSIONS:
                self.dropped += use.count
                return
            self._sums[session_id] = _Sum()
        uses = _Sum()
        uses.add(verifier, use)
        self._publish_uses(ended, uses)

    def flush(self) -> None:
        """Publish the uses since the last events; the control process calls it once a second."""
        with self._lock:
            due = [(session_id, uses) for session_id, uses in self._sums.items() if uses.count]
            # These stay in the table, so that there is one event a second and not two.
            self._sums = {session_id: _Sum() for session_id, _ in due}
        for session_id, uses in due:
            ended = self._find_ended(session_id)
            if ended is not None:
                self._publish_uses(ended, uses)

    def _publish_uses(self, ended: _EndedSession, uses: _Sum) -> None:
        session = ended.session
        message = pb.SessionEvent(
            kind=pb.SESSION_EVENT_KIND_USED_AFTER_END,
            session_id=session.id,
            parent_id=session.parent_id,
            epoch=session.epoch,
            revision=ended.ended.revision,
            at_ms=uses.at_ms,
            cause=cast("Any", int(ended.ended.end_cause)),
            subject=session.subject,
            purpose=session.purpose,
            owner=session.owner,
            block_ids=tuple(uses.block_ids),
            claimed=uses.claimed,
            verifier=uses.verifier,
            count=uses.count,
        )
        self._publish(Event.of(message, ended.ancestor_ids))

    def _find_ended(self, session_id: bytes) -> _EndedSession | None:
        """Return a session that is over; None if it is unknown, or if it and its ancestors live."""
        get_session = self._sessions.get_session
        session = get_session(session_id)
        if session is None:
            return None
        for member in lineage(session, get_session):
            if member.status is SessionStatus.ENDED:
                return _EndedSession(session, ancestor_ids(session, get_session), member)
        return None
