"""The log in LMDB: the one writer of a state folder.

It opens the folder (``opening.py``), starts the writer thread (``committer.py``), and is how its process
submits changes, and reads sessions, keys, outcomes, permits, approvals and receipts.

The sweep ends sessions that are over, expires permits and approvals, and purges long ended sessions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

from ..._fast import _check as kernel
from ...clock import Clock, SystemClock
from ...crypto.keys import KeyRecord
from ...errors import StateError, StateFull, StateUnusable
from ...model.approval import ApprovalCharge, ApprovalRecord
from ...model.change import (
    Change,
    ChangeOutcome,
    Head,
    Permit,
    Rejection,
    SessionCounts,
    Settlement,
    expire_approval,
    purge_session,
    remaining_of,
    settle_permit,
)
from ...model.host import CredentialRecord, HostRecord
from ...model.receipt import Receipt, RegistrationRecord
from ...model.session import Session, SessionSelector, SessionStatus
from ...scopes.value import Number
from .. import layout
from ..host.brake import ManualBrake
from ..integrity.anchor import Anchored
from ..integrity.verify import Verification
from ..lmdb import cluster_rows, terms
from ..lmdb import effective_status as census
from ..lmdb.effective_status import effective_session, effective_status, judged_at_ms, with_status
from ..lmdb.environment import LmdbSource
from ..lmdb.rows import TxnRows, field_number
from ..rules.apply import encode_or_refuse, only_removes_authority
from . import opening
from .committer import Committer, Job, JobQueue, Stats
from .group import DUE_APPROVAL, DUE_PERMIT, ClockReading, Group, GroupLog, GuardedClock, Retention

_LIST_CHUNK = 512
_ANY: Final = SessionSelector(all=True)
_ALL_LIVES: Final = (terms.LIVING, terms.ENDED)
# The most sessions that one page is searched for in, so that no call occupies a thread of its pool for long.
SEARCHED_ROWS: Final = 8 * _LIST_CHUNK
# The same for a part of a selection: rows that a slow host reads in a fraction of a call's time.
LIVING_ROWS: Final = _LIST_CHUNK
# A record has everything an approver is shown, up to 32 KiB.
_APPROVALS_CHUNK = 32
_ID_BYTES = 16
_OWNER: Final = (field_number("SessionRecord", "owner"),)


class StateQueries:
    """Reads through a source. Each call is one consistent read, unless its docstring says otherwise."""

    def __init__(self, source: LmdbSource, clock: GuardedClock | None = None) -> None:
        """Read through ``source``; ``clock`` tells which times have passed."""
        self._source = source
        self._clock = clock or GuardedClock(SystemClock())
        # The rows of the keys, and the keys. A snapshot may bring others of the same generation.
        self._keys: tuple[list[bytes], tuple[KeyRecord, ...]] = ([], ())

    def get_session(self, session_id: bytes) -> Session | None:
        """Return a session with its lease deadline and its numbers of open permits and approvals.

        Its status is that of its own row.
        """
        with self._source.rows() as rows:
            session = rows.leased_session(session_id)
            return None if session is None else rows.with_open(session)

    def owner(self, session_id: bytes) -> str | None:
        """Return the owner of a session, without reading the rest of its row; None without a session."""
        with self._source.rows() as rows:
            row = rows.get(layout.SESSIONS, session_id)
        if row is None:
            return None
        (owner,) = kernel.read_fields(row, _OWNER)
        return (owner or b"").decode()

    def effective_session(self, session_id: bytes) -> Session | None:
        """Return a session as :meth:`get_session` does, with its effective status."""
        with self._source.rows() as rows:
            session = effective_session(rows, session_id, judged_at_ms(rows, self._wall_ms()))
            return None if session is None else rows.with_open(session)

    def list_sessions(
        self, after: bytes = b"", limit: int = 100, predicate: Callable[[Session], bool] | None = None
    ) -> list[Session]:
        """Return up to ``limit`` sessions whose ids follow ``after``, ascending, that match the predicate.

        They have their effective status, for the predicate too.
        The table is read in steps that are each consistent, so that a long list blocks the reuse of no page.
        """
        sessions: list[Session] = []
        more = True
        while more and len(sessions) < limit:
            page, after, more = self.page_of_sessions(after, limit - len(sessions), predicate)
            sessions += page
        return sessions

    def page_of_sessions(
        self,
        after: bytes,
        limit: int,
        predicate: Callable[[Session], bool] | None = None,
        status: int = 0,
        selector: SessionSelector = _ANY,
    ) -> tuple[list[Session], bytes, bool]:
        """Return sessions as ``list_sessions`` does, of one status or of any (0), after a bounded search.

        ``predicate`` must refuse what ``selector`` does not fit; the selector only says which rows are read.
        Reads at most ``SEARCHED_ROWS`` rows, so there may be fewer than ``limit`` although more follow. The
        second value is the last id read, the third is True if rows may follow it.
        """
        sessions: list[Session] = []
        wall_ms = self._wall_ms()
        # One whose own row is not ended may have ended.
        living = status in (SessionStatus.ACTIVE, SessionStatus.SUSPENDED)
        lives = (terms.LIVING,) if living else _ALL_LIVES
        for number, (rows, session_id) in enumerate(self._select(selector, lives, after), 1):
            after = session_id
            found = effective_status(rows, session_id, judged_at_ms(rows, wall_ms))
            if found is not None and status in (0, found.status):
                session = with_status(rows, session_id, found)
                if session is not None and (predicate is None or predicate(session)):
                    sessions.append(rows.with_open(session))
            if len(sessions) == limit or number == SEARCHED_ROWS:
                return sessions, after, True
        return sessions, after, False

    def page_of_living(
        self,
        after: bytes,
        limit: int,
        matches: Callable[[Session], bool],
        selector: SessionSelector = _ANY,
    ) -> tuple[list[bytes], bytes, bool]:
        """Return ids of sessions that match and that no written end concerns, ascending.

        An end of an ancestor counts. A time that has passed does not: the clock may be set back before the
        sweep writes the end. ``matches`` must refuse what ``selector`` does not fit; the selector only says
        which rows are read. Reads at most ``LIVING_ROWS`` rows. The second value is the last id read, the
        third is True if rows may follow it.
        """
        ids: list[bytes] = []
        for number, (rows, session_id) in enumerate(self._select(selector, (terms.LIVING,), after), 1):
            after = session_id
            found = effective_status(rows, session_id, 0)
            if found is not None and found.status is not SessionStatus.ENDED:
                session = rows.session(session_id)
                if session is not None and matches(session):
                    ids.append(session_id)
            if len(ids) == limit or number == LIVING_ROWS:
                return ids, after, True
        return ids, after, False

    def sessions_beginning(
        self,
        digits: str,
        after: bytes,
        limit: int,
        predicate: Callable[[Session], bool],
        selector: SessionSelector = _ANY,
    ) -> list[Session]:
        """Return sessions as ``list_sessions`` does, of those whose id begins with these hex digits.

        Reads no other row.
        """
        sessions: list[Session] = []
        wall_ms = self._wall_ms()
        first = int(digits.ljust(2 * _ID_BYTES, "0"), 16)
        after = max(after, (first - 1).to_bytes(_ID_BYTES, "big") if first else b"")
        for rows, session_id in self._select(selector, _ALL_LIVES, after, limit):
            if not session_id.hex().startswith(digits):
                break
            session = effective_session(rows, session_id, judged_at_ms(rows, wall_ms))
            if session is not None and predicate(session):
                sessions.append(rows.with_open(session))
                if len(sessions) == limit:
                    break
        return sessions

    def census(self) -> census.StateStatistics:
        """Count all sessions, and open permits and approvals; takes some microseconds a session."""
        return census.take(self._source, self._wall_ms())

    def room(self) -> tuple[int, int]:
        """Return the bytes of the map that hold rows, and the size of the map."""
        env = self._source.env
        with self._source.rows() as rows:
            used = rows.used_bytes(int(env.stat()["psize"]))
        return used, int(env.info()["map_size"])

    def keys(self) -> tuple[KeyRecord, ...]:
        """Return all issuer keys, by id."""
        with self._source.rows() as rows:
            return self.keys_of(rows)

    def keys_of(self, rows: TxnRows) -> tuple[KeyRecord, ...]:
        """Return the issuer keys of a read, by id; decoded again once a row of one is another."""
        stored = rows.key_values()
        known, keys = self._keys
        if stored != known:
            keys = tuple(key for key in map(rows.key, rows.key_ids()) if key is not None)
            self._keys = stored, keys
        return keys

    def is_revoked(self, session_id: bytes, block_id: bytes) -> bool:
        """Return True if a block of a session is revoked."""
        with self._source.rows() as rows:
            return rows.is_revoked(session_id, block_id)

    def head(self) -> Head:
        """Return the head of the log."""
        with self._source.rows() as rows:
            return rows.head()

    def outcome(self, change_id: str) -> ChangeOutcome | None:
        """Return the first outcome of a request id, if it is still stored."""
        with self._source.rows() as rows:
            data = rows.get(layout.OUTCOMES, change_id.encode())
            return ChangeOutcome.decode(data) if data is not None else None

    def counts(self, session_id: bytes) -> SessionCounts:
        """Return the open permits and approvals of a session, and its number of counters."""
        with self._source.rows() as rows:
            return rows.counts(session_id)

    def permit(self, session_id: bytes, permit_id: bytes) -> Permit | None:
        """Return an open permit."""
        with self._source.rows() as rows:
            return rows.permit(session_id, permit_id)

    def approval(self, session_id: bytes, approval_id: bytes) -> ApprovalRecord | None:
        """Return a requested approval of any status, until the sweep removes it after its expiry."""
        with self._source.rows() as rows:
            return rows.approval(session_id, approval_id)

    def remaining(self, session_id: bytes, charges: Sequence[ApprovalCharge]) -> list[Number]:
        """Return the remaining budget for each charge: neither spent nor reserved, at least 0."""
        if not charges:
            return []
        with self._source.rows() as rows:
            ledgers = [rows.ledger(session_id, charge.ledger) for charge in charges]
        return [remaining_of(charge.limit, ledger) for charge, ledger in zip(charges, ledgers, strict=True)]

    def approvals(
        self,
        session_id: bytes = b"",
        after: bytes = b"",
        limit: int = 100,
        predicate: Callable[[ApprovalRecord, Session], bool] | None = None,
    ) -> list[ApprovalRecord]:
        """Return up to ``limit`` approvals that match the predicate, ordered by session id and id.

        ``session_id`` empty: of all sessions. ``after``: the session id and id of the last one of the page
        before (32 bytes). The predicate also gets the approval's session, without its lease deadline.
        The table is read in steps that are each consistent.
        """
        approvals: list[ApprovalRecord] = []
        for rows, key in self._scan(layout.APPROVALS, after, _APPROVALS_CHUNK, session_id):
            record = rows.approval(key[:_ID_BYTES], key[_ID_BYTES:])
            session = rows.session(key[:_ID_BYTES])
            if (
                record is not None
                and session is not None
                and (predicate is None or predicate(record, session))
            ):
                approvals.append(record)
                if len(approvals) == limit:
                    break
        return approvals

    def receipt(self, session_id: bytes) -> Receipt | None:
        """Return a session's finished receipt, if it is stored."""
        with self._source.rows() as rows:
            return cluster_rows.receipt(rows, session_id)

    def registrations(self) -> list[RegistrationRecord]:
        """Return the stored registrations, by name."""
        with self._source.rows() as rows:
            return cluster_rows.registrations(rows)

    def hosts(self) -> list[HostRecord]:
        """Return the hosts of the cluster, by name."""
        with self._source.rows() as rows:
            return cluster_rows.hosts(rows)

    def host(self, name: str) -> HostRecord | None:
        """Return a host of the cluster, if it is registered."""
        with self._source.rows() as rows:
            return cluster_rows.host(rows, name)

    def credentials(self) -> list[CredentialRecord]:
        """Return the credentials of the cluster, by name."""
        with self._source.rows() as rows:
            return cluster_rows.credentials(rows)

    def _wall_ms(self) -> int:
        return self._clock.read().at_ms

    def _select(
        self, selector: SessionSelector, lives: Sequence[bytes], after: bytes, step: int = _LIST_CHUNK
    ) -> Iterator[tuple[TxnRows, bytes]]:
        """Yield ids of sessions as :meth:`_scan` does: all that a selector fits, and others.

        ``lives`` are those of the index (``terms.py``). A folder without it has every session read.
        """
        asked = terms.terms_of_selector(selector)
        while True:
            with self._source.rows() as rows:
                if asked and terms.is_made(rows):
                    ids = terms.ids_after(rows, asked, lives, after, step)
                else:
                    ids = rows.ids_after(after, step)
                for after in ids:
                    yield rows, after
            if len(ids) < step:
                return

    def _scan(
        self, table: str, after: bytes, step: int, prefix: bytes = b""
    ) -> Iterator[tuple[TxnRows, bytes]]:
        """Yield the keys after ``after`` that begin with ``prefix``, with the rows of one read a step."""
        while True:
            with self._source.rows() as rows:
                keys = rows.keys_after(table, after, step, prefix)
                for after in keys:
                    yield rows, after
            if len(keys) < step:
                return


