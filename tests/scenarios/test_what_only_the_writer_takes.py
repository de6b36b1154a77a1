"""A call is charged once at every entry point: over real sockets, from many threads and processes."""

from __future__ import annotations

import os
import secrets
import signal
from collections import Counter
from collections.abc import Callable

import pytest

from sessauth.approvals.approver import Approver, ApproverKey
from sessauth.client import CheckItem
from sessauth.crypto.armor import presented_text
from sessauth.decisions.decision import DecisionBase
from sessauth.errors import NotFound, SessauthError, UsageError
from sessauth.reasons import Reason, Stage
from sessauth.scopes.parts import key_text
from sessauth.verifier.verifier import Verifier
from tests.support.server_fixture import AUDIENCE, ServerFixture, at_once
from tests.support.service import wait_until

BUDGET = 'read:doc/** where cost >= 0 needs budget("api", 10, cost)'


def _open(server: ServerFixture, *scopes: str) -> tuple[bytes, bytes]:
    """A session and a token of it."""
    session = server.operator.open_session(subject="agent", ceiling=["read:**"])
    return session.id, server.operator.mint(session.id, scopes, [AUDIENCE]).data


def _everywhere(
    server: ServerFixture, count: int, token: bytes, arguments: bytes = b"{}", **options: object
) -> list[DecisionBase]:
    """Ask about one call so often at once, from every door in turn."""

    def ask(door: Callable[..., DecisionBase]) -> Callable[[], DecisionBase]:
        return lambda: door(token, "read", "doc/1", arguments, **options)

    return at_once([ask(server.doors[number % len(server.doors)]) for number in range(count)])


def _reasons(decisions: list[DecisionBase]) -> Counter[Reason]:
    return Counter(decision.reason for decision in decisions)


def test_uses_are_exhausted_at_exactly_their_number(server: ServerFixture) -> None:
    """A scope of 17 uses allows exactly 17 of 60 concurrent calls through four entry points."""
    _, token = _open(server, "read:doc/** needs uses(17)")

    assert _reasons(_everywhere(server, 60, token)) == {Reason.ALLOWED: 17, Reason.USES_EXHAUSTED: 43}
    assert not any(door(token, "read", "doc/1") for door in server.doors)


def test_one_approval_allows_one_call(server: ServerFixture) -> None:
    """One of 100 concurrent uses of an approval, through workers and an embedded verifier, is allowed."""
    key = ApproverKey.generate()
    _, token = _open(server, f'read:doc/** needs approval(1, "{key_text(key.public_key)}")')
    asked = [door(token, "read", "doc/1") for door in server.doors]
    assert {decision.reason for decision in asked} == {Reason.APPROVAL_REQUIRED}
    requests = {decision.approval.record.id: decision.approval for decision in asked}  # type: ignore[attr-defined]
    assert len(requests) == 1

    server.operator.grant_approval(next(iter(requests.values())), Approver(key))
    decisions = _everywhere(server, 100, token)

    assert _reasons(decisions) == {Reason.ALLOWED: 1, Reason.APPROVAL_REQUIRED: 99}
    later = {decision.approval.record.id for decision in decisions if not decision}  # type: ignore[attr-defined]
    assert len(later) == 1
    assert later.isdisjoint(requests)


def test_signed_approvals_that_come_with_the_call_count_once(server: ServerFixture) -> None:
    """An approval that travels with the request allows one of 40 calls at once, through every door."""
    key = ApproverKey.generate()
    _, token = _open(server, f'read:doc/** needs approval(1, "{key_text(key.public_key)}")')
    asked = server.control.check(token, "read", "doc/1")
    assert asked.approval is not None
    signed = Approver(key).grant(asked.approval)

    decisions = _everywhere(server, 40, token, approvals=[signed])

    assert _reasons(decisions)[Reason.ALLOWED] == 1
    assert not server.control.check(token, "read", "doc/2", approvals=[signed])


def test_a_denied_approval_stands(server: ServerFixture) -> None:
    """A call that an approver denied is denied for that reason at every entry point."""
    key = ApproverKey.generate()
    _, token = _open(server, f'read:doc/** needs approval(1, "{key_text(key.public_key)}")')
    asked = server.control.check(token, "read", "doc/1").approval
    assert asked is not None
    server.operator.deny_approval(asked.record.session_id, asked.record.id, "not today")

    assert {door(token, "read", "doc/1").reason for door in server.doors} == {Reason.APPROVAL_DENIED}


