"""The carried log: the leader appends each group to the engine, and followers apply it as the leader did.

A leader appends a group before it commits it here. The engine decides in one step whether the group follows
the head in the leader's term. So all other hosts will apply each group that this server committed, and a
server that lost the lead can't commit any.

A follower does not trust the engine. A record counts if an active server key of this host's own state signed
it and if it follows the record, the change and the incarnation that the folder ends with; and it must lead to
the state that its leader signed. Otherwise nothing of it is applied, and the host runs out of proofs that it
is fresh. The log of a host that only follows applies the servers' records, and never leads.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

import lmdb

from ...crypto.keys import KeyStatus, MessageKey
from ...errors import InvalidReceipt, NotLeader, OutcomeUnknown, RecordRefused, StateError
from ...model.host import (
    FORMAT,
    OLDEST_FORMAT,
    SERVER_OWNER,
    CarriedPosition,
    CarriedRow,
    GroupRecord,
    SignedGroup,
    record_digest,
)
from ...model.receipt import Receipt, ReceiptFault
from .. import layout
from ..lmdb import cluster_rows
from ..lmdb.cluster_rows import is_brake_row, is_host_row, read_position, write_position
from ..lmdb.rows import TxnRows
from ..writer.group import (
    DUE_APPROVAL,
    DUE_PERMIT,
    EngineFull,
    EngineRefused,
    Group,
    GroupTooLarge,
    row_format,
)
from .carrier import MAX_RECORD_BYTES, Appended, AppendStatus, Carrier, Leader, LogHead

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


_KEY_ID_BYTES: Final = 32
_ID_BYTES: Final = 16
_TIME_BYTES: Final = 8


def apply_records(group: Group, records: Sequence[bytes]) -> int:
    """Apply encoded records in order; return the number of the last one that the folder then holds.

    A record that the folder has already is skipped. Raises RecordRefused; the group must not be committed
    then.
    """
    position = read_position(group.rows)
    if position is None:
        raise RecordRefused("the folder belongs to no cluster; run join", "NOT_IN_CLUSTER")
    for encoded in records:
        position = _apply(group, encoded, position)
    return position.number


def _apply(group: Group, encoded: bytes, position: CarriedPosition) -> CarriedPosition:
    signed, record = decode_record(encoded)
    digest = record_digest(encoded)
    if record.number <= position.number:
        if record.number == position.number and digest != position.digest:
            raise RecordRefused(
                f"record {record.number} is another one than this host applied: the log was written twice",
                "OTHER_PAST",
            )
        return position
    require_signature(group.rows, signed, record)
    _require_successor(group.rows, record, position)
    _replay(group, record)
    written = max(position.format, record.format if record.format > OLDEST_FORMAT else 0)
    adopted = record.number if record.begins_engine else position.adopted
    reached = CarriedPosition(record.number, digest, record.term, record.engine_id, written, adopted)
    write_position(group.rows, reached)
    group.dirty = True
    return reached


def decode_record(encoded: bytes) -> tuple[SignedGroup, GroupRecord]:
    """Return a record, of any signer. Raises RecordRefused UNREADABLE or NEWER_FORMAT."""
    if len(encoded) > MAX_RECORD_BYTES:
        raise RecordRefused(f"a record of {len(encoded)} bytes, which no leader makes", "UNREADABLE")
    try:
        signed = SignedGroup.decode(encoded)
        record = signed.record()
    except ValueError as error:
        raise RecordRefused(f"a record that can't be read: {error}", "UNREADABLE") from error
    if record.format > FORMAT:
        raise RecordRefused(
            f"record {record.number} has format {record.format}, this program reads {FORMAT}: upgrade "
            "sessauth on this host, then start it again",
            "NEWER_FORMAT",
        )
    if record.format < OLDEST_FORMAT:
        raise RecordRefused(f"record {record.number} has no format", "UNREADABLE")
    return signed, record


def require_signature(rows: TxnRows, signed: SignedGroup, record: GroupRecord) -> None:
    """Require an active key of the server that the record names, by this host's own state."""
    key = rows.key(signed.key_id) if len(signed.key_id) == _KEY_ID_BYTES else None
    if key is None or key.owner != SERVER_OWNER + record.server:
        raise RecordRefused(
            f"record {record.number} is signed by no key of server {record.server!r}", "UNKNOWN_KEY"
        )
    if key.status is not KeyStatus.ACTIVE:
        raise RecordRefused(
            f"record {record.number} is signed by a key of {record.server!r} that is {key.status.name}",
            "INACTIVE_KEY",
        )
    if not signed.is_signed_by(key.public_key):
        raise RecordRefused(f"the signature of record {record.number} is wrong: it was altered", "ALTERED")


