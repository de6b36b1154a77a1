"""CutOffService: ends many sessions at once, refuses new ones, and freezes everything."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Final

from ... import limits
from ...model.change import ban_sessions, end_session
from ...model.session import MAX_BAN_MS, Session, SessionBan, SessionSelector, SessionStatus
from ...state import layout
from ...state.lmdb import cluster_rows
from ...state.lmdb.rows import TxnRows
from ...state.rules.validation import session_bans
from ...state.writer.group import Group
from ...state.writer.state_writer import StateWriter
from ...v1 import cut_off_service_pb2 as pb
from ...v1 import record_pb2
from .. import request_fields
from ..log import event
from ..rpc.access import OPERATOR
from ..rpc.call import CallContext
from ..rpc.finisher import wait_for_commit
from ..status import invalid, refused
from ..writer.port import submit_and_wait
from .base import Service, owner_visible

# Ends that share a commit: few enough that an opening or a use beside them waits for some 10 ms.
ENDS_A_COMMIT: Final = 128
# The most that a call works. The next one goes on, so a short time loses nothing.
WORK_SECONDS: Final = 5.0
# Reserve of a call's time for its last commit and its answer.
RESERVE_SECONDS: Final = 0.5
MAX_SHOWN: Final = 1000
_ROW_BYTES: Final = 512


@dataclass(eq=False)
class CutOffService(Service):
    """Answers CutOffService from the log. While ``brake_by(caller)`` is entered, ``caller`` brakes."""

    descriptor = pb.DESCRIPTOR.services_by_name["CutOffService"]

    writer: StateWriter
    brake_by: Callable[[str], AbstractContextManager[object]] = nullcontext

    def end_sessions(self, request: pb.EndSessionsRequest, call: CallContext) -> pb.EndSessionsResponse:
        """End the sessions a selector fits, in parts as it finds them; first refuse new ones, if told."""
        selector = _selector(request.selector)
        after = request_fields.page_start(request.page_token)
        reason = request_fields.text(request.reason, "reason")
        if request.refuse_new_ms > MAX_BAN_MS:
            raise invalid("refuse_new_ms", f"must be at most {MAX_BAN_MS}, a day")
        if request.refuse_new_ms and call.principal.role != OPERATOR:
            raise refused("PERMISSION_DENIED", "refuse_new_ms: only an operator refuses new sessions")
        # A follower may not hold all of it yet.
        self.writer.require_leading()
        answer = pb.EndSessionsResponse()
        if request.refuse_new_ms and not request.dry_run:
            change_id = f"ban/{secrets.token_hex(16)}"
            ban = ban_sessions(change_id, selector, request.refuse_new_ms, reason, actor=call.principal.name)
            outcome = submit_and_wait(self.writer, ban, call)
            answer.refused_until_ms = max(
                [
                    outcome.at_ms + request.refuse_new_ms,
                    *(each.until_ms for each in self._bans() if each.selector == selector),
                ]
            )

        def matches(session: Session) -> bool:
            return owner_visible(session.owner, call) and selector.fits(
                session.subject, session.owner, session.labels
            )

        parts = self._parts(after, selector, matches, call, answer)
        if request.dry_run:
            for ids in parts:
                with self.writer.source().rows() as rows:
                    answer.sessions.extend(_selected(rows, ids[: MAX_SHOWN - len(answer.sessions)]))
            answer.remaining = answer.matched
        else:
            try:
                self._end(parts, reason, call, answer)
            finally:
                # Also of a call that fails: sessions it ended stay ended.
                event(
                    logging.WARNING,
                    "sessions_ended",
                    caller=call.principal.name,
                    selector=str(selector),
                    reason=reason,
                    ended=answer.ended,
                    remaining=answer.remaining,
                    refused_until_ms=answer.refused_until_ms,
                )
        return answer

    def _parts(
        self,
        after: bytes,
        selector: SessionSelector,
        matches: Callable[[Session], bool],
        call: CallContext,
        answer: pb.EndSessionsResponse,
    ) -> Iterator[list[bytes]]:
        """Yield the ids that match, in parts of one commit, while there is time; at least one part.

        The answer says where the next call goes on. It moves once the caller took the part.
        """
        until = time.monotonic() + min(WORK_SECONDS, call.remaining - RESERVE_SECONDS)
        answer.remaining, more = 1, True
        while more:
            ids, after, more = self.writer.page_of_living(after, ENDS_A_COMMIT, matches, selector)
            call.raise_if_expired()
            answer.matched += len(ids)
            if ids:
                yield ids
            if more and time.monotonic() >= until:
                answer.next_page_token = request_fields.page_token(after)
                return
        answer.remaining = 0

    def _end(
        self, parts: Iterable[list[bytes]], reason: str, call: CallContext, answer: pb.EndSessionsResponse
    ) -> None:
        """End these sessions; each commit is whole, and sessions it ended stay ended.

        The next part is searched while the last one becomes durable.
        """
        size = ENDS_A_COMMIT * (_ROW_BYTES + len(reason.encode()))
        ending: list[Future[list[Session]]] = []

        def take() -> None:
            while ending:
                # Until it is durable something is left, also after the last part.
                left, answer.remaining = answer.remaining, 1
                ended = wait_for_commit(ending.pop(), call)
                answer.remaining = left
                answer.ended += len(ended)
                answer.sessions.extend(map(_shown, ended[: MAX_SHOWN - len(answer.sessions)]))

        try:
            for ids in parts:
                take()
                work = partial(_end_part, ids=ids, reason=reason, actor=call.principal.name)
                ending.append(self.writer.decide(work, size, only_removes_authority=True))
        finally:
            take()
        if self.writer.is_carried and not answer.ended:
            # Nothing was written, and the rows of a server that lost the lead lack another's sessions.
            wait_for_commit(self.writer.decide(_prove_lead, 0, only_removes_authority=True), call)
        answer.revision = self.writer.head().revision

    def list_bans(self, request: pb.ListBansRequest, call: CallContext) -> pb.ListBansResponse:
        """Return the bans that have not lapsed."""
        bans = [record_pb2.SessionBan.FromString(ban.encode()) for ban in self._bans()]
        return pb.ListBansResponse(bans=bans)

    def _bans(self) -> tuple[SessionBan, ...]:
        with self.writer.source().rows() as rows:
            return session_bans(rows).living(self.writer.now_ms())

    def lift_ban(self, request: pb.LiftBanRequest, call: CallContext) -> pb.LiftBanResponse:
        """Lift the ban by a selector."""
        selector = _selector(request.selector)
        lift = ban_sessions(f"lift/{secrets.token_hex(16)}", selector, 0, actor=call.principal.name)
        return pb.LiftBanResponse(revision=submit_and_wait(self.writer, lift, call).revision)

    def freeze(self, request: pb.FreezeRequest, call: CallContext) -> pb.FreezeResponse:
        """Take the operator's hold on the brake: of this host, or by the log of all hosts of the cluster."""
        reason = request.reason
        if len(reason.encode()) > cluster_rows.MAX_REASON_BYTES or not reason.isprintable():
            raise invalid("reason", f"must be printable, {cluster_rows.MAX_REASON_BYTES} bytes at most")
        caller = call.principal.name
        with self.brake_by(caller):
            if self.writer.is_carried:
                write = partial(cluster_rows.set_brake, reason=reason, principal=caller)
                self._write_row(write, call, removes=True)
            else:
                # No commit: this works on a disk that is full or hangs.
                self.writer.brake_by_hand(f"frozen by {caller}" + (f": {reason}" if reason else ""))
        event(logging.WARNING, "frozen", caller=caller, reason=reason)
        return pb.FreezeResponse()

    def thaw(self, request: pb.ThawRequest, call: CallContext) -> pb.ThawResponse:
        """Release the brake set by :meth:`freeze`."""
        with self.brake_by(call.principal.name):
            if self.writer.is_carried:
                self._write_row(cluster_rows.release_brake, call, removes=False)
            else:
                self.writer.release_by_hand()
        event(logging.WARNING, "thawed", caller=call.principal.name)
        return pb.ThawResponse()

    def get_freeze(self, request: pb.GetFreezeRequest, call: CallContext) -> pb.GetFreezeResponse:
        """Return why checks are denied on this host."""
        by_hand = self.writer.braked_by_hand
        return pb.GetFreezeResponse(
            brake=self.writer.braked,
            host=by_hand.reason if by_hand.engaged else "",
            cluster=self.writer.cluster_brake,
            in_cluster=self.writer.is_carried,
        )

    def _write_row(self, write: Callable[[Group], None], call: CallContext, *, removes: bool) -> None:
        def work(group: Group) -> None:
            # If the row has the requested value already, nothing else is written.
            _prove_lead(group)
            write(group)

        wait_for_commit(
            self.writer.decide(work, cluster_rows.BRAKE_ROW_BYTES, only_removes_authority=removes), call
        )


