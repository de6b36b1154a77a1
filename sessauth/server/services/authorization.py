"""AuthorizationService: checks calls. The only service of a check worker.

A denial is an answer. Input under an agent's control (token, action, resource, arguments) never yields
anything else; a mistake of a gateway (a missing item, a session id of the wrong size) is INVALID_ARGUMENT.

The kernel reads the requests and writes the responses of checks; no message object is made for them.
ListAllowed answers for many calls at once if a token could make them now.
Watched calls of streams come last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from ... import limits
from ..._fast._codec import CheckMessage, Survey, withdrawal
from ...decisions.decision import REASON_TEXTS, Decision
from ...errors import SessauthError
from ...model.host import ItemProof
from ...reasons import Level, Reason, Stage
from ...state.lmdb.rows import stored_ceilings
from ...state.rules.effects import SessionSource
from ...v1 import authorization_service_pb2 as pb
from ...verifier.verifier import Verifier
from ..log import LOGGER
from ..metrics.shared_page import Page
from ..rpc.authenticate import FailedSignatures
from ..rpc.call import CallContext, RawHandler
from ..rpc.pipeline import DirectChecks
from ..rpc.tracing import Tracing
from ..status import invalid, refused
from ..watch import Watched, WatchedStream, Watching, Withdrawal, weight_of
from ..writer.authorizer import FINAL_REASONS
from ..writer.local import require_permit
from ..writer.port import IN_PLACE, WriterPort, put_decisions, single_response
from .base import Service, deadline_checked

# Items, and explanations, of a long batch between two checks of its deadline.
ITEMS_BETWEEN_CHECKS: Final = 256
EXPLANATIONS_BETWEEN_CHECKS: Final = 64
# Request types by the kernel's words for them.
REQUEST_TYPES: Final = {
    "check": "CheckRequest",
    "batch": "CheckBatchRequest",
    "stream": "CheckStreamRequest",
    "commit": "CommitRequest",
}
FAILURE_LIMIT_TEXT: Final = "too many failed signatures from this peer; no new signature is looked at for now"


class AuthorizationService(Service):
    """Answers AuthorizationService with a verifier, and with the writer for calls that cost something."""

    descriptor = pb.DESCRIPTOR.services_by_name["AuthorizationService"]

    def __init__(
        self,
        verifier: Verifier,
        source: SessionSource,
        failures: FailedSignatures,
        writer: WriterPort,
        watching: Watching | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """Check by ``verifier``, which reads ``source``; count failed signatures in ``failures``.

        Calls that end in stage ``needs`` go on to ``writer``. ``watching`` rechecks watched calls; by default
        the service makes one. ``tracing`` adds decisions to spans.
        """
        self._tracing = tracing
        self._verifier = verifier
        self._source = source
        self._writer = writer
        self._gates = failures.gates
        # Bound once: each check passes it.
        self._explain = self.explain
        self._logged_at = float("-inf")
        self._watched = WatchedChecks(self, watching or Watching(verifier), verifier)

    def direct_checks(self, page: Page | None) -> DirectChecks:
        """Return what the loop of a server needs to answer checks by itself; ``page`` counts them."""
        return DirectChecks(self._verifier, self.explain, self._gates, page)

    def check_batch(self, data: bytes, call: CallContext) -> bytes:
        """Check up to 1024 calls, encoded; the answers are in the order of the items."""
        message = self.read("batch", data)
        items = message.stated
        if not 1 <= items <= limits.MAX_BATCH_ITEMS:
            raise invalid("items", f"must be 1 to {limits.MAX_BATCH_ITEMS}, not {items}")
        if message.stated_tokens > limits.MAX_BATCH_ITEMS:
            raise invalid("tokens", f"must be at most {limits.MAX_BATCH_ITEMS}, not {message.stated_tokens}")
        audience = _audience_of(message, call)
        if not message.well_formed():
            for index in range(items):
                _require_form(message, index, f"items[{index}]")
                _require_place(message, index)
        gate, proven = self._gates[call.principal.name], _proven_elsewhere(message, call)
        for first in range(0, items, ITEMS_BETWEEN_CHECKS):
            call.raise_if_expired()
            message.judge(audience, gate, first, ITEMS_BETWEEN_CHECKS, proven=proven)
        if message.all_allowed:
            return message.answer(self._explain)
        wanted = [index for index in range(items) if message.wants_writer(index)]
        decided = IN_PLACE
        if wanted:
            decided = self._writer.decide(message, wanted, audience, call, alone=False)
        explain = deadline_checked(self.explain, call, EXPLANATIONS_BETWEEN_CHECKS)
        response = message.answer(explain, decided)
        return put_decisions(response, decided) if decided else response

    def check_stream(self, requests: Iterator[bytes], call: CallContext) -> Iterator[bytes]:
        """Check calls one by one as they come, encoded; each answer carries its request's id.

        From the first watched one on, an allow is withdrawn when it is no longer true.
        """
        for data in requests:
            call.raise_if_expired()
            message = self.read("stream", data)
            if message.watch:
                yield from self._watched.answers(data, message, requests, call)
                return
            yield self.answer("stream", message, call)

    def list_allowed(self, request: pb.ListAllowedRequest, call: CallContext) -> pb.ListAllowedResponse:
        """Return which of up to 1024 calls a token could make now."""
        audience = _audience_of(request, call)
        _require_candidates(request)
        call.raise_if_expired()
        survey = Survey(
            self._verifier,
            request.token,
            session=request.session_id,
            source=request.source,
            peer=tuple(request.peer),
            audience=audience,
            at_least_revision=request.at_least_revision,
            gate=self._gates[call.principal.name],
        )
        if survey.fault is not None:
            self._log(survey.fault)
        return _verdicts(survey, request, call)

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
        """Check one call, encoded: a CheckRequest to its response."""
        return self.answer(kind, self.read(kind, data), call)

    def commit(self, data: bytes, call: CallContext) -> bytes:
        """Check the call of a permit again, encoded, and use the permit up if it is allowed.

        A call that this verifier denies before stage ``needs`` goes no further, except that the writer
        releases the permit of a session that is over.
        """
        message = self.read("commit", data)
        # It was proven when it was checked, and the permit is bound to that call.
        audience = self._check_one(message, call, skip_proof=True)
        require_permit(message.permit)
        checked = message[0]
        decided = IN_PLACE
        if checked or checked.stage is Stage.NEEDS:
            # Only the writer's own decision replaces this denial.
            message.override(0, self._verifier.refuse(Stage.NEEDS, Reason.NEEDS_SERVER))
            decided = self._writer.commit(message, data, audience, call)
        elif checked.reason in FINAL_REASONS:
            with suppress(SessauthError):
                decided = self._writer.commit(message, data, audience, call)
        return single_response("commit", message, decided[0]) if decided else message.answer(self._explain)

    def read(self, kind: str, data: bytes) -> CheckMessage:
        """Return a request's message; ``kind`` is the kernel's word for its type."""
        try:
            return CheckMessage(self._verifier, data, kind)
        except ValueError:
            raise invalid("request", f"is not a sessauth.v1.{REQUEST_TYPES[kind]}") from None

    def answer(self, kind: str, message: CheckMessage, call: CallContext) -> bytes:
        """Check the one call of a message of that kind, and return the encoded response."""
        audience = self._check_one(message, call)
        if message.wants_writer(0):
            # An error of one message of a stream would end the others too.
            decided = self._writer.decide(message, (0,), audience, call, alone=kind == "check")
            if decided:
                return single_response(kind, message, decided[0])
        return message.answer(self._explain)

    def _check_one(self, message: CheckMessage, call: CallContext, *, skip_proof: bool = False) -> str:
        """Check the one call of a message by this verifier; returns the audience it was checked for."""
        if not len(message):
            raise invalid("item", "is required")
        audience = _audience_of(message, call)
        if not message.well_formed():
            _require_form(message, 0, "item")
            if message.token_index(0):
                raise invalid("item.token_index", "must be 0: only CheckBatch has tokens to name")
        proven = _proven_elsewhere(message, call)
        message.judge(audience, self._gates[call.principal.name], skip_proof=skip_proof, proven=proven)
        return audience

    def explain(self, decision: Decision, token: bytes | None) -> str:
        """Explain a denial to a gateway's operator; without the token, by the reason alone.

        The token's contents are part of it only after a valid signature.
        """
        if decision.fault is not None:
            self._log(decision.fault)
        # A verified signature is at fault at its block.
        if decision.reason == Reason.BAD_SIGNATURE and decision.index < 0:
            return FAILURE_LIMIT_TEXT
        if token is None:
            return f"{decision.reason.name}: {REASON_TEXTS[decision.reason]}"
        layers = stored_ceilings(self._source, decision.session_id) if decision.level == Level.CEILING else ()
        return decision.explain(token if decision.stage > Stage.SIGNATURE else None, layers)

    def _log(self, fault: Exception) -> None:
        """Log a fault of a check, once a second: while the state is faulty every check fails."""
        now = time.monotonic()
        if now - self._logged_at >= 1.0:
            self._logged_at = now
            LOGGER.error("fault", exc_info=fault, extra={"fields": {"in": "check"}})


def _proven_elsewhere(message: CheckMessage, call: CallContext) -> frozenset[int] | None:
    """Return the items whose proofs another host of the cluster verified; None if it forwarded nothing.

    One whose nonce was used before is among them only with a retry id, by which the writer decides it.
    """
    stated = call.context.stated
    if stated is None:
        return None
    proofs = [(index, stated.statement.proof_of(index)) for index in range(len(message))]
    return frozenset(
        index
        for index, proof in proofs
        if proof is ItemProof.PROVEN or (proof is ItemProof.REPLAYED and message.retry_id(index))
    )


def _audience_of(message: CheckMessage | pb.ListAllowedRequest, call: CallContext) -> str:
    """Return the verifier's audience: the stated one, else the credential's only one."""
    stated, own = message.audience, call.principal.audiences
    if stated:
        if own and stated not in own:
            raise refused("PERMISSION_DENIED", "audience: not one of this credential's")
        return stated
    if len(own) == 1:
        return own[0]
    raise invalid("audience", f"is required: this credential has {'several' if own else 'none'} of its own")


def _require_form(message: CheckMessage, index: int, field: str) -> None:
    """Refuse faults of the gateway; fields that an agent may have written are left to the check."""
    has_action, has_resource = message.states(index)
    session_bytes = message.session_bytes(index)
    if message.token_only(index):
        if message.has_call(index):
            raise invalid(f"{field}.token_only", "must be false beside any part of a call, and in a Commit")
    elif not has_action:
        raise invalid(f"{field}.action", "is required")
    elif not has_resource:
        raise invalid(f"{field}.resource", "is required")
    if session_bytes not in (0, 16):
        raise invalid(f"{field}.session_id", f"must be 16 bytes, not {session_bytes}")
    # In this order: of two faults the first is named.
    for name, value, most, unit in (
        ("peer", message.peer_count(index), limits.MAX_PEERS, ""),
        ("approvals", message.approval_count(index), limits.MAX_APPROVAL_KEYS, ""),
        ("retry_id", len(message.retry_id(index)), limits.MAX_RETRY_ID_BYTES, " bytes"),
        ("permit_ms", message.permit_ms(index), limits.MAX_PERMIT_MS, ""),
    ):
        if value > most:
            raise invalid(f"{field}.{name}", f"must be at most {most}{unit}, not {value}")


def _require_place(message: CheckMessage, index: int) -> None:
    """Refuse an item with two tokens, or with one that its batch does not have."""
    place = message.token_index(index)
    if place and message.token(index):
        raise invalid(f"items[{index}].token_index", "must be 0 beside a token")
    if place > message.stated_tokens:
        raise invalid(
            f"items[{index}].token_index",
            f"must be at most {message.stated_tokens}, as many as tokens, not {place}",
        )


# Candidates of a long survey between two checks of its deadline.
CANDIDATES_BETWEEN_CHECKS: Final = 64


def _require_candidates(request: pb.ListAllowedRequest) -> None:
    """Refuse faults of the gateway; fields that an agent may have written are left to the check."""
    candidates = request.candidates
    if not 1 <= len(candidates) <= limits.MAX_BATCH_ITEMS:
        raise invalid("candidates", f"must be 1 to {limits.MAX_BATCH_ITEMS}, not {len(candidates)}")
    if len(request.session_id) not in (0, 16):
        raise invalid("session_id", f"must be 16 bytes, not {len(request.session_id)}")
    if len(request.peer) > limits.MAX_PEERS:
        raise invalid("peer", f"must be at most {limits.MAX_PEERS}, not {len(request.peer)}")
    for index, candidate in enumerate(candidates):
        if candidate.arguments and not candidate.has_arguments:
            raise invalid(f"candidates[{index}].arguments", "must be empty without has_arguments")


def _verdicts(survey: Survey, request: pb.ListAllowedRequest, call: CallContext) -> pb.ListAllowedResponse:
    """Return the verdicts. Raises DEADLINE_EXCEEDED once the caller is gone."""
    response = pb.ListAllowedResponse(
        reason=survey.reason,  # type: ignore[arg-type]
        stage=survey.stage,  # type: ignore[arg-type]
        revision=survey.revision,
    )
    candidates = request.candidates
    for first in range(0, len(candidates), CANDIDATES_BETWEEN_CHECKS):
        call.raise_if_expired()
        response.verdicts.extend(
            survey.verdicts(  # type: ignore[arg-type]
                (item.action, item.resource, item.arguments if item.has_arguments else None, item.tool)
                for item in candidates[first : first + CANDIDATES_BETWEEN_CHECKS]
            )
        )
    return response


# The argument of a denial for lack of space.
WATCH: Final = "watch"
NO_ROOM: Final = (
    "this stream watches as many calls as it may (limits.watched_calls, limits.watched_bytes): "
    "let go of some, or open another stream"
)


@dataclass(eq=False)
class WatchedChecks:
    """Answers streams with watched calls by ``service``; ``watching`` rechecks them."""

    service: AuthorizationService
    watching: Watching
    verifier: Verifier

    def answers(
        self, data: bytes, message: CheckMessage, requests: Iterator[bytes], call: CallContext
    ) -> Iterator[bytes]:
        """Answer a message, whose bytes are ``data``, and the requests after it, and withdraw false allows.

        Ends when the client has ended its requests and no call is watched any more. One thread answers and
        withdraws, so a withdrawal follows its allow; after the answer to an id that is used again there is
        no withdrawal of its earlier call.
        """
        with self.watching.open(requests, call) as stream:
            yield from self._answer(data, message, stream, call)
            while (arrived := stream.next()) is not None:
                if isinstance(arrived, bytes):
                    stream.require_caller()
                    message = self.service.read("stream", arrived)
                    yield from self._answer(arrived, message, stream, call)
                else:
                    yield from self._withdraw(arrived)

    def _answer(
        self, data: bytes, message: CheckMessage, stream: WatchedStream, call: CallContext
    ) -> Iterator[bytes]:
        yield from self._withdraw(stream.unwatch(message.id))
        if message.watch and not stream.has_room(len(data)):
            # Not checked, so not charged for either.
            yield self._no_room(message, call)
            return
        response = self.service.answer("stream", message, call)
        if message.watch:
            decision = pb.CheckStreamResponse.FromString(response).decision
            if decision.allowed:
                stream.watch(self._watched(message, call, len(data), decision.expires_at_ms))
        yield response

    def _watched(
        self, message: CheckMessage, call: CallContext, request_bytes: int, expires_at_ms: int
    ) -> Watched:
        token, *parts, _ = message.call(0)
        prepared = self.verifier.prepare(token)
        audience = _audience_of(message, call)
        weight = weight_of(request_bytes)
        # Without the proof, which counted when the call was allowed.
        item = (prepared, *parts, b"", message.token_only(0))
        return Watched(message.id, item, audience, token, weight, expires_at_ms)

    def _withdraw(self, withdrawn: Sequence[Withdrawal]) -> Iterator[bytes]:
        for watched, batch, place in withdrawn:
            self.watching.count_withdrawal()
            explanation = self.service.explain(batch[place], watched.token)
            yield withdrawal(batch, place, watched.id, explanation)

    def _no_room(self, message: CheckMessage, call: CallContext) -> bytes:
        """Return a denial: an allow without the requested watch would be wrong."""
        decision = self.verifier.refuse(Stage.SCOPE, Reason.MALFORMED_REQUEST, WATCH)
        if len(message):
            token, action, resource, arguments, _, _, source, *_ = message.call(0)
            audience = _audience_of(message, call)
            self.verifier.record_decision(
                decision,
                token,
                action,
                resource,
                arguments,
                source=source,
                audience=audience,
                token_only=message.token_only(0),
            )
        return pb.CheckStreamResponse(
            id=message.id,
            decision=pb.Decision(
                reason=pb.REASON_MALFORMED_REQUEST,
                stage=pb.STAGE_SCOPE,
                failed=pb.Position(index=-1, scope=-1, clause=-1, argument=WATCH),
                decision_id=decision.decision_id,
                explanation=NO_ROOM,
            ),
        ).SerializeToString()
