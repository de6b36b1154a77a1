"""CheckStream once a call of it is watched: answers as ever, and withdrawals of what is no longer allowed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from ..._fast.rpc_codec.check_messages import CheckMessage
from ..._fast.rpc_codec.decision_writer import withdrawal
from ...decisions.decision import Decision
from ...reasons import Reason, Stage
from ...v1 import authorization_service_pb2 as pb
from ...verifier.verifier import Verifier
from ..rpc.call import CallContext
from .recheck import Watching
from .stream import WatchedStream
from .watchlist import Watched, Withdrawal, weight_of

# What is at fault with a call that can't be watched.
WATCH: Final = "watch"
NO_ROOM: Final = (
    "this stream watches as many calls as it may (limits.watched_calls, limits.watched_bytes): "
    "let go of some, or open another stream"
)


class Judging(Protocol):
    """Judges single calls: the service."""

    def read(self, kind: str, data: bytes) -> CheckMessage:
        """Return what a request asks."""
        ...

    def answer(self, kind: str, asking: CheckMessage, call: CallContext) -> bytes:
        """Judge the one call of a message of that kind, and return the encoded response."""
        ...

    def audience(self, asking: CheckMessage, call: CallContext) -> str:
        """Return which verifier asks."""
        ...

    def explain(self, decision: Decision, token: bytes) -> str:
        """Return what a gateway's operator is told of a denial."""
        ...


class WatchedChecks:
    """Answers streams of which some calls are watched."""

    def __init__(self, judging: Judging, watching: Watching, verifier: Verifier) -> None:
        """Have ``judging`` answer, ``watching`` look, and ``verifier`` keep the tokens."""
        self._judging = judging
        self._watching = watching
        self._verifier = verifier

    def answers(self, first: bytes, requests: Iterator[bytes], call: CallContext) -> Iterator[bytes]:
        """Answer ``first`` and what follows it, encoded, and withdraw what is no longer allowed.

        Ends when the client has ended its requests and nothing is watched any more. One thread answers and
        withdraws, so a withdrawal follows its allow, and with an id that is used again nothing is told of
        its earlier call behind the new answer.
        """
        with self._watching.open(requests, call) as stream:
            yield from self._answer(first, stream, call)
            while (found := stream.next()) is not None:
                if isinstance(found, bytes):
                    stream.require_caller()
                    yield from self._answer(found, stream, call)
                else:
                    yield from self._withdraw(found)

    def _answer(self, data: bytes, stream: WatchedStream, call: CallContext) -> Iterator[bytes]:
        asking = self._judging.read("stream", data)
        yield from self._withdraw(stream.unwatch(asking.id))
        if asking.watch and not stream.has_room(len(data)):
            # Nothing was judged, so nothing that the call costs was taken.
            yield self._no_room(asking, call)
            return
        answer = self._judging.answer("stream", asking, call)
        if asking.watch:
            decision = pb.CheckStreamResponse.FromString(answer).decision
            if decision.allowed:
                stream.watch(self._watched(data, asking, call, decision.expires_at_ms))
        yield answer

    def _watched(self, data: bytes, asking: CheckMessage, call: CallContext, expires_at_ms: int) -> Watched:
        item = pb.CheckStreamRequest.FromString(data).item
        token = asking.token(0)
        return Watched(
            asking.id,
            (
                self._verifier.prepare(token),
                item.action,
                item.resource,
                item.arguments,
                item.tool,
                item.session_id,
                item.source,
                tuple(item.peer),
            ),
            self._judging.audience(asking, call),
            token,
            weight_of(len(data)),
            expires_at_ms,
        )

    def _withdraw(self, withdrawn: Sequence[Withdrawal]) -> Iterator[bytes]:
        for watched, batch, place in withdrawn:
            self._watching.withdrawals.up()
            told = self._judging.explain(batch[place], watched.token)
            yield withdrawal(batch, place, watched.id, told)

    def _no_room(self, asking: CheckMessage, call: CallContext) -> bytes:
        """Return a denial: an allow that can't be watched is not what was asked for."""
        decision = self._verifier.refuse(Stage.SCOPE, Reason.MALFORMED_REQUEST, WATCH)
        if len(asking):
            token, action, resource, arguments, _, _, source, *_ = asking.call(0)
            audience = self._judging.audience(asking, call)
            self._verifier.record_decision(
                decision, token, action, resource, arguments, source=source, audience=audience
            )
        return pb.CheckStreamResponse(
            id=asking.id,
            decision=pb.Decision(
                reason=pb.REASON_MALFORMED_REQUEST,
                stage=pb.STAGE_SCOPE,
                failed=pb.Position(index=-1, scope=-1, clause=-1, argument=WATCH),
                decision_id=decision.decision_id,
                explanation=NO_ROOM,
            ),
        ).SerializeToString()
