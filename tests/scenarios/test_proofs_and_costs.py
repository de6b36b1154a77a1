"""Bound tokens whose scopes cost something: a proof counts once, and so does what it pays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from sessauth.clock import SystemClock
from sessauth.reasons import Reason, Stage
from sessauth.tokens.prover import HolderKey
from sessauth.tokens.token import Token
from tests.support.server_fixture import AUDIENCE, ServerFixture, at_once

HOLDER = HolderKey.generate()


def _token(server: ServerFixture, *scopes: str) -> Token:
    session = server.operator.open_session(subject="agent", ceiling=["read:**"])
    return server.operator.mint(session.id, scopes, [AUDIENCE], to=HOLDER.public)


def _prover(server: ServerFixture) -> Callable[[Token, str], bytes]:
    """Make proofs for this host, each of its own nonce."""
    host = server.operator.verifier_keys().current(SystemClock().now_ms())
    assert host is not None
    return lambda token, resource: HOLDER.prove(token, "read", resource, b"", host)


def test_a_proof_pays_once(server: ServerFixture) -> None:
    """One of 40 concurrent calls with one proof, at every entry point, is allowed and charged."""
    token, prove = _token(server, "read:doc/** needs uses(3)"), _prover(server)
    proof = prove(token, "doc/1")

    def ask(door: Callable[..., object]) -> Callable[[], object]:
        return lambda: door(token.data, "read", "doc/1", proof=proof)

    decisions = at_once([ask(server.doors[number % 4]) for number in range(40)])

    assert Counter(decision.reason for decision in decisions) == {Reason.ALLOWED: 1, Reason.REPLAYED: 39}
    for door in server.doors[:2]:
        assert door(token.data, "read", "doc/1", proof=prove(token, "doc/1"))
    late = server.doors[3](token.data, "read", "doc/1", proof=prove(token, "doc/1"))
    assert late.reason is Reason.USES_EXHAUSTED


def test_a_denied_call_leaves_its_proof(server: ServerFixture) -> None:
    """A call denied for its cost consumes no proof; the same proof counts once there is something left."""
    token, prove = _token(server, 'read:doc/** needs budget("b", 1, cost)'), _prover(server)
    host = server.operator.verifier_keys().current(SystemClock().now_ms())
    assert host is not None
    proof = HOLDER.prove(token, "read", "doc/1", b'{"cost": 1}', host)
    held = server.control.check(
        token.data,
        "read",
        "doc/1",
        b'{"cost": 1}',
        proof=HOLDER.prove(token, "read", "doc/1", b'{"cost": 1}', host),
        permit_ms=60_000,
    )
    assert held

    for door in server.doors:
        assert door(token.data, "read", "doc/1", b'{"cost": 1}', proof=proof).reason is (
            Reason.BUDGET_EXHAUSTED
        )
    server.control.release(held.permit)
    assert server.workers[0].check(token.data, "read", "doc/1", b'{"cost": 1}', proof=proof)
    assert prove(token, "doc/1") != prove(token, "doc/1")


def test_a_retry_needs_no_new_proof(server: ServerFixture) -> None:
    """Under its retry id the same proof is good again, for calls that cost something and for free ones."""
    token, prove = _token(server, "read:doc/** needs uses(1)", "read:free/**"), _prover(server)

    for resource in ("doc/1", "free/1"):
        proof, name = prove(token, resource), resource.encode()
        for door in server.doors:
            assert door(token.data, "read", resource, proof=proof, retry_id=name), resource
        refused = server.workers[0].check(token.data, "read", resource, proof=proof)
        assert refused.reason in (Reason.USES_EXHAUSTED, Reason.REPLAYED)
    assert (
        server.control.check(token.data, "read", "doc/1", retry_id=b"doc/1").reason is Reason.PROOF_REQUIRED
    )


def test_the_proof_of_a_retry_is_used_up_as_well(server: ServerFixture) -> None:
    """A retry with a proof of its own takes it: who saw it can't make a second call of it."""
    token, prove = _token(server, "read:doc/** needs uses(2)", "read:free/**"), _prover(server)

    for number, resource in enumerate(("doc/1", "free/1")):
        name = b"%d" % number
        assert server.workers[0].check(
            token.data, "read", resource, proof=prove(token, resource), retry_id=name
        )
        for door in server.doors:
            proof = prove(token, resource)
            assert door(token.data, "read", resource, proof=proof, retry_id=name), resource
            stolen = server.workers[1].check(token.data, "read", resource, proof=proof)
            assert stolen.reason is Reason.REPLAYED, resource
            assert door(token.data, "read", resource, proof=proof, retry_id=name), resource


def test_a_permit_of_a_bound_token_is_committed_without_a_proof(server: ServerFixture) -> None:
    """The permit is bound to the call that was proven; another gateway's commit of it is refused."""
    token, prove = _token(server, "read:doc/**"), _prover(server)
    permits = [
        door(token.data, "read", "doc/1", proof=prove(token, "doc/1"), permit_ms=60_000).permit  # type: ignore[attr-defined]
        for door in server.doors
    ]

    refused = server.other.commit(permits[0], token.data, "read", "doc/1")
    assert (refused.reason, refused.stage) == (Reason.BAD_PERMIT, Stage.NEEDS)
    commits = [server.verifier.commit, *(each.commit for each in server.workers), server.control.commit]
    for commit, permit in zip(commits, permits, strict=True):
        assert commit(permit, token.data, "read", "doc/1")


def test_without_a_proof_nothing_is_taken(server: ServerFixture) -> None:
    """A stolen bound token takes no uses and gets no permit, from any door."""
    token = _token(server, "read:doc/** needs uses(1)")

    for door in server.doors:
        assert door(token.data, "read", "doc/1").reason is Reason.PROOF_REQUIRED
        assert door(token.data, "read", "doc/1", permit_ms=1000).reason is Reason.PROOF_REQUIRED
        assert door(token.data, "read", "doc/1", retry_id=b"a").reason is Reason.PROOF_REQUIRED
    assert server.control.check(token.data, "read", "doc/1", proof=_prover(server)(token, "doc/1"))