def _end_part(group: Group, ids: Sequence[bytes], reason: str, actor: str) -> list[Session]:
    """End those of these sessions that have not ended; return them. One that is over ends by that cause."""
    ended: list[Session] = []
    for session_id in ids:
        session = group.rows.leased_session(session_id)
        if session is None or session.status is SessionStatus.ENDED:
            continue
        cause = group.lapse(session)
        if cause is not None:
            group.end(session, cause)
        else:
            # An id of the log's own: a repeat needs no stored outcome, since an ended session is left alone.
            change_id = f"{layout.SYSTEM_PREFIX}asked/{session_id.hex()}"
            group.log(end_session(change_id, session_id, reason, actor=actor))
        ended.append(group.changed or session)
    return ended


def _prove_lead(group: Group) -> None:
    """Have a record carried that changes nothing: it is refused if another server leads by now."""
    group.require_leading()
    group.begins_term = group.dirty = True


def _selected(rows: TxnRows, ids: Sequence[bytes]) -> list[pb.SelectedSession]:
    return list(map(_shown, filter(None, map(rows.session, ids))))


def _shown(session: Session) -> pb.SelectedSession:
    return pb.SelectedSession(
        id=session.id, epoch=session.epoch, subject=session.subject, owner=session.owner
    )


def _selector(message: record_pb2.SessionSelector) -> SessionSelector:
    """Return the selector of a request; raises INVALID_ARGUMENT if it has no part, or a wrong one."""
    for name in ("subject", "owner"):
        request_fields.text(getattr(message, name), f"selector.{name}")
    if len(message.labels) > limits.MAX_LABELS:
        raise invalid("selector.labels", f"must be at most {limits.MAX_LABELS}, not {len(message.labels)}")
    for label in message.labels:
        request_fields.text(label.name, "selector.labels")
        request_fields.text(label.value, "selector.labels")
    labels = tuple(sorted((label.name, label.value) for label in message.labels))
    selector = SessionSelector(message.subject, message.owner, labels, message.all)
    wrong = selector.fault()
    if wrong:
        raise invalid("selector", wrong)
    return selector
