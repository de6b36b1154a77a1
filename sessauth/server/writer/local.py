"""The writer of this process: decides in its own groups, or has the leader of its cluster decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from google.protobuf.message import DecodeError

from ..._fast._codec import CheckMessage
from ...errors import NotLeader, SessauthError
from ...model.host import ItemProof
from ...reasons import Reason
from ...state.host.proof_keys import TakesProofs
from ...state.writer.group import Group
from ...state.writer.state_writer import StateWriter
from ...v1 import authorization_service_pb2 as pb
from ...v1 import record_pb2
from ..rpc.call import CallContext, parse
from ..rpc.finisher import wait_for_commit
from ..rpc.pipeline import Forward
from ..status import invalid, refused
from .authorizer import PERMIT_BYTES, CallRequest, WriterAuthorizer, WriterDecision
from .port import IN_PLACE, UNDECIDED, Decisions, decode_decisions, encode_items

# Size of a change that charges for a call, beside the call's own bytes.
CLAIM_BYTES: Final = 1_024


class LocalWriter:
    """A ``WriterPort`` to the log of this process. Any thread may use it."""

    def __init__(self, writer: StateWriter, host: TakesProofs, *, cache_bytes: int) -> None:
        """Decide in the groups of ``writer``; verified chains may take ``cache_bytes``.

        Proofs count as they do for ``host``, the process's own checker.
        """
        self._writer = writer
        self._authorizer = WriterAuthorizer(writer.source(), host, cache_bytes=cache_bytes)

    def decide(
        self, message: CheckMessage, wanted: Sequence[int], audience: str, call: CallContext, *, alone: bool
    ) -> Decisions:
        """Decide items one by one, in their order; those that are queued together share their commits.

        Raises NotLeader before any of them is decided. An item whose server loses the lead meanwhile stays
        denied: the whole call, asked again, would charge those before it twice. Alone it raises NotLeader,
        or NOT_LEADER if its proof may be used up meanwhile.
        """
        call.raise_if_expired()
        self._writer.require_leading()
        pending = []
        for index in wanted:
            request = call_request_from(message, index, audience, call)
            try:
                future = self._writer.decide(partial(self._authorizer.check, request=request), _size(request))
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
        self._writer.require_leading()
        request, permit = call_request_from(message, 0, audience, call), message.permit

        def work(group: Group) -> WriterDecision:
            return self._authorizer.commit(group, request, permit)

        _put(message, 0, wait_for_commit(self._writer.decide(work, _size(request)), call))
        return IN_PLACE

    def release(self, data: bytes, call: CallContext) -> bytes:
        """Release a permit of the caller's. Raises NotLeader as :meth:`commit` does."""
        permit = parse(pb.ReleaseRequest, data).permit
        require_permit(permit)
        call.raise_if_expired()
        self._writer.require_leading()
        gateway = call.principal.name

        def work(group: Group) -> int:
            return self._authorizer.release(group, gateway, permit).revision

        revision = wait_for_commit(self._writer.decide(work, CLAIM_BYTES, only_removes_authority=True), call)
        return pb.ReleaseResponse(revision=revision).SerializeToString()


def require_permit(permit: bytes) -> None:
    """Refuse bytes that can't be a permit."""
    if len(permit) != PERMIT_BYTES:
        raise invalid("permit", f"must be {PERMIT_BYTES} bytes, not {len(permit)}")


def call_request_from(message: CheckMessage, index: int, audience: str, call: CallContext) -> CallRequest:
    """Return the call of a checked item."""
    stated = call.context.stated
    return CallRequest(
        call.principal.name,
        *message.call(index),
        audience=audience,
        at_least_revision=message.at_least_revision,
        approvals=message.approvals(index),
        retry_id=message.retry_id(index),
        permit_ms=message.permit_ms(index),
        elsewhere=ItemProof.NOT_JUDGED if stated is None else stated.statement.proof_of(index),
    )


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


