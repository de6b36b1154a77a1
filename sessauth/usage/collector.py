"""Collects usage from decision records, by session, and sends it to the control process.

:class:`ObservationSink` adds up decision records between reports. :class:`UsageAttributor` finds the granted
scopes that may have allowed each call: a record names only the token's scope that decided. It reads the
session's ceilings from the state once an epoch, and takes the minted scopes from the blocks in the records.

Every 200 ms a thread hands a batch to an :class:`ObservationSender`. A batch that failed is sent again under
the same number, so it counts once. Records that find no space meanwhile are counted as lost.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from .._fast import _check as kernel
from .._fast._check import masked
from .._fast._codec import ChainCalls, add_up
from ..errors import PermissionDenied, SessauthError, UsageError
from ..model.session import Session
from ..reasons import Level
from ..scopes.scope import Scope
from .profile import CEILING, GrantLayer, Position
from .session_usage import (
    AFTER_END,
    BLOCK_BYTES,
    SESSION_BYTES,
    BlockObservation,
    ObservationAck,
    ObservationBatch,
    SessionObservation,
    SessionUsage,
    UseAfterEnd,
)

if TYPE_CHECKING:
    from .._fast._check import DecisionRecord

# Cached sessions and root blocks; each entry holds its scopes, some KB at most.
MAX_CACHED: Final = 1_024

LineageOf = Callable[[bytes], Sequence[Session]]
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Ceiling:
    """The layers of a session and its ancestors, each with its observe mode, as of the session's epoch."""

    epoch: int
    layers: tuple[tuple[GrantLayer, bool], ...]

    def positions(self, record: DecisionRecord) -> list[Position]:
        """Return the scopes that may have admitted an allowed call."""
        found: list[Position] = []
        # Layers of another epoch may differ and be in other places: it is not known which of them refused.
        refused = record.index if record.level == Level.CEILING and record.epoch == self.epoch else -1
        for index, (layer, observed) in enumerate(self.layers):
            positions = layer.matching_positions(record.action, record.resource, record.arguments)
            # The record names the first layer that observe mode overruled. Later ones may have refused
            # too; one before it admitted the call.
            overruled = refused >= 0 and observed
            if overruled and (index == refused or (index > refused and positions[0][1] < 0)):
                continue
            found += positions
        return found


class UsageAttributor:
    """Attributes calls to granted scopes. For one thread."""

    def __init__(self, lineage_of: LineageOf) -> None:
        """Read a session and its ancestors, with their ceilings, by ``lineage_of``.

        If that raises SessauthError or OSError, calls are counted without ceilings.
        """
        self._lineage_of = lineage_of
        self._ceilings: OrderedDict[tuple[bytes, int], _Ceiling] = OrderedDict()
        self._roots: OrderedDict[bytes, GrantLayer] = OrderedDict()

    def learn(self, block_ids: Sequence[bytes], payloads: Sequence[bytes]) -> None:
        """Cache the scopes that a token was minted with."""
        if block_ids and payloads and block_ids[0] not in self._roots:
            try:
                _cache(self._roots, block_ids[0], GrantLayer.of_block(payloads[0]))
            except kernel.WireError:
                # The block is of a later version: its scopes stay unknown.
                return

    def observe(self, usage: SessionUsage, record: DecisionRecord) -> None:
        """Count a decision about a token with valid signatures."""
        action, resource = record.action, record.resource
        call = masked(action), masked(resource)
        if not record.allowed:
            usage.observe(*call, at_ms=record.at_ms, reason=record.reason)
            return
        arguments, block_ids = record.arguments, record.block_ids
        matched = self._ceiling(record.session_id, record.epoch).positions(record)
        root = self._roots.get(block_ids[0])
        if root is not None:
            decided = record.matched_scope if record.matched_index == 0 else -1
            matched += root.matching_positions(action, resource, arguments, decided)
        usage.observe(
            *call,
            arguments,
            at_ms=record.at_ms,
            block_ids=block_ids,
            matched=matched,
            minted=root,
            refused=(record.index, masked(record.argument)) if record.level == Level.CEILING else None,
        )

    def _ceiling(self, session_id: bytes, epoch: int) -> _Ceiling:
        key = session_id, epoch
        ceiling = self._ceilings.get(key)
        if ceiling is None:
            try:
                sessions = self._lineage_of(session_id)
                layers = tuple(
                    (GrantLayer(CEILING, map(Scope.from_record, layer)), each.observe)
                    for each in sessions
                    for layer in each.ceilings
                )
            except (SessauthError, OSError):
                return _Ceiling(0, ())
            ceiling = _Ceiling(sessions[0].epoch if sessions else 0, layers)
            _cache(self._ceilings, key, ceiling)
        return ceiling


