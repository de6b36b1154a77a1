"""Makes the receipts of ended sessions: who can't allow any more, what is still open, signed.

Nothing here can undo or hold up an end: it is durable before anybody asks for its receipt, what goes wrong
with the receipt is logged, and only so many ends wait for acknowledgements at a time.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Final

from ... import limits
from ...clock import Clock
from ...errors import SessauthError, StateError
from ...model.receipt import (
    Receipt,
    ReceiptState,
    SignedReceipt,
    VerifierState,
    VerifierStatus,
    closure_state,
)
from ...model.session import EndCause, Session, SessionStatus
from ...state.lmdb import evidence_rows
from ...state.writer.state_writer import StateWriter
from ...verifier.verifier import Verifier
from .. import log as server_log
from ..keys.issuer_keyring import KeyRing
from ..rpc.call import CallContext
from ..rpc.pool import blocking_section
from ..status import refused
from .registry import VerifierRegistry

# The control process answers checks too.
CONTROL: Final = "sessauth/control"
# Ends and readings beyond so many don't wait, and those that do give their places in the pools to others.
WAITING_AT_ONCE: Final = 16
# What is kept of a call's time to answer it in.
RESERVE_MS: Final = 50


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """When and how a session ended, or the ancestor that it ended with."""

    revision: int
    at_ms: int
    cause: EndCause
    reason: str


class ReceiptIssuer:
    """Makes receipts by what one control process knows. Any thread may use it."""

    def __init__(
        self,
        log: StateWriter,
        verifier: Verifier,
        keyring: KeyRing,
        enrolment: VerifierRegistry,
        clock: Clock,
        *,
        wait_ms: int = 200,
        last_allow_ms: Callable[[bytes], int] = lambda session_id: 0,
    ) -> None:
        """Sign with the keys of ``keyring``.

        ``verifier`` is the process's own. ``wait_ms``: how long one may wait for acknowledgements.
        ``last_allow_ms``: says when a call of a session was last allowed, in ms since 1970; 0: not known.
        """
        self._log = log
        self._verifier = verifier
        self._keyring = keyring
        self._enrolment = enrolment
        self._clock = clock
        self._wait_ms = wait_ms
        self._last_allow_ms = last_allow_ms
        # Finished receipts on their way to the disk.
        self._keeping: dict[bytes, Receipt] = {}
        # How many receipts said what, since this process began.
        self.given: Counter[ReceiptState] = Counter()
        self._counting = threading.Lock()
        self._places = threading.BoundedSemaphore(WAITING_AT_ONCE)

    def after_end(self, session_id: bytes, call: CallContext) -> SignedReceipt | None:
        """Return the receipt of an end that is durable; None if it can't be made, which is logged."""
        try:
            session = self._log.get_session(session_id)
            return None if session is None else self.receipt(session, call)
        except Exception as error:  # noqa: BLE001 - the end stands, whatever becomes of its receipt
            server_log.event(
                logging.ERROR,
                "receipt_not_made",
                session=session_id.hex(),
                error=f"{type(error).__name__}: {error}",
            )
            return None

    def receipt(self, session: Session, call: CallContext) -> SignedReceipt:
        """Return the receipt of a session's end by what is known now.

        Raises WRONG_STATUS if it has not ended, NO_ISSUER_KEY, and StateError.
        """
        signed, state = self._signed(session, call)
        with self._counting:
            self.given[state] += 1
        return signed

    def _signed(self, session: Session, call: CallContext) -> tuple[SignedReceipt, ReceiptState]:
        key = self._keyring.newest_active(self._log.keys())
        if key is None:
            raise refused("NO_ISSUER_KEY", "no active issuer key of the service is here to sign the receipt")
        finished = self._keeping.get(session.id) or self._log.receipt(session.id)
        if finished is not None and finished.epoch == session.epoch:
            return finished.signed_by(key), finished.state
        end = self._end_of(session)
        self._wait(end.revision, call)
        made = self._made(session, end)
        if made.state is ReceiptState.CLOSED and self._enrolment.knows_anybody:
            # The next process, which waits anew for all that it finds enrolled, need not wait for this one.
            made = self._kept(made)
        return made.signed_by(key), made.state

    def _end_of(self, session: Session) -> SessionEnd:
        member: Session | None = session
        for _ in range(limits.MAX_ANCESTORS + 1):
            if member is None:
                break
            if member.status is SessionStatus.ENDED:
                cause = member.end_cause if member is session else EndCause.PARENT_ENDED
                return SessionEnd(member.revision, member.ended_at_ms, cause, member.reason)
            member = self._log.get_session(member.parent_id) if member.parent_id else None
        raise refused(
            "WRONG_STATUS", "session_id: the session has not ended; there is no receipt before that"
        )

    def _wait(self, revision: int, call: CallContext) -> None:
        """Call for acknowledgements, and wait for them a while if somebody can be waited for."""
        if not self._enrolment.is_waited_for(revision, also_late=True):
            return
        self._log.call_for(revision)
        if not self._enrolment.is_waited_for(revision):
            return
        within_ms = min(self._wait_ms, int(call.remaining * 1000) - RESERVE_MS)
        if within_ms > 0 and self._places.acquire(blocking=False):
            try:
                with blocking_section():
                    self._enrolment.wait(revision, within_ms)
            finally:
                self._places.release()

    def _made(self, session: Session, end: SessionEnd) -> Receipt:
        verifiers = [*self._enrolment.standings(end.revision, end.at_ms), self.own(end.revision)]
        verifiers.sort(key=lambda each: each.name)
        # Read behind the standings: a permit that was given before the end is in them by then.
        open_permits = self._log.counts(session.id).open_permits
        known = end.at_ms > self._log.registrations_since_ms()
        head = self._log.head()
        return Receipt(
            cluster_id=head.cluster_id,
            incarnation=head.incarnation,
            session_id=session.id,
            epoch=session.epoch,
            revision=end.revision,
            ended_at_ms=end.at_ms,
            cause=end.cause,
            reason=end.reason,
            made_at_ms=max(self._clock.now_ms(), end.at_ms),
            state=closure_state(verifiers, open_permits) if known else ReceiptState.UNKNOWN,
            verifiers=tuple(verifiers),
            open_permits=open_permits,
            last_allow_ms=self._last_allow_ms(session.id),
        )

    def own(self, revision: int) -> VerifierStatus:
        """Return where the control process's own verifier stands against ``revision``."""
        try:
            seen = self._verifier.view.revision
        except StateError:
            seen = 0
        state = VerifierState.ACKNOWLEDGED if seen >= revision else VerifierState.WAITING
        return VerifierStatus(CONTROL, state, seen, self._clock.now_ms())

    def _kept(self, made: Receipt) -> Receipt:
        """Have a finished receipt kept, or return the one that is on its way there.

        Nobody waits for the disk; without it, a receipt is made again.
        """
        first = self._keeping.setdefault(made.session_id, made)
        if first is not made and first.epoch == made.epoch:
            return first
        try:
            kept = self._log.decide(
                partial(evidence_rows.store_receipt, finished=made), evidence_rows.ROW_BYTES
            )
        except SessauthError as error:
            self._keeping.pop(made.session_id, None)
            server_log.event(logging.WARNING, "receipt_not_kept", error=str(error))
            return made
        kept.add_done_callback(partial(self._done, made.session_id))
        return made

    def _done(self, session_id: bytes, kept: Future[None]) -> None:
        self._keeping.pop(session_id, None)
        error = kept.exception()
        if error is not None:
            server_log.event(logging.WARNING, "receipt_not_kept", error=str(error))
