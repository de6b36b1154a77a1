"""No call of the kernel keeps anything: neither memory nor a reference, however it ends."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from sessauth._fast._check import CommitId, CostClaims
from sessauth._fast._codec import CheckMessage, Survey
from sessauth.reasons import Reason, Stage
from sessauth.scopes.call_arguments import Arguments
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.verifier.verifier import Verifier
from tests.support.cases import examples
from tests.support.commit_id_source import CommitIdSource
from tests.support.leaks import growth
from tests.support.token_forger import make
from tests.support.vector_files import read_view
from tests.vectors.world import AUDIENCE, NOW, SESSION, VIEWS, child, key, link, root, token

CALLS = examples(100_000)
# A reference or allocation that each call kept would be CALLS of them.
FEW = 300
FEW_BYTES = 16 * CALLS // 8


class Given:
    """The objects that calls are made with, whose references are counted."""

    def __init__(self) -> None:
        """A verifier, and calls for every end."""
        self.source = CommitIdSource()
        self.source.load(*read_view(VIEWS["plain"]))
        self.verifier = Verifier(self.source, audience=AUDIENCE)
        self.right = token(root("read:files/** where n? <= 5"), child())
        self.forged = make(link(root("read:files/**")), [key("nobody")])
        self.costly = token(root("read:files/** where n? <= 5 needs uses(1)", "read:files/* needs uses(2)"))
        self.broken = self.right[:-1]
        self.handle = self.verifier.prepare(self.right)
        self.bad_handle = self.verifier.prepare(self.broken)
        self.text = "sessauth_token_AAAA!"
        self.action, self.resource = "read", "files/é"
        self.allowed, self.denied, self.left = b'{"n":1}', b'{"n":' + b"9" * 30 + b"}", b'{"n":1,"m":{}}'
        self.values = {"n": Decimal("1.50")}
        self.unsayable = {"deep": [{"é": [1.5, float("nan")]}]}
        self.many = {"n": 2.5, "m": {"é": ["\n", None, True, 2**70]}}
        self.tool = b'{"a":"\\u00e9"}'
        self.session, self.address, self.peers = bytes(SESSION), "10.0.0.1", ("sha256:aa", "é")
        self.audience = "gateway"
        self.unknown = RuntimeError("broken")

    def all(self) -> dict[str, Any]:
        """Each of them by name."""
        return dict(vars(self))

    def judge(self, presented: Any, arguments: Arguments = b"") -> Any:
        """One check with every part stated."""
        return self.verifier._check(
            presented,
            self.action,
            self.resource,
            arguments,
            tool=self.tool,
            session=self.session,
            source=self.address,
            peer=self.peers,
            audience=self.audience,
            now_ms=NOW,
        )

    def call(self, presented: Any, arguments: Arguments = b"") -> tuple[Any, ...]:
        """One call of a batch with every part stated."""
        return (
            presented,
            self.action,
            self.resource,
            arguments,
            self.tool,
            self.session,
            self.address,
            self.peers,
        )

    def request(self, presented: bytes, arguments: bytes = b"") -> pb.CheckItem:
        """One item of a request."""
        return pb.CheckItem(
            token=presented,
            action=b"read",
            resource="files/é".encode(),
            arguments=arguments,
            tool=self.tool,
            session_id=self.session,
            source=self.address,
            peer=self.peers,
        )


GIVEN = Given()


def look(decision: Any) -> None:
    """Ask a decision for all that it tells."""
    for name in ("allowed", "reason", "stage", "argument", "session_id", "block_ids", "decision_id", "fault"):
        getattr(decision, name)


def by_check(presented: Any, arguments: Arguments, reason: Reason) -> Callable[[int], None]:
    """Checks of one end."""

    def run(count: int) -> None:
        for _ in range(count):
            decision = GIVEN.judge(presented, arguments)
            assert decision.reason is reason
        look(decision)

    return run


def by_batch(count: int) -> None:
    """Batches of every end, some looked at and some not."""
    calls = [
        GIVEN.call(presented, arguments)
        for presented in (GIVEN.right, GIVEN.handle, GIVEN.bad_handle, GIVEN.text, GIVEN.broken)
        for arguments in (GIVEN.allowed, GIVEN.values, GIVEN.denied, GIVEN.left, b"{")
    ]
    for turn in range(count // len(calls)):
        batch = GIVEN.verifier._check_batch(calls, audience=GIVEN.audience, now_ms=NOW)
        if turn % 3 == 0:
            for decision in batch:
                look(decision)
            list(batch[3:9])
        assert not batch.all_allowed


def by_wrong_batch(count: int) -> None:
    """Batches that a caller's mistake ends in the middle."""
    calls = [GIVEN.call(GIVEN.handle), GIVEN.call(GIVEN.right), GIVEN.call(GIVEN.right, {"n": {7}})]  # type: ignore[arg-type]
    for _ in range(count // 3):
        with pytest.raises(TypeError):
            GIVEN.verifier.check_batch(calls)


def by_wrong_check(count: int) -> None:
    """Checks with a caller's mistake at each place."""
    for _ in range(count // 4):
        for wrong in (
            (None,),
            (GIVEN.right, 7),
            (GIVEN.right, "read", None),
            (GIVEN.right, "read", "a", {"n": [{}, object()]}),
        ):
            with pytest.raises(TypeError):
                GIVEN.verifier.check(*wrong)  # type: ignore[arg-type]


def by_prepare(count: int) -> None:
    """Handles made and let go, of tokens of each kind and of other handles."""
    for _ in range(count // 5):
        for presented in (GIVEN.right, GIVEN.broken, GIVEN.text, GIVEN.handle, GIVEN.forged):
            GIVEN.verifier.prepare(presented)


def by_request(kind: str) -> Callable[[int], None]:
    """Requests in wire form of each end, with an answer."""
    ends = [
        GIVEN.request(presented, arguments)
        for presented in (GIVEN.right, GIVEN.broken, GIVEN.text.encode())
        for arguments in (GIVEN.allowed, GIVEN.denied, GIVEN.left, b"{")
    ]
    if kind == "batch":
        table = [end.token for end in ends]
        named = [pb.CheckItem.FromString(end.SerializeToString()) for end in ends]
        for place, end in enumerate(named, 1):
            end.token, end.token_index = b"", 1 + place // 2
        whole = pb.CheckBatchRequest(items=ends + named, audience="x", tokens=[*table, b"unnamed"])
        messages = [whole.SerializeToString()]
    else:
        of_one = pb.CheckRequest if kind == "check" else pb.CheckStreamRequest
        messages = [of_one(item=end, audience="x").SerializeToString() for end in ends]

    def run(count: int) -> None:
        for _ in range(count // len(ends)):
            for data in messages:
                asking = CheckMessage(GIVEN.verifier, data, kind)
                for _again in range(2):
                    asking.judge(GIVEN.audience, now_ms=NOW)
                asking.answer(lambda decision, data: decision.reason.name)
                look(asking[0])

    return run


def by_wrong_request(count: int) -> None:
    """Requests that are none, or not well-formed, or that nobody judges."""
    whole = pb.CheckRequest(item=GIVEN.request(GIVEN.right)).SerializeToString()
    unformed = pb.CheckRequest(item=pb.CheckItem(token=b"x", peer=["a"] * 20)).SerializeToString()
    named = pb.CheckItem(token_index=2, action=b"read", resource=b"files/a")
    misplaced = pb.CheckBatchRequest(items=[named], tokens=[GIVEN.right]).SerializeToString()
    for _ in range(count // 4):
        with pytest.raises(ValueError):
            CheckMessage(GIVEN.verifier, whole[:-1], "check")
        asking = CheckMessage(GIVEN.verifier, unformed, "check")
        with pytest.raises(ValueError):
            asking.judge(GIVEN.audience)
        CheckMessage(GIVEN.verifier, whole, "batch")
        with pytest.raises(ValueError):
            CheckMessage(GIVEN.verifier, misplaced, "batch").judge(GIVEN.audience)


class Payer:
    """Pays as it is told to, with the number that is a reason or with what is raised."""

    answer: object = 0

    def charge(self, claims: CostClaims) -> object:
        """Look at all claims, choose what can be chosen, and answer."""
        for block, _, scopes in claims:
            claims.choose(block, scopes[-1][0])
            claims.fail(block, scopes[0][0], "é")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def by_payer(count: int) -> None:
    """Checks that are paid, not paid, and paid by what breaks."""
    payer = Payer()
    given: dict[str, Any] = {"now_ms": NOW, "cost_handler": payer}
    for turn in range(count // 10):
        payer.answer = (0, Reason.USES_EXHAUSTED, None, GIVEN.unknown)[turn % 4]
        look(GIVEN.verifier._check(GIVEN.costly, GIVEN.action, GIVEN.resource, GIVEN.allowed, **given))
        GIVEN.unknown.__traceback__ = None
        GIVEN.unknown.__context__ = None


def by_survey(count: int) -> None:
    """Surveys of tokens right and wrong, of candidates of each sort and of none."""
    candidates = [
        (GIVEN.action, GIVEN.resource),
        (GIVEN.action, GIVEN.resource, GIVEN.denied, GIVEN.tool),
        (GIVEN.action, GIVEN.resource, GIVEN.left),
    ]
    for turn in range(count // 20):
        presented = (GIVEN.right, GIVEN.handle, GIVEN.text, GIVEN.broken)[turn % 4]
        survey = Survey(GIVEN.verifier, presented, peer=GIVEN.peers, source=GIVEN.address, now_ms=NOW)
        survey.verdicts(candidates)
        with pytest.raises(TypeError):
            survey.verdicts([*candidates, (GIVEN.action, None)])


def by_wishes(count: int) -> None:
    """Requests with approvals, retry ids and permits, answered by decisions of others, again and again."""
    item = pb.CheckItem(
        token=GIVEN.costly, action=b"read", resource=b"files/a", approvals=[b"a", b"b"], retry_id=b"again"
    )
    data = pb.CheckBatchRequest(items=[item] * 3).SerializeToString()
    permit = pb.Decision(permit=b"p").SerializeToString()
    for _ in range(count // 20):
        asking = CheckMessage(GIVEN.verifier, data, "batch")
        for _ in range(2):
            asking.judge(GIVEN.audience, now_ms=NOW)
            asking.override(0, GIVEN.verifier.refuse(Stage.SCOPE, Reason.UNKNOWN_TOOL))
            asking.override(1, GIVEN.judge(GIVEN.right, GIVEN.denied))
            asking.attach(1, permit)
            look(asking[1])
        asking.call(0), asking.approvals(1), asking.retry_id(2)
        asking.answer(lambda decision, data: "no")


def by_fault(count: int) -> None:
    """Checks and batches that a source fails."""

    def fail() -> None:
        raise GIVEN.unknown

    GIVEN.source.on_begin = fail
    GIVEN.source.commit_id.close()
    try:
        for _ in range(count // 4):
            assert GIVEN.judge(GIVEN.handle, GIVEN.allowed).reason is Reason.INTERNAL_ERROR
            batch = GIVEN.verifier._check_batch([GIVEN.call(GIVEN.right)] * 3, now_ms=NOW)
            assert batch[0].reason is Reason.INTERNAL_ERROR
            GIVEN.unknown.__traceback__ = None
    finally:
        GIVEN.source.on_begin = lambda: None


def by_commit(count: int) -> None:
    """Checks of which each meets a new state, now and then another row."""
    other = [read_view(VIEWS[name]) for name in ("plain", "suspended")]
    for turn in range(count // 10):
        GIVEN.source.touch()
        GIVEN.judge(GIVEN.handle, GIVEN.allowed)
        if turn % 50 == 0:
            GIVEN.source.load(*other[turn // 50 % 2])
            GIVEN.judge(GIVEN.right, GIVEN.denied)
    GIVEN.source.load(*other[0])


def by_pulse(count: int) -> None:
    """Pulses made, closed and refused."""
    words = bytearray(16)
    for _ in range(count // 3):
        CommitId(words, 0, 8)
        CommitId(words, 8, 0).close()
        with pytest.raises(ValueError):
            CommitId(words, 0, 4)


def by_refuse(count: int) -> None:
    """Denials that were decided before."""
    for _ in range(count):
        look(GIVEN.verifier.refuse(Stage.SCOPE, Reason.UNKNOWN_TOOL))


WAYS: dict[str, Callable[[int], None]] = {
    "allowed": by_check(GIVEN.right, GIVEN.allowed, Reason.ALLOWED),
    "allowed by a handle": by_check(GIVEN.handle, GIVEN.allowed, Reason.ALLOWED),
    "a condition": by_check(GIVEN.right, GIVEN.denied, Reason.CONDITION_FAILED),
    "an argument left over": by_check(GIVEN.handle, GIVEN.left, Reason.CONDITION_FAILED),
    "no JSON": by_check(GIVEN.right, b"{", Reason.MALFORMED_REQUEST),
    "values": by_check(GIVEN.right, GIVEN.values, Reason.ALLOWED),
    "many values": by_check(GIVEN.handle, GIVEN.many, Reason.CONDITION_FAILED),
    "values that JSON can't say": by_check(GIVEN.right, GIVEN.unsayable, Reason.MALFORMED_REQUEST),
    "no token": by_check(GIVEN.broken, b"", Reason.MALFORMED_TOKEN),
    "no text": by_check(GIVEN.text, b"", Reason.MALFORMED_TOKEN),
    "batches": by_batch,
    "wrong batches": by_wrong_batch,
    "wrong checks": by_wrong_check,
    "handles": by_prepare,
    "check requests": by_request("check"),
    "batch requests": by_request("batch"),
    "stream requests": by_request("stream"),
    "wrong requests": by_wrong_request,
    "commits": by_commit,
    "payers": by_payer,
    "surveys": by_survey,
    "wishes": by_wishes,
    "commit_ids": by_pulse,
    "refusals": by_refuse,
    # Last: the commit id is closed by it.
    "faults": by_fault,
}


def forged(count: int) -> None:
    """Checks of a token that each time is looked at anew and never kept."""
    for _ in range(count // 50):
        assert GIVEN.judge(GIVEN.forged).reason is Reason.BAD_SIGNATURE


WAYS = {"a wrong signature": forged, **WAYS}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_kept(way: str) -> None:
    """Thousands of calls of each kind leak no references, blocks or heap memory."""
    run = WAYS[way]
    run(3000)
    gc.collect()
    counted = {name: sys.getrefcount(thing) for name, thing in GIVEN.all().items()}
    grown = growth(lambda: run(CALLS), FEW, FEW_BYTES)
    found = {name: sys.getrefcount(thing) for name, thing in GIVEN.all().items()}

    assert {n: c for n, c in found.items() if abs(c - counted[n]) > FEW // 100} == {}
    assert grown.blocks < FEW
    assert grown.heap_bytes < FEW_BYTES
