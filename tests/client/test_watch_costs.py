"""Watched calls that were proven or paid for: what they cost is taken once, and they stand without it."""

from __future__ import annotations

import asyncio

import pytest

from sessauth.client import AsyncClient, CheckItem, Client, Watch
from sessauth.reasons import Reason
from sessauth.tokens.prover import HolderKey
from tests.support.service import running

CEILING = ["read:files/**"]
PAID = "read:files/** needs uses(2)"


def _stir(client: Client) -> None:
    """Change something that is no watched call's business, and see that it was looked at."""
    with client.session(subject="another", ceiling=CEILING) as session:
        token = session.mint(CEILING, ["gateway"])
        with client.watch(audience="gateway") as watch:
            call = watch.ask(CheckItem(token, "read", "files/a"))
            session.end()
            assert next(watch) is call


def _withdrawn(watch: Watch) -> tuple[int, Reason]:
    call = next(watch)
    assert call.withdrawn is not None
    return call.number, call.withdrawn.reason


def test_calls_that_were_paid_for_stand_until_their_session_ends() -> None:
    """Two uses are taken by two calls, none by judging them again; a third is denied; the end tells both."""
    with running() as service, Client(str(service.made.socket), timeout_ms=10_000) as client:
        session = client.open_session(subject="agent", ceiling=CEILING)
        token = client.mint(session.id, [PAID], ["gateway"])
        with client.watch(audience="gateway") as watch:
            first, second, third = (watch.ask(CheckItem(token, "read", "files/a")) for _ in range(3))
            assert [bool(each) for each in (first, second, third)] == [True, True, False]
            assert third.decision.reason is Reason.USES_EXHAUSTED
            for _ in range(3):
                _stir(client)
            assert first
            assert second
            client.end(session.id)
            told = sorted(_withdrawn(watch) for _ in range(2))

    assert told == [(first.number, Reason.SESSION_ENDED), (second.number, Reason.SESSION_ENDED)]


def test_a_call_with_a_permit_stands_behind_its_commit() -> None:
    """Committing uses the permit up, not the watch: what was begun is still to be stopped."""
    with running() as service, Client(str(service.made.socket), timeout_ms=10_000) as client:
        session = client.open_session(subject="agent", ceiling=CEILING)
        token = client.mint(session.id, [PAID], ["gateway"])
        item = CheckItem(token, "read", "files/a", permit_ms=60_000)
        with client.watch(audience="gateway") as watch:
            call = watch.ask(item)
            permit = call.decision.permit
            assert client.commit(permit, token, "read", "files/a", audience="gateway")
            _stir(client)
            assert call
            client.suspend(session.id)
            assert _withdrawn(watch) == (call.number, Reason.SESSION_SUSPENDED)


def test_a_watch_without_room_takes_nothing() -> None:
    """The call is not judged, so its use is there for who asks without watching."""
    limits = {"watched_calls": 1}
    with running(limits=limits) as service, Client(str(service.made.socket), timeout_ms=10_000) as client:
        session = client.open_session(subject="agent", ceiling=CEILING)
        token = client.mint(session.id, ["read:files/** needs uses(1)"], ["gateway"])
        free = client.mint(session.id, CEILING, ["gateway"])
        with client.watch(audience="gateway") as watch:
            assert watch.ask(CheckItem(free, "read", "files/a"))
            refused = watch.ask(CheckItem(token, "read", "files/a")).decision
        allowed = client.check(token, "read", "files/a", audience="gateway")

    assert (refused.reason, refused.argument) == (Reason.MALFORMED_REQUEST, "watch")
    assert allowed


@pytest.mark.parametrize("scope", ["read:files/**", PAID])
def test_a_bound_tokens_call_is_proven_once(scope: str) -> None:
    """The client proves what it asks; judged again without proof it stands, and revoking takes it back."""
    holder = HolderKey.generate()
    with running() as service, Client(str(service.made.socket), holder=holder, timeout_ms=10_000) as client:
        session = client.open_session(subject="agent", ceiling=CEILING)
        token = client.mint(session.id, [scope], ["gateway"], to=holder.public)
        with client.watch(audience="gateway") as watch:
            calls = [watch.ask(CheckItem(token, "read", "files/a")) for _ in range(2)]
            assert [each.decision.reason for each in calls] == [Reason.ALLOWED] * 2
            _stir(client)
            assert all(calls)
            client.revoke(session.id, token.block_ids)
            told = sorted(_withdrawn(watch) for _ in range(2))

    assert told == [(each.number, Reason.REVOKED) for each in calls]


def test_the_asyncio_watch_proves_too() -> None:
    """A bound token's call is allowed on it, and taken back."""
    holder = HolderKey.generate()

    async def main(socket: str) -> Reason:
        async with AsyncClient(socket, holder=holder, timeout_ms=10_000) as client:
            session = await client.open_session(subject="agent", ceiling=CEILING)
            token = await client.mint(session.id, CEILING, ["gateway"], to=holder.public)
            async with client.watch(audience="gateway") as watch:
                assert await watch.ask(CheckItem(token, "read", "files/a"))
                await client.end(session.id)
                call = await anext(watch)
                assert call.withdrawn is not None
                return call.withdrawn.reason

    with running() as service:
        assert asyncio.run(main(str(service.made.socket))) is Reason.SESSION_ENDED
