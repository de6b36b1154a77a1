"""ListAllowed over a socket: verdicts in order, what a gateway may ask, and whose failures are counted."""

from __future__ import annotations

from typing import cast

import grpc
import pytest

from sessauth.errors import ServerError
from sessauth.server.keys.credentials import Principal
from sessauth.server.rpc.access import RULES
from sessauth.server.rpc.authenticate import FailedSignatures
from sessauth.server.rpc.call import CallContext
from sessauth.server.services import authorization
from sessauth.server.services.authorization import AuthorizationService
from sessauth.tokens.token import Token
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from sessauth.verifier.verifier import Verifier
from tests.support import bulk_sessions
from tests.support.no_writer import NobodyThere
from tests.support.service import Caller, RpcError, Service
from tests.support.token_forger import key, make
from tests.vectors.world import AUDIENCE, NOW, link, root
from tests.vectors.world import token as chain_of

YES, NO, MAYBE = pb.VERDICT_YES, pb.VERDICT_NO, pb.VERDICT_MAYBE
RPC = "AuthorizationService/ListAllowed"


def _candidates(*calls: tuple[bytes, bytes], **fields: object) -> list[pb.Candidate]:
    return [pb.Candidate(action=action, resource=resource, **fields) for action, resource in calls]


def _ask(caller: Caller, token: bytes | str, **fields: object) -> pb.ListAllowedResponse:
    data = token.encode() if isinstance(token, str) else token
    given = {"audience": "gw", "candidates": _candidates((b"read", b"files/a/x")), **fields}
    return cast("pb.ListAllowedResponse", caller.call(RPC, pb.ListAllowedRequest(token=data, **given)))


def test_verdicts_in_the_order_of_the_candidates(operator: Caller, session: sessions.Session) -> None:
    """Yes, no and maybe stand in order; given arguments are judged as a check judges them."""
    request = tokens.MintRequest(
        session_id=session.id, scopes=["read:files/**", "write:files/* where n <= 5"], audience=["gw"]
    )
    minted = operator.call("TokenService/Mint", request).token
    candidates = [
        *_candidates((b"read", b"files/a"), (b"read", b"logs"), (b"write", b"files/a"), (b"", b"")),
        *_candidates((b"write", b"files/a"), has_arguments=True, arguments=b'{"n":5}'),
        *_candidates((b"write", b"files/a"), has_arguments=True, arguments=b'{"n":6}'),
        *_candidates((b"write", b"files/a"), has_arguments=True),
    ]
    answer = _ask(operator, minted, candidates=candidates)

    assert list(answer.verdicts) == [YES, NO, MAYBE, NO, YES, NO, NO]
    assert (answer.reason, answer.stage) == (pb.REASON_ALLOWED, pb.STAGE_UNSPECIFIED)
    assert answer.revision > 0
    assert list(_ask(operator, Token.parse(minted).data).verdicts) == [YES]


def test_a_refused_token_says_why(
    operator: Caller, session: sessions.Session, token: tokens.MintResponse
) -> None:
    """All verdicts are no then, with the reason and the stage that a check gives."""
    elsewhere = _ask(operator, token.token, session_id=b"x" * 16)
    assert (list(elsewhere.verdicts), elsewhere.reason) == ([NO], pb.REASON_WRONG_SESSION)
    operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session.id))
    answer = _ask(operator, token.token, candidates=_candidates(*[(b"read", b"files/a/x")] * 200))

    assert list(answer.verdicts) == [NO] * 200
    assert (answer.reason, answer.stage) == (pb.REASON_SESSION_ENDED, pb.STAGE_SESSION)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"candidates": []}, "candidates"),
        ({"candidates": _candidates((b"a", b"b")) * 1025}, "candidates"),
        ({"session_id": b"short"}, "session_id"),
        ({"peer": ["p"] * 17}, "peer"),
        ({"audience": ""}, "audience"),
        ({"candidates": _candidates((b"a", b"b"), arguments=b"{}")}, "candidates[0].arguments"),
    ],
)
def test_what_a_gateway_gets_wrong(
    operator: Caller, token: tokens.MintResponse, fields: dict[str, object], field: str
) -> None:
    """It is INVALID_ARGUMENT with the field's name."""
    with pytest.raises(RpcError) as caught:
        _ask(operator, token.token, **fields)

    assert (caught.value.code, caught.value.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_who_may_ask(service: Service, token: tokens.MintResponse) -> None:
    """A gateway may, for its own audiences; an auditor may not."""
    gateway = service.add("survey-gateway", "gateway", ("gw",))
    assert list(_ask(gateway, token.token, audience="").verdicts) == [YES]
    for caller, fields in ((gateway, {"audience": "other"}), (service.add("survey-auditor", "auditor"), {})):
        with pytest.raises(RpcError) as caught:
            _ask(caller, token.token, **fields)
        assert caught.value.code == grpc.StatusCode.PERMISSION_DENIED


class _Waiting:
    """The context of a call that somebody waits for, so many looks long."""

    def __init__(self, looks: int = 1 << 30) -> None:
        self.looks = looks

    def is_active(self) -> bool:
        self.looks -= 1
        return self.looks >= 0


def _call(waiting: _Waiting) -> CallContext:
    call = CallContext(RPC, RULES[f"/sessauth.v1.{RPC}"], cast("grpc.ServicerContext", waiting))
    call.principal = Principal("gw", "gateway", (AUDIENCE,))
    call.deadline = call.started + 3600
    return call


def _service(failures: FailedSignatures, monkeypatch: pytest.MonkeyPatch) -> AuthorizationService:
    """A service by the vectors' state, at their time."""
    source = bulk_sessions.source()
    taken = authorization.Survey

    def at_that_time(*given: object, **named: object) -> object:
        return taken(*given, **named, now_ms=NOW)  # type: ignore[arg-type]

    monkeypatch.setattr(authorization, "Survey", at_that_time)
    return AuthorizationService(Verifier(source), source, failures, NobodyThere())  # type: ignore[arg-type]


def test_failed_signatures_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forged token costs its peer a failure, and with none left no signature is looked at."""
    failures = FailedSignatures(2, 0)
    service = _service(failures, monkeypatch)
    for number in range(3):
        forged = make(link(root("read:files/**", label=f"{number}")), [key("nobody")])
        request = pb.ListAllowedRequest(
            token=forged, candidates=_candidates((b"read", b"files/a")), source="::1"
        )
        answer = service.list_allowed(request, _call(_Waiting()))
        assert (list(answer.verdicts), answer.reason) == ([NO], pb.REASON_BAD_SIGNATURE)
        assert failures.exhausted(("gw", "::1")) is (number >= 1)
    assert service._verifier.bad_signatures == 2


def test_it_stops_when_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long survey looks now and then whether anybody still waits, and is given up if not."""
    service = _service(FailedSignatures(9, 0), monkeypatch)
    request = pb.ListAllowedRequest(
        token=chain_of(root("read:files/**")), candidates=_candidates((b"read", b"files/a")) * 1024
    )
    # Once before the token is judged, then before each part.
    parts = 1024 // authorization.CANDIDATES_BETWEEN_CHECKS
    assert len(service.list_allowed(request, _call(_Waiting(parts + 1))).verdicts) == 1024
    for looks in (0, 1, parts):
        with pytest.raises(ServerError) as caught:
            service.list_allowed(request, _call(_Waiting(looks)))
        assert caught.value.reason == "DEADLINE_EXCEEDED"