def _cache(known: OrderedDict[K, V], key: K, value: V, most: int = MAX_CACHED) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > most:
        known.popitem(last=False)


EVERY_MS: Final = 200
LONGEST_PAUSE_MS: Final = 3_200
MAX_SESSIONS: Final = 1_024
MAX_BYTES: Final = 16 << 20
# Limit of one batch on its way; a server takes 12 MiB.
MAX_BATCH_BYTES: Final = 8 << 20
# Approximate size of a session, a block or a late use in a message, without the payload.
ENTRY_BYTES: Final = 160
# Approximate growth of a usage record in memory by a call unlike those before: by itself, for each segment of
# its resource and for each byte of its arguments, up to a limit.
CALL_BYTES: Final = 8_000
SEGMENT_BYTES: Final = 1_600
ARGUMENT_FACTOR: Final = 160
MAX_ARGUMENTS_BYTES: Final = 80_000
# Cached chains with valid signatures, some 500 bytes each.
MAX_KNOWN: Final = 4_096
_ID_BYTES: Final = 16


class ObservationSender(Protocol):
    """The way to the control process."""

    def report_observations(self, batch: ObservationBatch) -> ObservationAck:
        """Send a batch, and return the acknowledgement.

        Raises UsageError or PermissionDenied if it is refused for good; after any other error it is repeated.
        """


