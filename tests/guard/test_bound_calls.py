"""Guards that prove calls of bound tokens, and guards over the awaited verifier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sessauth import (
    AsyncProver,
    AsyncVerifier,
    HolderKey,
    IssuerKey,
    Prover,
    Reason,
    VerifierKey,
    VerifierKeys,
)
from sessauth._fast import _check as kernel
from sessauth.clock import SystemClock
from sessauth.guard import Guard, ToolDenied
from tests.guard.world import AUDIENCE, World

HOLDER = HolderKey.generate()


def _foreign() -> VerifierKeys:
    """Return keys of a host that is not the server's, as a restore may leave them with a holder."""
    now_ms, issuer = SystemClock().now_ms(), IssuerKey(bytes(range(32)))
    key = VerifierKey(b"v" * 16, kernel.x25519_public(b"x" * 32), now_ms, now_ms + 3_600_000, b"c" * 16)
    return VerifierKeys([key.signed_by(issuer)], [issuer.public_key], now_ms=now_ms)


def _source(world: World, *first: VerifierKeys) -> tuple[Callable[[], VerifierKeys], list[int]]:
    """Return a source that gives ``first``, then the server's keys; and its calls."""
    waiting, calls = list(first), [0]

    def source() -> VerifierKeys:
        calls[0] += 1
        return waiting.pop(0) if waiting else world.server.operator.verifier_keys()

    return source, calls


def _open(world: World) -> AsyncVerifier:
    return AsyncVerifier.embedded(
        world.server.made.state_dir,
        audience=AUDIENCE,
        server=world.server.made.socket,
        credential_file=world.credential_file(),
    )


def test_a_guard_proves_the_calls_of_its_token(world: World) -> None:
    """Each call has a proof of its own; without a prover it is denied, and methods are proven too."""
    token = world.token("read:mcp/tools/**", to=HOLDER.public, ending="bound")
    source, calls = _source(world)
    guard = world.guard(token=token, prover=Prover(HOLDER, source))

    assert guard.check("get_weather", {"city": "Bern"}) and guard.check("get_weather", {"city": "Bern"})
    assert guard.check_method("resources/read", {"uri": "a"})
    assert calls == [1]
    with pytest.raises(ToolDenied) as denied:
        world.guard(token=token).check("get_weather", {"city": "Bern"})
    assert denied.value.reason == Reason.PROOF_REQUIRED.name


def test_keys_that_the_host_no_longer_has_are_fetched_again(world: World) -> None:
    """One denial, one fetch, one more attempt; keys that stay wrong are denied after it."""
    token = world.token("read:mcp/tools/**", to=HOLDER.public, ending="bound")
    for call in (
        lambda guard: guard.check("get_weather", {"city": "Bern"}),
        lambda guard: guard.check_method("resources/read", {"uri": "a"}),
    ):
        source, calls = _source(world, _foreign())
        assert call(world.guard(token=token, prover=Prover(HOLDER, source)))
        assert calls == [2]
        source, calls = _source(world, _foreign(), _foreign(), _foreign())
        with pytest.raises(ToolDenied) as denied:
            call(world.guard(token=token, prover=Prover(HOLDER, source)))
        assert denied.value.reason == Reason.BAD_PROOF.name and calls == [2]


def test_a_guard_awaits_verifier_and_prover(world: World) -> None:
    """Costs, a permit, a hidden tool, an unknown one and a proof, on one event loop."""
    scopes = ("read:mcp/tools/get_weather", "write:mcp/tools/pay needs uses(2)")
    token = world.token(*scopes, to=HOLDER.public, ending="bound")
    source, _ = _source(world, _foreign())

    async def paid() -> str:
        return world.run("pay")

    async def main() -> None:
        async with _open(world) as verifier:
            guard = world.guard(
                token=token, verifier=verifier, prover=AsyncProver(HOLDER, source), permit_ms=5_000
            )
            assert await guard.arun("pay", {"amount": 1}, paid) == "pay done"
            assert await guard.acheck("get_weather", {})
            hold = await guard.ahold("pay", {"amount": 2})
            await hold.acommit()
            with pytest.raises(ToolDenied) as denied:
                await guard.arun("pay", {"amount": 3}, paid)
            assert denied.value.reason == Reason.USES_EXHAUSTED.name
            assert await guard.avisible(["get_weather", "pay", "delete_repo", "drop"]) == [
                "get_weather",
                "pay",
            ]
            with pytest.raises(ToolDenied) as denied:
                await guard.acheck("drop", {})
            assert denied.value.reason == Reason.UNKNOWN_TOOL.name

    asyncio.run(main())
    assert [tool for tool, _ in world.ran] == ["pay"]


def test_a_watched_tool_over_the_awaited_verifier_ends_with_its_session(world: World) -> None:
    """The survey is judged in this process, so the tool is cancelled soon after."""
    token = world.token()
    ended: list[Any] = []

    async def slow() -> None:
        try:
            world.end(token)
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main() -> None:
        async with _open(world) as verifier:
            guard: Guard = world.guard(token=token, verifier=verifier, watch=True)
            with pytest.raises(ToolDenied) as denied:
                await guard.arun("get_weather", {}, slow)
            assert denied.value.reason == "WITHDRAWN"

    asyncio.run(main())
    assert ended == ["cancelled"]
