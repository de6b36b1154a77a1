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
from tests.vectors.world import AUDIENCE, EXPIRES, ISSUER, NOW, child, link, root, signers, token

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


@pytest.mark.parametrize("dropped", range(4))
def test_a_block_dropped(state: StateFixture, dropped: int) -> None:
    """Dropping the root, one of the middle or the narrowing last block gains nothing."""
    blocks = parts(token(root("*:**"), child("*:**"), child(READ), child("none:none")))
    expected = [Reason.MALFORMED_TOKEN, Reason.BAD_SIGNATURE, Reason.BAD_SIGNATURE, Reason.OPEN_TOKEN]

    assert state.reason(join(blocks[:dropped] + blocks[dropped + 1 :])) is expected[dropped]


def test_a_block_repeated(state: StateFixture) -> None:
    """A block that stands twice names its key twice."""
    blocks = parts(token(root(READ), child("*:**"), child(READ)))

    assert state.reason(join([blocks[0], blocks[1], blocks[1], blocks[2]])) is Reason.MALFORMED_TOKEN


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


def test_signatures_exchanged_between_tokens(state: StateFixture) -> None:
    """The signature of one root under the payload of another is wrong."""
    a, b = parts(token(root(READ)))[0], parts(token(root("*:**")))[0]

    assert state.reason(join([(b[0], a[1])])) is Reason.BAD_SIGNATURE
    assert state.reason(join([(a[0], b[1])])) is Reason.BAD_SIGNATURE


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


def test_an_attenuation_block_as_root(state: StateFixture) -> None:
    """A block without a root field does not begin a chain, whoever signed it."""
    alone = child("*:**", audience=[AUDIENCE], issued_at_ms=NOW, expires_at_ms=EXPIRES, **ending("sealed"))

    assert state.reason(make([alone], [ISSUER])) is Reason.MALFORMED_TOKEN


def test_a_root_inside_a_chain(state: StateFixture) -> None:
    """A second root field, which would name another session, is malformed."""
    second = child(
        "*:**", root={"issuer_key_id": ISSUER.id, "session_id": id16("other"), "token_id": id16("t")}
    )

    assert state.reason(token(root(READ), second)) is Reason.MALFORMED_TOKEN


@pytest.mark.parametrize("field", ["next_key", "proof_key"])
@pytest.mark.parametrize("first", [0, 1])
def test_a_key_used_twice(state: StateFixture, field: str, first: int) -> None:
    """No key appears twice in a chain, in either field."""
    used = key(f"next {first}").public
    last = ending("bound", key("last"), proof_key=used) if field == "proof_key" else ending("open", None)
    if field == "next_key":
        last["next_key"] = used
    blocks = link(root(READ), child(), child(**last))

    assert state.reason(make(blocks, signers(3))) is Reason.MALFORMED_TOKEN


def test_the_issuer_key_as_next_key(state: StateFixture) -> None:
    """The issuer's key is nobody's next key."""
    blocks = [root(READ, **ending("open", ISSUER)), child(**ending("sealed"))]

    assert state.reason(make(blocks, [ISSUER, ISSUER])) is Reason.MALFORMED_TOKEN


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


def test_a_next_key_that_is_not_canonical(state: StateFixture) -> None:
    """A y of p or above is refused, whatever its low bits."""
    for low in range(0xED, 0x100):
        blocks = [
            root(READ, ending=2, next_key=bytes([low]) + b"\xff" * 30 + b"\x7f"),
            child(**ending("sealed")),
        ]
        assert state.reason(make(blocks, [ISSUER, key("any")])) is Reason.MALFORMED_TOKEN


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


@pytest.mark.parametrize(
    ("last", "may_seal", "expected"),
    [
        ("sealed", False, Reason.MALFORMED_TOKEN),
        ("open", False, Reason.MALFORMED_TOKEN),
        ("bound", False, Reason.PROOF_REQUIRED),
        ("sealed", True, Reason.ALLOWED),
        ("open", True, Reason.OPEN_TOKEN),
        ("bound", True, Reason.PROOF_REQUIRED),
    ],
)
def test_what_follows_a_bound_block(state: StateFixture, last: str, may_seal: bool, expected: Reason) -> None:
    """A bound token becomes a bearer token only where its block says may_seal."""
    bound = root(READ, **ending("bound", key("next 0"), may_seal=may_seal))
    end = ending(last, None if last == "sealed" else key("next 1"))

    assert state.reason(make([bound, child(**end)], signers(2))) is expected


def test_may_seal_below_a_block_that_does_not(state: StateFixture) -> None:
    """An intermediate holder can't grant itself what the block above withheld."""
    blocks = [
        root(READ, **ending("bound", key("next 0"))),
        child(**ending("bound", key("next 1"), may_seal=True)),
        child(**ending("sealed")),
    ]

    assert state.reason(make(blocks, signers(3))) is Reason.MALFORMED_TOKEN
    assert state.reason(make(blocks[:2], signers(2))) is Reason.MALFORMED_TOKEN


_WIDER = {
    "later expiry": ({}, {"expires_at_ms": EXPIRES + 1}),
    "earlier beginning": ({"not_before_ms": NOW}, {"not_before_ms": NOW - 1}),
    "earlier issue": ({}, {"issued_at_ms": NOW - 60_001}),
    "more blocks": ({"max_blocks": 3}, {"max_blocks": 4}),
}


@pytest.mark.parametrize("name", _WIDER)
def test_a_child_that_states_more_than_its_parent(state: StateFixture, name: str) -> None:
    """A child's wider time or length makes the whole chain malformed, also two blocks down."""
    above, below = _WIDER[name]

    assert state.reason(token(root(READ, **above), child())) is Reason.ALLOWED
    assert state.reason(token(root(READ, **above), child(**below))) is Reason.MALFORMED_TOKEN
    assert state.reason(token(root(READ, **above), child(), child(**below))) is Reason.MALFORMED_TOKEN


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


def test_more_blocks_than_a_block_permits(state: StateFixture) -> None:
    """The smallest max_blocks of the chain holds, wherever it stands."""
    for place in range(3):
        blocks = [root(READ), child(), child()]
        blocks[place]["max_blocks"] = 3
        assert state.reason(token(*blocks)) is Reason.ALLOWED
        blocks[place]["max_blocks"] = 2
        assert state.reason(token(*blocks)) is Reason.CHAIN_TOO_LONG
