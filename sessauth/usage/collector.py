"""Aggregates decision records by session and sends them to the control process.

Every 200 ms a thread hands a batch to an :class:`ObservationSender`. A batch that could not be sent is sent
again under the same number, so that nothing is counted twice. Records that find no room meanwhile are
counted, and reported as lost.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from ..errors import PermissionDenied, UsageError
from .attribution import Ceilings, UsageAttributor
from .observations import (
    AFTER_END,
    BLOCK_BYTES,
    SESSION_BYTES,
    BlockObservation,
    ObservationAck,
    ObservationBatch,
    SessionObservation,
    UseAfterEnd,
)
from .session_usage import SessionUsage

if TYPE_CHECKING:
    from .._fast.record.note import DecisionRecord

EVERY_MS: Final = 200
LONGEST_PAUSE_MS: Final = 3_200
MAX_SESSIONS: Final = 1_024
MAX_BYTES: Final = 16 << 20
# Of one telling on its way; a server takes 12 MiB.
MAX_TOLD_BYTES: Final = 8 << 20
# About what a session, a block or a late use is in a message, beside what the block says.
ENTRY_BYTES: Final = 160
# About what a call unlike those before adds to a usage record in memory: by itself, for each segment of its
# resource and for each byte of its arguments, of which a record keeps no more than so much.
CALL_BYTES: Final = 8_000
SEGMENT_BYTES: Final = 1_600
ARGUMENT_FACTOR: Final = 160
MAX_ARGUMENTS_BYTES: Final = 80_000
# Chains of which it is remembered that their signatures stand, some 500 bytes each.
MAX_KNOWN: Final = 4_096
_ID_BYTES: Final = 16


class ObservationSender(Protocol):
    """The way to the control process."""

    def tell(self, telling: ObservationBatch) -> ObservationAck:
        """Tell it, and return its answer.

        Raises UsageError or PermissionDenied if it will never be taken; after anything else it is told again.
        """
        ...


class _ChainObservation:
    """What was seen of one chain since the last telling."""

    __slots__ = ("allowed", "block_ids", "calls", "first_ms", "last_ms", "payloads", "session")

    def __init__(self, session: SessionObservation, block_ids: tuple[bytes, ...]) -> None:
        self.session = session
        self.block_ids = block_ids
        self.payloads: tuple[bytes, ...] = ()
        self.first_ms = self.last_ms = 0
        self.calls = self.allowed = 0

    def count(self, note: DecisionRecord) -> None:
        at_ms = note.at_ms
        if self.calls == 0:
            self.first_ms = at_ms
        self.first_ms = min(self.first_ms, at_ms)
        self.last_ms = max(self.last_ms, at_ms)
        self.calls += 1
        self.allowed += note.allowed
        _count(self.session, note)

    def blocks(self) -> list[BlockObservation]:
        parents = (b"", *self.block_ids)
        payloads = self.payloads or (b"",) * len(self.block_ids)
        return [
            BlockObservation(
                block_id,
                parents[index],
                index,
                self.first_ms,
                self.last_ms,
                self.calls,
                self.allowed,
                payload,
            )
            for index, (block_id, payload) in enumerate(zip(self.block_ids, payloads, strict=True))
        ]


class ObservationSink:
    """Adds up notes, and tells them. ``take`` may be called from one thread, the rest from any."""

    def __init__(
        self,
        teller: ObservationSender,
        *,
        verifier: str = "",
        ceilings_of: Ceilings | None = None,
        wants_usage: bool | None = None,
        max_sessions: int = MAX_SESSIONS,
        max_bytes: int = MAX_BYTES,
        every_ms: int = EVERY_MS,
        forget_chains: Callable[[], object] | None = None,
    ) -> None:
        """Begin to tell by ``teller``; :meth:`close` ends it.

        Args:
            teller: the way to the control process.
            verifier: a worker's name.
            ceilings_of: reads the layers of a session's ceiling, and its ancestors'. Without it what the
                calls looked like is not told.
            wants_usage: whether to tell what the allowed calls looked like, with values of their arguments.
                None: the control process is asked first; until it answers they are kept and not told.
            max_sessions: of how many sessions something may wait to be told.
            max_bytes: what may wait, in bytes; as much again is on its way.
            every_ms: how long things come together before they are told.
            forget_chains: has the tap give the payloads of all chains again (``Tap.forget_chains``).
        """
        self._teller = teller
        self._verifier = verifier
        self._using = None if ceilings_of is None else UsageAttributor(ceilings_of)
        self._wants_usage = wants_usage
        self._max_sessions = max_sessions
        self._max_bytes = max_bytes
        self._every_s = every_ms / 1000
        self._forget_chains = forget_chains
        self._sender_id = secrets.token_bytes(_ID_BYTES)
        self._control_id = b""
        self._number = 0
        self._lock = threading.Lock()
        self._clear()
        # By the digest of a token whose signatures stand: its session and its blocks.
        self._known: OrderedDict[bytes, tuple[bytes, tuple[bytes, ...]]] = OrderedDict()
        self._under_way: ObservationBatch | None = None
        # What blocks say was given by the tap and found no room: it must be given again.
        self._says_lost = False
        # Why nothing can be told now; empty if it can.
        self.problem = ""
        self._something = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sessauth-telling", daemon=True)
        self._thread.start()

    def take(self, notes: Sequence[DecisionRecord], lost: int) -> None:
        """Add up notes; ``lost`` others were not noted."""
        with self._lock:
            self._lost += lost
            for note in notes:
                # What takes back an allow is no call.
                if note.watched:
                    continue
                if note.named:
                    self._named(note)
                elif note.reason in AFTER_END and note.claimed_session:
                    self._claimed(note)
            something = bool(self._sessions or self._lost)
        if something:
            self._something.set()

    def tick(self, now_ms: int) -> None:
        """Do nothing: a thread of its own tells, since that may take long."""

    @property
    def waiting_bytes(self) -> int:
        """About what waits to be told, in bytes."""
        return self._bytes

    def close(self, seconds: float = 2.0) -> None:
        """Tell what is left, if it can be done within ``seconds``, and end."""
        self._closing.set()
        self._something.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        pause_s = self._every_s
        while not self._closing.is_set():
            if self._under_way is None:
                self._something.wait()
            self._closing.wait(pause_s)
            done = self._tell_once()
            pause_s = self._every_s if done else min(2 * pause_s, LONGEST_PAUSE_MS / 1000)
        # What was under way, and what came since.
        if self._tell_once() and (self._sessions or self._lost):
            self._tell_once()

    def _tell_once(self) -> bool:
        """Tell what waits; False if it must be told again."""
        telling = self._under_way or self._next()
        if telling is None:
            return True
        self._under_way = telling
        try:
            told = self._teller.tell(telling)
        except (UsageError, PermissionDenied) as error:
            # Told again it would be refused again.
            self.problem = str(error)
            with self._lock:
                self._lost += telling.lost + sum(each.allowed + each.denied for each in telling.sessions)
            self._under_way = None
            return False
        except Exception as error:  # noqa: BLE001 - whatever it was, it is told again, and the thread goes on
            self.problem = str(error) or type(error).__name__
            return False
        self.problem = ""
        self._under_way = None
        self._heard(told)
        return True

    def _next(self) -> ObservationBatch | None:
        """Take what waits. The first telling is empty where it is not known yet what is wanted."""
        with self._lock:
            if self._wants_usage is None:
                taken, chains, lost = {}, {}, 0
            else:
                taken, chains, lost = self._sessions, self._chains, self._lost
                self._clear()
                self._something.clear()
                if not (taken or lost):
                    return None
        for chain in chains.values():
            for block in chain.blocks():
                known = chain.session.blocks.setdefault(block.block_id, block)
                if known is not block:
                    known.add(block)
                    known.payload = known.payload or block.payload
        self._fit(taken.values())
        self._number += 1
        return ObservationBatch(self._sender_id, self._number, self._verifier, lost, tuple(taken.values()))

    def _fit(self, sessions: Iterable[SessionObservation]) -> None:
        """Hold what is to be told to what a server takes: counts first, then the rest while there is room."""
        left = MAX_TOLD_BYTES - sum(
            ENTRY_BYTES * (1 + len(each.blocks) + len(each.late)) for each in sessions
        )
        for session in sessions:
            for block in session.blocks.values():
                left -= len(block.payload)
                if left < 0 and block.payload:
                    block.payload = b""
                    session.lost += 1
                    self._says_lost = True
            if session.usage is not None:
                left -= len(session.usage.to_json())
                if left < 0:
                    session.lost += session.usage.allowed.calls
                    session.usage = None

    def _heard(self, told: ObservationAck) -> None:
        with self._lock:
            if not told.wants_usage:
                for session in self._sessions.values():
                    session.usage = None
            self._wants_usage = told.wants_usage
            again = self._says_lost or bool(self._control_id and self._control_id != told.control_id)
            self._says_lost = False
            self._control_id = told.control_id
        if again and self._forget_chains is not None:
            self._forget_chains()

    def _clear(self) -> None:
        self._sessions: dict[bytes, SessionObservation] = {}
        self._chains: dict[bytes, _ChainObservation] = {}
        self._calls: set[int] = set()
        self._lost = 0
        self._bytes = 0

    def _session(self, session_id: bytes) -> SessionObservation | None:
        session = self._sessions.get(session_id)
        if session is None and len(self._sessions) < self._max_sessions and self._has_room(SESSION_BYTES):
            session = self._sessions[session_id] = SessionObservation(session_id)
        return session

    def _has_room(self, size: int) -> bool:
        if self._bytes + size > self._max_bytes:
            return False
        self._bytes += size
        return True

    def _named(self, note: DecisionRecord) -> None:
        digest = note.token_digest
        chain = self._chains.get(digest) or self._met(digest, note)
        if chain is None:
            self._says_lost = self._says_lost or bool(note.payloads)
            return
        chain.count(note)
        if note.payloads and not chain.payloads:
            self._learn(chain, note.payloads)
        if not note.allowed and note.reason in AFTER_END:
            self._late(chain.session, chain.block_ids, note.at_ms)
        elif self._using is not None and self._wants_usage is not False:
            self._use(self._using, chain.session, note)

    def _met(self, digest: bytes, note: DecisionRecord) -> _ChainObservation | None:
        """Begin to count a chain; None if there is no room for its session, or for its blocks."""
        session = self._session(note.session_id)
        if session is None:
            self._lost += 1
            return None
        block_ids = note.block_ids
        if not self._has_room(len(block_ids) * BLOCK_BYTES):
            session.lost += 1
            _count(session, note)
            return None
        self._remember(digest, note.session_id, block_ids)
        chain = self._chains[digest] = _ChainObservation(session, block_ids)
        return chain

    def _learn(self, chain: _ChainObservation, payloads: tuple[bytes, ...]) -> None:
        if self._using is not None:
            self._using.learn(chain.block_ids, payloads)
        if self._has_room(sum(map(len, payloads))):
            chain.payloads = payloads
        else:
            chain.session.lost += 1
            self._says_lost = True

    def _remember(self, digest: bytes, session_id: bytes, block_ids: tuple[bytes, ...]) -> None:
        self._known[digest] = session_id, block_ids
        self._known.move_to_end(digest)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def _use(self, using: UsageAttributor, session: SessionObservation, note: DecisionRecord) -> None:
        """Add a call to the session's usage record; one like another before takes no room."""
        arguments = note.arguments if note.allowed else b""
        call = hash((session.session_id, note.allowed, note.action, note.resource, arguments))
        if call not in self._calls:
            takes = CALL_BYTES + SEGMENT_BYTES * (1 + note.resource.count("/"))
            if not self._has_room(takes + min(ARGUMENT_FACTOR * len(arguments), MAX_ARGUMENTS_BYTES)):
                session.lost += 1
                if session.usage is not None:
                    session.usage.lost += 1
                return
            self._calls.add(call)
        if session.usage is None:
            session.usage = SessionUsage()
        using.observe(session.usage, note)

    def _claimed(self, note: DecisionRecord) -> None:
        session = self._session(note.claimed_session)
        if session is None:
            self._lost += 1
            return
        # The very bytes whose signatures stood before: nobody else can have written them.
        session_id, block_ids = self._known.get(note.token_digest, (b"", ()))
        self._late(session, block_ids if session_id == session.session_id else (), note.at_ms)

    def _late(self, session: SessionObservation, block_ids: tuple[bytes, ...], at_ms: int) -> None:
        late = UseAfterEnd(block_ids, not block_ids, 1, at_ms, at_ms)
        known = session.late.get(late.key)
        if known is not None:
            known.add(late)
        elif self._has_room(late.size()):
            session.late[late.key] = late
        else:
            session.lost += 1


def _count(session: SessionObservation, note: DecisionRecord) -> None:
    if note.allowed:
        session.allowed += 1
        session.last_allow_ms = max(session.last_allow_ms, note.at_ms)
    else:
        session.denied += 1
