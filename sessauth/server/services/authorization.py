"""AuthorizationService: judges calls. The only service of a check worker.

A denial is an answer. What an agent controls (token, action, resource, arguments) only ever yields
one; what a gateway gets wrong (a missing item, a session id of the wrong size) is INVALID_ARGUMENT.

Requests and responses of checks are read and written by the kernel; no message object is made for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from ... import limits
from ..._fast.rpc_codec.check_messages import CheckMessage
from ...decisions.decision import Decision
from ...errors import ServerError, SessauthError
from ...reasons import Level, Reason, Stage
from ...state.lmdb.rows import stored_ceilings
from ...state.rules.ports import SessionSource
from ...v1 import authorization_service_pb2 as pb
from ...verifier.verifier import Verifier
from ..log import LOGGER
from ..rpc.call import CallContext
from ..rpc.failed_signatures import FailedSignatures
from ..rpc.method import RawHandler
from ..rpc.tracing import Tracing
from ..status import invalid, refused
from ..watch.recheck import Watching
from ..watch.watched_checks import WatchedChecks
from ..writer.authorizer import OVER
from ..writer.local import require_permit
from ..writer.port import WriterPort, put_decisions
from . import survey as surveys

# How often a long batch looks whether anybody still waits for it.
ITEMS_BETWEEN_LOOKS: Final = 256
EXPLANATIONS_BETWEEN_LOOKS: Final = 64
# The requests by the kernel's words for them.
MESSAGES: Final = {
    "check": "CheckRequest",
    "batch": "CheckBatchRequest",
    "stream": "CheckStreamRequest",
    "commit": "CommitRequest",
}
TOO_MANY_FAILURES: Final = "too many failed signatures from this peer; no new signature is looked at for now"


class AuthorizationService:
    """Answers AuthorizationService by a verifier, and by the writer where something is to be taken."""

    def __init__(
        self,
        verifier: Verifier,
        source: SessionSource,
        failures: FailedSignatures,
        writer: WriterPort,
        watching: Watching | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """Judge by ``verifier``, which reads ``source``; count failed signatures in ``failures``.

        What ends in stage ``needs`` goes on to ``writer``. ``watching`` looks after what streams watch; it is
        made here if it is not given. ``tracing`` is told what checks came to.
        """
        self._tracing = tracing
        self._verifier = verifier
        self._source = source
        self._writer = writer
        self._gates = failures.gates
        self._tell = self.explain
        self._logged_at = float("-inf")
        self._watched = WatchedChecks(self, watching or Watching(verifier), verifier)

    def check_batch(self, data: bytes, call: CallContext) -> bytes:
        """Judge up to 1024 calls, encoded; the answers are in the order of the items."""
        asking = self.read("batch", data)
        items = asking.stated
        if not 1 <= items <= limits.MAX_BATCH_ITEMS:
            raise invalid("items", f"must be 1 to {limits.MAX_BATCH_ITEMS}, not {items}")
        if asking.stated_tokens > limits.MAX_BATCH_ITEMS:
            raise invalid("tokens", f"must be at most {limits.MAX_BATCH_ITEMS}, not {asking.stated_tokens}")
        audience = _audience(asking.audience, call.principal.audiences)
        if not asking.well_formed():
            for index in range(items):
                _require_form(asking, index, f"items[{index}]")
                _require_place(asking, index)
        gate = self._gates[call.principal.name]
        for first in range(0, items, ITEMS_BETWEEN_LOOKS):
            call.raise_if_expired()
            asking.judge(audience, gate, first, ITEMS_BETWEEN_LOOKS)
        if asking.all_allowed:
            return asking.answer(self._tell)
        decided: Mapping[int, bytes] = {}
        wanted = [index for index in range(items) if asking.wants_writer(index)]
        if wanted:
            decided = self._writer.decide(asking, wanted, audience, call, alone=False)
        answer = asking.answer(self._explain_in_time(call), decided)
        return put_decisions("batch", answer, decided) if decided else answer

    def check_stream(self, requests: Iterator[bytes], call: CallContext) -> Iterator[bytes]:
        """Judge calls one by one as they come, encoded; each answer carries its request's id.

        From the first one that is to be watched on, what was allowed is withdrawn when it is no longer true.
        """
        for data in requests:
            call.raise_if_expired()
            asking = self.read("stream", data)
            if asking.watch:
                yield from self._watched.answers(data, requests, call)
                return
            yield self.answer("stream", asking, call)

    def list_allowed(self, request: pb.ListAllowedRequest, call: CallContext) -> pb.ListAllowedResponse:
        """Say of up to 1024 calls whether a token could make them now."""
        audience = _audience(request.audience, call.principal.audiences)
        surveys.require_form(request)
        survey = surveys.take(self._verifier, request, audience, self._gates[call.principal.name], call)
        if survey.fault is not None:
            self._log(survey.fault)
        return surveys.answer(survey, request, call)

    def methods(self) -> Mapping[str, RawHandler | Callable[..., object]]:
        """Return the RPCs of the service by name."""
        answers: dict[str, Callable[[bytes, CallContext], bytes]] = {
            "check": partial(self._answer_one, "check"),
            "batch": self.check_batch,
            "commit": self.commit,
        }
        if self._tracing is not None:
            answers = {kind: self._tracing.with_decision(kind, answer) for kind, answer in answers.items()}
        return {
            "Check": RawHandler(answers["check"]),
            "CheckBatch": RawHandler(answers["batch"]),
            "CheckStream": RawHandler(self.check_stream),
            "Commit": RawHandler(answers["commit"]),
            "Release": RawHandler(self._writer.release),
            "ListAllowed": self.list_allowed,
        }

    def _answer_one(self, kind: str, data: bytes, call: CallContext) -> bytes:
        """Judge one call, encoded: a CheckRequest to its response."""
        return self.answer(kind, self.read(kind, data), call)

    def commit(self, data: bytes, call: CallContext) -> bytes:
        """Judge the call of a permit again, encoded, and use the permit up if it is allowed.

        What this verifier's own view denies up to the scopes goes no further; but the writer is told of a
        permit whose session is over, so that it is open no longer.
        """
        asking = self.read("commit", data)
        # Its proof was judged when it was checked, and the permit is bound to that call.
        audience = self._judge(asking, call, skip_proof=True)
        require_permit(asking.permit)
        judged = asking[0]
        decided: Mapping[int, bytes] = {}
        if judged or judged.stage is Stage.NEEDS:
            # Only the writer's own word takes the place of this denial.
            asking.override(0, self._verifier.refuse(Stage.NEEDS, Reason.NEEDS_SERVER))
            decided = self._writer.commit(asking, data, audience, call)
        elif judged.reason in OVER:
            with suppress(SessauthError):
                decided = self._writer.commit(asking, data, audience, call)
        if decided:
            return put_decisions("commit", asking.answer(self._tell, decided), decided)
        return asking.answer(self._tell)

    def read(self, kind: str, data: bytes) -> CheckMessage:
        """Return what a request asks; ``kind`` is the kernel's word for it."""
        try:
            return CheckMessage(self._verifier, data, kind)
        except ValueError:
            raise _no_message(kind) from None

    def answer(self, kind: str, asking: CheckMessage, call: CallContext) -> bytes:
        """Judge the one call of a message of that kind, and return the encoded response."""
        audience = self._judge(asking, call)
        if asking.wants_writer(0):
            # Of a stream's message another one is answered by what goes wrong with this one.
            alone = kind == "check"
            decided = self._writer.decide(asking, (0,), audience, call, alone=alone)
            if decided:
                return put_decisions(kind, asking.answer(self._tell, decided), decided)
        return asking.answer(self._tell)

    def _judge(self, asking: CheckMessage, call: CallContext, *, skip_proof: bool = False) -> str:
        """Judge the one call that is asked about by this verifier; returns the audience it was judged for."""
        if not len(asking):
            raise invalid("item", "is required")
        principal, stated = call.principal, asking.audience
        own = principal.audiences
        audience = own[0] if not stated and len(own) == 1 else _audience(stated, own)
        if not asking.well_formed():
            _require_form(asking, 0, "item")
            if asking.token_index(0):
                raise invalid("item.token_index", "must be 0: only CheckBatch has tokens to name")
        asking.judge(audience, self._gates[principal.name], skip_proof=skip_proof)
        return audience

    @staticmethod
    def audience(asking: CheckMessage, call: CallContext) -> str:
        """Return which verifier asks."""
        return _audience(asking.audience, call.principal.audiences)

    def explain(self, decision: Decision, token: bytes) -> str:
        """Return what a gateway's operator is told of a denial.

        Until the signature stands, nothing that the token says is in it.
        """
        if decision.fault is not None:
            self._log(decision.fault)
        # A signature that was looked at is at fault at its block.
        if decision.reason == Reason.BAD_SIGNATURE and decision.index < 0:
            return TOO_MANY_FAILURES
        layers = stored_ceilings(self._source, decision.session_id) if decision.level == Level.CEILING else ()
        return decision.explain(token if decision.stage > Stage.SIGNATURE else None, layers)

    def _log(self, fault: Exception) -> None:
        """Say what went wrong in a check, once a second: while the state is sick every check fails."""
        now = time.monotonic()
        if now - self._logged_at >= 1.0:
            self._logged_at = now
            LOGGER.error("fault", exc_info=fault, extra={"fields": {"in": "check"}})

    def _explain_in_time(self, call: CallContext) -> Callable[[Decision, bytes], str]:
        """Return an explainer that looks now and then whether anybody still waits."""
        told = 0

        def explain(decision: Decision, token: bytes) -> str:
            nonlocal told
            if told % EXPLANATIONS_BETWEEN_LOOKS == 0:
                call.raise_if_expired()
            told += 1
            return self.explain(decision, token)

        return explain


