"""Attenuation: it only narrows, names what sticks out, and warns of what isn't proven."""

from __future__ import annotations

import pytest

from sessauth._fast._check import Chain
from sessauth.errors import NotExtendable, UsageError, WidensAuthority
from sessauth.tokens.token import Token
from tests.support.memory_fixture import AUDIENCE, NOW_MS, MemoryFixture

ACME = 'read:mcp/github/* where owner == "acme" free *'
WEB = 'read:mcp/github/* where owner == "acme" and repo == "web" free *'
ON_WEB = b'{"owner":"acme","repo":"web"}'


@pytest.fixture
def parent(memory: MemoryFixture) -> Token:
    """An open token to narrow."""
    return memory.mint(ACME, "write:notes/**", ending="open", max_blocks=5, not_before_ms=NOW_MS)


def test_a_narrower_token_is_made_offline(memory: MemoryFixture, parent: Token) -> None:
    """The child's chain is the parent's and one block more, signed right, judged by both blocks."""
    child = parent.attenuate(scopes=[WEB], label="sub-agent")

    assert child.warnings == ()
    assert child.data.startswith(parent.data)
    assert child.block_ids[:1] == parent.block_ids
    assert Chain.parse(child.data).verify(memory.key.public_key) == -1
    assert memory.check(child, "read", "mcp/github/x", ON_WEB)
    assert not memory.check(child, "read", "mcp/github/x", ON_WEB.replace(b"web", b"api"))
    assert not memory.check(child, "write", "notes/a")


def test_an_open_child_is_narrowed_further_from_its_stored_form(memory: MemoryFixture, parent: Token) -> None:
    """A chain of holders, each with the stored form of the last, ends in a token that works."""
    middle = parent.attenuate(scopes=[ACME], ending="open")
    last = Token.parse(middle.stored_text()).attenuate(scopes=[WEB], where=["n? < 5"])

    assert len(last.block_ids) == 3
    assert memory.check(last, "read", "mcp/github/x", ON_WEB)
    assert not memory.check(last, "read", "mcp/github/x", b'{"owner":"acme","repo":"web","n":5}')


def test_siblings_have_keys_of_their_own(parent: Token) -> None:
    """Two open children of one parent never share a next key."""
    first, second = (parent.attenuate(ending="open").inspect().blocks[-1] for _ in range(2))

    assert first.next_key != second.next_key


@pytest.mark.parametrize(
    ("scope", "part"),
    [
        ("delete:mcp/github/*", "action delete"),
        ("read:mcp/gitlab/*", "resource segment 2"),
        ("read:mcp/github", "resource segment 3"),
        ('read:mcp/github/* where owner == "beta"', "condition on owner"),
        ('read:mcp/github/* where owner in ["beta", "gamma"] free *', "condition on owner"),
        ("read:mcp/github/* where owner absent free *", "condition on owner"),
        ('read:mcp/github/* where repo == "web"', "argument owner"),
        ("read:mcp/github/* where owner == 1 free *", "condition on owner"),
        ("write:mcp/github/*", "resource segment 1"),
        ('read:mcp/github/* where owner starts_with "b" free *', "condition on owner"),
    ],
)
def test_a_scope_that_sticks_out_is_refused_with_its_part(parent: Token, scope: str, part: str) -> None:
    """A scope that the parent could never satisfy is refused, and its part is named."""
    with pytest.raises(WidensAuthority) as caught:
        parent.attenuate(scopes=[WEB, scope])

    assert caught.value.part == f"{scope}: {part}"
    assert "block 0" in str(caught.value)


def test_conditions_of_the_block_count_for_its_scopes(parent: Token) -> None:
    """``where`` can contradict the parent, and can make up for what a scope leaves out."""
    with pytest.raises(WidensAuthority) as caught:
        parent.attenuate(where=['owner == "beta"'], scopes=["read:mcp/github/*"])
    assert caught.value.part == "read:mcp/github/*: condition on owner"

    assert parent.attenuate(where=['owner == "acme"'], scopes=["read:mcp/github/*"]).warnings == ()
    assert parent.attenuate(where=['owner == "beta"']).warnings == ()


def test_conditions_alone_are_refused_when_no_scope_can_meet_them(memory: MemoryFixture) -> None:
    """A child without scopes is held to every scope of its parent."""
    parent = memory.mint(ACME, ending="open")

    with pytest.raises(WidensAuthority, match="owner"):
        parent.attenuate(where=['owner == "beta"'])


def test_every_block_above_is_held_against(parent: Token) -> None:
    """A scope that the root permits and the block between does not sticks out, too."""
    middle = parent.attenuate(scopes=[WEB], ending="open")

    with pytest.raises(WidensAuthority, match="block 1"):
        middle.attenuate(scopes=["write:notes/a"])


