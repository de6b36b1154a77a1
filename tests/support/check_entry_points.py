"""Every way by which a call can come to be judged: each a judge of cases, all to be alike.

A path keeps one verifier over the source of its run, as a running process does, whatever its state
becomes; the cold ones begin anew each time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sessauth._fast._check import ProofKeys
from sessauth._fast._codec import CheckMessage
from sessauth.crypto.armor import PROOF_PREFIX, presented_text, proof_text
from sessauth.limits import MAX_TOKEN_BYTES
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.verifier.verifier import Verifier
from tests.oracle.model import OracleRequest
from tests.support.commit_id_source import LARGEST, WORD, CommitIdSource, set_word, with_commit_id
from tests.support.compare import judge_request
from tests.support.decision_fields import DecisionContent, by_message, by_object, call_of

# Denials of one message that are explained with their token.
_EXPLAINED = 8
_REFUSED = ("sessauth_token_AAAA", "sessauth_secret_AAAA", "no token", b"sessauth_token_!")


@dataclass(frozen=True, slots=True)
class TimedCall:
    """One call and the time to judge it by."""

    token: bytes
    request: OracleRequest
    now_ms: int


Judged = Sequence[DecisionContent | None]
"""What each call came to, in their order; None for one that this path does not take."""


@dataclass
class Path:
    """A way to judge. ``rng`` decides what a path may choose; ``verifier`` is what it judges by."""

    source: CommitIdSource
    rng: Random
    proofs: ProofKeys | None = None
    verifier: Verifier = field(init=False)

    def __post_init__(self) -> None:
        self.verifier = self.fresh()

    def fresh(self) -> Verifier:
        """A verifier that knows nothing yet."""
        return Verifier(self.view_source(), proofs=self.proofs)

    def use(self, proofs: ProofKeys | None) -> None:
        """Judge proofs by these keys from now on."""
        self.proofs = self.verifier.proofs = proofs

    def view_source(self) -> Any:
        """Return the verifier's source."""
        return self.source

    def prepare(self, siblings: Iterable[bytes]) -> None:
        """Get ready for a batch; ``siblings`` are other children of the parents of its tokens."""

    def judge(self, calls: Sequence[TimedCall]) -> Judged:
        """Judge the calls by the state of now."""
        return [by_object(one(self.verifier, call.token, call)) for call in calls]


def one(verifier: Verifier, token: Any, call: TimedCall, *, consume_nonce: bool = True) -> Any:
    """Judge one call, with the token in the form given."""
    options = {"proof": call.request.proof, "now_ms": call.now_ms, "consume_nonce": consume_nonce}
    return judge_request(verifier, token, call.request, **options)


class ByTransaction(Path):
    """A source without a pulse: every check begins a transaction."""

    def view_source(self) -> Any:
        """The source, seen without its pulse."""
        return with_commit_id(self.source, None)


class ByCommitId(Path):
    """A source with a commit id, by which nearly every check skips its reads."""


class ByWrongCommitId(Path):
    """A pulse that says all sorts of things, but never what a mirror of another state was read at, nor less.

    One that is behind what was read says that the pages are of an older file, which is denied.
    """

    def view_source(self) -> Any:
        """The source with a pulse of this path's own."""
        self.words = bytearray(2 * WORD)
        return with_commit_id(self.source, self.words)

    def judge(self, calls: Sequence[TimedCall]) -> Judged:
        """Judge the calls, with another pulse before each."""
        contents = []
        for call in calls:
            number = self.source.number
            said = self.rng.choice((number, number, number + 1, number + 2**40, LARGEST))
            which = self.rng.randrange(2)
            set_word(self.words, which, said)
            set_word(self.words, 1 - which, self.rng.choice((0, said)))
            contents.append(by_object(one(self.verifier, call.token, call)))
        return contents


class Cold(Path):
    """A verifier that knows nothing, for one call of so many."""

    one_of = 4

    def judge(self, calls: Sequence[TimedCall]) -> Judged:
        """Judge some of the calls."""
        first = self.rng.randrange(self.one_of)
        return [
            by_object(one(self.fresh(), call.token, call)) if at % self.one_of == first else None
            for at, call in enumerate(calls)
        ]