def _no_message(kind: str) -> ServerError:
    return invalid("request", f"is not a sessauth.v1.{MESSAGES[kind]}")


def _audience(stated: str, own: tuple[str, ...]) -> str:
    """Return which verifier asks: what is stated, else the only one of the credential's own audiences."""
    if stated:
        if own and stated not in own:
            raise refused("PERMISSION_DENIED", "audience: not one of this credential's")
        return stated
    if len(own) == 1:
        return own[0]
    raise invalid("audience", f"is required: this credential has {'several' if own else 'none'} of its own")


def _require_form(asking: CheckMessage, index: int, field: str) -> None:
    """Refuse what a gateway got wrong; what an agent may have written is judged instead."""
    error: ServerError | None = None
    has_action, has_resource = asking.states(index)
    if not has_action:
        error = invalid(f"{field}.action", "is required")
    elif not has_resource:
        error = invalid(f"{field}.resource", "is required")
    elif asking.session_bytes(index) not in (0, 16):
        error = invalid(f"{field}.session_id", f"must be 16 bytes, not {asking.session_bytes(index)}")
    elif asking.peer_count(index) > limits.MAX_PEERS:
        error = invalid(
            f"{field}.peer", f"must be at most {limits.MAX_PEERS}, not {asking.peer_count(index)}"
        )
    elif asking.approval_count(index) > limits.MAX_APPROVAL_KEYS:
        error = invalid(
            f"{field}.approvals",
            f"must be at most {limits.MAX_APPROVAL_KEYS}, not {asking.approval_count(index)}",
        )
    elif len(asking.retry_id(index)) > limits.MAX_RETRY_ID_BYTES:
        error = invalid(
            f"{field}.retry_id",
            f"must be at most {limits.MAX_RETRY_ID_BYTES} bytes, not {len(asking.retry_id(index))}",
        )
    elif asking.permit_ms(index) > limits.MAX_PERMIT_MS:
        error = invalid(
            f"{field}.permit_ms", f"must be at most {limits.MAX_PERMIT_MS}, not {asking.permit_ms(index)}"
        )
    if error is not None:
        raise error


def _require_place(asking: CheckMessage, index: int) -> None:
    """Refuse an item that presents two tokens, or one that its batch does not have."""
    place = asking.token_index(index)
    if place and asking.token(index):
        raise invalid(f"items[{index}].token_index", "must be 0 beside a token")
    if place > asking.stated_tokens:
        raise invalid(
            f"items[{index}].token_index",
            f"must be at most {asking.stated_tokens}, as many as tokens, not {place}",
        )