def test_what_is_not_proven_is_warned_of_or_refused_when_strict(memory: MemoryFixture, parent: Token) -> None:
    """A wider scope is safe by intersection: it warns, and ``strict`` refuses it."""
    wide = "read:mcp/github/*"
    child = parent.attenuate(scopes=[wide])

    assert len(child.warnings) == 1
    assert wide in child.warnings[0] and "owner" in child.warnings[0]
    assert not memory.check(child, "read", "mcp/github/x", b'{"owner":"beta"}')
    with pytest.raises(WidensAuthority, match="strict"):
        parent.attenuate(scopes=[wide], strict=True)
    assert parent.attenuate(scopes=[WEB], strict=True).warnings == ()


def test_a_sealed_token_is_not_extended(parent: Token) -> None:
    """Neither a minted nor a presented one."""
    with pytest.raises(NotExtendable, match="sealed"):
        parent.present().attenuate(label="x")


def test_a_lifetime_only_shortens(parent: Token, memory: MemoryFixture) -> None:
    """An end after the parent's is refused, the parent's own and earlier ones are not."""
    end = parent.expires_at_ms

    for later in ({"expires_at_ms": end + 1}, {"ttl_ms": 60_001, "clock": memory.clock}):
        with pytest.raises(WidensAuthority) as caught:
            parent.attenuate(**later)  # type: ignore[arg-type]
        assert caught.value.part == f"expires_at_ms {end + 1}"
    assert parent.attenuate(expires_at_ms=end).expires_at_ms == end
    assert parent.attenuate(ttl_ms=1_000, clock=memory.clock).expires_at_ms == NOW_MS + 1_000


def test_a_beginning_only_moves_later(parent: Token) -> None:
    """A beginning before the parent's is refused, and one at the end is a mistake."""
    with pytest.raises(WidensAuthority, match="not_before_ms"):
        parent.attenuate(not_before_ms=NOW_MS - 1)
    with pytest.raises(UsageError, match="never be valid"):
        parent.attenuate(not_before_ms=parent.expires_at_ms)
    with pytest.raises(UsageError, match="never be valid"):
        parent.attenuate(expires_at_ms=NOW_MS)


def test_an_audience_only_shrinks(memory: MemoryFixture) -> None:
    """A verifier that a block above does not name is refused by name."""
    parent = memory.issuer.mint(b"s" * 16, [ACME], [AUDIENCE, "other"], ttl_ms=60_000, ending="open")
    middle = parent.attenuate(audience=["other"], ending="open")

    assert middle.attenuate(audience=["other"]).inspect().blocks[2].audience == ("other",)
    with pytest.raises(WidensAuthority) as caught:
        middle.attenuate(audience=["other", AUDIENCE])
    assert caught.value.part == f"audience {AUDIENCE!r}"


def test_a_source_only_shrinks(memory: MemoryFixture) -> None:
    """An address block outside the parent's is refused, a wider one warned of, an inner one taken."""
    parent = memory.mint(ACME, ending="open", source=["10.0.0.0/8", "2001:db8::/32"])

    assert parent.attenuate(source=["10.1.0.0/16", "2001:db8:1::/48"]).warnings == ()
    assert "wider" in parent.attenuate(source=["0.0.0.0/0"]).warnings[0]
    with pytest.raises(WidensAuthority, match=r"source 11\.0\.0\.0/8"):
        parent.attenuate(source=["11.0.0.0/8"])
    with pytest.raises(UsageError, match="CIDR"):
        parent.attenuate(source=["10.0.0.1/8"])


def test_a_chain_keeps_room_to_be_presented(parent: Token) -> None:
    """An open token always has room for its sealed copy; beyond that it can't be extended."""
    longest = parent
    for _ in range(3):
        longest = longest.attenuate(ending="open")

    assert len(longest.present().block_ids) == 5
    assert len(longest.attenuate().block_ids) == 5
    with pytest.raises(NotExtendable, match="max_blocks"):
        longest.attenuate(ending="open")


def test_max_blocks_only_shrinks(parent: Token) -> None:
    """A longer chain than the parent's is refused, one too short to present is a mistake."""
    with pytest.raises(WidensAuthority, match="max_blocks"):
        parent.attenuate(max_blocks=6)
    with pytest.raises(UsageError, match="max_blocks"):
        parent.attenuate(max_blocks=2, ending="open")
    assert parent.attenuate(max_blocks=3, ending="open").present()


def test_a_token_beyond_the_size_limit_is_refused_by_name(parent: Token) -> None:
    """The message names the limit and what to do."""
    many = [f"write:notes/{i}/" + "/".join(["a" * 200] * 4) for i in range(12)]

    with pytest.raises(UsageError, match="MAX_TOKEN_BYTES"):
        parent.attenuate(scopes=many)
