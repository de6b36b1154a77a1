"""The writer of this process: decides in its own groups."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from ..._fast._codec import CheckMessage
from ...errors import NotLeader, SessauthError
from ...model.caller_statement import ItemProof
from ...state.host.proof_keys import TakesProofs
from ...state.writer.group import Group
from ...state.writer.state_writer import StateWriter
from ...v1 import authorization_service_pb2 as pb
from ...v1 import record_pb2
from ..rpc.call import CallContext
from ..rpc.method import parse
from ..status import invalid, refused
from .authorizer import PERMIT_BYTES, CallRequest, WriterAuthorizer, WriterDecision
from .port import IN_PLACE, Decisions
from .submit import wait_for_commit

# Size of a change that charges for a call, beside the call's own bytes.
CLAIM_BYTES: Final = 1_024


class LocalWriter:
    """A ``WriterPort`` to the log of this process. Any thread may use it."""

    def __init__(self, log: StateWriter, host: TakesProofs, *, cache_bytes: int) -> None:
        """Decide in the groups of ``log``; verified chains may take ``cache_bytes``.

        Proofs count as they do for ``host``, the process's own checker.
        """
        self._log = log
        self._authorizer = WriterAuthorizer(log.source(), host, cache_bytes=cache_bytes)

    def decide(
        self, message: CheckMessage, wanted: Sequence[int], audience: str, call: CallContext, *, alone: bool
    ) -> Decisions:
        """Decide items one by one, in their order; those that are queued together share their commits.

        Raises NotLeader before any of them is decided. An item whose server loses the lead meanwhile stays
        denied: the whole call, asked again, would charge those before it twice. Alone it raises NotLeader,
        or NOT_LEADER if its proof may be used up meanwhile.
        """
        call.raise_if_expired()
        self._log.require_leading()
        pending = []
        for index in wanted:
            request = call_request_from(message, index, audience, call)
            try:
                future = self._log.decide(partial(self._authorizer.check, request=request), _size(request))
            except SessauthError as error:
                if alone:
                    raise _lost(error, request) from None
                # The queue is full; the items before are in it.
                break
            pending.append((index, request, future))
        for index, request, future in pending:
            try:
                _put(message, index, wait_for_commit(future, call))
            except SessauthError as error:
                if alone:
                    raise _lost(error, request) from None
        return IN_PLACE

    def commit(self, message: CheckMessage, data: bytes, audience: str, call: CallContext) -> Decisions:
        """Commit the permit of ``message``, encoded in ``data``.

        Raises NotLeader: the rows of a host that follows may not have the permit yet.
        """
        call.raise_if_expired()
        self._log.require_leading()
        request, permit = call_request_from(message, 0, audience, call), message.permit

        def work(group: Group) -> WriterDecision:
            return self._authorizer.commit(group, request, permit)

        _put(message, 0, wait_for_commit(self._log.decide(work, _size(request)), call))
        return IN_PLACE

    def release(self, data: bytes, call: CallContext) -> bytes:
        """Release a permit of the caller's. Raises NotLeader as :meth:`commit` does."""
        permit = parse(pb.ReleaseRequest, data).permit
        require_permit(permit)
        call.raise_if_expired()
        self._log.require_leading()
        gateway = call.principal.name

        def work(group: Group) -> int:
            return self._authorizer.release(group, gateway, permit).revision

        revision = wait_for_commit(self._log.decide(work, CLAIM_BYTES, only_removes_authority=True), call)
        return pb.ReleaseResponse(revision=revision).SerializeToString()


def require_permit(permit: bytes) -> None:
    """Refuse bytes that can't be a permit."""
    if len(permit) != PERMIT_BYTES:
        raise invalid("permit", f"must be {PERMIT_BYTES} bytes, not {len(permit)}")


def call_request_from(message: CheckMessage, index: int, audience: str, call: CallContext) -> CallRequest:
    """Return the call of a checked item."""
    return CallRequest(
        call.principal.name,
        *message.call(index),
        audience=audience,
        at_least_revision=message.at_least_revision,
        approvals=message.approvals(index),
        retry_id=message.retry_id(index),
        permit_ms=message.permit_ms(index),
        elsewhere=proof_elsewhere(call, index),
    )


def proof_elsewhere(call: CallContext, index: int) -> ItemProof:
    """Return the result for an item's proof by the host that forwards the call, if one does."""
    stated = call.context.stated
    return ItemProof.NOT_JUDGED if stated is None else stated.proof_of(index)


def _lost(error: SessauthError, request: CallRequest) -> SessauthError:
    """Return the error of a submitted item: a call whose proof may be used up is not forwarded any more."""
    if request.proof and isinstance(error, NotLeader):
        return refused("NOT_LEADER", f"{error}; the proof is used up, make another one")
    return error


def _size(request: CallRequest) -> int:
    """Return about the bytes of a call's change: an approval is requested with its arguments."""
    return CLAIM_BYTES + len(request.resource) + len(request.arguments)


def _put(message: CheckMessage, index: int, decided: WriterDecision) -> None:
    """Put a decision in its item's place, and the fields that come with it."""
    message.override(index, decided.decision)
    fields = pb.Decision(permit=decided.permit, permit_expires_at_ms=decided.permit_expires_at_ms)
    if decided.approval is not None:
        fields.approval.CopyFrom(record_pb2.ApprovalRecord.FromString(decided.approval.encode()))
    message.attach(index, fields.SerializeToString())