def test_reservations_never_pass_a_budget(server: ServerFixture) -> None:
    """A budget of 10 grants ten of 100 concurrent reservations of 1; released ones are granted again."""
    session_id, token = _open(server, BUDGET)

    decisions = _everywhere(server, 100, token, b'{"cost": 1}', permit_ms=60_000)

    assert _reasons(decisions) == {Reason.ALLOWED: 10, Reason.BUDGET_EXHAUSTED: 90}
    permits = {decision.permit for decision in decisions if decision}  # type: ignore[attr-defined]
    assert len(permits) == 10
    assert server.operator.get_session(session_id).open_permits == 10
    for permit in sorted(permits)[:3]:
        server.workers[0].release(permit)
    again = _everywhere(server, 20, token, b'{"cost": 1}', permit_ms=60_000)
    assert _reasons(again) == {Reason.ALLOWED: 3, Reason.BUDGET_EXHAUSTED: 17}


def test_permits_are_committed_once_from_any_door(server: ServerFixture) -> None:
    """A permit that one worker gave is committed once, whichever of 12 attempts at once comes first."""
    _, token = _open(server, BUDGET)
    given = server.workers[0].check(token, "read", "doc/1", b'{"cost": 4}', permit_ms=60_000)
    doors = [server.control.commit, *(each.commit for each in server.workers), server.verifier.commit]

    decisions = at_once(
        [
            lambda door=doors[number % 4]: door(given.permit, token, "read", "doc/1", b'{"cost": 4}')
            for number in range(12)
        ]
    )

    assert _reasons(decisions) == {Reason.ALLOWED: 1, Reason.BAD_PERMIT: 11}
    assert server.control.check(token, "read", "doc/1", b'{"cost": 6}')
    assert not server.control.check(token, "read", "doc/1", b'{"cost": 0.000000001}')


def test_no_commit_after_the_end(server: ServerFixture) -> None:
    """Between check and commit the session ends: every door refuses the permit for that reason."""
    session_id, token = _open(server, "read:doc/**")
    permits = [door(token, "read", "doc/1", permit_ms=60_000).permit for door in server.doors]  # type: ignore[attr-defined]
    server.operator.end(session_id)

    commits = [server.control.commit, *(each.commit for each in server.workers), server.verifier.commit]
    reasons = {
        commit(permit, token, "read", "doc/1").reason for commit, permit in zip(commits, permits, strict=True)
    }

    assert reasons == {Reason.SESSION_ENDED}


def test_no_commit_of_what_narrowing_took(server: ServerFixture) -> None:
    """Between check and commit the session is narrowed: the scope's reason, or BAD_PERMIT where it fits."""
    session_id, token = _open(server, "read:doc/**")
    outside, inside = (
        server.workers[0].check(token, "read", name, permit_ms=60_000).permit for name in ("doc/1", "doc/2")
    )
    server.operator.narrow(session_id, ["read:doc/2"])

    assert server.workers[1].commit(outside, token, "read", "doc/1").reason is Reason.OUT_OF_SCOPE
    refused = server.workers[1].commit(inside, token, "read", "doc/2")
    assert (refused.reason, refused.stage) == (Reason.BAD_PERMIT, Stage.NEEDS)


def test_permits_and_retry_ids_are_one_gateways(server: ServerFixture) -> None:
    """Another gateway can neither commit nor release a permit, and a retry id of another is its own."""
    _, token = _open(server, "read:doc/** needs uses(2)")
    given = server.control.check(token, "read", "doc/1", retry_id=b"attempt", permit_ms=60_000)

    assert server.other.commit(given.permit, token, "read", "doc/1").reason is Reason.BAD_PERMIT
    with pytest.raises(NotFound):
        server.other.release(given.permit)
    others = server.other.check(token, "read", "doc/1", retry_id=b"attempt", permit_ms=60_000)
    assert others.permit != given.permit
    assert server.control.check(token, "read", "doc/1", retry_id=b"attempt").permit == given.permit
    assert server.control.check(token, "read", "doc/1").reason is Reason.USES_EXHAUSTED
    assert server.control.commit(given.permit, token, "read", "doc/1")


def test_a_lost_answer_is_asked_for_again(server: ServerFixture) -> None:
    """Under one retry id, 40 attempts at once through every door take one use and get one permit."""
    _, token = _open(server, "read:doc/** needs uses(3)")

    decisions = _everywhere(server, 40, token, retry_id=b"lost answer", permit_ms=60_000)

    assert _reasons(decisions) == {Reason.ALLOWED: 40}
    assert len({decision.permit for decision in decisions}) == 1  # type: ignore[attr-defined]
    assert _reasons(_everywhere(server, 8, token)) == {Reason.ALLOWED: 2, Reason.USES_EXHAUSTED: 6}
    wrong = server.workers[0].check(token, "read", "doc/2", retry_id=b"lost answer")
    assert (wrong.reason, wrong.argument) == (Reason.MALFORMED_REQUEST, "retry_id")


