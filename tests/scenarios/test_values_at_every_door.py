"""The values of a call, through every door there is: judged, proven, approved and paid for as one text."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

from sessauth.approvals.approver import Approver, ApproverKey
from sessauth.client import AsyncClient, CheckItem
from sessauth.clock import SystemClock
from sessauth.decisions.decision import DecisionBase
from sessauth.decisions.tool_catalog import Candidate
from sessauth.reasons import Reason, SurveyVerdict
from sessauth.scopes.call_arguments import encode
from sessauth.scopes.parts import key_text
from sessauth.tokens.prover import HolderKey
from tests.support.server_fixture import AUDIENCE, ServerFixture

CALL = ("read", "doc/1")
SCOPE = 'read:doc/** where path == "é" and cost <= 2.5'
VALUES: dict[str, Any] = {"path": "é", "cost": Decimal("2.50")}
TOO_MUCH = {**VALUES, "cost": 2.51}
UNSAYABLE = {**VALUES, "cost": float("nan")}
BYTES = '{"cost":2.50,"path":"é"}'.encode()


def test_who_proves_who_judges_and_who_approves_mean_the_same_bytes(server: ServerFixture) -> None:
    """An approver signs what a holder proved and a gateway judged, whichever gave values and which JSON."""
    approver, holder = ApproverKey.generate(), HolderKey.generate()
    scope = f'{SCOPE} needs approval(1, "{key_text(approver.public_key)}")'
    session = server.operator.open_session(subject="agent", ceiling=["read:**"])
    token = server.operator.mint(session.id, [scope], [AUDIENCE], to=holder.public)
    host = server.operator.verifier_keys().current(SystemClock().now_ms())
    assert host is not None

    def proof(arguments: Any) -> bytes:
        return holder.prove(token, *CALL, arguments, host)

    def ask(door: Any, presented: Any, proven: Any) -> DecisionBase:
        decision: DecisionBase = door(token, *CALL, presented, proof=proof(proven))
        return decision

    for door in server.doors:
        first = ask(door, VALUES, BYTES)
        assert first.reason is Reason.APPROVAL_REQUIRED
        request = first.approval  # type: ignore[attr-defined]
        assert request.record.arguments == BYTES == encode(VALUES)
        assert '"cost": 2.50' in request.render()
        server.operator.grant_approval(request, Approver(approver))
        # Other bytes are another request, though they say the same.
        assert (
            ask(door, '{"path":"é","cost":2.5}', '{"path":"é","cost":2.5}').reason is Reason.APPROVAL_REQUIRED
        )
        assert ask(door, VALUES, b"{}").reason is Reason.BAD_PROOF
        assert ask(door, BYTES.decode(), VALUES).allowed


def test_values_are_judged_alike_at_every_door(server: ServerFixture) -> None:
    """Every verifier and client agree, alone and in a batch; a denied call is denied everywhere."""
    session = server.operator.open_session(subject="agent", ceiling=["read:**"])
    token = server.operator.mint(session.id, [SCOPE], [AUDIENCE])
    expected = {
        Reason.ALLOWED: VALUES,
        Reason.CONDITION_FAILED: TOO_MUCH,
        Reason.MALFORMED_REQUEST: UNSAYABLE,
    }

    for reason, values in expected.items():
        assert {door(token, *CALL, values).reason for door in server.doors} == {reason}
        assert server.verifier.check_batch([(token, *CALL, values)])[0].reason is reason
    items = [CheckItem(token, *CALL, values) for values in expected.values()]
    candidates = [Candidate(*CALL, values) for values in expected.values()]
    verdicts = (SurveyVerdict.YES, SurveyVerdict.NO, SurveyVerdict.NO)
    assert [each.reason for each in server.control.check_batch(items)] == list(expected)
    assert [each.reason for _, each in sorted(server.control.check_stream(items))] == list(expected)
    assert server.control.list_allowed(token, candidates).verdicts == verdicts
    assert server.verifier.list_allowed(token, candidates).verdicts == verdicts
    permit = server.verifier.check(token, *CALL, VALUES, permit_ms=60_000)
    assert server.verifier.commit(permit.permit, token, *CALL, VALUES)  # type: ignore[attr-defined]


def test_an_asyncio_client_takes_values(server: ServerFixture) -> None:
    """Check, batch, stream, watch, survey and commit."""
    session = server.operator.open_session(subject="agent", ceiling=["read:**"])
    token = server.operator.mint(session.id, [SCOPE], [AUDIENCE])
    item = CheckItem(token, *CALL, VALUES)

    async def ask() -> None:
        file = server.home / "gateway.credential"
        async with AsyncClient(str(server.made.socket), credential_file=file, timeout_ms=10_000) as client:
            assert await client.check(token, *CALL, VALUES)
            assert not await client.check(token, *CALL, UNSAYABLE)
            assert all(await client.check_batch([item]))
            assert [bool(each) async for _, each in client.check_stream([item])] == [True]
            async with client.watch() as watch:
                assert await watch.ask(item)
            assert await client.list_allowed(token, [Candidate(*CALL, VALUES)])
            permit = await client.check(token, *CALL, VALUES, permit_ms=60_000)
            assert await client.commit(permit.permit, token, *CALL, VALUES)

    asyncio.run(ask())
