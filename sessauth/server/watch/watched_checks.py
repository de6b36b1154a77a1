"""Answers CheckStream with watched calls: one thread answers and withdraws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from ..._fast._codec import CheckMessage, withdrawal
from ...decisions.decision import Decision
from ...reasons import Reason, Stage
from ...v1 import authorization_service_pb2 as pb
from ...verifier.verifier import Verifier
from ..rpc.call import CallContext
from .recheck import Watching
from .stream import WatchedStream
from .watchlist import Watched, Withdrawal, weight_of

# The argument of a denial for lack of space.
WATCH: Final = "watch"
NO_ROOM: Final = (
    "this stream watches as many calls as it may (limits.watched_calls, limits.watched_bytes): "
    "let go of some, or open another stream"
)


class Judging(Protocol):
    """Checks single calls: the service."""

    def read(self, kind: str, data: bytes) -> CheckMessage:
        """Return a request's message."""
        ...

    def answer(self, kind: str, message: CheckMessage, call: CallContext) -> bytes:
        """Check the one call of a message of that kind, and return the encoded response."""
        ...

    def audience(self, message: CheckMessage, call: CallContext) -> str:
        """Return the audience of a message."""
        ...

    def explain(self, decision: Decision, token: bytes | None) -> str:
        """Explain a denial to a gateway's operator."""
        ...


class WatchedChecks:
    """Answers streams with watched calls."""

    def __init__(self, judging: Judging, watching: Watching, verifier: Verifier) -> None:
        """Answer with ``judging``, recheck with ``watching``; ``verifier`` prepares the tokens."""
        self._judging = judging
        self._watching = watching
        self._verifier = verifier

    def answers(
        self, data: bytes, message: CheckMessage, requests: Iterator[bytes], call: CallContext
    ) -> Iterator[bytes]:
        """Answer a message, whose bytes are ``data``, and the requests after it, and withdraw false allows.

        Ends when the client has ended its requests and no call is watched any more. One thread answers and
        withdraws, so a withdrawal follows its allow; after the answer to an id that is used again there is
        no withdrawal of its earlier call.
        """
        with self._watching.open(requests, call) as stream:
            yield from self._answer(data, message, stream, call)
            while (arrived := stream.next()) is not None:
                if isinstance(arrived, bytes):
                    stream.require_caller()
                    message = self._judging.read("stream", arrived)
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
        response = self._judging.answer("stream", message, call)
        if message.watch:
            decision = pb.CheckStreamResponse.FromString(response).decision
            if decision.allowed:
                stream.watch(self._watched(message, call, len(data), decision.expires_at_ms))
        yield response

    def _watched(
        self, message: CheckMessage, call: CallContext, request_bytes: int, expires_at_ms: int
    ) -> Watched:
        token, *parts, _ = message.call(0)
        prepared = self._verifier.prepare(token)
        audience = self._judging.audience(message, call)
        weight = weight_of(request_bytes)
        # Without the proof, which counted when the call was allowed.
        item = (prepared, *parts, b"", message.token_only(0))
        return Watched(message.id, item, audience, token, weight, expires_at_ms)

    def _withdraw(self, withdrawn: Sequence[Withdrawal]) -> Iterator[bytes]:
        for watched, batch, place in withdrawn:
            self._watching.withdrawals.up()
            explanation = self._judging.explain(batch[place], watched.token)
            yield withdrawal(batch, place, watched.id, explanation)

    def _no_room(self, message: CheckMessage, call: CallContext) -> bytes:
        """Return a denial: an allow without the requested watch would be wrong."""
        decision = self._verifier.refuse(Stage.SCOPE, Reason.MALFORMED_REQUEST, WATCH)
        if len(message):
            token, action, resource, arguments, _, _, source, *_ = message.call(0)
            audience = self._judging.audience(message, call)
            self._verifier.record_decision(
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