def test_a_batch_takes_in_its_order(server: ServerFixture) -> None:
    """The first items of a batch get what there is, by worker and embedded verifier; others go on."""
    _, token = _open(server, "read:doc/** needs uses(3)", "read:free/**")
    items = [CheckItem(token, "read", name) for name in ("doc/1", "free/1", "doc/2", "doc/3", "doc/4")]
    yes, no = Reason.ALLOWED, Reason.USES_EXHAUSTED

    assert [each.reason for each in server.workers[0].check_batch(items)] == [yes, yes, yes, yes, no]
    calls = [(item.token, item.action, item.resource) for item in items]
    assert [each.reason for each in server.verifier.check_batch(calls)] == [no, yes, no, no, no]
    streamed = dict(server.workers[1].check_stream(items))
    assert [streamed[number].reason for number in range(5)] == [no, yes, no, no, no]


def test_a_killed_server_took_it_once(own_server: ServerFixture) -> None:
    """The control process is killed while 30 answers are under way; asked again, each use was taken once."""
    _, token = _open(own_server, "read:doc/** needs uses(1000)")
    names = [secrets.token_bytes(16) for _ in range(30)]

    def ask(name: bytes) -> Callable[[], object]:
        return lambda: own_server.workers[0].check(token, "read", "doc/1", retry_id=name)

    def kill() -> None:
        own_server.process.process.kill()

    at_once([*(ask(name) for name in names[:15]), kill, *(ask(name) for name in names[15:])], threads=31)
    own_server.stop()
    own_server.start()
    again = [own_server.workers[0].check(token, "read", "doc/1", retry_id=name) for name in names]

    assert all(again)
    taken = 0
    while own_server.control.check(token, "read", "doc/1"):
        taken += 1
    assert taken == 1000 - len(names)


def test_without_the_control_process_what_costs_is_denied(own_server: ServerFixture) -> None:
    """A stopped control process: workers and embedded verifiers go on with what is free, and nothing else."""
    _, token = _open(own_server, "read:doc/** needs uses(9)", "read:free/**")
    quick = [own_server.workers[0].with_timeout(3_000), own_server.workers[1].with_timeout(3_000)]
    os.kill(own_server.process.process.pid, signal.SIGSTOP)
    try:
        for client in quick:
            assert client.check(token, "read", "free/1")
            assert client.check(token, "read", "doc/1").reason is Reason.NEEDS_SERVER
            with pytest.raises(SessauthError):
                client.commit(bytes(32), token, "read", "free/1")
    finally:
        os.kill(own_server.process.process.pid, signal.SIGCONT)
    assert wait_until(lambda: bool(own_server.workers[0].check(token, "read", "doc/1")))


def test_an_embedded_verifier_without_an_answer_denies(own_server: ServerFixture) -> None:
    """An embedded verifier without its server denies calls that cost something and allows the others."""
    _, token = _open(own_server, "read:doc/** needs uses(9)", "read:free/**")
    assert own_server.verifier.check(token, "read", "doc/1")
    own_server.process.kill()

    assert own_server.verifier.check(token, "read", "free/1")
    assert own_server.verifier.check(token, "read", "doc/1").reason is Reason.NEEDS_SERVER
    assert own_server.verifier.check(token, "read", "free/1", permit_ms=100).reason is Reason.NEEDS_SERVER
    with pytest.raises(SessauthError):
        own_server.verifier.commit(bytes(32), token, "read", "free/1")


def test_a_held_token_costs_what_it_costs(server: ServerFixture) -> None:
    """A handle, and a text, given to an embedded verifier reach the server as the token they are."""
    session_id, token = _open(server, "read:doc/** needs uses(3)")
    held = server.verifier.prepare(token)

    assert server.verifier.check(held, "read", "doc/1")
    assert server.verifier.check_batch([(held, "read", "doc/1")])[0]
    given = server.verifier.check(presented_text(token), "read", "doc/1", permit_ms=60_000)
    assert server.verifier.commit(given.permit, held, "read", "doc/1")  # type: ignore[attr-defined]
    assert server.verifier.check(held, "read", "doc/1").reason is Reason.USES_EXHAUSTED
    assert server.operator.get_session(session_id).open_permits == 0


def test_an_embedded_verifier_says_what_it_can_not_take(server: ServerFixture) -> None:
    """Limits of retry ids and permits, and a missing credential, are named before anything is asked."""
    _, token = _open(server, "read:doc/**")
    with pytest.raises(UsageError, match="retry_id"):
        server.verifier.check(token, "read", "doc/1", retry_id=bytes(65))
    with pytest.raises(UsageError, match="permit_ms"):
        server.verifier.check(token, "read", "doc/1", permit_ms=300_001)
    with pytest.raises(UsageError, match="credential"):
        Verifier.embedded(server.made.state_dir, audience=AUDIENCE, server=server.made.socket)