SERVICE: Final = "/sessauth.v1.AuthorizationService/"


@dataclass(eq=False)
class ClusterWriter:
    """A ``WriterPort`` to the current leader: ``local`` decides while it leads. Any thread may use it.

    Proofs are made for the host that received the call. So it consumes their nonces before ``ask_leader``
    asks the leader for anything, and states its results; the nonces are gone whether or not that answers.
    """

    local: LocalWriter
    ask_leader: Forward

    def decide(
        self, message: CheckMessage, wanted: Sequence[int], audience: str, call: CallContext, *, alone: bool
    ) -> Decisions:
        """Decide items, as ``LocalWriter.decide`` does; or have the leader decide them.

        They stay denied if it can't be asked, or as REPLAYED if their proofs were used before.
        """
        try:
            return self.local.decide(message, wanted, audience, call, alone=alone)
        except NotLeader as error:
            if call.context.stated is not None:
                # Stated for the whole request, which goes on as it came.
                raise
            return self._ask(message, wanted, audience, call, error, alone=alone)

    def commit(self, message: CheckMessage, data: bytes, audience: str, call: CallContext) -> Decisions:
        """Commit the permit of ``message``, encoded in ``data``."""
        try:
            return self.local.commit(message, data, audience, call)
        except NotLeader as error:
            if call.context.stated is not None:
                raise
            response = self._handed_on("Commit", data, call, error)
        try:
            return {0: pb.CommitResponse.FromString(response).decision}
        except DecodeError:
            raise refused("OUTCOME_UNKNOWN", "the leader gave no answer that can be read") from None

    def release(self, data: bytes, call: CallContext) -> bytes:
        """Release a permit of the caller's."""
        try:
            return self.local.release(data, call)
        except NotLeader as error:
            if call.context.stated is not None:
                raise
            return self._handed_on("Release", data, call, error)

    def _ask(
        self,
        message: CheckMessage,
        wanted: Sequence[int],
        audience: str,
        call: CallContext,
        error: NotLeader,
        *,
        alone: bool,
    ) -> Decisions:
        open_items: list[int] = []
        proofs: list[ItemProof] = []
        for index in wanted:
            proof = _consumed(message, index)
            if proof is not None:
                open_items.append(index)
                proofs.append(proof)
        if not open_items:
            return UNDECIDED
        name, request = encode_items(message, open_items, audience, alone=alone)
        try:
            response = self._handed_on(
                name, request, call, error, proofs, partial(_has_approval, wanted=open_items, alone=alone)
            )
        except SessauthError:
            if alone:
                raise
            return UNDECIDED
        return decode_decisions(response, open_items, alone=alone)

    def _handed_on(
        self,
        name: str,
        request: bytes,
        call: CallContext,
        error: NotLeader,
        proofs: Sequence[ItemProof] = (),
        shows: Callable[[bytes], bool] = lambda answer: False,
    ) -> bytes:
        try:
            return self.ask_leader(SERVICE + name, request, call, error, proofs, shows)
        except NotLeader as again:
            # The pipeline would forward it once more.
            raise refused("NOT_LEADER", str(again)) from None


def _has_approval(response: bytes, wanted: Sequence[int], *, alone: bool) -> bool:
    """Return True if an approval was requested, which the caller will ask this host for."""
    decisions = decode_decisions(response, wanted, alone=alone)
    return any(decision.HasField("approval") for decision in decisions.values())


def _consumed(message: CheckMessage, index: int) -> ItemProof | None:
    """Consume the nonce of an item's verified proof; None if the item is denied by that.

    A proof that was used before may be that of the call which this one repeats: the leader knows the id.
    """
    *_, proof = message.call(index)
    if not proof:
        return ItemProof.NOT_JUDGED
    if message.consume_nonce(index):
        return ItemProof.PROVEN
    if message.retry_id(index) and message[index].reason == Reason.REPLAYED:
        return ItemProof.REPLAYED
    return None
