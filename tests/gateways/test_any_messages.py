"""Any bytes at the doors of AuthZEN and agentgateway: an answer without an exception, and no allow."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessauth.errors import UsageError
from sessauth.gateways.authzen import AuthZenEvaluator
from sessauth.gateways.extmcp.policy import ExtMcpPolicy
from sessauth.gateways.extmcp.v1 import ext_mcp_pb2 as messages
from tests.guard.world import SERVER, World
from tests.support.cases import examples
from tests.support.server_fixture import AUDIENCE

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
KINDS = st.sampled_from(["sessauth", "tool", "orders", "mcp", "read", "call", "pay", "tools/pay", "..", ""])


def _entity(*names: str) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, KINDS | VALUES)) | VALUES


EVALUATION = st.fixed_dictionaries(
    {},
    optional={
        "subject": _entity("type", "id"),
        "action": _entity("name", "properties"),
        "resource": _entity("type", "id"),
        "context": _entity("arguments", "proof"),
    },
)
BATCH = st.builds(
    lambda request, more: {**request, **more},
    EVALUATION,
    st.fixed_dictionaries(
        {},
        optional={
            "evaluations": st.lists(EVALUATION | VALUES, max_size=3) | VALUES,
            "options": st.fixed_dictionaries({}, optional={"evaluations_semantic": VALUES}) | VALUES,
        },
    ),
)
BODIES = (
    st.binary(max_size=60)
    | BATCH.map(lambda value: json.dumps(value).encode())
    | st.builds(
        lambda value, at, byte: bytes([*value[: at % len(value)], byte, *value[at % len(value) + 1 :]]),
        BATCH.map(lambda value: json.dumps(value).encode()),
        st.integers(0, 400),
        st.integers(0, 255),
    )
)
MANY = settings(
    max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _decisions(answer: dict[str, Any]) -> list[Any]:
    return [each["decision"] for each in answer.get("evaluations", [answer])]


@MANY
@given(body=BODIES)
def test_evaluations_of_any_bytes(world: World, body: bytes) -> None:
    """Each is faulty or denied: none of them has a token."""
    evaluator = AuthZenEvaluator(world.server.verifier, [world.catalogue], audience=AUDIENCE)
    for evaluate in (evaluator.evaluation, evaluator.evaluations):
        try:
            answer = asyncio.run(evaluate(body))
        except UsageError:
            continue
        assert set(_decisions(answer)) == {False}
        json.dumps(answer)


@MANY
@given(
    method=st.sampled_from(["tools/call", "tools/list", "initialize", "completion/complete"]) | TEXTS,
    services=st.lists(st.sampled_from([SERVER, "other"]) | TEXTS, max_size=2),
    content=st.binary(max_size=40) | VALUES.map(lambda value: json.dumps(value).encode()),
    headers=st.lists(st.tuples(st.sampled_from(["authorization", "x-sessauth-proof"]) | TEXTS, st.binary())),
    metadata=st.dictionaries(st.sampled_from(["token", "authorization"]) | TEXTS, LEAVES | TEXTS, max_size=2),
)
def test_messages_of_any_bytes(
    world: World,
    method: str,
    services: list[str],
    content: bytes,
    headers: list[tuple[str, bytes]],
    metadata: dict[str, Any],
) -> None:
    """Each request is refused, and each list too: none of them has a token."""
    policy = ExtMcpPolicy(world.server.verifier, [world.catalogue], audience=AUDIENCE)
    request = messages.McpRequest(
        service_names=services,
        method=method,
        params=content,
        headers=[messages.HttpHeader(key=key, value=value) for key, value in headers],
    )
    response = messages.McpResponse(service_names=services, method="tools/list", result=content)
    response.metadata_context.update(metadata)

    assert policy.check_request(request).WhichOneof("answer") == "refused"
    assert policy.check_response(response).WhichOneof("answer") == "refused"
