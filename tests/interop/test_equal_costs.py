"""Calls that cost something, proofs and withdrawals: twins, one for each server, come to the same ends.

What one server takes the other can't: each has a session and a token of its own, of the same scopes. Compared
are the answers without what tells the twins apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from sessauth.approvals.approver import Approver, ApproverKey
from sessauth.approvals.request import ApprovalRequest
from sessauth.model.approval import ApprovalRecord
from sessauth.scopes.parts import key_text
from sessauth.tokens.prover import HolderKey
from sessauth.tokens.token import Token
from sessauth.v1 import approval_service_pb2 as approvals
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_pb2
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.bound import current, verifier_keys
from tests.support.loop_and_threads import ANSWERS, LOOP, THREADS, BothServers, Client

CHECK, BATCH, STREAM, COMMIT, RELEASE = (
    f"AuthorizationService/{name}" for name in ("Check", "CheckBatch", "CheckStream", "Commit", "Release")
)
KEY = ApproverKey.generate()
APPROVAL = f'read:files/** needs approval(1, "{key_text(KEY.public_key)}")'
SCOPES = (
    "read:files/** needs uses(3)",
    'read:files/** where cost >= 0 needs budget("api", 10, cost)',
    "read:files/** needs uses(2)|read:**",
    APPROVAL,
)


class Twin:
    """A session and a token for one server's calls."""

    def __init__(self, both: BothServers, client: Client, server: str, *scopes: str, **fields: Any) -> None:
        """Open and mint."""
        self.operator, self.client, self.server = both.service.operator, client, server
        opening = sessions.OpenSessionRequest(subject="s", ceiling=["read:**"])
        self.session = self.operator.call("SessionService/OpenSession", opening).session.id
        request = tokens.MintRequest(session_id=self.session, scopes=scopes, **{"audience": ["gw"], **fields})
        self.token = Token.parse(self.operator.call("TokenService/Mint", request).token)
        self.permits: list[bytes] = []

    def item(self, **fields: Any) -> pb.CheckItem:
        """A call that reads files/a."""
        return pb.CheckItem(**{"token": self.token.data, "action": b"read", "resource": b"files/a", **fields})

    def ask(self, rpc: str, *requests: Any) -> tuple[object, ...]:
        """Make a call; returns its status, details and answers, without what is this twin's own."""
        outcome = self.client.on(self.server, rpc, *(request.SerializeToString() for request in requests))
        kind = ANSWERS.get(rpc.rpartition("/")[2], pb.ReleaseResponse)
        answers = [kind.FromString(data) for data in outcome.answers]
        for answer in answers:
            self.mask(answer)
        return outcome.code, outcome.message, outcome.details, [str(answer) for answer in answers]

    def grant(self) -> None:
        """Grant the approval that the last answer asked for."""
        record = ApprovalRecord.decode(self.approval.SerializeToString())
        statement = Approver(KEY).grant(ApprovalRequest(record))
        request = approvals.GrantApprovalRequest(
            session_id=record.session_id,
            approval_id=record.id,
            statement=token_pb2.SignedApproval.FromString(statement.encode()),
        )
        self.operator.call("ApprovalService/GrantApproval", request)

    def mask(self, answer: Any) -> None:
        """Replace what differs between twins."""
        if isinstance(answer, pb.ReleaseResponse):
            answer.revision = int(answer.revision > 0)
            return
        for decision in answer.decisions if isinstance(answer, pb.CheckBatchResponse) else [answer.decision]:
            if decision.permit:
                self.permits.append(decision.permit)
                decision.permit = b"permit"
            if decision.approval.id:
                self.approval = type(decision.approval).FromString(decision.approval.SerializeToString())
                for name in ("id", "session_id", "block_id", "request_digest"):
                    setattr(decision.approval, name, b"own")
                for name in ("requested_at_ms", "expires_at_ms", "revision"):
                    setattr(decision.approval, name, int(getattr(decision.approval, name) > 0))
            assert decision.session_id in (b"", self.session)
            decision.session_id = b"own" if decision.session_id else b""
            decision.block_ids[:] = [b"own"] * len(decision.block_ids)
            for name in ("revision", "expires_at_ms", "permit_expires_at_ms"):
                setattr(decision, name, int(getattr(decision, name) > 0))


