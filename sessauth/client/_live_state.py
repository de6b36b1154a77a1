"""State that outlasts one call, for both clients.

- live sessions, whose lease is renewed while a block runs;
- proofs of bound tokens, for the latest keys of the host;
- watched calls, whose allow the server may withdraw;
- events of sessions, resumed from a position after a break.

A lease is renewed after a third of its length. A renewal without an answer is tried again until the lease
must have lapsed, by this machine's monotonic clock. A renewal that the server refuses is final. From then on
the session is lost, and each use of it raises.

The server checks a watched call again whenever the state changes or the call's time comes, and withdraws the
allow at once. When a stream ends, for any reason, it watches nothing any more: none of its calls counts as
allowed, and calls in progress have to be checked again on another watch.

Nothing here does I/O: ``_tasks.py`` and ``_threads.py`` call it. Anything lost, late or unknown counts as not
allowed.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

from .._fast.codec.record import Record
from ..clock import Clock, SystemClock
from ..crypto.keys import IssuerKeys, SignedVerifierKey, VerifierKeys, load_trusted_keys
from ..errors import MalformedToken, NotFound, Rejected, SessauthError, StateError, Unavailable, UsageError
from ..model.receipt import SignedReceipt
from ..model.session import EndCause, Session
from ..scopes.value import Number, Plain
from ..tokens.prover import HolderKey, HostKeys
from ..tokens.token import Token
from ..v1 import authorization_service_pb2 as pb
from ..v1 import event_service_pb2 as event_pb
from ._requests import tokens as token_calls
from ._requests.fields import check_count, check_id, field_values, newer_server
from ._results import CheckItem, EndedSession, RemoteDecision, decision_from_message
from ._transport import ChannelHandle


class ProofMaker:
    """Makes proofs with a holder's key, for the host of the latest keys. Safe between threads.

    Without a holder it leaves every call as it is.
    """

    def __init__(
        self, holder: HolderKey | None, issuer_keys: IssuerKeys | None, clock: Clock | None = None
    ) -> None:
        """Prove with ``holder``, at the time of ``clock``, for keys that ``issuer_keys`` signed."""
        self._holder = holder
        self._clock = clock or SystemClock()
        self._host = HostKeys(self._clock)
        # It is read more than once, and an iterator can't be.
        self.issuer_keys = load_trusted_keys(issuer_keys).values() if issuer_keys is not None else None

    @property
    def proves(self) -> bool:
        """True with a holder."""
        return self._holder is not None

    def verify(self, signed: Iterable[SignedVerifierKey], issuer_keys: IssuerKeys) -> VerifierKeys:
        """Return a host's keys, verified. Raises UsageError for one that ``issuer_keys`` did not sign."""
        return VerifierKeys(signed, issuer_keys, now_ms=self._clock.now_ms())

    def needs_keys(self, item: CheckItem) -> bool:
        """Return True if ``item`` needs a proof and no current key of the host is known."""
        if self._holder is None or self._host.current() is not None:
            return False
        return self._own_token(item) is not None

    def use_keys(self, keys: VerifierKeys) -> None:
        """Prove for the newest of ``keys`` from now on."""
        self._host.use(keys)

    def with_proof(self, item: CheckItem) -> CheckItem:
        """Return ``item`` with a proof, if its token is bound to the holder and it has none; else itself.

        Raises Unavailable if no current key of the host is known.
        """
        token = self._own_token(item)
        if token is None or self._holder is None:
            return item
        key = self._host.require()
        proof = self._holder.prove(token, item.action, item.resource, item.arguments, key, clock=self._clock)
        return replace(item, proof=proof)

    def drop_rejected_keys(self, item: CheckItem, sent: CheckItem, decision: RemoteDecision) -> bool:
        """Forget the keys and return True if a proof that was made here was rejected."""
        return sent is not item and self._host.drop_rejected(decision.reason)

    def _own_token(self, item: CheckItem) -> Token | None:
        """Return the token of an item that needs a proof, None for any other item."""
        if item.proof or item.token_only or self._holder is None:
            return None
        token = item.token
        if not isinstance(token, Token):
            try:
                token = Token.parse(token)
            except MalformedToken:
                # The server denies it.
                return None
        return token if self._holder.holds(token) else None