class _ChainObservation:
    """Observations of one chain since the last batch."""

    __slots__ = ("allowed", "block_ids", "calls", "first_ms", "last_ms", "payloads", "session")

    def __init__(self, session: SessionObservation, block_ids: tuple[bytes, ...]) -> None:
        self.session = session
        self.block_ids = block_ids
        self.payloads: tuple[bytes, ...] = ()
        self.first_ms = self.last_ms = 0
        self.calls = self.allowed = 0

    def count(self, calls: ChainCalls) -> None:
        self.first_ms = min(self.first_ms, calls.first_ms) if self.calls else calls.first_ms
        self.last_ms = max(self.last_ms, calls.last_ms)
        self.calls += calls.calls
        self.allowed += calls.allowed
        _count(self.session, calls)

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
    """Adds up decision records, and reports them. One thread may call ``consume``, any thread the rest."""

    def __init__(
        self,
        sender: ObservationSender,
        *,
        verifier: str = "",
        lineage_of: LineageOf | None = None,
        wants_usage: bool | None = None,
        max_sessions: int = MAX_SESSIONS,
        max_bytes: int = MAX_BYTES,
        every_ms: int = EVERY_MS,
        forget_chains: Callable[[], object] | None = None,
    ) -> None:
        """Begin to report by ``sender``, as the worker ``verifier``; :meth:`close` ends it.

        ``lineage_of`` reads a session and its ancestors, with their ceilings; without it no usage records are
        reported. ``wants_usage``: report usage records of the allowed calls, with values of their arguments.
        None: as the control process answers to an empty first batch; until then they wait. Sessions and bytes
        that may wait are bounded; as many bytes again are on their way. ``forget_chains`` makes the queue
        deliver the payloads of all chains again (``DecisionQueue.forget_chains``).
        """
        self._sender = sender
        self._verifier = verifier
        self._attributor = None if lineage_of is None else UsageAttributor(lineage_of)
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
        # Session and block ids, by the digest of a token with valid signatures.
        self._known: OrderedDict[bytes, tuple[bytes, tuple[bytes, ...]]] = OrderedDict()
        self._under_way: ObservationBatch | None = None
        # Payloads from the queue found no space: it must deliver them again.
        self._payloads_lost = False
        # The error of the last batch; empty if there was none.
        self.problem = ""
        self._pending = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sessauth-observations", daemon=True)
        self._thread.start()

    def consume(self, records: Sequence[DecisionRecord], lost: int) -> None:
        """Add up records; ``lost`` others found no space in the queue."""
        with self._lock:
            self._lost += lost
            chains, ended = add_up(records, AFTER_END)
            for calls in chains:
                self._count_calls(calls)
            for record in ended:
                self._note_late(record)
            if self._attributor is not None and self._wants_usage is not False:
                for record in records:
                    self._use(self._attributor, record)
            has_pending = bool(self._sessions or self._lost)
        if has_pending:
            self._pending.set()

    def tick(self, now_ms: int) -> None:
        """Do nothing: a thread of its own sends, since that may take long."""

    @property
    def waiting_bytes(self) -> int:
        """Approximate size of the waiting observations, in bytes."""
        return self._bytes

    def close(self, seconds: float = 2.0) -> None:
        """Report the rest, if that is possible within ``seconds``, and end."""
        self._closing.set()
        self._pending.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        pause_s = self._every_s
        while not self._closing.is_set():
            if self._under_way is None:
                self._pending.wait()
            self._closing.wait(pause_s)
            done = self._send_once()
            pause_s = self._every_s if done else min(2 * pause_s, LONGEST_PAUSE_MS / 1000)
        # First the batch under way, then later observations.
        if self._send_once() and (self._sessions or self._lost):
            self._send_once()

    def _send_once(self) -> bool:
        """Send one batch; return False if it must be sent again."""
        batch = self._under_way or self._next()
        if batch is None:
            return True
        self._under_way = batch
        try:
            ack = self._sender.report_observations(batch)
        except (UsageError, PermissionDenied) as error:
            # A second attempt would be refused too.
            self.problem = str(error)
            with self._lock:
                self._lost += batch.lost + sum(each.allowed + each.denied for each in batch.sessions)
            self._under_way = None
            return False
        except Exception as error:  # noqa: BLE001 - whatever it was, the batch is sent again
            self.problem = str(error) or type(error).__name__
            return False
        self.problem = ""
        self._under_way = None
        self._acknowledged(ack)
        return True

    def _next(self) -> ObservationBatch | None:
        """Return the next batch. The first is empty while ``wants_usage`` is not known."""
        with self._lock:
            if self._wants_usage is None:
                sessions, chains, lost = {}, {}, 0
            else:
                sessions, chains, lost = self._sessions, self._chains, self._lost
                self._clear()
                self._pending.clear()
                if not (sessions or lost):
                    return None
        for chain in chains.values():
            for block in chain.blocks():
                known = chain.session.blocks.setdefault(block.block_id, block)
                if known is not block:
                    known.add(block)
                    known.payload = known.payload or block.payload
        self._fit(sessions.values())
        self._number += 1
        return ObservationBatch(self._sender_id, self._number, self._verifier, lost, tuple(sessions.values()))

    def _fit(self, sessions: Iterable[SessionObservation]) -> None:
        """Cut a batch to what a server takes: counts first, then the rest while there is space."""
        left = MAX_BATCH_BYTES - sum(
            ENTRY_BYTES * (1 + len(each.blocks) + len(each.late)) for each in sessions
        )
        for session in sessions:
            for block in session.blocks.values():
                left -= len(block.payload)
                if left < 0 and block.payload:
                    block.payload = b""
                    session.lost += 1
                    self._payloads_lost = True
            if session.usage is not None:
                left -= len(session.usage.to_json())
                if left < 0:
                    session.lost += session.usage.allowed.calls
                    session.usage = None

    def _acknowledged(self, ack: ObservationAck) -> None:
        with self._lock:
            if not ack.wants_usage:
                for session in self._sessions.values():
                    session.usage = None
            self._wants_usage = ack.wants_usage
            again = self._payloads_lost or bool(self._control_id and self._control_id != ack.control_id)
            self._payloads_lost = False
            self._control_id = ack.control_id
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

    def _count_calls(self, calls: ChainCalls) -> None:
        digest, payloads = calls.record.token_digest, calls.record.payloads
        chain = self._chains.get(digest) or self._add_chain(digest, calls)
        if chain is None:
            self._payloads_lost = self._payloads_lost or bool(payloads)
            return
        chain.count(calls)
        if payloads and not chain.payloads:
            self._learn(chain, payloads)

    def _add_chain(self, digest: bytes, calls: ChainCalls) -> _ChainObservation | None:
        """Begin to count a chain; return None if there is no space for its session or its blocks."""
        session_id, block_ids = calls.record.session_id, calls.record.block_ids
        session = self._session(session_id)
        if session is None:
            self._lost += calls.calls
            return None
        if not self._has_room(len(block_ids) * BLOCK_BYTES):
            session.lost += calls.calls
            _count(session, calls)
            return None
        _cache(self._known, digest, (session_id, block_ids), MAX_KNOWN)
        chain = self._chains[digest] = _ChainObservation(session, block_ids)
        return chain

    def _learn(self, chain: _ChainObservation, payloads: tuple[bytes, ...]) -> None:
        if self._attributor is not None:
            self._attributor.learn(chain.block_ids, payloads)
        if self._has_room(sum(map(len, payloads))):
            chain.payloads = payloads
        else:
            chain.session.lost += 1
            self._payloads_lost = True

    def _use(self, attributor: UsageAttributor, record: DecisionRecord) -> None:
        """Add a call to the session's usage record; one like an earlier one takes no space."""
        if record.watched or record.token_only or not (record.allowed or record.reason not in AFTER_END):
            return
        chain = self._chains.get(record.token_digest) if record.signature_valid else None
        if chain is None:
            return
        session = chain.session
        arguments = record.arguments if record.allowed else b""
        call = hash((session.session_id, record.allowed, record.action, record.resource, arguments))
        if call not in self._calls:
            takes = CALL_BYTES + SEGMENT_BYTES * (1 + record.resource.count("/"))
            if not self._has_room(takes + min(ARGUMENT_FACTOR * len(arguments), MAX_ARGUMENTS_BYTES)):
                session.lost += 1
                if session.usage is not None:
                    session.usage.lost += 1
                return
            self._calls.add(call)
        if session.usage is None:
            session.usage = SessionUsage()
        attributor.observe(session.usage, record)

    def _note_late(self, record: DecisionRecord) -> None:
        """Add a use after the session's end."""
        if record.signature_valid:
            chain = self._chains.get(record.token_digest)
            if chain is not None:
                self._late(chain.session, chain.block_ids, record.at_ms)
        elif record.claimed_session:
            self._claimed(record)

    def _claimed(self, record: DecisionRecord) -> None:
        session = self._session(record.claimed_session)
        if session is None:
            self._lost += 1
            return
        # The bytes equal a token with valid signatures: nobody else can have written them.
        session_id, block_ids = self._known.get(record.token_digest, (b"", ()))
        self._late(session, block_ids if session_id == session.session_id else (), record.at_ms)

    def _late(self, session: SessionObservation, block_ids: tuple[bytes, ...], at_ms: int) -> None:
        late = UseAfterEnd(block_ids, not block_ids, 1, at_ms, at_ms)
        known = session.late.get(late.key)
        if known is not None:
            known.add(late)
        elif self._has_room(late.size()):
            session.late[late.key] = late
        else:
            session.lost += 1


def _count(session: SessionObservation, calls: ChainCalls) -> None:
    session.allowed += calls.allowed
    session.denied += calls.denied
    session.observed += calls.observed
    session.last_allow_ms = max(session.last_allow_ms, calls.last_allow_ms)
