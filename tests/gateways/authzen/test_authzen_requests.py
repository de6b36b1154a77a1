"""Requests of the AuthZEN Authorization API that are answered in another way than by a decision."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest

from sessauth.gateways.authzen import MAX_EVALUATIONS, AuthZenApp, AuthZenEvaluator
from tests.gateways.authzen.pdp import BATCH, IDENTIFIER, ONE, decided, request_for, serving
from tests.guard.world import World
from tests.support.server_fixture import AUDIENCE

JSON = {"content-type": "application/json"}
FAULTY: list[dict[str, Any]] = [
    {"subject": {"type": "sessauth"}},
    {"subject": {"id": "x"}},
    {"subject": None},
    {"subject": "alice"},
    {"action": {}},
    {"action": {"name": 123}},
    {"resource": {"type": "orders"}},
    {"resource": {"id": "17"}},
    {"resource": {"type": "a/b", "id": "17"}},
    {"resource": {"type": "orders", "id": ""}},
    {"resource": {"type": "orders", "id": ".."}},
    {"context": []},
    {"context": {"arguments": [1]}},
    {"context": {"arguments": "{}"}},
    {"context": {"proof": 7}},
]


@pytest.mark.parametrize("part", FAULTY, ids=json.dumps)
@pytest.mark.parametrize("path", [ONE, BATCH])
def test_a_request_that_is_no_evaluation(pdp: httpx.Client, token: str, path: str, part: Any) -> None:
    """Status 400, with a text that says what is wrong."""
    response = pdp.post(path, json={**request_for(token), **part})

    assert response.status_code == 400
    assert next(iter(part)) in response.text


@pytest.mark.parametrize("missing", ["subject", "action", "resource"])
def test_a_request_without_one_of_its_parts(pdp: httpx.Client, token: str, missing: str) -> None:
    """It is named."""
    request = request_for(token)
    del request[missing]

    response = pdp.post(ONE, json=request)

    assert (response.status_code, response.text) == (400, f"{missing}: is missing")


@pytest.mark.parametrize(
    "more",
    [
        {"evaluations": {}},
        {"evaluations": [{}] * (MAX_EVALUATIONS + 1)},
        {"evaluations": [{}], "options": []},
        {"evaluations": [{}], "options": {"evaluations_semantic": "any"}},
        {"evaluations": [{}], "options": {"evaluations_semantic": 1}},
        {"evaluations": [{}], "subject": "alice"},
    ],
    ids=lambda more: str(more)[:40],
)
def test_a_faulty_batch(pdp: httpx.Client, token: str, more: dict[str, Any]) -> None:
    """The whole request is refused."""
    assert pdp.post(BATCH, json={**request_for(token), **more}).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"[]",
        b"{",
        b"{}{}",
        b'{"subject":{},"subject":{}}',
        b'{"a":NaN}',
        b'{"a":"\xff"}',
        b"[" * 100_000,
        b'{"a":' * 40 + b"1" + b"}" * 40,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_not_strict_json(pdp: httpx.Client, body: bytes) -> None:
    """No reader may read it in another way."""
    assert pdp.post(ONE, content=body, headers=JSON).status_code == 400


def test_a_name_that_stands_twice_is_refused_at_any_depth(pdp: httpx.Client, token: str) -> None:
    """One reader would take the first, another the last."""
    body = json.dumps(request_for(token, "write", arguments={"amount": 5}))
    twice = body.replace('"amount": 5', '"amount": 5, "amount": 500')
    assert twice != body

    assert pdp.post(ONE, content=twice, headers=JSON).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "kind", "status"),
    [
        ("POST", ONE, "text/plain", 400),
        ("POST", ONE, "application/vnd.api+json", 400),
        ("POST", ONE, "application/json; charset=latin-1", 400),
        ("POST", f"{ONE}?x=1", "application/json", 400),
        ("GET", ONE, "application/json", 405),
        ("PUT", BATCH, "application/json", 405),
        ("POST", "/.well-known/authzen-configuration", "application/json", 405),
        ("POST", "/access/v1/search/subject", "application/json", 404),
        ("POST", f"{ONE}/", "application/json", 404),
        ("GET", "/", "application/json", 404),
    ],
)
def test_other_requests(
    pdp: httpx.Client, token: str, method: str, path: str, kind: str, status: int
) -> None:
    """A text says what is served."""
    body = json.dumps(request_for(token))
    response = pdp.request(method, path, content=body, headers={"content-type": kind})

    assert (response.status_code, response.headers["content-type"]) == (status, "text/plain; charset=utf-8")


def test_a_body_with_two_lengths_is_refused(pdp: httpx.Client, token: str) -> None:
    """A proxy in front may have read the other one: chunks and a Content-Length are two."""
    body = json.dumps(request_for(token)).encode()
    connection = HTTPConnection(str(pdp.base_url.host), pdp.base_url.port, timeout=10)
    connection.putrequest("POST", ONE)
    for name, value in (*JSON.items(), ("content-length", "3"), ("transfer-encoding", "chunked")):
        connection.putheader(name, value)
    connection.endheaders(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    with closing(connection):
        response = connection.getresponse()
        assert response.status == 400
        assert b"transfer-encoding" in response.read()


def test_a_long_body_is_refused(pdp: httpx.Client, token: str) -> None:
    """One MiB is the limit of a request."""
    body = json.dumps(request_for(token, filler="x" * 1_100_000))

    assert pdp.post(ONE, content=body, headers=JSON).status_code == 413


def metadata_of(client: httpx.Client) -> Any:
    """Return the metadata of a decision point."""
    response = client.get("/.well-known/authzen-configuration")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    return response.json()


def test_the_metadata_names_the_endpoints(pdp: httpx.Client) -> None:
    """Each is below the identifier."""
    assert metadata_of(pdp) == {
        "policy_decision_point": IDENTIFIER,
        "access_evaluation_endpoint": IDENTIFIER + ONE,
        "access_evaluations_endpoint": IDENTIFIER + BATCH,
    }


def test_a_request_id_is_returned(pdp: httpx.Client, token: str) -> None:
    """An answer has it, and an error too; a long one is left out."""
    for request in (request_for(token), {}):
        response = pdp.post(ONE, json=request, headers={"x-request-id": "bfe9-1"})
        assert response.headers["x-request-id"] == "bfe9-1"
    response = pdp.post(ONE, json=request_for(token), headers={"x-request-id": "x" * 2_000})
    assert (response.status_code, "x-request-id" in response.headers) == (200, False)


def test_the_enforcement_point_has_a_credential(world: World, token: str) -> None:
    """A wrong one is 401, one that may not ask 403; the metadata is for everyone."""
    evaluator = AuthZenEvaluator(world.server.verifier, audience=AUDIENCE)
    known = {"good": True, "other": False}
    with serving(AuthZenApp(evaluator, IDENTIFIER, known.get)) as client:
        for credential, status in (("", 401), ("bad", 401), ("other", 403), ("good", 200)):
            headers = {"authorization": f"Bearer {credential}"} if credential else {}
            response = client.post(ONE, json=request_for(token), headers=headers)
            assert response.status_code == status
            assert ("www-authenticate" in response.headers) is (status == 401)
        two = [("authorization", "Bearer good"), ("authorization", "Bearer good")]
        assert client.post(ONE, json=request_for(token), headers=two).status_code == 401
        assert metadata_of(client)["policy_decision_point"] == IDENTIFIER


def test_a_check_of_callers_that_fails_lets_nobody_ask(world: World, token: str) -> None:
    """The answer is an error and no decision."""

    def broken(_: str) -> bool | None:
        raise RuntimeError("no file")

    evaluator = AuthZenEvaluator(world.server.verifier, audience=AUDIENCE)
    with serving(AuthZenApp(evaluator, IDENTIFIER, broken)) as client:
        response = client.post(ONE, json=request_for(token), headers={"authorization": "Bearer x"})

    assert (response.status_code, "no file" in response.text) == (500, False)


def test_the_longest_batch_is_answered(pdp: httpx.Client, token: str) -> None:
    """Each of its evaluations has a decision."""
    request = {**request_for(token), "evaluations": [{}] * MAX_EVALUATIONS}

    answers = decided(pdp, request, BATCH)["evaluations"]

    assert [answer["decision"] for answer in answers] == [True] * MAX_EVALUATIONS


@pytest.mark.parametrize(
    "name", ["X-Original-URI", "X-Original-URL", "X-Original-Method", "X-Forwarded-Uri", "X-Forwarded-Method"]
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_subrequest_of_a_proxy_is_refused(
    new_pdp: httpx.Client, token: str, method: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Such proxies look at the status, and a denial's is 200. The operator is told, once for each caller."""
    for value in ("/v1/plans/1", "https://shop.example/access/v1/evaluation/x", "DELETE"):
        headers = {name: value}
        response = new_pdp.request(method, ONE, json=request_for(token), headers=headers)
        assert (response.status_code, "auth_request" in response.text) == (403, True)

    assert len([text for text in caplog.messages if "auth_request" in text]) == 1


def test_a_token_in_the_place_of_a_callers_credential_is_a_subrequest(
    new_pdp: httpx.Client, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The proxy passed the headers of its own client on. The token is not logged."""
    response = new_pdp.post(ONE, json=request_for(token), headers={"authorization": f"Bearer {token}"})

    assert response.status_code == 403
    assert "auth_request" in caplog.text and token not in caplog.text


@pytest.mark.parametrize("prefix", ["", "/pdp"])
def test_a_proxy_in_front_of_the_decision_point_is_none(world: World, token: str, prefix: str) -> None:
    """It names the request that it passes on, by the path that callers know."""
    headers = {
        "X-Original-URI": prefix + ONE,
        "X-Original-URL": f"https://pdp.example{prefix}{ONE}",
        "X-Original-Method": "POST",
        "X-Forwarded-Uri": prefix + ONE,
        "X-Forwarded-For": "192.0.2.1",
        "Authorization": "Bearer another",
    }
    evaluator = AuthZenEvaluator(world.server.verifier, audience=AUDIENCE)
    with serving(AuthZenApp(evaluator, IDENTIFIER + prefix)) as client:
        response = client.post(ONE, json=request_for(token), headers=headers)

    assert response.json()["decision"] is True