def _require_successor(rows: TxnRows, record: GroupRecord, position: CarriedPosition) -> None:
    """Require that the record follows this folder's rows."""
    head = rows.current
    if record.cluster_id != head.cluster_id:
        raise RecordRefused(f"record {record.number} belongs to another cluster", "FOREIGN")
    if record.number != position.number + 1:
        raise RecordRefused(f"record {record.number} comes after {position.number}: some are missing", "GAP")
    if record.previous != position.digest:
        raise RecordRefused(
            f"record {record.number} follows another record {position.number} than this host applied",
            "OTHER_PAST",
        )
    if (record.incarnation, record.after_seq) != (head.incarnation, head.seq):
        raise RecordRefused(
            f"record {record.number} follows change {record.after_seq} of another incarnation or log; this "
            f"host is at {head.seq}",
            "OTHER_PAST",
        )
    if position.engine_id not in ("", record.engine_id) and not record.begins_engine:
        raise RecordRefused(
            f"record {record.number} was carried by engine {record.engine_id!r}, and this host's by "
            f"{position.engine_id!r}",
            "OTHER_PAST",
        )
    if record.format < position.writes:
        raise RecordRefused(
            f"record {record.number} has format {record.format}, and the cluster writes {position.writes}",
            "DIVERGED",
        )
    if record.term < position.term and not record.begins_engine:
        raise RecordRefused(
            f"record {record.number} is of term {record.term}, older than {position.term}", "OLD_TERM"
        )


def _replay(group: Group, record: GroupRecord) -> None:
    group.is_replay = True
    try:
        for row in record.rows:
            _require_carried(record, row)
        for change in record.changes:
            group.replay(change)
        for row in record.rows:
            _require_session(group.rows, record, row)
            group.replay_row(row)
    except lmdb.BadValsizeError as error:
        raise RecordRefused(f"record {record.number} has a key no leader writes", "FOREIGN_ROW") from error
    except (StateError, lmdb.Error):
        # Refused above, or a fault of this host, which engages its brake.
        raise
    except Exception as error:
        # Half of the record is written by now: the group must not be committed after any error.
        raise RecordRefused(
            f"record {record.number} has a change that this program can't apply "
            f"({type(error).__name__}: {error}); upgrade it",
            "NEWER_FORMAT",
        ) from error
    group.wall_ms = record.at_ms
    head = group.rows.current
    if (head.digest, head.revision) != (record.head_digest, record.revision):
        raise RecordRefused(
            f"record {record.number} leads to revision {head.revision} here and to {record.revision} at "
            "its leader",
            "DIVERGED",
        )
    group.drop_old_rows()


def _require_carried(record: GroupRecord, row: CarriedRow) -> None:
    """Require a row of a table, a shape and the record's format, that a leader writes beside its changes."""
    if not _is_carried(row) or row_format(row.table, row.key, row.value) > record.format:
        raise RecordRefused(f"record {record.number} writes a row that no record may", "FOREIGN_ROW")


def _is_carried(row: CarriedRow) -> bool:
    key, value, removed = row.key, row.value, row.removed
    if row.table == layout.LEASES:
        return len(key) == _ID_BYTES and len(value) == (0 if removed else _TIME_BYTES)
    if row.table == layout.DUE:
        item = key[_TIME_BYTES + _ID_BYTES :]
        is_item = len(item) == 1 + _ID_BYTES and item[:1] in (DUE_PERMIT, DUE_APPROVAL)
        return len(key) >= _TIME_BYTES + _ID_BYTES and not value and (not item or is_item)
    if row.table == layout.EVIDENCE:
        session_id = key[1:]
        is_receipt = key[:1] == cluster_rows.RECEIPT and len(session_id) == _ID_BYTES
        if is_receipt:
            return not value if removed else _is_receipt_of(session_id, value)
        return bool(value) != removed and (is_host_row(key, value) or is_brake_row(key, value))
    return False


def _is_receipt_of(session_id: bytes, data: bytes) -> bool:
    try:
        return Receipt.decode(data).session_id == session_id
    except InvalidReceipt as error:
        if error.fault == ReceiptFault.UNSUPPORTED_VERSION:
            raise
        return False


def _require_session(rows: TxnRows, record: GroupRecord, row: CarriedRow) -> None:
    """Require the session of a receipt, by the rows that the record's changes left."""
    is_receipt = row.table == layout.EVIDENCE and row.key[:1] == cluster_rows.RECEIPT
    if is_receipt and not row.removed and rows.session(row.key[1:]) is None:
        raise RecordRefused(f"record {record.number} has a receipt of no session", "FOREIGN_ROW")


class ReadOnlyLog:
    """Refuses every group of this host's own that the cluster would need."""

    def __init__(self, servers: str, address: Callable[[], str] = lambda: "") -> None:
        """Name ``servers`` to callers that write; ``address()`` is the one to ask now."""
        self._servers = servers
        self._address = address

    def refusal(self) -> NotLeader:
        """Return the error for callers that write."""
        message = f"this host only follows the cluster; ask one of its servers: {self._servers}"
        return NotLeader(message, self._address())

    def append(self, group: Group) -> None:
        """Raise NotLeader for a group that is carried; applied records and rows of this host are not."""
        if group.is_carried:
            raise self.refusal()

    def commit_failed(self, reason: str) -> None:
        """Do nothing: no group of this host was appended."""
