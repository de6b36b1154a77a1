from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal

import grpc
import pytest

from sessauth import Denied, errors
from sessauth.client import CheckItem, Client
from sessauth.crypto.armor import STORED_PREFIX
from sessauth.model.session import SessionStatus
from sessauth.reasons import Reason, Stage
from sessauth.v1 import authorization_service_pb2 as check_pb
from sessauth.v1 import key_service_pb2 as key_pb
from sessauth.v1 import record_pb2
from sessauth.v1 import session_service_pb2 as session_pb
from sessauth.v1 import token_service_pb2 as token_pb

from .conftest import FakeServer, always, failing, in_turn

ID = bytes(range(16))
OPEN = "SessionService/OpenSession"
CHECK = "AuthorizationService/Check"


def _opened(**fields: object) -> session_pb.OpenSessionResponse:
    session = session_pb.Session(id=ID, subject="agent", status=record_pb2.SESSION_STATUS_ACTIVE, **fields)
    return session_pb.OpenSessionResponse(session=session)


def test_credential_and_deadline_travel_with_each_call(server: FakeServer, client: Client) -> None:
    """Each call carries the credential as a bearer and a deadline of at most timeout_ms."""
    server.answers[OPEN] = always(_opened())

    client.open_session(subject="agent", ceiling=["read:**"])

    (seen,) = server.seen
    assert seen.metadata["authorization"] == "Bearer sessauth_key_tester_secret"
    # The two ends of a call read different clocks.
    assert 0 < seen.remaining_s < 3


def test_open_session_says_everything(server: FakeServer, client: Client) -> None:
    """Every term of an open reaches the request, with facts typed and exact."""
    server.answers[OPEN] = always(_opened())

    client.open_session(
        subject="agent",
        purpose="ticket 4711",
        ceiling=["read:files/**"],
        facts={"case": "c1", "level": 3, "ratio": Decimal("-0.5"), "present": True},
        visible_facts=["case"],
        labels={"team": "x"},
        ttl_ms=60_000,
        lease_ms=9_000,
        parent_id=ID,
        owner="robot",
        issuer_key_ids=[bytes(32)],
        request_id="r1",
    )

    (request,) = server.requests(session_pb.OpenSessionRequest)
    assert (request.subject, request.purpose, list(request.ceiling)) == (
        "agent",
        "ticket 4711",
        ["read:files/**"],
    )
    assert {fact.name: fact.visible for fact in request.facts} == {
        "case": True,
        "level": False,
        "present": False,
        "ratio": False,
    }
    ratio = next(fact for fact in request.facts if fact.name == "ratio").value.number
    assert (ratio.units, ratio.nanos) == (-1, 500_000_000)
    assert next(fact for fact in request.facts if fact.name == "present").value.truth is True
    assert (request.labels["team"], request.ttl_ms, request.lease_ms) == ("x", 60_000, 9_000)
    assert (request.parent_id, request.owner, list(request.issuer_key_ids)) == (ID, "robot", [bytes(32)])
    assert request.request_id == "r1"


def test_session_of_an_answer(server: FakeServer, client: Client) -> None:
    """A session comes back as the package's own dataclass, scopes and facts included."""
    ceiling = record_pb2.Ceiling()
    scope = ceiling.scopes.add(actions=["read"])
    scope.resource.add(kind=1, texts=["files"])
    fact = record_pb2.Fact(name="level", visible=True)
    fact.value.number.units = 3
    server.answers[OPEN] = always(
        _opened(
            ceilings=[ceiling],
            facts=[fact],
            labels={"a": "b"},
            lease_deadline_ms=7,
            open_permits=3,
            open_approvals=2,
        )
    )

    session = client.open_session(subject="agent", ceiling=["read:files"])

    assert session.id == ID
    assert session.status is SessionStatus.ACTIVE
    assert session.ceilings[0][0]["actions"] == ["read"]
    assert (session.facts[0].name, session.facts[0].visible) == ("level", True)
    assert (session.labels, session.lease_deadline_ms) == ({"a": "b"}, 7)
    assert (session.open_permits, session.open_approvals) == (3, 2)


@pytest.mark.parametrize(
    ("terms", "named"),
    [
        ({"ceiling": "read:**"}, "ceiling"),
        ({"ceiling": ["read:**"], "parent_id": b"x"}, "parent_id"),
        ({"ceiling": ["read:**"], "ttl_ms": -1}, "ttl_ms"),
        ({"ceiling": ["read:**"], "facts": {"a": [1]}}, "facts: a"),
        ({"ceiling": ["read:**"], "facts": {"a": 0.5}}, "facts: a"),
        ({"ceiling": ["read:**"], "facts": {}, "visible_facts": ["b"]}, "visible_facts: b"),
    ],
)
def test_wrong_argument_is_named_before_any_call(
    server: FakeServer, client: Client, terms: dict[str, object], named: str
) -> None:
    """An argument that can't be right is refused by name, and nothing is sent."""
    with pytest.raises(errors.UsageError, match=named):
        client.open_session(subject="agent", **terms)  # type: ignore[arg-type]

    assert server.seen == []


