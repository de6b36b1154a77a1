"""The writer of a cluster: this process's own while it leads, else the leader's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from google.protobuf.message import DecodeError

from ..._fast._codec import CheckMessage
from ...errors import NotLeader, SessauthError
from ...model.caller_statement import ItemProof
from ...reasons import Reason
from ...v1 import authorization_service_pb2 as pb
from ..rpc.call import CallContext
from ..rpc.pipeline import HandOn
from ..status import refused
from .handed_items import UNDECIDED, decode_decisions, encode_items
from .local import LocalWriter
from .port import Decisions

SERVICE: Final = "/sessauth.v1.AuthorizationService/"


class ClusterWriter:
    """A ``WriterPort`` to the current leader. Any thread may use it.

    Proofs are made for the host that received the call. So it consumes their nonces before it asks the leader
    for anything, and states its results; the nonces are gone whether or not the leader answers.
    """

    def __init__(self, local: LocalWriter, hand_on: HandOn) -> None:
        """Decide with ``local`` while it leads; ``hand_on`` asks the leader."""
        self._local = local
        self._hand_on = hand_on

    def decide(
        self, message: CheckMessage, wanted: Sequence[int], audience: str, call: CallContext, *, alone: bool
    ) -> Decisions:
        """Decide items, as ``LocalWriter.decide`` does; or have the leader decide them.

        They stay denied if it can't be asked, or as REPLAYED if their proofs were used before.
        """
        try:
            return self._local.decide(message, wanted, audience, call, alone=alone)
        except NotLeader as error:
            if call.context.stated is not None:
                # Stated for the whole request, which goes on as it came.
                raise
            return self._ask(message, wanted, audience, call, error, alone=alone)

    def commit(self, message: CheckMessage, data: bytes, audience: str, call: CallContext) -> Decisions:
        """Commit the permit of ``message``, encoded in ``data``."""
        try:
            return self._local.commit(message, data, audience, call)
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
            return self._local.release(data, call)
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
            return self._hand_on(SERVICE + name, request, call, error, proofs, shows)
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