T = TypeVar("T")
_KEEP_ALIVE_BYTES = 256


class StateWriter(StateQueries):
    """Writes a state folder; use :meth:`open`. Every method may be called from any thread.

    A change is acknowledged (its future resolves) only after its commit. In a forked child everything raises
    StateError.
    """

    def __init__(
        self, opened: opening.Opened, clock: Clock, retention: Retention, carried: GroupLog | None
    ) -> None:
        """Create the writer of opened resources; :meth:`open` calls it."""
        self._lock, source, self._brake, self._continuity = opened
        super().__init__(source, GuardedClock(clock))
        self._retention = retention
        map_bytes = int(source.env.info()["map_size"])
        most = layout.GROUP_BYTES if carried is None else layout.CARRIED_GROUP_BYTES
        self._queue = JobQueue(min(most, map_bytes // 64))
        self._carried = carried
        self._committer = Committer(
            source, self._brake, self._queue, self._clock, retention, self._continuity, carried
        )
        self._verification = Verification(source)
        self._readers_checked_ms = clock.now_ms()
        self._closed = False

    @classmethod
    def open(
        cls,
        state_dir: str | os.PathLike[str],
        *,
        create: bool = False,
        restoring: bool = False,
        map_size: int = layout.MAP_SIZE,
        clock: Clock | None = None,
        retention: Retention | None = None,
        carried: GroupLog | None = None,
    ) -> Self:
        """Open a state folder for writing; with ``create`` create it if it is missing.

        ``map_size`` in bytes bounds the data; a larger existing file keeps its size. Releases an engaged
        brake if the whole state verifies and a probe write succeeds. With ``restoring`` a state that is
        behind its anchor is opened too, and a new incarnation has to follow. ``carried`` is the log of the
        cluster that the folder belongs to. Raises StateUnusable, whose ``problem`` names the cause.
        """
        opened = opening.open_writing(
            Path(state_dir),
            create=create,
            restoring=restoring,
            map_size=map_size,
            carried=carried is not None,
        )
        writer = cls(opened, clock or SystemClock(), retention or Retention(), carried)
        writer._committer.start()
        return writer

    @property
    def stats(self) -> Stats:
        """Counts of commits and changes."""
        return self._committer.stats

    @property
    def on_fsync(self) -> Callable[[int], None] | None:
        """Called on the writer thread after each commit with the number of jobs that it held."""
        return self._committer.on_fsync

    @on_fsync.setter
    def on_fsync(self, callback: Callable[[int], None] | None) -> None:
        self._committer.on_fsync = callback

    @property
    def is_carried(self) -> bool:
        """True if the folder belongs to a cluster, whose log carries its writes."""
        return self._carried is not None

    @property
    def leads(self) -> bool:
        """True if this process may write: it leads its cluster, or the folder is a single host's."""
        return self._carried is None or self._carried.refusal() is None

    @property
    def stale(self) -> bool:
        """True if checks deny because the last proof that the folder is fresh is too old."""
        return self._brake.stale

    def require_leading(self) -> None:
        """Raise NotLeader if another server of the cluster writes."""
        refusal = None if self._carried is None else self._carried.refusal()
        if refusal is not None:
            raise refusal

    @property
    def waiting(self) -> int:
        """The number of jobs queued for the writer thread."""
        return self._queue.waiting

    @property
    def braked(self) -> str:
        """The reason for which every check denies; empty if the brake is released."""
        return self._brake.reason

    @property
    def failed(self) -> bool:
        """True if a commit failed and no write has been durable since: nothing is written."""
        return self._brake.failed

    @property
    def frozen(self) -> str:
        """The reason for which an operator froze this host or its cluster; empty if neither is."""
        return self._brake.frozen

    @property
    def braked_by_hand(self) -> ManualBrake:
        """A person's hold on the brake."""
        return self._brake.by_hand

    @property
    def cluster_brake(self) -> str:
        """The reason of the cluster's brake; empty if it is not set."""
        return self._brake.cluster_reason

    def brake_by_hand(self, reason: str) -> None:
        """Engage the brake that a person releases, for this reason. Needs no commit."""
        self._require_own_process()
        self._brake.engage(reason, by_hand=True)

    def release_by_hand(self) -> None:
        """Release the brake that a person engaged; other holds stay."""
        self._require_own_process()
        self._brake.release(by_hand=True)

    @property
    def alarm(self) -> str:
        """The text of the current alarm, also from an earlier process; empty if there is none."""
        return self._brake.alarm

    def raise_alarm(self, text: str) -> None:
        """Store the alarm of this host beside its state."""
        self._require_own_process()
        self._brake.raise_alarm(text)

    def clear_alarm(self) -> None:
        """Remove the alarm; every check denies until the next proof of freshness."""
        self._require_own_process()
        self._brake.clear_alarm()

    @property
    def clock_suspect(self) -> str:
        """The reason why the wall clock is suspect; empty if it is not."""
        return self._clock.read().suspect

    def now_ms(self) -> int:
        """Return the wall time in ms; raises StateError while it is suspect."""
        now = self._clock.read()
        if now.suspect:
            raise StateError(now.suspect)
        return now.at_ms

    def source(self) -> LmdbSource:
        """Return the source for a view in this process, of the same environment."""
        return self._source

    def submit(self, change: Change) -> Future[ChangeOutcome]:
        """Queue a change as :meth:`submit_for`; the future gives its outcome. A rejection is an outcome."""
        return self.submit_for(change, lambda outcome, group: outcome)

    def submit_for(
        self,
        change: Change,
        result: Callable[[ChangeOutcome, Group | None], T],
        prepare: Callable[[Group, Change], Change] | None = None,
    ) -> Future[T]:
        """Queue a change; the future gives ``result`` of its outcome and of the group, once it is durable.

        ``result`` is called by the writer's thread, and reads the rows as the change left them; without a
        group for a change that can't be logged. ``prepare``, called before it there, returns the change as it
        is to be, and may open a session. The future raises as ``prepare``, and StateFull (above the 85 %
        mark), OutcomeUnknown (the commit failed), or StateError (braked, or the wall clock is suspect).
        Raises StateError if the writer is closed or the queue is full.
        """
        self._require_own_process()
        encoded, wrong = encode_or_refuse(change)
        if not wrong and change.id.startswith(layout.SYSTEM_PREFIX):
            wrong = f"id: {layout.SYSTEM_PREFIX} begins the log's own ids; use another"
        if wrong:
            future: Future[T] = Future()
            refused = ChangeOutcome(change.id, rejection=Rejection.INVALID.value, detail=wrong)
            future.set_result(result(refused, None))
            return future

        def work(group: Group) -> T:
            return result(group.submit(change if prepare is None else prepare(group, change)), group)

        size = len(encoded) + (0 if prepare is None else layout.MAX_FILLED_BYTES)
        return self._queue.add(Job(work, size, only_removes_authority=only_removes_authority(change)))

    def keep_alive(self, session_id: bytes) -> Future[int]:
        """Renew a session's lease; the future gives the durable deadline in ms since 1970.

        At least half of the lease is left after it, so renew about three times a lease. Writes nothing while
        more than half is left. The future raises Rejected (NOT_FOUND, ALREADY_ENDED, INVALID).
        """
        self._require_own_process()
        if self._brake.failed:
            raise StateError(f"the brake is engaged: {self._brake.reason}; clear it once the cause is gone")
        with self._source.rows() as rows:
            group = Group(rows, self._clock.read(), full=False, retention=self._retention)
            deadline = group.fresh_deadline(session_id)
        if deadline:
            future: Future[int] = Future()
            future.set_result(deadline)
            return future
        return self._queue.add(Job(lambda group: group.keep_alive(session_id), _KEEP_ALIVE_BYTES))

    def sweep(self, now_ms: int = -1) -> Swept:
        """End the sessions that are over by ``now_ms`` (-1: by the clock) and purge old rows.

        Call it every second. Returns once it is durable; raises as the futures of :meth:`submit` do. Checks
        deny sessions that are over by their times, whether they were swept or not. In a cluster the leader
        sweeps; elsewhere this only frees the reader slots of dead processes.
        """
        self._require_own_process()
        now = self._clock.read() if now_ms < 0 else ClockReading(now_ms)
        wall_ms = now.at_ms
        if abs(wall_ms - self._readers_checked_ms) >= layout.READER_CHECK_MS:
            self._readers_checked_ms = wall_ms
            self._source.reap_readers()
        if not self.leads:
            return Swept()
        with self._source.rows() as rows:
            if not due_keys(Group(rows, now, full=False, retention=self._retention), 1):
                return Swept()

        def step(limit: int) -> Swept:
            def work(group: Group) -> Swept:
                group.wall_ms = max(group.wall_ms, wall_ms)
                return sweep(group, limit)

            return self._queue.add(Job(work, 0, alone=True)).result()

        try:
            return step(layout.SWEEP_STEP)
        except StateFull:
            return step(layout.SWEEP_STEP_FULL)

    def decide(
        self, work: Callable[[Group], T], size: int, *, only_removes_authority: bool = False
    ) -> Future[T]:
        """Queue ``work``, which decides by the group's rows and may submit changes to the group.

        It shares its commit with other jobs, sees the rows that the jobs before it left, and costs no commit
        if it writes nothing. The future gives its result once that is durable. The future raises the error of
        ``work`` (changes submitted before the error stay), or as the futures of :meth:`submit` do. ``size``
        is about the bytes that it writes. If it ``only_removes_authority`` or frees space, it runs even if
        the queue or the map is almost full. Raises StateError as :meth:`submit`.
        """
        self._require_own_process()
        return self._queue.add(Job(work, size, only_removes_authority=only_removes_authority))

    def run(self, work: Callable[[Group], T]) -> T:
        """Run ``work`` in a commit of its own, and return its result once that is durable."""
        self._require_own_process()
        return self._queue.add(Job(work, 0, alone=True)).result()

    def verify(self, seconds: float) -> bool:
        """Continue reading the whole state for this time, one step at least; return True once all was read.

        If a row is wrong, every check of the host denies from now on. Raises StateUnusable CORRUPT.
        """
        self._require_own_process()
        try:
            return self._verification.work(seconds)
        except StateUnusable as error:
            self._brake.engage(f"{error.problem}: {error}")
            raise

    def check_files(self) -> None:
        """Check that the files are those that were opened, and have the bytes that were written last.

        If not, every check of the host denies from now on. Raises StateUnusable SWAPPED or ROLLED_BACK.
        """
        self._require_own_process()
        try:
            self._continuity.check_files()
        except StateUnusable as error:
            self._brake.engage(f"{error.problem}: {error}")
            raise

    @property
    def anchored(self) -> Anchored | None:
        """The anchored state; the state itself may be ahead of it."""
        return self._continuity.anchored

    def call_anew(self) -> None:
        """Have registered verifiers repeat to this process soon their reports to the one before."""
        self._require_own_process()
        self._brake.call_anew(int.from_bytes(os.urandom(8), "big"))

    def call_for(self, revision: int) -> None:
        """Have registered verifiers acknowledge a revision soon; costs no call until they do."""
        self._require_own_process()
        self._brake.call_for(revision)

    def fresh_until(self, steady_ms: int) -> None:
        """State that the folder holds all of the cluster's log that counts until this time, in steady ms."""
        self._require_own_process()
        self._brake.fresh_until(steady_ms)

    def deny_as_stale(self) -> None:
        """Make every check of the host deny STALE_STATE until :meth:`fresh_until` states another time."""
        self._require_own_process()
        self._brake.deny_now()

    def remove_freshness_bound(self) -> None:
        """State that the folder depends on no other host: it left its cluster."""
        self._require_own_process()
        self._brake.remove_bound()

    def clear_brake(self) -> None:
        """Release the brake that a failed commit engaged if a probe write is durable; else raises StateError.

        A person's hold on the brake stays.
        """
        self._require_own_process()
        if not self._brake.failed:
            return
        self._queue.add(
            Job(opening.probe, 0, only_removes_authority=True, alone=True, runs_while_braked=True)
        ).result()
        self._brake.release()

    def close(self) -> None:
        """Run the queued jobs, then close. The folder can be opened again afterwards."""
        if self._closed:
            return
        self._closed = True
        if self._source.forked:
            self._lock.release()
            return
        self._queue.close()
        self._committer.join()
        self._continuity.close()
        self._source.close()
        self._brake.close()
        self._lock.release()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _require_own_process(self) -> None:
        if self._source.forked:
            raise StateError("the writer was opened before a fork; open it again in the child process")


@dataclass(frozen=True, slots=True)
class Swept:
    """Counts of one sweep: sessions ended and purged, permits and approvals expired.

    ``more`` is True if it stopped at its bound.
    """

    ended: int = 0
    purged: int = 0
    permits: int = 0
    approvals: int = 0
    more: bool = False


def due_keys(group: Group, limit: int) -> list[bytes]:
    """Return up to ``limit`` keys of DUE whose time has come, earliest first.

    A key is a time in ms (8 bytes), a session id, and for a permit or an approval its kind and id.
    """
    until = group.at_ms.to_bytes(8, "big")
    keys: list[bytes] = []
    with group.rows.txn.cursor(db=group.rows.tables[layout.DUE]) as cursor:
        for key in cursor.iternext(keys=True, values=False):
            if bytes(key[:8]) > until or len(keys) == limit:
                break
            keys.append(bytes(key))
    return keys


def sweep(group: Group, limit: int) -> Swept:
    """Visit up to ``limit`` due rows: end, purge, expire, or schedule again."""
    done = {"ended": 0, "purged": 0, "permits": 0, "approvals": 0}
    keys = due_keys(group, limit)
    for key in keys:
        group.delete_carried(layout.DUE, key)
        session_id, kind, item_id = key[8:24], key[24:25], key[25:]
        if kind == DUE_PERMIT:
            done["permits"] += _expire_permit(group, session_id, item_id)
        elif kind == DUE_APPROVAL:
            done["approvals"] += _expire_approval(group, session_id, item_id)
        else:
            ended, purged = _sweep_session(group, session_id)
            done["ended"] += ended
            done["purged"] += purged
    return Swept(**done, more=len(keys) == limit)


def _expire_permit(group: Group, session_id: bytes, permit_id: bytes) -> bool:
    """Release the reserve of a permit that is still open."""
    if group.rows.permit(session_id, permit_id) is None:
        return False
    change_id = f"{layout.SYSTEM_PREFIX}expire/{permit_id.hex()}"
    change = settle_permit(change_id, session_id, permit_id, Settlement.EXPIRE, actor=layout.SYSTEM_ACTOR)
    return group.log(change).applied


def _expire_approval(group: Group, session_id: bytes, approval_id: bytes) -> bool:
    """Remove an approval, if it is still there."""
    if group.rows.approval(session_id, approval_id) is None:
        return False
    change_id = f"{layout.SYSTEM_PREFIX}expire/{approval_id.hex()}"
    change = expire_approval(change_id, session_id, approval_id, actor=layout.SYSTEM_ACTOR)
    return group.log(change).applied


def _sweep_session(group: Group, session_id: bytes) -> tuple[bool, bool]:
    """End or purge a session if its time has come; return whether it ended and whether it purged it."""
    session = group.rows.leased_session(session_id)
    if session is None:
        return False, False
    cause = group.lapse(session)
    if cause is not None:
        group.end(session, cause)
        session = group.rows.leased_session(session_id) or session
    ended = cause is not None
    if session.status is not SessionStatus.ENDED:
        group.schedule_due(session_id, session.ends_at_ms())
    elif group.at_ms >= purge_at_ms(session, group.retention.ended_ms):
        change_id = f"{layout.SYSTEM_PREFIX}purge/{session_id.hex()}"
        group.log(purge_session(change_id, session_id, actor=layout.SYSTEM_ACTOR))
        return ended, True
    else:
        group.schedule_due(session_id, purge_at_ms(session, group.retention.ended_ms))
    return ended, False


def purge_at_ms(session: Session, retained_ms: int) -> int:
    """Return the time for the purge of an ended session: after its hard end, so that no repeat reopens it."""
    return max(session.ended_at_ms, session.expires_at_ms) + retained_ms