@pytest.mark.parametrize(
    ("code", "word", "field", "expected"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", "", errors.Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", "", errors.PermissionDenied),
        (grpc.StatusCode.NOT_FOUND, "NOT_FOUND", "", errors.NotFound),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", "subject", errors.UsageError),
        (grpc.StatusCode.FAILED_PRECONDITION, "ALREADY_ENDED", "", errors.Rejected),
        (grpc.StatusCode.ABORTED, "EPOCH_MISMATCH", "", errors.Rejected),
        (grpc.StatusCode.ALREADY_EXISTS, "CONFLICT", "", errors.Rejected),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", "", errors.Unavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "STATE_FULL", "", errors.StateFull),
        (grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN", "", errors.OutcomeUnknown),
        (grpc.StatusCode.UNAVAILABLE, "STATE_UNUSABLE", "", errors.StateUnusable),
        (grpc.StatusCode.INTERNAL, "INTERNAL", "", errors.ServerError),
    ],
)
def test_each_failure_is_an_error_of_the_package(
    server: FakeServer,
    client: Client,
    code: grpc.StatusCode,
    word: str,
    field: str,
    expected: type[Exception],
) -> None:
    """Code and word of a failure decide the error's class; its message is the server's."""
    server.answers[OPEN] = failing(code, "because so", word, field)

    with pytest.raises(expected, match="because so") as raised:
        client.open_session(subject="agent", ceiling=["read:**"])

    assert len(server.seen) == 1
    if isinstance(raised.value, errors.Rejected):
        assert raised.value.word == word
    if field:
        assert str(raised.value) == f"{field}: because so"


def test_unavailable_is_tried_again_with_the_same_request_id(server: FakeServer, client: Client) -> None:
    """A change that met UNAVAILABLE is repeated under one request id, so it is made once."""
    server.answers[OPEN] = in_turn(
        failing(grpc.StatusCode.UNAVAILABLE), failing(grpc.StatusCode.UNAVAILABLE), always(_opened())
    )

    assert client.open_session(subject="agent", ceiling=["read:**"]).id == ID

    ids = {request.request_id for request in server.requests(session_pb.OpenSessionRequest)}
    assert len(server.seen) == 3
    assert len(ids) == 1
    assert ids != {""}


def test_retries_end_after_two(server: FakeServer, client: Client) -> None:
    """The failure after two retries is raised, and names the request id to repeat the change with."""
    server.answers[OPEN] = failing(grpc.StatusCode.UNAVAILABLE, "going down", "SHUTTING_DOWN")

    with pytest.raises(errors.Unavailable, match="request_id 'mine'"):
        client.open_session(subject="agent", ceiling=["read:**"], request_id="mine")

    assert len(server.seen) == 3


def test_a_key_made_by_the_server_is_asked_for_once(server: FakeServer, client: Client) -> None:
    """A call that would do its work twice is never repeated."""
    server.answers["KeyService/AddKey"] = failing(grpc.StatusCode.UNAVAILABLE)

    with pytest.raises(errors.Unavailable):
        client.add_key()

    assert len(server.seen) == 1


def test_deadline_holds_over_all_attempts(server: FakeServer, client: Client) -> None:
    """A server that does not answer costs timeout_ms, and the error says which knob that is."""

    def sleep(_request: bytes, context: grpc.ServicerContext) -> session_pb.OpenSessionResponse:
        time.sleep(1)
        return _opened()

    server.answers[OPEN] = sleep

    with pytest.raises(errors.Unavailable, match="within 80 ms; raise timeout_ms"):
        client.with_timeout(80).open_session(subject="agent", ceiling=["read:**"])

    assert len(server.seen) == 1


def _decision(**fields: object) -> check_pb.CheckResponse:
    return check_pb.CheckResponse(decision=check_pb.Decision(**fields))


def test_check_gives_a_decision(server: FakeServer, client: Client) -> None:
    """A denial is a result, with the surface of a local decision, and false as a bool."""
    server.answers[CHECK] = always(
        _decision(
            reason=check_pb.REASON_CONDITION_FAILED,
            stage=check_pb.STAGE_SCOPE,
            failed=check_pb.Position(level=2, index=1, scope=0, clause=2, argument="owner"),
            matched=check_pb.Position(index=-1, scope=-1, clause=-1),
            session_id=ID,
            epoch=4,
            revision=9,
            decision_id=ID,
            explanation="owner must be acme",
        )
    )

    judged = client.check(
        "sessauth_token_x", "read", "mcp/github/x", '{"a":1}', session=ID, audience="gateway"
    )

    assert not judged
    assert (judged.reason, judged.stage) == (Reason.CONDITION_FAILED, Stage.SCOPE)
    assert (judged.index, judged.scope, judged.clause, judged.argument) == (1, 0, 2, "owner")
    assert judged.explain() == "owner must be acme"
    with pytest.raises(Denied) as raised:
        judged.raise_if_denied()
    assert raised.value.decision is judged
    (request,) = server.requests(check_pb.CheckRequest)
    assert request.item.arguments == b'{"a":1}'
    assert (request.item.session_id, request.audience) == (ID, "gateway")