@pytest.fixture
def twins(both: BothServers, clients: dict[str, Client]) -> Callable[..., list[Twin]]:
    """Make twins whose tokens have these scopes."""

    def make(*scopes: str, **fields: Any) -> list[Twin]:
        return [Twin(both, clients["gw-1"], server, *scopes, **fields) for server in (LOOP, THREADS)]

    return make


def _assert_alike(twins: list[Twin], play: Callable[[Twin], Iterator[tuple[object, ...]]]) -> list[Any]:
    """Hold that both come to the same at each step; returns the steps."""
    steps = [list(play(twin)) for twin in twins]
    for number, (step, expected) in enumerate(zip(*steps, strict=True)):
        assert step == expected, number
    return steps[0]


@pytest.mark.parametrize("scopes", SCOPES, ids=("uses", "budget", "several", "approval"))
def test_costs_are_taken_alike(twins: Callable[..., list[Twin]], scopes: str) -> None:
    """Alone, in batches and streams; with retry ids, until nothing is left; and with wrong arguments."""

    def play(twin: Twin) -> Iterator[tuple[object, ...]]:
        cost = b'{"cost": 3}'
        again = twin.item(arguments=cost, retry_id=twin.session)
        yield twin.ask(CHECK, pb.CheckRequest(item=again))
        yield twin.ask(CHECK, pb.CheckRequest(item=again))
        yield twin.ask(
            CHECK, pb.CheckRequest(item=twin.item(arguments=b'{"cost": 4}', retry_id=twin.session))
        )
        yield twin.ask(CHECK, pb.CheckRequest(item=twin.item(arguments=b'{"cost": -1}')))
        yield twin.ask(
            BATCH, pb.CheckBatchRequest(items=[twin.item(arguments=cost), twin.item(resource=b"logs")] * 2)
        )
        yield twin.ask(
            STREAM, *(pb.CheckStreamRequest(id=id_, item=twin.item(arguments=cost)) for id_ in range(3))
        )
        yield twin.ask(CHECK, pb.CheckRequest(item=twin.item(arguments=cost)))
        yield twin.ask(CHECK, pb.CheckRequest(item=twin.item(retry_id=b"x" * 65)))
        yield twin.ask(CHECK, pb.CheckRequest(item=twin.item(permit_ms=300_001)))

    steps = _assert_alike(twins(*scopes.split("|")), play)
    assert len({str(step) for step in steps}) > 3


@pytest.mark.parametrize("scope", [*SCOPES[:2], "read:files/**"])
def test_permits_are_given_and_used_alike(twins: Callable[..., list[Twin]], scope: str) -> None:
    """Given, committed once, released, refused to another call."""

    def play(twin: Twin) -> Iterator[tuple[object, ...]]:
        item = twin.item(arguments=b'{"cost": 3}')
        asking = twin.item(arguments=b'{"cost": 3}', permit_ms=60_000)
        for _ in range(2):
            yield twin.ask(CHECK, pb.CheckRequest(item=asking))
        yield twin.ask(BATCH, pb.CheckBatchRequest(items=[asking, item]))
        permits = [*twin.permits, b"x" * 40, b"x" * 40][:2]
        yield twin.ask(COMMIT, pb.CommitRequest(permit=permits[0], item=twin.item(resource=b"files/b")))
        yield twin.ask(COMMIT, pb.CommitRequest(permit=permits[0], item=item))
        yield twin.ask(COMMIT, pb.CommitRequest(permit=permits[0], item=item))
        yield twin.ask(RELEASE, pb.ReleaseRequest(permit=permits[1]))
        yield twin.ask(RELEASE, pb.ReleaseRequest(permit=permits[1]))
        yield twin.ask(COMMIT, pb.CommitRequest(permit=permits[1], item=item))

    _assert_alike(twins(scope), play)


