"""Answers of something else than a verifier, of which no gateway lets a request pass."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from unittest.mock import MagicMock

import pytest

from sessauth import ToolCatalog
from sessauth.client._results import RemoteDecision
from sessauth.decisions.decision import Decision
from sessauth.gateways.authzen import AuthZenEvaluator
from sessauth.gateways.extauthz.authorizer import ExtAuthz, allow
from sessauth.gateways.extauthz.v1 import check_pb2 as pb
from sessauth.gateways.request import RequestMapper
from tests.gateways.authzen.pdp import request_for
from tests.guard.world import SERVER, TOOLS, allowed


class _Subclass(RemoteDecision):
    """A decision that someone else made."""


CATALOGUE = ToolCatalog.from_mcp(SERVER, TOOLS)
IMITATIONS = (True, object(), MagicMock(), MagicMock(spec=Decision), allowed(_Subclass))
REAL = (*IMITATIONS, allowed())


class Answering:
    """A verifier whose every method gives one answer."""

    def __init__(self, answer: Any) -> None:
        """Give ``answer``."""
        self._answer = answer

    def __getattr__(self, name: str) -> Any:
        """Return a method."""
        return lambda *_, **__: self._answer


def _status(verifier: Any, method: str, body: bytes) -> int:
    """Return the HTTP status that Envoy answers with; 0 for a request that it passes on."""
    made = pb.CheckRequest()
    http = made.attributes.request.http
    http.method, http.path, http.size, http.raw_body = method, "/mcp", len(body), body
    lines = {"authorization": "Bearer sessauth_token_x", "content-type": "application/json"}
    if body:
        lines["x-envoy-auth-partial-body"] = "false"
    for name, value in lines.items():
        http.header_map.headers.add(key=name, raw_value=value.encode())
    mapper = RequestMapper(mcp={"/mcp": CATALOGUE})
    answer = pb.CheckResponse.FromString(ExtAuthz(verifier, mapper).answer(made.SerializeToString()))
    return answer.denied_response.status.code if answer.HasField("denied_response") else 0


@pytest.mark.parametrize("answer", REAL, ids=lambda each: type(each).__name__)
def test_envoy_passes_a_request_on_by_a_verifiers_own_allow_alone(answer: Any) -> None:
    """A call and a stream; what is no decision is no answer."""
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "pay"}}).encode()
    expected = 0 if answer is REAL[-1] else 503

    assert [_status(Answering(answer), *asked) for asked in (("POST", call), ("GET", b""))] == [expected] * 2


@pytest.mark.parametrize("answer", IMITATIONS, ids=lambda each: type(each).__name__)
def test_no_answer_to_envoy_is_made_of_an_imitation(answer: Any) -> None:
    """Only what a verifier decided has an answer that lets a request pass."""
    with pytest.raises(ValueError, match="allow"):
        allow(answer)


@pytest.mark.parametrize("answer", REAL, ids=lambda each: type(each).__name__)
def test_an_evaluation_is_true_by_a_verifiers_own_allow_alone(answer: Any) -> None:
    """A resource and a tool alike."""
    evaluator = AuthZenEvaluator(Answering(answer), [CATALOGUE])
    for action, resource in (("write", ("orders", "17")), ("call", ("tool", "pay"))):
        body = json.dumps(request_for("sessauth_token_x", action, resource)).encode()
        assert asyncio.run(evaluator.evaluation(body))["decision"] is (answer is REAL[-1])