class KnownParent(Path):
    """A verifier that knows nothing of the tokens but other children of their parents."""

    spared = 0

    def prepare(self, siblings: Iterable[bytes]) -> None:
        """Begin anew, and let the siblings' signatures be verified where the state lets them."""
        self.siblings = list(siblings)

    def judge(self, calls: Sequence[TimedCall]) -> Judged:
        """Judge the calls after the siblings."""
        self.verifier = self.fresh()
        for sibling in self.siblings if calls else ():
            one(self.verifier, sibling, calls[0], consume_nonce=False)
        by_siblings = self.verifier.signatures
        contents = super().judge(calls)
        cold = self.fresh()
        for call in calls:
            one(cold, call.token, call, consume_nonce=False)
        self.spared += cold.signatures - (self.verifier.signatures - by_siblings)
        return contents


class ByHandle(Path):
    """Handles that were made before anything was verified and are used whatever the state becomes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.handles: dict[bytes, Any] = {}

    def handle(self, token: bytes) -> Any:
        """The handle of a token, the same one until very many others were made."""
        if len(self.handles) > 2000:
            self.handles.clear()
        if token not in self.handles:
            self.handles[token] = self.verifier.prepare(token)
        return self.handles[token]

    def judge(self, calls: Sequence[TimedCall]) -> Judged:
        """Judge the calls by their handles."""
        return [by_object(one(self.verifier, self.handle(call.token), call)) for call in calls]


class ByForeignHandle(ByHandle):
    """Handles of another verifier, which are worth no more than their tokens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.maker = Verifier(self.source)

    def handle(self, token: bytes) -> Any:
        """A handle of the other verifier, half of them of chains that it verified."""
        handle = self.maker.prepare(token)
        if self.rng.random() < 0.5:
            self.maker._check(handle, "read", "a", now_ms=0)
        return handle


class _Together(Path):
    """Paths that judge many calls at once: those of one audience, revision and time."""

    def groups(self, calls: Sequence[TimedCall]) -> Iterator[tuple[list[int], TimedCall]]:
        """The places of calls that can be judged together, in a random order, and one of them."""
        places: dict[tuple[str, int, int], list[int]] = defaultdict(list)
        for at, call in enumerate(calls):
            places[call.request.audience, call.request.at_least_revision, call.now_ms].append(at)
        for group in places.values():
            self.rng.shuffle(group)
            yield group, calls[group[0]]


