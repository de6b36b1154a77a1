"""The leader's side of the carried log: each group is appended before it is committed here.

The engine decides in one step whether a group follows the head in the leader's term. So all other hosts will
apply each group that this server committed, and a server that lost the lead can't commit any.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final, NoReturn

from ...crypto.issuer_key import KeyStatus
from ...crypto.signing_key import MessageKey
from ...errors import NotLeader, OutcomeUnknown
from ...model.group_record import FORMAT, SERVER_OWNER, CarriedPosition, GroupRecord, record_digest
from ..lmdb.rows import TxnRows
from ..writer.group import Group
from ..writer.group_log import EngineFull, EngineRefused, GroupTooLarge
from .carrier import MAX_RECORD_BYTES, Appended, AppendStatus, Carrier, Leader, LogHead
from .position import read_position, write_position

_log = logging.getLogger(__name__)
# Longer than an engine takes to elect another member, shorter than callers wait.
GIVE_UP_MS: Final = 10_000


class CarriedLog:
    """Appends the groups of one server. The writer's thread appends; any thread may lead or step down."""

    def __init__(self, carrier: Carrier, server: str, key: MessageKey) -> None:
        """Sign as ``server`` with its key. Leads nothing yet."""
        self.carrier = carrier
        self.server = server
        self._key = key
        self._changing = threading.Lock()
        self._leader: Leader | None = None
        self._other: Leader | None = None
        self._engine_id = ""
        # The servers' own reason why none of them leads, for callers; empty: none.
        self.reasons: Callable[[], str] = str
        # Called with a reason whenever this server stops leading, on the thread that noticed.
        self.on_step_down: Callable[[str], None] = lambda reason: None

    @property
    def leader(self) -> Leader | None:
        """This server's own term; None while it does not lead."""
        return self._leader

    def lead(self, leader: Leader, engine_id: str = "") -> None:
        """Append in this term from now on, at the engine of this name; empty: the same one as before.

        The folder must hold all records before it.
        """
        with self._changing:
            self._leader, self._other, self._engine_id = leader, None, engine_id

    def follow(self, other: Leader | None) -> None:
        """Name the current leader, for callers that are refused; None: no leader is known."""
        with self._changing:
            self._other = other

    def begin_term(self, group: Group) -> None:
        """Have a group carried that changes nothing: no record of an earlier term can follow it."""
        group.begins_term = group.dirty = True

    def raise_format(self, group: Group) -> None:
        """Have all hosts read the latest format from this group's record on."""
        self.begin_term(group)
        group.raised_format = FORMAT

    def begin_engine(self, group: Group) -> None:
        """Begin the term, and have all hosts accept that the log goes on at another engine."""
        self.begin_term(group)
        group.begins_engine = True

    def commit_failed(self, reason: str) -> None:
        """Step down, since this folder lacks the appended record; it will follow its own record."""
        self.step_down(f"an appended group could not be written here: {reason}")

    def step_down(self, reason: str, term: Leader | None = None) -> None:
        """Append nothing more. Does nothing if this server does not lead, or not in the given ``term``.

        An append that is answered late must not end the term that this server leads in meanwhile.
        """
        with self._changing:
            if term is not None and term != self._leader:
                return
            led, self._leader = self._leader, None
        if led is not None:
            _log.warning("this server no longer leads: %s", reason)
            self.on_step_down(reason)

    @property
    def present(self) -> Leader | None:
        """The leader as far as this server knows, itself or another; None: no leader is known."""
        return self._leader or self._other

    def end_term(self) -> None:
        """Append nothing more, as intended: nothing is logged."""
        with self._changing:
            self._leader = None

    def refusal(self) -> NotLeader | None:
        """Return the error for callers that write; None while this server leads."""
        if self._leader is not None:
            return None
        other = self._other
        if other is None:
            reasons = self.reasons()
            said = f" ({reasons})" if reasons else ""
            return NotLeader(f"no server of the cluster leads at the moment{said}; try again")
        return NotLeader(f"{other.name} leads the cluster; ask it at {other.address}", other.address)

    def has_active_key(self, rows: TxnRows) -> bool:
        """Return True if hosts with these rows accept this server's signature."""
        key = rows.key(self._key.key_id)
        return key is not None and key.status is KeyStatus.ACTIVE and key.owner == SERVER_OWNER + self.server

    def append(self, group: Group) -> None:
        """Append a finished group, which is committed next; does nothing if the other hosts need none of it.

        Raises NotLeader if another server leads, OutcomeUnknown if no member answered (both step down),
        GroupTooLarge, and EngineRefused if the engine refuses the record: then nothing may be committed.
        """
        if not group.is_carried:
            return
        leader = self._leader
        if leader is None:
            raise self.refusal() or NotLeader("the lead was lost in between; try again")
        position = read_position(group.rows) or CarriedPosition()
        number = position.number + 1
        encoded = self._record(group, leader, position).signed_by(self._key).encode()
        if len(encoded) > MAX_RECORD_BYTES:
            raise GroupTooLarge(
                f"the group takes {len(encoded)} bytes, and a record {MAX_RECORD_BYTES} at most"
            )
        digest = record_digest(encoded)
        head = LogHead(position.number, position.digest)
        # Written first: once the engine has the record, only the commit itself can fail.
        engine_id = self._engine_id or position.engine_id
        written = max(position.format, group.raised_format)
        adopted = number if group.begins_engine else position.adopted
        write_position(group.rows, CarriedPosition(number, digest, leader.term, engine_id, written, adopted))
        result = self.carrier.append(leader.term, head, encoded, digest, GIVE_UP_MS)
        if result.status is not AppendStatus.APPENDED:
            self._refuse(result, number, leader)
        if not self.has_active_key(group.rows):
            # This record did it and is the last that the other hosts take from this server.
            self.step_down("this server's key is no longer active", leader)

    def _record(self, group: Group, leader: Leader, position: CarriedPosition) -> GroupRecord:
        before, after = group.rows.before, group.rows.current
        return GroupRecord(
            max(position.writes, group.raised_format),
            before.cluster_id,
            before.incarnation,
            leader.term,
            position.number + 1,
            position.digest,
            self.server,
            before.seq,
            tuple(group.changes),
            group.carried_rows(),
            group.at_ms,
            after.digest,
            after.revision,
            self._engine_id or position.engine_id,
            group.begins_engine,
        )

    def _refuse(self, result: Appended, number: int, leader: Leader) -> NoReturn:
        if result.status is AppendStatus.FENCED:
            self.step_down(f"record {number} was refused: {result.detail}", leader)
            raise NotLeader("the lead went to another server; nothing was written, ask again")
        if result.status is AppendStatus.UNKNOWN:
            self.step_down(f"no member of the engine answered to record {number}: {result.detail}", leader)
            raise OutcomeUnknown(
                f"the engine did not answer ({result.detail}), so the change may or may not be durable; "
                "retry with the same request id"
            )
        if result.status is AppendStatus.FULL:
            _log.error("the engine has no space for record %d: %s", number, result.detail)
            raise EngineFull(
                "the cluster's engine is full and takes no write, so nothing was written; free space there "
                "(docs/operations/engine.md), then ask again"
            )
        raise EngineRefused(f"the engine refused the record: {result.detail}")