# Between renewals without an answer: soon, but not in a tight loop.
RETRY_S: Final = 0.25
# Refusals of an end that mean that the session is over already.
_OVER: Final = frozenset({"ALREADY_ENDED", "NOT_FOUND"})


class LiveState:
    """The latest known state of a live session."""

    def __init__(self, session: Session) -> None:
        """Begin with the session as it was opened."""
        self._session = session
        self._lost: SessauthError | None = None
        self._ended = False
        self._lapses_at_s = time.monotonic() + session.lease_ms / 1000

    def __repr__(self) -> str:
        """Return one line: the session, and whether it is lost or ended."""
        end = " ended" if self._ended else " lost" if self._lost else ""
        return f"<LiveSession {self.id.hex()}{end}>"

    @property
    def id(self) -> bytes:
        """The session's id, 16 bytes."""
        return self._session.id

    @property
    def session(self) -> Session:
        """The session as in the last answer."""
        return self._session

    @property
    def receipt(self) -> SignedReceipt | None:
        """The receipt of its end, once it was ended here; None where the server could not make one."""
        return self._session.receipt if isinstance(self._session, EndedSession) else None

    @property
    def facts(self) -> Mapping[str, str | bool | int | Decimal]:
        """The facts as in the last answer, read-only; ``update_facts`` changes them."""
        return MappingProxyType({fact.name: _python(fact.value) for fact in self._session.facts})

    @property
    def lost(self) -> bool:
        """True if the lease lapsed, or the session ended elsewhere, while the block ran."""
        return self._lost is not None

    def raise_if_lost(self) -> None:
        """Raise Rejected if the session is lost; its cause is the renewal's error."""
        if self._lost is not None:
            word = self._lost.word if isinstance(self._lost, Rejected) else "LEASE_LAPSED"
            raise Rejected(word, f"session {self.id.hex()} is lost; open another one") from self._lost

    def _renewal_interval_s(self) -> float:
        return self._session.lease_ms / 3000

    def _renewal_timeout_ms(self) -> int:
        return max(1, self._session.lease_ms // 3)

    def _renewed(self, sent_at_s: float) -> float:
        self._lapses_at_s = sent_at_s + self._session.lease_ms / 1000
        return self._renewal_interval_s()

    def _renewal_failed(self, error: SessauthError) -> float | None:
        """Return the delay before the next renewal, in seconds, or None if the session is lost."""
        if isinstance(error, Unavailable | StateError) and time.monotonic() < self._lapses_at_s:
            return min(RETRY_S, self._renewal_interval_s())
        self._lost = error
        return None

    def _raise_unless_over(self, error: SessauthError) -> None:
        """Raise the ``error`` of an end, unless it means that the session is over already."""
        if isinstance(error, NotFound) or (isinstance(error, Rejected) and error.word in _OVER):
            return
        raise error

    def _not_ended_note(self, error: SessauthError) -> str:
        until = "its lease lapses" if self._session.lease_ms else "its hard end"
        return f"sessauth: session {self.id.hex()} could not be ended and lives until {until}: {error}"


def _python(value: Plain) -> str | bool | int | Decimal:
    """Return a number as an int if it is whole, else as a Decimal; everything else as it is."""
    if isinstance(value, Number):
        return value.to_decimal() if value.nanos else value.units
    return value


def end_reason(cause: BaseException) -> str:
    """Return the reason of an end, when the block was left because of ``cause``."""
    return f"left by {type(cause).__name__}"


P = TypeVar("P", covariant=True)

# Sent under the number of a call to watch it no longer: the last request under a number counts.
NO_CALL: Final = CheckItem(b"", "none", "none")


class ProofSource(NamedTuple, Generic[P]):
    """Functions of a client that prove calls.

    ``with_proof(item)`` returns the item to send. ``drop_rejected_keys(item, sent, decision)`` is true if the
    call is to be proven and sent once more.
    """

    with_proof: Callable[[CheckItem], P]
    drop_rejected_keys: Callable[[CheckItem, CheckItem, RemoteDecision], bool]


class WatchedCall:
    """A call on a watch, with its decisions.

    ``decision`` is the answer; ``withdrawn`` is the decision that withdrew it, or None. True as a bool
    exactly while the call is allowed: answered so, not withdrawn, and still watched.
    """

    __slots__ = ("_over", "decision", "item", "number", "withdrawn")

    decision: RemoteDecision

    def __init__(self, number: int, item: CheckItem) -> None:
        """Begin without an answer."""
        self.number = number
        self.item = item
        self.withdrawn: RemoteDecision | None = None
        self._over = False

    def __bool__(self) -> bool:
        """Return True while the call is allowed."""
        return bool(self.decision) and self.withdrawn is None and not self._over

    def __repr__(self) -> str:
        """Show the number and the last decision."""
        return f"<WatchedCall {self.number} {self.withdrawn or self.decision!r}>"


class PendingCalls:
    """The calls of one watch by their numbers, unanswered and watched. For either client."""

    def __init__(self, audience: str) -> None:
        """Begin without calls; ``audience`` names the verifier."""
        self._audience = audience
        self._numbers = itertools.count(1)
        self._unanswered: dict[int, tuple[WatchedCall, Any]] = {}
        self._watched: dict[int, WatchedCall] = {}

    def ask(self, item: CheckItem, at_least_revision: int, waiter: Any) -> pb.CheckStreamRequest:
        """Return the request for a call; its answer is for ``waiter``, a future."""
        call = WatchedCall(next(self._numbers), item)
        self._unanswered[call.number] = call, waiter
        return token_calls.stream_message(call.number, item, self._audience, at_least_revision, watch=True)

    def forget(self, number: int) -> pb.CheckStreamRequest:
        """Return the request that ends the watch of one call."""
        self._unanswered.pop(number, None)
        call = self._watched.pop(number, None)
        if call is not None:
            call._over = True
        return token_calls.stream_message(number, NO_CALL, self._audience, 0)

    def accept(self, answer: pb.CheckStreamResponse) -> WatchedCall | None:
        """Give an answer to its waiter; return the call if the answer withdraws it."""
        decision = decision_from_message(answer.decision)
        if answer.withdrawn:
            call = self._watched.pop(answer.id, None)
            if call is not None:
                # A withdrawal denies, even if its decision says otherwise.
                call.withdrawn = replace(decision, allowed=False)
            return call
        unanswered = self._unanswered.pop(answer.id, None)
        if unanswered is not None:
            call, waiter = unanswered
            call.decision = decision
            if decision:
                self._watched[call.number] = call
            waiter.set_result(call)
        return None

    def end(self, error: SessauthError) -> None:
        """Raise ``error`` in every waiter, and let no call count as allowed any more."""
        for call in self._watched.values():
            call._over = True
        self._watched.clear()
        unanswered, self._unanswered = self._unanswered, {}
        for _, waiter in unanswered.values():
            if not waiter.done():
                waiter.set_exception(error)


def closed() -> UsageError:
    """Return the error for a watch that was closed here."""
    return UsageError("the watch is closed; open another one")


def not_answered(target: str, timeout_ms: int) -> Unavailable:
    """Return the error for an answer that did not come in time."""
    return Unavailable(
        f"{target} did not answer within {timeout_ms} ms; raise timeout_ms if that is too short"
    )


PATH: Final = "/sessauth.v1.EventService/WatchSessions"
CODEC: Final[dict[str, Any]] = {
    "request_serializer": event_pb.WatchSessionsRequest.SerializeToString,
    "response_deserializer": event_pb.WatchSessionsResponse.FromString,
}
# Servers send a heartbeat every five seconds. A stream is lost when it was silent for this time.
QUIET_SECONDS: Final = 20.0
# Servers end a stream after an hour; the next one resumes from there.
STREAM_SECONDS: Final = 3_600.0
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
PATIENCE_MS: Final = 60_000


class EventKind(IntEnum):
    """Kinds of changes of a session."""

    OPENED = 1
    NARROWED = 2
    FACTS_CHANGED = 3
    SUSPENDED = 4
    RESUMED = 5
    ENDED = 6
    LAPSED = 7
    REVOKED = 8
    PURGED = 9
    RESTORED = 10
    USED_AFTER_END = 11
    SYNCED = 12


@dataclass(frozen=True, slots=True)
class SessionEvent(Record):
    """One event. Times are ms since 1970.

    ENDED, LAPSED (it ended by itself) and RESTORED (the whole state was put back) hold for all sessions that
    descend from this one; these have no events of their own. ``inherited_by`` names the watched
    sessions among them. ``subject`` and ``purpose`` are empty if the session was purged since.

    USED_AFTER_END: tokens were presented although the session is over, ``count`` times since the last
    event; ``claimed``: nothing of them was verified. It is sent once, to the present watchers.

    ``observe``: the session that was OPENED is in observe mode, so its ceiling refuses nothing.
    ``enforce``: the one that was NARROWED is not any more.

    SYNCED: every event up to ``revision`` was sent; ``missed`` events that are sent only once were lost.
    """

    kind: EventKind
    revision: int
    at_ms: int
    session_id: bytes = b""
    parent_id: bytes = b""
    epoch: int = 0
    seq: int = 0
    actor: str = ""
    reason: str = ""
    cause: EndCause = EndCause.UNSPECIFIED
    subject: str = ""
    purpose: str = ""
    owner: str = ""
    inherited_by: tuple[bytes, ...] = ()
    block_ids: tuple[bytes, ...] = ()
    claimed: bool = False
    verifier: str = ""
    count: int = 0
    incarnation: bytes = field(default=b"", repr=False)
    missed: int = 0
    observe: bool = False
    enforce: bool = False


def event_from_message(message: event_pb.SessionEvent) -> SessionEvent:
    """Return the event of a message. Raises ServerError for a kind that this version does not know."""
    try:
        return SessionEvent(**SessionEvent.read_fields(field_values(message)))
    except ValueError as error:
        raise newer_server(error) from None


def watch_request(
    session_ids: Sequence[bytes | str],
    kinds: Sequence[EventKind | str],
    subject: str,
    purpose: str,
    owner: str,
    include_children: bool,
    after_revision: int | None,
    incarnation: bytes,
) -> event_pb.WatchSessionsRequest:
    """Describe a watch. Raises UsageError, which names the argument."""
    if isinstance(session_ids, bytes | str) or isinstance(kinds, str):
        raise UsageError("session_ids, kinds: give a list, not one value")
    if after_revision is None and incarnation:
        raise UsageError("incarnation: belongs to an after_revision; state both")
    return event_pb.WatchSessionsRequest(
        session_ids=[check_id("session_ids", session_id, 16) for session_id in session_ids],
        kinds=cast("Any", [int(_kind(kind)) for kind in kinds]),
        subject=subject,
        purpose=purpose,
        owner=owner,
        include_children=include_children,
        from_now=after_revision is None,
        after_revision=check_count("after_revision", after_revision or 0),
        incarnation=check_id("incarnation", incarnation, 16) if incarnation else b"",
    )


def _kind(kind: EventKind | str) -> EventKind:
    if isinstance(kind, EventKind):
        return kind
    try:
        return EventKind[kind.upper()]
    except KeyError:
        raise UsageError(f"kinds: {kind!r} is not one of {', '.join(EventKind.__members__)}") from None


class EventCursor:
    """The position of a watch, its events that were not returned yet, and its pauses between streams."""

    def __init__(
        self, request: event_pb.WatchSessionsRequest, first_ms: int, patience_ms: int, heartbeats: bool
    ) -> None:
        """Begin with ``request``; the first response is awaited for ``first_ms``."""
        # Of the next stream: events that wait here are not requested again.
        self.request = request
        self._waiting: deque[SessionEvent] = deque()
        self._heartbeats = heartbeats
        self._patience_s = patience_ms / 1000
        self._until_s = time.monotonic() + first_ms / 1000
        self._pause_s = FIRST_PAUSE_SECONDS
        self.revision = request.after_revision
        self.incarnation = request.incarnation
        self.missed = 0
        # True once a server has named the position that it reports from.
        self.established = False

    def accept(self, response: event_pb.WatchSessionsResponse) -> None:
        """Store the events of a response."""
        self.established = True
        self._pause_s = FIRST_PAUSE_SECONDS
        self._until_s = time.monotonic() + self._patience_s
        for message in response.events:
            event = event_from_message(message)
            if not self._waiting and event.kind is EventKind.SYNCED:
                # Nothing is before it, so it holds already.
                self._move(event)
            self._waiting.append(event)
            if event.kind is EventKind.USED_AFTER_END:
                continue
            # Events of the log ascend: all later ones are after this revision.
            self.request.from_now = False
            self.request.after_revision = event.revision
            if event.kind is EventKind.SYNCED:
                self.request.incarnation = event.incarnation

    def next(self) -> SessionEvent | None:
        """Return the next event, None if there is none yet."""
        while self._waiting:
            event = self._waiting.popleft()
            self._move(event)
            if self._heartbeats or event.kind is not EventKind.SYNCED:
                return event
        return None

    def _move(self, event: SessionEvent) -> None:
        if event.kind is not EventKind.USED_AFTER_END:
            self.revision = event.revision
        if event.kind is EventKind.SYNCED:
            self.incarnation, self.missed = event.incarnation, event.missed

    def pause(self, error: SessauthError) -> float:
        """Return the delay before the next stream, in seconds; raises ``error`` if there is to be none."""
        if not isinstance(error, Unavailable):
            raise error
        pause_s = self._pause_s * random.uniform(0.5, 1.0)
        if time.monotonic() + pause_s >= self._until_s:
            raise error
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_SECONDS)
        return pause_s