class InBatch(_Together):
    """``check_batch``: the same objects, equal ones, texts and handles, refused texts among them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.handles: dict[bytes, Any] = {}

    def form(self, token: bytes) -> Any:
        """A token in one of its forms."""
        roll = self.rng.random()
        if roll < 0.4:
            return token
        if roll < 0.7:
            return bytes(bytearray(token))
        if roll < 0.8 and token:
            return presented_text(token)
        if roll < 0.85 and token:
            return presented_text(token).encode()
        if len(self.handles) > 2000:
            self.handles.clear()
        return self.handles.setdefault(token, self.verifier.prepare(token))

    def proof_form(self, proof: bytes) -> bytes | str:
        """A proof in one of its forms."""
        roll = self.rng.random()
        if roll < 0.7 or not proof or proof.startswith(PROOF_PREFIX.encode()):
            return proof
        return proof_text(proof) if roll < 0.85 else proof_text(proof).encode()

    def judge(self, calls: Sequence[TimedCall]) -> Judged:
        """Judge the calls in batches, with texts that are no token in between."""
        contents: list[DecisionContent | None] = [None] * len(calls)
        for group, like in self.groups(calls):
            batch: list[tuple[Any, ...]] = []
            places: list[int] = []
            for at in group:
                if self.rng.random() < 0.1:
                    batch.append((self.rng.choice(_REFUSED), "read", "a"))
                    places.append(-1)
                request = calls[at].request
                proof = self.proof_form(request.proof)
                item = (*call_of(self.form(calls[at].token), request), proof)
                batch.append((*item, True) if request.token_only else item)
                places.append(at)
            decisions = self.verifier._check_batch(
                batch,
                audience=like.request.audience,
                at_least_revision=like.request.at_least_revision,
                now_ms=like.now_ms,
            )
            assert len(decisions) == len(batch)
            for at, decision in zip(places, decisions, strict=True):
                if at >= 0:
                    contents[at] = by_object(decision)
                else:
                    assert decision.stage == 1 and not decision and decision.revision == 0
            assert decisions.all_allowed is all(decision.allowed for decision in decisions)
        return contents


def message_of(call: TimedCall) -> pb.CheckItem:
    """A call as an item of a request."""
    request = call.request
    return pb.CheckItem(
        token=call.token,
        action=request.action,
        resource=request.resource,
        arguments=request.arguments,
        tool=request.tool,
        session_id=request.session,
        source=request.source,
        peer=request.peer,
        proof=request.proof,
        token_only=request.token_only,
    )


def _is_encodable(call: TimedCall) -> bool:
    """True if a request can carry the call: it has an action and a resource, or is of the token alone."""
    return call.request.token_only or bool(call.request.action and call.request.resource)


def _explain(decision: Any, token: bytes | None) -> str:
    return decision.reason.name if token is None else f"{decision.reason.name} of {len(token)}"


def _content(message: pb.Decision, call: TimedCall, denied_before: int = 0) -> DecisionContent:
    content = by_message(message)
    token = call.token if denied_before < _EXPLAINED else None
    expected = "" if content.outcome.allowed else _explain(content.outcome, token)
    assert message.explanation == expected
    return content


class OnWire(Path):
    """``CheckMessage`` of one item, as a request of its own or as a message of a stream."""

    def judge(self, calls: Sequence[TimedCall]) -> Judged:
        """Judge each call that a request can be made of."""
        return [self._one(call) if _is_encodable(call) else None for call in calls]

    def _one(self, call: TimedCall) -> DecisionContent:
        request = call.request
        number = self.rng.getrandbits(64)
        shared: dict[str, Any] = {
            "item": message_of(call),
            "audience": request.audience,
            "at_least_revision": request.at_least_revision,
        }
        streamed = self.rng.random() < 0.5
        if streamed:
            data = pb.CheckStreamRequest(id=number, **shared).SerializeToString()
        else:
            data = pb.CheckRequest(**shared).SerializeToString()
        message = CheckMessage(self.verifier, data, "stream" if streamed else "check")
        assert message.audience == request.audience
        message.judge(message.audience, now_ms=call.now_ms)
        if not streamed:
            return _content(pb.CheckResponse.FromString(message.answer(_explain)).decision, call)
        response = pb.CheckStreamResponse.FromString(message.answer(_explain))
        assert response.id == number
        return _content(response.decision, call)


class OnWireTogether(_Together):
    """``CheckMessage`` of many items, judged in one or more parts."""

    def share(self, request: pb.CheckBatchRequest) -> None:
        """Change the request's form, but not what it asks."""

    def judge(self, calls: Sequence[TimedCall]) -> Judged:
        """Judge all calls that requests can be made of."""
        contents: list[DecisionContent | None] = [None] * len(calls)
        for whole, like in self.groups(calls):
            group = [at for at in whole if _is_encodable(calls[at])]
            request = pb.CheckBatchRequest(
                items=[message_of(calls[at]) for at in group],
                audience=like.request.audience,
                at_least_revision=like.request.at_least_revision,
            )
            self.share(request)
            message = CheckMessage(self.verifier, request.SerializeToString(), "batch")
            part = self.rng.choice((1, 3, len(group) + 1))
            for first in range(0, len(group), part):
                message.judge(message.audience, None, first, part, now_ms=like.now_ms)
            answers = pb.CheckBatchResponse.FromString(message.answer(_explain)).decisions
            denied = 0
            for at, answer in zip(group, answers, strict=True):
                contents[at] = _content(answer, calls[at], denied)
                denied += not answer.allowed
        return contents


class OnWireByTable(OnWireTogether):
    """The same with a table of tokens, bytes and texts, that most items name in place of their own."""

    def share(self, request: pb.CheckBatchRequest) -> None:
        """Put tokens into the table, at random places, one now and then twice."""
        shown = [*sorted({item.token for item in request.items}), b"nobody's"]
        shown += self.rng.choices(shown, k=2)
        self.rng.shuffle(shown)
        request.tokens.extend(
            # A text that is too long is not decoded, so it can't stand for its bytes.
            presented_text(token).encode()
            if 0 < len(token) <= MAX_TOKEN_BYTES and self.rng.random() < 0.3
            else token
            for token in shown
        )
        for item in request.items:
            if self.rng.random() < 0.9:
                item.token_index = 1 + self.rng.choice(
                    [at for at, one in enumerate(shown) if one == item.token]
                )
                item.ClearField("token")


PATHS: dict[str, Callable[[CommitIdSource, Random], Path]] = {
    "transaction": ByTransaction,
    "pulse": ByCommitId,
    "wrong pulse": ByWrongCommitId,
    "cold": Cold,
    "known parent": KnownParent,
    "handle": ByHandle,
    "foreign handle": ByForeignHandle,
    "batch": InBatch,
    "wire": OnWire,
    "wire batch": OnWireTogether,
    "wire table": OnWireByTable,
}
