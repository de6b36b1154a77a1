"""Issues signed receipts of ended sessions: the verifiers' acknowledgements, and permits still open.

Nothing here can undo or delay an end: it is durable before its receipt is made, a fault of the receipt is
logged, and the number of ends that wait for acknowledgements is bounded.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from ...clock import Clock
from ...crypto.keys import KeyRecord
from ...errors import SessauthError, StateError
from ...model.change import Head
from ...model.receipt import (
    HOSTS_VERSION,
    VERSION,
    HostStatus,
    Receipt,
    ReceiptState,
    SignedReceipt,
    VerifierState,
    VerifierStatus,
    closure_state,
)
from ...model.session import EndCause, Session, SessionStatus, lineage
from ...state.lmdb import cluster_rows
from ...state.writer.state_writer import StateWriter
from ...verifier.verifier import Verifier
from .. import log
from ..keys.issuer_keyring import KeyRing
from ..rpc.call import CallContext
from ..rpc.pool import blocking_section
from ..status import refused
from .host_evidence import HostEvidence
from .registry import VerifierRegistry

# The control process answers checks too.
CONTROL: Final = "sessauth/control"
# More ends and reads than these don't wait. Those that wait leave their pool's threads to others.
WAITING_AT_ONCE: Final = 16
# Reserve of a call's time for its answer.
RESERVE_MS: Final = 50


class _Rows(NamedTuple):
    """Rows of one read, after the end became durable."""

    head: Head
    keys: tuple[KeyRecord, ...]
    finished: Receipt | None
    open_permits: int
    registrations_since_ms: int


@dataclass(eq=False)
class ReceiptIssuer:
    """Issues receipts from the state of one control process. Any thread may use it.

    ``verifier`` is the process's own. ``last_allow_ms`` returns when a call of a session was last allowed, in
    ms since 1970; 0: not known. ``wait_ms`` bounds the wait for acknowledgements.
    """

    writer: StateWriter
    verifier: Verifier
    keyring: KeyRing
    registry: VerifierRegistry
    clock: Clock
    last_allow_ms: Callable[[bytes], int]
    wait_ms: int = 200
    # Receipts by state, since this process began.
    issued: Counter[ReceiptState] = field(default_factory=Counter, init=False)
    # The hosts of a cluster; None: this server is a single host.
    hosts: HostEvidence | None = field(default=None, init=False)
    # Finished receipts on their way to the disk.
    _storing: dict[bytes, Receipt] = field(default_factory=dict, init=False)
    _counter_lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _wait_slots: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(WAITING_AT_ONCE), init=False
    )

    def may_wait(self, revision: int) -> bool:
        """Return True if the receipt of an end at ``revision`` may wait for acknowledgements."""
        return self.hosts is not None or self.registry.is_pending(revision)

    def after_end(
        self, session_id: bytes, session: Session | None, call: CallContext
    ) -> SignedReceipt | None:
        """Return the receipt of a durable end; None, and a log entry, if it can't be made.

        ``session`` is the session as its end left it; None: it is read.
        """
        try:
            session = session or self.writer.get_session(session_id)
            return None if session is None else self.receipt(session, call)
        except Exception as error:  # noqa: BLE001 - the end is valid without its receipt too
            log.event(
                logging.ERROR,
                "receipt_not_made",
                session=session_id.hex(),
                error=f"{type(error).__name__}: {error}",
            )
            return None

    def receipt(self, session: Session, call: CallContext) -> SignedReceipt:
        """Return the receipt of a session's end from the present state.

        Raises WRONG_STATUS if it has not ended, NO_ISSUER_KEY, StateError, and NotLeader if only another
        server of the cluster knows of all hosts.
        """
        signed, state = self._signed(session, call)
        with self._counter_lock:
            self.issued[state] += 1
        return signed

    def _signed(self, session: Session, call: CallContext) -> tuple[SignedReceipt, ReceiptState]:
        # First: it is removed once it is among the rows.
        storing = self._storing.get(session.id)
        rows = self._read(session.id)
        key = self.keyring.newest_active(rows.keys)
        if key is None:
            raise refused("NO_ISSUER_KEY", "no active issuer key of the service is here to sign the receipt")
        finished = storing or rows.finished
        if finished is not None and finished.epoch == session.epoch:
            return finished.signed_by(key), finished.state
        ended = self._ended(session)
        problem = None if self.hosts is None else self.hosts.refusal()
        if problem is not None:
            raise problem
        until = time.monotonic() + min(self.wait_ms, int(call.remaining * 1000) - RESERVE_MS) / 1000
        self._await_acknowledgements(ended.revision, until)
        if self.hosts is not None:
            # Until other hosts hold the end, late ones excepted.
            self._wait(partial(self.hosts.wait, self.hosts.mark(ended.revision), ended.revision), until)
        receipt = self._make(session, ended, rows)
        if receipt.state is ReceiptState.CLOSED and (receipt.hosts or len(self.registry)):
            # The next process waits again for all registered verifiers, but need not for this receipt.
            receipt = self._store(receipt)
        return receipt.signed_by(key), receipt.state

    def _read(self, session_id: bytes) -> _Rows:
        with self.writer.source().rows() as rows:
            return _Rows(
                rows.head(),
                self.writer.keys_of(rows),
                cluster_rows.receipt(rows, session_id),
                rows.counts(session_id).open_permits,
                cluster_rows.since_ms(rows),
            )

    def _ended(self, session: Session) -> Session:
        """Return the session, or the ancestor that it ended with."""
        for member in lineage(session, self.writer.get_session):
            if member.status is SessionStatus.ENDED:
                return member
        raise refused(
            "WRONG_STATUS", "session_id: the session has not ended; there is no receipt before that"
        )

    def _await_acknowledgements(self, revision: int, until: float) -> None:
        """Request acknowledgements, and wait for those that are not late."""
        if not self.registry.is_pending(revision, also_late=True):
            return
        self.writer.call_for(revision)
        if not self.registry.is_pending(revision):
            return
        self._wait(partial(self.registry.wait, revision), until)

    def _wait(self, wait: Callable[[int], None], until: float) -> None:
        """Call ``wait(ms)`` for the time that is left, unless too many wait already."""
        within_ms = int((until - time.monotonic()) * 1000)
        if within_ms > 0 and self._wait_slots.acquire(blocking=False):
            try:
                with blocking_section():
                    wait(within_ms)
            finally:
                self._wait_slots.release()

    def _make(self, session: Session, ended: Session, rows: _Rows) -> Receipt:
        statuses = self.registry.statuses(ended.revision, ended.ended_at_ms)
        verifiers = sorted((*statuses, self.own_status(ended.revision)), key=lambda status: status.name)
        hosts: tuple[HostStatus, ...] = ()
        record = 0
        if self.hosts is not None:
            mark = self.hosts.mark(ended.revision)
            hosts = self.hosts.statuses(mark, ended.revision)
            record = mark.number if hosts else 0
        # A permit that was granted before the end is among them, and an ended session gets none. Some may
        # have been closed while this waited.
        open_permits = rows.open_permits and self.writer.counts(session.id).open_permits
        known = ended.ended_at_ms > rows.registrations_since_ms
        return Receipt(
            cluster_id=rows.head.cluster_id,
            incarnation=rows.head.incarnation,
            session_id=session.id,
            epoch=session.epoch,
            revision=ended.revision,
            ended_at_ms=ended.ended_at_ms,
            cause=ended.end_cause if ended is session else EndCause.PARENT_ENDED,
            reason=ended.reason,
            made_at_ms=max(self.clock.now_ms(), ended.ended_at_ms),
            state=closure_state((*verifiers, *hosts), open_permits) if known else ReceiptState.UNKNOWN,
            verifiers=tuple(verifiers),
            open_permits=open_permits,
            last_allow_ms=self.last_allow_ms(session.id),
            version=HOSTS_VERSION if hosts else VERSION,
            record=record,
            hosts=hosts,
            observe=session.observe or session.enforced_at_ms > 0,
        )

    def own_status(self, revision: int) -> VerifierStatus:
        """Return the status of the control process's own verifier against ``revision``."""
        try:
            current = self.verifier.view.revision
        except StateError:
            current = 0
        state = VerifierState.ACKNOWLEDGED if current >= revision else VerifierState.WAITING
        return VerifierStatus(CONTROL, state, current, self.clock.now_ms())

    def _store(self, receipt: Receipt) -> Receipt:
        """Store a finished receipt, or return the one that is being stored.

        Nothing waits for the disk: a receipt that was not stored is made again.
        """
        first = self._storing.setdefault(receipt.session_id, receipt)
        if first is not receipt and first.epoch == receipt.epoch:
            return first
        try:
            stored = self.writer.decide(
                partial(cluster_rows.store_receipt, finished=receipt), cluster_rows.EVIDENCE_ROW_BYTES
            )
        except SessauthError as error:
            self._on_stored(receipt.session_id, error)
            return receipt
        stored.add_done_callback(lambda future: self._on_stored(receipt.session_id, future.exception()))
        return receipt

    def _on_stored(self, session_id: bytes, error: BaseException | None) -> None:
        self._storing.pop(session_id, None)
        if error is not None:
            log.event(logging.WARNING, "receipt_not_kept", error=str(error))