def test_allowed_is_only_what_says_so_twice(server: FakeServer, client: Client) -> None:
    """An answer that says allowed with another reason, or ALLOWED without the flag, is no yes."""
    server.answers[CHECK] = in_turn(
        always(_decision(allowed=True, reason=check_pb.REASON_ALLOWED)),
        always(_decision(allowed=True, reason=check_pb.REASON_OUT_OF_SCOPE)),
        always(_decision(allowed=False, reason=check_pb.REASON_ALLOWED)),
        always(_decision(allowed=True, reason=9999)),  # type: ignore[arg-type]
        always(check_pb.CheckResponse()),
    )

    assert [bool(client.check(b"t", "read", "x")) for _ in range(5)] == [True, False, False, False, False]


def test_stored_secret_is_never_sent_to_a_check(server: FakeServer, client: Client) -> None:
    """A stored form handed to a check goes out as its prefix alone, which is enough to be denied."""
    server.answers[CHECK] = always(_decision(reason=check_pb.REASON_OPEN_TOKEN))

    client.check(STORED_PREFIX + "AAAA.BBBBBB", "read", "x")
    client.check(b" " + STORED_PREFIX.encode() + b"AAAA.BBBBBB", "read", "x")

    assert [r.item.token for r in server.requests(check_pb.CheckRequest)] == [STORED_PREFIX.encode()] * 2


def test_agents_text_is_sent_as_it_is(server: FakeServer, client: Client) -> None:
    """A lone surrogate in what an agent wrote goes out as invalid UTF-8, so that it is denied."""
    server.answers[CHECK] = always(_decision(reason=check_pb.REASON_MALFORMED_REQUEST))

    client.check(b"t", "read", "a\ud800b")

    (request,) = server.requests(check_pb.CheckRequest)
    assert request.item.resource == b"a\xed\xa0\x80b"


def test_checks_take_turns(make_server: Callable[[str], FakeServer]) -> None:
    """Checks go to each check target in turn, everything else to the control target."""
    control, one, two = make_server("c.sock"), make_server("1.sock"), make_server("2.sock")
    for each in (one, two):
        each.answers[CHECK] = always(_decision(reason=check_pb.REASON_EXPIRED))
    control.answers["KeyService/GetJwks"] = always(key_pb.GetJwksResponse(jwks=b"{}"))

    with Client(control.target, "", check_target=[one.target, two.target]) as client:
        for _ in range(4):
            client.check(b"t", "read", "x")
        assert client.jwks() == b"{}"

    assert (len(control.seen), len(one.seen), len(two.seen)) == (1, 2, 2)


def test_stream_carries_the_number_of_each_item(server: FakeServer, client: Client) -> None:
    """Decisions of a stream come as they are made, with the number of their item."""

    def judge(requests: object) -> object:
        read = [check_pb.CheckStreamRequest.FromString(each) for each in requests]  # type: ignore[attr-defined]
        for each in reversed(read):
            yield check_pb.CheckStreamResponse(id=each.id, decision=check_pb.Decision(revision=each.id))

    server.streams["AuthorizationService/CheckStream"] = judge  # type: ignore[assignment]

    judged = list(client.check_stream([CheckItem(b"t", "read", str(n)) for n in range(3)]))

    assert [(number, each.revision) for number, each in judged] == [(2, 2), (1, 1), (0, 0)]


def test_revoke_gives_the_revision(server: FakeServer, client: Client) -> None:
    """Revoke returns the revision that a check can ask for with at_least_revision."""
    server.answers["TokenService/Revoke"] = always(token_pb.RevokeResponse(revision=77))

    assert client.revoke(ID, [bytes(32)], "leaked") == 77
    with pytest.raises(errors.UsageError, match="block_ids"):
        client.revoke(ID, [])


def test_newer_server_is_told_as_such(server: FakeServer, client: Client) -> None:
    """A status that this client does not know is a ServerError, not a guess."""
    session = session_pb.Session(id=ID, status=9)  # type: ignore[arg-type]
    server.answers["SessionService/GetSession"] = always(session_pb.GetSessionResponse(session=session))

    with pytest.raises(errors.ServerError, match="newer than this client"):
        client.get_session(ID)