def test_approvals_are_asked_for_and_used_alike(twins: Callable[..., list[Twin]]) -> None:
    """Asked for, granted, used once."""

    def play(twin: Twin) -> Iterator[tuple[object, ...]]:
        item = twin.item(arguments=b'{"cost": 3}')
        yield twin.ask(CHECK, pb.CheckRequest(item=item))
        yield twin.ask(BATCH, pb.CheckBatchRequest(items=[item, twin.item(resource=b"logs")]))
        twin.grant()
        yield twin.ask(CHECK, pb.CheckRequest(item=item))
        yield twin.ask(CHECK, pb.CheckRequest(item=item))

    steps = _assert_alike(twins(APPROVAL), play)
    assert ["allowed: true" in str(step) for step in steps] == [False, False, True, False]


@pytest.mark.parametrize("kind", ["mac", "ed25519"])
def test_proofs_are_judged_alike(both: BothServers, twins: Callable[..., list[Twin]], kind: str) -> None:
    """Right proofs, replays, missing and wrong ones: alone, in batches and streams, of known tokens too."""
    holder = HolderKey.generate()
    operator = both.service.operator
    host = current(verifier_keys(operator, operator))

    def play(twin: Twin) -> Iterator[tuple[object, ...]]:
        def proof(resource: str = "files/a") -> bytes:
            return holder.prove(twin.token, "read", resource, b"", host, kind=kind)

        for _ in range(3):
            right = twin.item(proof=proof())
            before = both.on_loop.answered
            yield twin.ask(CHECK, pb.CheckRequest(item=right))
            direct.append(both.on_loop.answered - before)
            yield twin.ask(CHECK, pb.CheckRequest(item=right))
        yield twin.ask(CHECK, pb.CheckRequest(item=twin.item()))
        yield twin.ask(CHECK, pb.CheckRequest(item=twin.item(proof=b"\0")))
        yield twin.ask(CHECK, pb.CheckRequest(item=twin.item(proof=proof("files/b"))))
        yield twin.ask(CHECK, pb.CheckRequest(item=twin.item(resource=b"logs", proof=proof("logs"))))
        items = [twin.item(proof=proof()), twin.item(), twin.item(proof=proof("files/b"))]
        yield twin.ask(BATCH, pb.CheckBatchRequest(items=items))
        yield twin.ask(BATCH, pb.CheckBatchRequest(items=items))
        yield twin.ask(BATCH, pb.CheckBatchRequest(items=[twin.item(proof=proof())]))
        yield twin.ask(STREAM, *(pb.CheckStreamRequest(id=7, item=item) for item in items))

    direct: list[int] = []
    public = holder.public
    made = twins("read:files/**", next_key=public.next_key, proof_key=public.proof_key)
    _assert_alike(made, play)
    assert direct[:3] == [0, 1, 1], "a known token's proof is judged on the loop"


def test_withdrawals_are_sent_alike(twins: Callable[..., list[Twin]]) -> None:
    """Watched calls of a session that ends: their answers, their withdrawals, the end of the stream."""

    def play(twin: Twin) -> Iterator[tuple[object, ...]]:
        requests: SimpleQueue[bytes | None] = SimpleQueue()
        for number in range(3):
            request = pb.CheckStreamRequest(id=number, item=twin.item(), watch=number != 1)
            requests.put(request.SerializeToString())
        call: Any = twin.client.channels[twin.server].stream_stream(
            "/sessauth.v1.AuthorizationService/CheckStream"
        )(
            iter(requests.get, None),
            timeout=30,
            metadata=[("authorization", f"Bearer {twin.client.credential}")],
        )
        for number in range(5):
            if number == 3:
                twin.operator.call(
                    "SessionService/EndSession", sessions.EndSessionRequest(session_id=twin.session)
                )
            answer = pb.CheckStreamResponse.FromString(next(call))
            twin.mask(answer)
            answer.decision.decision_id = bytes(16)
            answer.decision.view_age_ms = 0
            yield (str(answer),)
        requests.put(None)
        yield (list(call), call.code(), call.details(), call.trailing_metadata())

    steps = _assert_alike(twins("read:files/**"), play)
    assert ["withdrawn: true" in str(step) for step in steps] == [False] * 3 + [True] * 2 + [False]