class WatchPosition:
    """The position of a session watch in the log, and the end of its time."""

    def __init__(self, cursor: EventCursor, for_ms: int) -> None:
        """Begin at ``cursor``; end after ``for_ms``, 0: never."""
        self._cursor = cursor
        self._ends_s = time.monotonic() + for_ms / 1000 if for_ms else 0.0
        self._stream: Any = None

    @property
    def revision(self) -> int:
        """The revision up to which every event was returned; another watch may start after it."""
        return self._cursor.revision

    @property
    def incarnation(self) -> bytes:
        """The incarnation that belongs to ``revision``; 16 bytes, empty before the first response."""
        return self._cursor.incarnation

    @property
    def missed(self) -> int:
        """The number of uses after an end that this watch was too slow for; nothing else can be missed."""
        return self._cursor.missed

    def _open(self, handle: ChannelHandle, metadata: tuple[tuple[str, str], ...]) -> None:
        """Open the stream, from the cursor on."""
        method = handle.channel.unary_stream(PATH, **CODEC)
        timeout_s = self._limited(STREAM_SECONDS)
        self._stream = method(self._cursor.request, timeout=timeout_s, metadata=metadata)

    def _time_is_over(self) -> bool:
        return bool(self._ends_s and time.monotonic() >= self._ends_s)

    def _limited(self, seconds: float) -> float:
        """Return ``seconds``, or the rest of the watch's time if that is shorter."""
        return min(seconds, max(0.001, self._ends_s - time.monotonic())) if self._ends_s else seconds
