"""Evaluations of the AuthZEN Authorization API, with uvicorn and httpx over real sockets."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from sessauth.clock import SystemClock
from sessauth.crypto.armor import proof_text
from sessauth.gateways.authzen import AuthZenApp, AuthZenEvaluator
from sessauth.tokens.prover import HolderKey
from tests.gateways.authzen.pdp import BATCH, IDENTIFIER, ONE, decided, request_for, serving
from tests.guard.shop import CEILING, SCOPES
from tests.guard.world import Broken, World
from tests.support.server_fixture import AUDIENCE


def test_an_allowed_call(pdp: httpx.Client, token: str) -> None:
    """The answer has the id of the decision."""
    answer = decided(pdp, request_for(token, "write", arguments={"amount": 100}))

    assert answer["decision"] is True
    assert set(answer["context"]) == {"id"}


def test_a_denied_call(pdp: httpx.Client, token: str) -> None:
    """The reason is for those who run the enforcement point."""
    answer = decided(pdp, request_for(token, "write", arguments={"amount": 101}))

    assert answer["decision"] is False
    assert answer["context"]["reason_user"] == {"403": "not allowed"}
    assert answer["context"]["reason_admin"] == {"403": "CONDITION_FAILED"}
    assert len(answer["context"]["id"]) == 32


@pytest.mark.parametrize("text", ["1e2", "100", "1.00e2", "0.01E+4"])
def test_numbers_of_arguments_are_judged_as_they_are_written(
    pdp: httpx.Client, token: str, text: str
) -> None:
    """None becomes a double on the way."""
    request = json.dumps(request_for(token, "write", arguments={"amount": "AMOUNT"}))
    for number, allowed in ((text, True), ("100.00000000000000000001", False), ("1E400", False)):
        body = request.replace('"AMOUNT"', number)
        answer = pdp.post(ONE, content=body, headers={"content-type": "application/json"}).json()
        assert answer["decision"] is allowed


@pytest.mark.parametrize(
    ("action", "resource", "arguments", "allowed"),
    [
        ("read", ("tool", "get_weather"), {"city": "Bern"}, True),
        ("tools/call", ("tool", "get_weather"), {"city": "Bern"}, True),
        ("call", ("tool", "tools/get_weather"), {}, True),
        ("write", ("tool", "pay"), {"amount": 5}, True),
        ("write", ("tool", "pay"), {"amount": 500}, False),
        ("read", ("tool", "pay"), {"amount": 5}, False),
        ("call", ("tool", "delete_repo"), {}, False),
        ("call", ("tool", "drop_tables"), {}, False),
        ("call", ("tool", "other/get_weather"), {}, False),
        ("call", ("tool", ""), {}, False),
        ("read", ("mcp", "tools/get_weather"), {}, False),
        ("read", ("orders", "18"), {}, True),
        ("read", ("orders", "a/b"), {}, False),
        ("delete", ("orders", "17"), {}, False),
        ("no action", ("orders", "17"), {}, False),
    ],
)
def test_tools_and_resources(
    pdp: httpx.Client,
    token: str,
    action: str,
    resource: tuple[str, str],
    arguments: dict[str, Any],
    allowed: bool,
) -> None:
    """A catalogue says what a tool does; an action that contradicts it is denied."""
    answer = decided(pdp, request_for(token, action, resource, arguments=arguments))

    assert answer["decision"] is allowed


@pytest.mark.parametrize(
    ("scope", "context", "allowed"),
    [
        ('"?mode" == "dry"', {"query": {"mode": "dry"}}, True),
        ('"?mode" == "dry" free job', {"query": {"mode": "dry"}, "arguments": {"job": 1}}, True),
        ('"?mode" == "dry"', {"arguments": {"mode": "dry"}}, False),
        ('mode == "dry"', {"query": {"mode": "dry"}}, False),
        ('mode == "dry"', {"arguments": {"mode": "dry"}}, True),
    ],
)
def test_arguments_of_a_query_have_names_of_their_own(
    world: World, pdp: httpx.Client, scope: str, context: dict[str, Any], allowed: bool
) -> None:
    """An enforcement point states them apart, since a handler reads them apart."""
    minted = world.token(f"write:orders/* where {scope}", session=world.session(ceiling=CEILING))
    request = request_for(minted.present().text, "write", **context)

    assert decided(pdp, request)["decision"] is allowed


@pytest.mark.parametrize(
    ("resource", "context"),
    [
        (("orders", "17"), {"arguments": {"?mode": "dry"}}),
        (("orders", "17"), {"arguments": {"mode": "dry"}, "query": {"mode": "dry"}}),
        (("orders", "17"), {"query": {"?mode": "dry"}}),
        (("orders", "17"), {"query": "mode=dry"}),
        (("tool", "pay"), {"query": {"amount": 5}}),
    ],
)
def test_a_name_in_another_place_than_its_own_is_an_error(
    pdp: httpx.Client, token: str, resource: tuple[str, str], context: dict[str, Any]
) -> None:
    """A body could else meet a condition about the query; a tool has no query."""
    response = pdp.post(ONE, json=request_for(token, "write", resource, **context))

    assert response.status_code == 400


@pytest.mark.parametrize(
    ("kind", "identity"), [("user", "{token}"), ("sessauth", ""), ("sessauth", "x"), ("sessauth", "{token}x")]
)
def test_a_subject_that_is_no_token_is_denied(
    pdp: httpx.Client, token: str, kind: str, identity: str
) -> None:
    """Neither another type nor a damaged text is one."""
    request = request_for(token)
    request["subject"] = {"type": kind, "id": identity.format(token=token)}

    answer = decided(pdp, request)

    assert (answer["decision"], list(answer["context"]["reason_user"])) == (False, ["401"])


def test_after_the_end_of_the_session(world: World, pdp: httpx.Client) -> None:
    """The next evaluation is denied, and not told apart from a bad token."""
    token = world.token(*SCOPES, session=world.session(ceiling=CEILING))
    request = request_for(token.present().text)
    assert decided(pdp, request)["decision"] is True
    world.end(token)

    answer = decided(pdp, request)
    assert answer["decision"] is False
    assert answer["context"]["reason_user"] == {"401": "not allowed: no valid token"}
    assert answer["context"]["reason_admin"] == {"401": "SESSION_ENDED"}


def test_without_an_answer_everything_is_denied(world: World, token: str) -> None:
    """A verifier that raises, and a server that is not there."""
    with world.dead_client() as dead:
        for verifier in (Broken(), dead):
            evaluator = AuthZenEvaluator(verifier, [world.catalogue], audience=AUDIENCE)
            with serving(AuthZenApp(evaluator, IDENTIFIER)) as client:
                for resource in (("orders", "17"), ("tool", "get_weather")):
                    answer = decided(client, request_for(token, "read", resource))
                    assert answer["decision"] is False
                    assert list(answer["context"]["reason_user"]) == ["503"]


def test_a_bound_token_needs_a_proof(world: World, pdp: httpx.Client) -> None:
    """It counts once, for these arguments."""
    holder = HolderKey.generate()
    session = world.session(ceiling=CEILING)
    token = world.server.operator.mint(
        session.id, SCOPES, [AUDIENCE], ending="bound", to=holder.public, may_seal=False
    )
    key = world.server.operator.verifier_keys().current(SystemClock().now_ms())
    assert key is not None
    proof = proof_text(holder.prove(token, "write", "orders/17", {"amount": 5}, key))

    def decision(amount: int, **context: Any) -> bool:
        request = request_for(token.text, "write", arguments={"amount": amount}, **context)
        return bool(decided(pdp, request)["decision"])

    assert not decision(5)
    assert not decision(6, proof=proof)
    assert decision(5, proof=proof)
    assert not decision(5, proof=proof)


def test_a_batch_has_defaults_and_each_item_its_own_decision(pdp: httpx.Client, token: str) -> None:
    """A part of an item takes the place of the default as a whole; a faulty item is denied."""
    request = {
        **request_for(token, "write", arguments={"amount": 5}),
        "evaluations": [
            {},
            {"context": {"arguments": {"amount": 500}}},
            {"action": {"name": "read"}, "context": {}},
            {"resource": {"type": "orders"}},
            {"subject": "alice"},
            7,
            {"resource": {"type": "orders", "id": "../17"}},
        ],
    }

    answers = decided(pdp, request, BATCH)["evaluations"]

    assert [answer["decision"] for answer in answers] == [True, False, True, False, False, False, False]
    assert [answer["context"]["error"]["status"] for answer in answers[3:]] == [400] * 4


@pytest.mark.parametrize(
    ("semantic", "decisions"),
    [
        (None, [True, False, True, False]),
        ("execute_all", [True, False, True, False]),
        ("deny_on_first_deny", [True, False]),
        ("permit_on_first_permit", [True]),
    ],
)
def test_a_batch_ends_as_its_semantic_says(
    pdp: httpx.Client, token: str, semantic: str | None, decisions: list[bool]
) -> None:
    """The decision that ends it is the last of the answer."""
    request = {
        **request_for(token),
        "evaluations": [
            {"context": {"arguments": {}}},
            {"action": {"name": "delete"}},
            {"resource": {"type": "orders", "id": "18"}},
            {"resource": {"type": "orders", "id": ""}},
        ],
        "options": {"another": 1, **({"evaluations_semantic": semantic} if semantic else {})},
    }

    answers = decided(pdp, request, BATCH)["evaluations"]

    assert [answer["decision"] for answer in answers] == decisions


def test_a_batch_without_evaluations_is_one(pdp: httpx.Client, token: str) -> None:
    """Its list is empty, or there is none."""
    for more in ({}, {"evaluations": []}):
        assert decided(pdp, {**request_for(token), **more}, BATCH)["decision"] is True


def test_unknown_members_are_ignored(pdp: httpx.Client, token: str) -> None:
    """A later version may send them."""
    request = {**request_for(token, time="2026-11-27T10:00:00Z"), "foo": {"deep": [1]}}
    request["subject"]["properties"] = {"department": "Sales"}

    assert decided(pdp, request)["decision"] is True
