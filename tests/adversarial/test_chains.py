"""Chains put together wrongly out of blocks that are each right: all denied."""

from __future__ import annotations

import itertools

import pytest

from sessauth._fast._check import Chain
from sessauth.clock import FixedClock
from sessauth.crypto.keys import IssuerKey
from sessauth.reasons import Reason
from sessauth.tokens.token import Issuer
from tests.oracle.crypto import signed_bytes
from tests.oracle.wire import encode
from tests.support.state_fixture import StateFixture
from tests.support.token_forger import assemble, ending, id16, key, make, sign
from tests.vectors.world import AUDIENCE, ISSUER, NOW, child, link, root, token

READ = "read:files/**"


def parts(data: bytes) -> list[tuple[bytes, bytes]]:
    """The (payload, signature) of each block."""
    chain = Chain.parse(data)
    return list(zip(chain.payloads, chain.signatures, strict=True))


def join(blocks: list[tuple[bytes, bytes]]) -> bytes:
    """A token of blocks with the signatures that they have."""
    return assemble([payload for payload, _ in blocks], [signature for _, signature in blocks])


def test_every_order_of_the_blocks(state: StateFixture) -> None:
    """Only the signed one of the 24 orders of four blocks is allowed."""
    blocks = parts(token(root(READ), child("*:**"), child(READ), child("read:**")))

    found = {
        order: state.reason(join([blocks[i] for i in order])) for order in itertools.permutations(range(4))
    }

    assert [order for order, reason in found.items() if reason is Reason.ALLOWED] == [(0, 1, 2, 3)]
    assert set(found.values()) == {Reason.ALLOWED, Reason.MALFORMED_TOKEN, Reason.BAD_SIGNATURE}


@pytest.mark.parametrize("of_session", ["session", "another"])
@pytest.mark.parametrize("known", [False, True])
def test_a_tail_of_another_token(fresh_state: StateFixture, of_session: str, known: bool) -> None:
    """Blocks of another token, of the same session or not, do not continue this one; no cache helps them."""
    if of_session == "another":
        fresh_state.open("another")
    narrow = token(root("read:nothing"), child("*:**"), child("*:**"))
    wide = token(
        root("*:**", root_fields={"session_id": id16(of_session), "token_id": id16("wide")}),
        child("*:**", label="wide"),
        child("*:**"),
    )
    if known:
        assert fresh_state.reason(wide) is Reason.ALLOWED
        assert fresh_state.reason(narrow) is Reason.OUT_OF_SCOPE
    ours, theirs = parts(narrow), parts(wide)

    for cut in (1, 2):
        assert fresh_state.reason(join(theirs[:cut] + ours[cut:])) is Reason.BAD_SIGNATURE
        assert fresh_state.reason(join(ours[:cut] + theirs[cut:])) is Reason.BAD_SIGNATURE


def test_a_child_signed_for_another_index(state: StateFixture) -> None:
    """A block is bound to its place: the same payload signed as index 2 does not stand at index 1."""
    blocks = link(root(READ), child("*:**"))
    payloads = [encode("Block", block) for block in blocks]
    first = sign(payloads[:1], [ISSUER])[0]
    at_two = key("next 0").sign(signed_bytes(2, first, payloads[1]))
    at_one = key("next 0").sign(signed_bytes(1, first, payloads[1]))

    assert state.reason(assemble(payloads, [first, at_one])) is Reason.ALLOWED
    assert state.reason(assemble(payloads, [first, at_two])) is Reason.BAD_SIGNATURE


def test_a_child_signed_by_its_parents_signer(state: StateFixture) -> None:
    """Neither the issuer nor the key one block up may sign for the key that the parent names."""
    blocks = link(root(READ), child("*:**"), child("*:**"))

    assert state.reason(make(blocks, [ISSUER, ISSUER, key("next 1")])) is Reason.BAD_SIGNATURE
    assert state.reason(make(blocks, [ISSUER, key("next 0"), key("next 0")])) is Reason.BAD_SIGNATURE


