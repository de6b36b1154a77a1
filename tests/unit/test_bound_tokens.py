"""Tokens bound to a holder: made, extended by that holder alone, and refused before they are signed."""

from __future__ import annotations

import pytest

from sessauth._fast._check import Chain
from sessauth.crypto.keys import HolderPublicKey
from sessauth.errors import NotExtendable, UsageError, WidensAuthority
from sessauth.tokens.block_draft import Ending
from sessauth.tokens.prover import HolderKey
from sessauth.tokens.token import Token
from tests.support.memory_fixture import SESSION, MemoryFixture

READ = "read:files/**"


@pytest.fixture
def alice() -> HolderKey:
    """The first holder."""
    return HolderKey.generate()


@pytest.fixture
def bob() -> HolderKey:
    """A holder further down."""
    return HolderKey.generate()


@pytest.fixture
def bound(memory: MemoryFixture, alice: HolderKey) -> Token:
    """A root that is bound to Alice."""
    return memory.mint(READ, "write:notes/**", ending="", to=alice.public)


def test_a_root_is_bound_to_a_key_or_its_text(memory: MemoryFixture, alice: HolderKey, bound: Token) -> None:
    """The block names both keys, the token says whom it is bound to, and it is no secret."""
    by_text = memory.mint(READ, ending="bound", to=alice.public.text, may_seal=True)

    block = bound.inspect().blocks[0]
    assert (block.ending, block.next_key, block.proof_key) == (
        Ending.BOUND,
        alice.public.next_key,
        alice.public.proof_key,
    )
    assert (block.may_seal, by_text.inspect().blocks[0].may_seal) == (False, True)
    assert bound.binding is not None and bound.binding.next_key == alice.public.next_key
    assert bound.stored_text() == bound.text
    assert not bound.is_open and Token.parse(bound.text) == bound
    assert memory.mint(READ).binding is None


def test_a_bound_root_may_leave_its_audience_open(memory: MemoryFixture, alice: HolderKey) -> None:
    """A proof names the host, so that a bound root needs no audience; any other does."""
    token = memory.issuer.mint(SESSION, [READ], [], to=alice.public, ttl_ms=60_000)

    assert token.inspect().blocks[0].audience == ()
    with pytest.raises(UsageError, match="audience"):
        memory.issuer.mint(SESSION, [READ], [], ttl_ms=60_000)


def test_an_open_token_is_bound_offline(memory: MemoryFixture, alice: HolderKey) -> None:
    """A holder of it binds a narrower one to a key, with valid signatures."""
    child = memory.mint(READ, ending="open").attenuate(scopes=["read:files/a"], to=alice.public)

    assert child.ending is Ending.BOUND
    assert Chain.parse(child.data).verify(memory.key.public_key) == -1
    assert alice.holds(child)


def test_a_bound_token_is_presented_as_it_is(bound: Token) -> None:
    """Nothing is added: what makes it count is the proof that comes with it."""
    assert bound.present() is bound


def test_only_its_holder_extends_it(
    memory: MemoryFixture, bound: Token, alice: HolderKey, bob: HolderKey
) -> None:
    """The holder binds it to the next, with valid signatures; without the right key it is refused."""
    child = bound.attenuate(scopes=["read:files/a"], to=bob.public, key=alice)

    assert Chain.parse(child.data).verify(memory.key.public_key) == -1
    assert bob.holds(child) and not alice.holds(child)
    with pytest.raises(NotExtendable, match="key="):
        bound.attenuate(to=bob.public)
    with pytest.raises(NotExtendable, match="another holder"):
        bound.attenuate(to=bob.public, key=bob)


@pytest.mark.parametrize("options", [{}, {"ending": "sealed"}, {"ending": "open"}])
def test_below_a_bound_block_all_is_bound(
    bound: Token, alice: HolderKey, bob: HolderKey, options: dict[str, str]
) -> None:
    """Neither its holder nor the next makes a bearer token of it; the message says which block wants it."""
    child = bound.attenuate(to=bob.public, key=alice)

    for token, key in ((bound, alice), (child, bob)):
        with pytest.raises(NotExtendable, match=r"block 0 .*to="):
            token.attenuate(key=key, **options)  # type: ignore[arg-type]
    with pytest.raises(WidensAuthority, match="may_seal"):
        child.attenuate(to=HolderKey.generate().public, key=bob, may_seal=True)


def test_may_seal_lets_the_holder_seal_and_open(memory: MemoryFixture, alice: HolderKey) -> None:
    """A permitted sealed or open token is made, and is checked like any other."""
    bound = memory.mint(READ, ending="", to=alice.public, may_seal=True)
    sealed = bound.attenuate(key=alice)
    opened = bound.attenuate(key=alice, ending="open", scopes=["read:files/a"])

    assert (sealed.ending, opened.ending) == (Ending.SEALED, Ending.OPEN)
    assert memory.check(sealed, "read", "files/b")
    assert memory.check(opened.present(), "read", "files/a")
    assert not memory.check(opened.present(), "read", "files/b")


def test_a_strict_block_below_one_that_may_seal_decides(
    memory: MemoryFixture, alice: HolderKey, bob: HolderKey
) -> None:
    """The nearest bound block without may_seal holds for all below it."""
    child = memory.mint(READ, ending="", to=alice.public, may_seal=True).attenuate(to=bob.public, key=alice)

    with pytest.raises(NotExtendable, match="block 1"):
        child.attenuate(key=bob)


def test_no_key_stands_twice_in_a_chain(bound: Token, alice: HolderKey, bob: HolderKey) -> None:
    """A next_key or proof_key that is there already, in either field, is refused by name."""
    child = bound.attenuate(to=bob.public, key=alice)
    swapped = HolderPublicKey(HolderKey.generate().public.next_key, alice.public.proof_key)

    with pytest.raises(UsageError, match="to: its next_key is in this chain"):
        bound.attenuate(to=alice.public, key=alice)
    with pytest.raises(UsageError, match="to: its next_key is in this chain"):
        child.attenuate(to=alice.public, key=bob)
    with pytest.raises(UsageError, match="to: its proof_key is in this chain"):
        child.attenuate(to=swapped, key=bob)


def test_the_issuers_own_key_is_no_holders(memory: MemoryFixture, bound: Token, alice: HolderKey) -> None:
    """Neither in the root nor below."""
    issuer = HolderPublicKey(memory.key.public_key)

    with pytest.raises(UsageError, match="issuer's own"):
        memory.mint(READ, ending="", to=issuer)
    with pytest.raises(UsageError, match="issuer's own"):
        bound.attenuate(to=issuer, key=alice)


def test_a_key_is_for_a_bound_token_only(memory: MemoryFixture, alice: HolderKey) -> None:
    """A key is a mistake for an open token, and no help for a sealed one."""
    with pytest.raises(UsageError, match="key extends a bound token"):
        memory.mint(READ, ending="open").attenuate(key=alice)
    with pytest.raises(NotExtendable, match="sealed"):
        memory.mint(READ).attenuate(key=alice)


def test_a_bound_token_needs_no_room_to_be_presented(
    memory: MemoryFixture, alice: HolderKey, bob: HolderKey
) -> None:
    """max_blocks counts the blocks there are: a bound one may be the last."""
    alone = memory.mint(READ, ending="", to=alice.public, max_blocks=1)
    pair = memory.mint(READ, ending="", to=alice.public, max_blocks=2).attenuate(to=bob.public, key=alice)

    assert alone.present() is alone
    assert len(pair.block_ids) == 2
    with pytest.raises(NotExtendable, match="max_blocks"):
        pair.attenuate(to=HolderKey.generate().public, key=bob)
