"""The writer of the state in this very process: the control process's way to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from ..._fast.rpc_codec.check_messages import CheckMessage
from ...errors import SessauthError
from ...state.host.proof_reader import TakesProofs
from ...state.writer.group import Group
from ...state.writer.state_writer import StateWriter
from ...v1 import authorization_service_pb2 as pb
from ..rpc.call import CallContext
from ..rpc.method import parse
from ..status import invalid
from .authorizer import PERMIT_BYTES, CallRequest, WriterAuthorizer, WriterDecision
from .port import ask_of, fields_of
from .submit import wait_for_commit

# Of a change that takes something, beside what its call brings along.
CLAIM_BYTES: Final = 1_024
NOTHING: Final[Mapping[int, bytes]] = {}


class WriterHere:
    """A ``WriterPort`` to the log of this process. Any thread may use it."""

    def __init__(self, log: StateWriter, host: TakesProofs, *, cache_bytes: int) -> None:
        """Decide in the groups of ``log``; verified chains may take ``cache_bytes``.

        Proofs count as they do for ``host``, the process's own checker.
        """
        self._log = log
        self._arbiter = WriterAuthorizer(log.source(), host, cache_bytes=cache_bytes)

    def decide(
        self, asking: CheckMessage, wanted: Sequence[int], audience: str, call: CallContext, *, alone: bool
    ) -> Mapping[int, bytes]:
        """Decide items one by one, in their order; all that are decided together share their commits."""
        call.raise_if_expired()
        pending = []
        for index in wanted:
            ask = ask_of(asking, index, audience, call)
            try:
                future = self._log.decide(partial(self._arbiter.check, ask=ask), _size(ask))
            except SessauthError:
                if alone:
                    raise
                # The queue is full; what was queued before is waited for.
                break
            pending.append((index, future))
        for index, future in pending:
            try:
                _put(asking, index, wait_for_commit(future, call))
            except SessauthError:
                if alone:
                    raise
        return NOTHING

    def commit(
        self, asking: CheckMessage, data: bytes, audience: str, call: CallContext
    ) -> Mapping[int, bytes]:
        """Commit the permit of ``asking``, which ``data`` was."""
        call.raise_if_expired()
        ask, permit = ask_of(asking, 0, audience, call), asking.permit

        def work(group: Group) -> WriterDecision:
            return self._arbiter.commit(group, ask, permit)

        _put(asking, 0, wait_for_commit(self._log.decide(work, _size(ask)), call))
        return NOTHING

    def release(self, data: bytes, call: CallContext) -> bytes:
        """Release a permit of the caller's."""
        permit = parse(pb.ReleaseRequest, data).permit
        require_permit(permit)
        call.raise_if_expired()
        gateway = call.principal.name

        def work(group: Group) -> int:
            return self._arbiter.release(group, gateway, permit).revision

        revision = wait_for_commit(self._log.decide(work, CLAIM_BYTES, only_removes_authority=True), call)
        return pb.ReleaseResponse(revision=revision).SerializeToString()


def require_permit(permit: bytes) -> None:
    """Refuse bytes that can't be a permit."""
    if len(permit) != PERMIT_BYTES:
        raise invalid("permit", f"must be {PERMIT_BYTES} bytes, not {len(permit)}")


def _size(ask: CallRequest) -> int:
    """Return about how many bytes a change for this call has: an approval is asked for with its arguments."""
    return CLAIM_BYTES + len(ask.resource) + len(ask.arguments)


def _put(asking: CheckMessage, index: int, verdict: WriterDecision) -> None:
    asking.override(index, verdict.decision)
    asking.attach(index, fields_of(verdict))