def test_a_root_by_a_foreign_key(fresh_state: StateFixture) -> None:
    """A root that names an unknown key, or a known one that did not sign it, is denied without doubt."""
    stranger = key("stranger")
    theirs = root(READ, root_fields={"issuer_key_id": stranger.id})

    assert fresh_state.reason(make(link(theirs), [stranger])) is Reason.UNKNOWN_ISSUER
    assert fresh_state.reason(make(link(root(READ)), [stranger])) is Reason.BAD_SIGNATURE
    assert fresh_state.reason(make(link(theirs), [ISSUER])) is Reason.UNKNOWN_ISSUER


_SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
]


@pytest.mark.parametrize("encoded", _SMALL_ORDER)
@pytest.mark.parametrize("sign_bit", [0, 0x80])
def test_a_next_key_under_which_any_message_is_signed(
    state: StateFixture, encoded: str, sign_bit: int
) -> None:
    """A small-order next key with the signature that a lax library takes for everything is malformed."""
    lax = bytearray.fromhex(encoded)
    lax[31] |= sign_bit
    blocks = [root(READ, ending=2, next_key=bytes(lax)), child("*:**", **ending("sealed"))]
    payloads = [encode("Block", block) for block in blocks]
    first = sign(payloads[:1], [ISSUER])[0]
    for universal in (bytes([1]) + bytes(63), bytes(lax) + bytes(32), bytes(64)):
        assert state.reason(assemble(payloads, [first, universal])) is Reason.MALFORMED_TOKEN


def test_an_open_token_presented(state: StateFixture) -> None:
    """An open token is denied in each form: bytes, presented text, stored text, object."""
    issuer = Issuer(IssuerKey.generate(), clock=FixedClock(NOW))
    held = issuer.mint(id16("session"), [READ], [AUDIENCE], ttl_ms=60_000, ending="open")
    stored = held.stored_text()

    assert state.reason(held.data) is Reason.OPEN_TOKEN
    assert state.reason(held) is Reason.OPEN_TOKEN
    assert state.reason(stored) is Reason.OPEN_TOKEN
    assert state.reason(stored.encode()) is Reason.OPEN_TOKEN
    assert state.reason(stored[:40]) is Reason.OPEN_TOKEN
    assert state.reason(token(root(READ), last="open")) is Reason.OPEN_TOKEN


def test_a_sealed_token_extended(state: StateFixture) -> None:
    """Nothing follows a sealed block, whoever signs it."""
    sealed = root(READ, **ending("sealed"))
    for signer in (ISSUER, key("next 0")):
        assert (
            state.reason(make([sealed, child(**ending("sealed"))], [ISSUER, signer]))
            is Reason.MALFORMED_TOKEN
        )


def test_a_child_that_drops_what_limits_it(state: StateFixture) -> None:
    """Absent or wider scopes, conditions, audience, source and peer of a child change nothing above."""
    everything = child("*:**", audience=["elsewhere", AUDIENCE], source=["0.0.0.0/0"], peer=["sha256:aa"])
    limits = {
        Reason.OUT_OF_SCOPE: root("read:other/**"),
        Reason.CONDITION_FAILED: root("read:files/** where n == 1"),
        Reason.WRONG_AUDIENCE: root(READ, audience=["elsewhere"]),
        Reason.WRONG_SOURCE: root(READ, source=["192.0.2.0/24"]),
        Reason.WRONG_PEER: root(READ, peer=["sha256:bb"]),
        Reason.EXPIRED: root(READ, expires_at_ms=NOW),
        Reason.NOT_YET_VALID: root(READ, not_before_ms=NOW + 1),
    }
    for reason, limited in limits.items():
        for below in ([], [child()], [everything], [child(), everything]):
            found = state.reason(
                token(limited, *below), arguments='{"n": 2}', source="10.0.0.1", peer=("sha256:aa",)
            )
            assert found is reason, (reason, below)
    assert state.reason(token(root(READ, conditions="n == 1"), child("*:**")), arguments='{"n": 2}') is (
        Reason.CONDITION_FAILED
    )
