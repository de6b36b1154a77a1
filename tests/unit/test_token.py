"""Tokens: minting, reading, presenting, and what never shows."""

from __future__ import annotations

import pickle

import pytest

from sessauth._fast import _check as kernel
from sessauth._fast._check import Chain
from sessauth.crypto.armor import STORED_PREFIX, stored_text
from sessauth.crypto.keys import HolderPublicKey, IssuerKey
from sessauth.errors import MalformedToken, NotExtendable, ScopeError, UsageError
from sessauth.scopes.scope import Scope
from sessauth.tokens.block_draft import Ending
from sessauth.tokens.prover import HolderKey
from sessauth.tokens.token import Token
from tests.support.memory_fixture import AUDIENCE, NOW_MS, SESSION, MemoryFixture

READ = "read:mcp/github/* free *"


def test_a_minted_token_says_what_was_asked(memory: MemoryFixture) -> None:
    """Every parameter of mint stands in the root block, and nothing else does."""
    token = memory.mint(
        READ,
        Scope.on("write", "x"),
        where=["n < 5"],
        source=["10.0.0.0/8"],
        peer=["spiffe://a/b"],
        not_before_ms=NOW_MS + 1,
        max_blocks=3,
        min_revision=7,
        label="for tests",
        ending="open",
    )
    info = token.inspect()
    block = info.blocks[0]

    assert (info.session_id, info.issuer_key_id) == (SESSION, memory.key.key_id)
    assert (info.min_revision, info.expires_at_ms, info.max_blocks) == (7, NOW_MS + 60_000, 3)
    assert (block.issued_at_ms, block.not_before_ms, block.label) == (NOW_MS, NOW_MS + 1, "for tests")
    assert [str(s) for s in block.scopes] == [READ, "write:x"]
    assert [str(c) for c in block.where] == ["n < 5"]
    assert (block.audience, block.source, block.peer) == ((AUDIENCE,), ("10.0.0.0/8",), ("spiffe://a/b",))
    assert (block.ending, block.proof_key, block.may_seal) == (Ending.OPEN, b"", False)


def test_a_minted_token_is_signed_by_the_issuer_and_allowed(memory: MemoryFixture) -> None:
    """Its one signature stands under the key, and the kernel allows what its scope says."""
    token = memory.mint(READ)

    assert Chain.parse(token.data).verify(memory.key.public_key) == -1
    assert memory.check(token, "read", "mcp/github/get_me")
    assert not memory.check(token, "write", "mcp/github/get_me")


def test_no_two_tokens_are_equal(memory: MemoryFixture) -> None:
    """Each has an id of its own."""
    assert memory.mint(READ) != memory.mint(READ)
    assert memory.mint(READ).inspect().token_id != memory.mint(READ).inspect().token_id


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"session_id": b"short"}, "session_id"),
        ({"session_id": SESSION.hex()}, "session_id"),
        ({"scopes": []}, "scopes is empty"),
        ({"scopes": READ}, "scopes is a list"),
        ({"scopes": ["read:x"] * 65}, "at most 64"),
        ({"audience": []}, "audience is empty"),
        ({"audience": AUDIENCE}, "audience is a list"),
        ({"audience": ["a", "a"]}, "twice"),
        ({"audience": [""]}, "1 to 1024"),
        ({"audience": [7]}, "holds texts"),
        ({"audience": ["a\n"]}, "audience"),
        ({"audience": list("abcdefghijklmnopq")}, "at most 16"),
        ({"ttl_ms": 0}, "ttl_ms or expires_at_ms"),
        ({"ttl_ms": -1}, "ttl_ms"),
        ({"ttl_ms": 1.5}, "whole number"),
        ({"ttl_ms": True}, "whole number"),
        ({"expires_at_ms": NOW_MS + 1}, "exclude each other"),
        ({"ttl_ms": 0, "expires_at_ms": NOW_MS}, "never be valid"),
        ({"ttl_ms": 2**53}, "ttl_ms"),
        ({"not_before_ms": NOW_MS + 60_000}, "never be valid"),
        ({"ending": "bound"}, "needs to="),
        ({"ending": "open", "to": HolderKey.generate().public}, "exclude each other"),
        ({"may_seal": True}, "give to="),
        ({"to": "sessauth_holder_AAAA.AAAAAA"}, "to: .*damaged"),
        ({"to": HolderPublicKey(IssuerKey(bytes(range(32))).public_key)}, "to: .*issuer's own key"),
        ({"ending": "ajar"}, "'sealed', 'open' or 'bound'"),
        ({"max_blocks": 17}, "max_blocks"),
        ({"max_blocks": 1, "ending": "open"}, "max_blocks 1"),
        ({"min_revision": -1}, "min_revision"),
        ({"label": "x" * 1025}, "label"),
        ({"source": ["10.0.0.1/8"]}, "source"),
        ({"where": ["n < 5"] * 17}, "at most 16"),
        ({"scopes": ["read:" + "/".join(["a" * 200] * 4) + f"/{i}" for i in range(12)]}, "MAX_TOKEN_BYTES"),
    ],
)
def test_a_wrong_parameter_is_named(memory: MemoryFixture, change: dict[str, object], problem: str) -> None:
    """Mint refuses what the format or reason does, and the message says which knob to turn."""
    given = {"session_id": SESSION, "scopes": [READ], "audience": [AUDIENCE], "ttl_ms": 60_000, **change}

    with pytest.raises(UsageError, match=problem):
        memory.issuer.mint(**given)  # type: ignore[arg-type]


def test_a_scope_that_can_not_be_read_is_a_scope_error(memory: MemoryFixture) -> None:
    """The offset comes along."""
    with pytest.raises(ScopeError) as caught:
        memory.mint("read:")

    assert caught.value.offset == 5


def test_a_scope_of_a_later_version_is_not_minted(memory: MemoryFixture) -> None:
    """A scope that every check would deny is refused when the token is minted."""
    later = Scope.from_record({"actions": ["read"], "resource": [{"kind": 9}]})

    with pytest.raises(UsageError, match="later version"):
        memory.mint(later)


def test_every_form_reads_back_as_the_same_token(memory: MemoryFixture) -> None:
    """Text, text in bytes, with white space around, and raw bytes."""
    sealed, opened = memory.mint(READ), memory.mint(READ, ending="open")

    for form in (sealed.text, f"\n{sealed.text} \n", sealed.text.encode(), sealed.data, sealed.stored_text()):
        assert Token.parse(form) == sealed
    again = Token.parse(opened.stored_text())
    assert again == opened
    assert again.present().data.startswith(opened.data)


def test_an_open_token_has_no_presented_text(memory: MemoryFixture) -> None:
    """Asking for it says what to do instead."""
    with pytest.raises(UsageError, match=r"present\(\)"):
        _ = memory.mint(READ, ending="open").text


def test_presenting_adds_a_sealed_block_that_says_nothing(memory: MemoryFixture) -> None:
    """The copy has the same authority, no secret, and is itself when presented again."""
    opened = memory.mint(READ, ending="open")
    shown = opened.present()
    last = shown.inspect().blocks[-1]

    assert (shown.ending, len(shown.block_ids)) == (Ending.SEALED, 2)
    assert last.to_dict() == {"index": 1, "block_id": last.block_id.hex(), "ending": "sealed"}
    assert shown.present() is shown
    assert memory.check(shown, "read", "mcp/github/get_me")
    assert memory.check(opened, "read", "mcp/github/get_me").reason.name == "OPEN_TOKEN"


def test_an_open_token_without_its_secret_can_only_be_looked_at(memory: MemoryFixture) -> None:
    """Its bytes alone neither extend, nor present, nor store."""
    bare = Token.parse(memory.mint(READ, ending="open").data)

    assert bare.is_open
    for use in (bare.present, bare.attenuate):
        with pytest.raises(NotExtendable, match="secret"):
            use()
    with pytest.raises(UsageError, match="secret"):
        bare.stored_text()


def test_a_bound_token_is_denied_without_a_proof(memory: MemoryFixture) -> None:
    """It reads back from its text, names its ending, and alone is worth nothing."""
    minted = memory.mint(READ, ending="", to=HolderKey.generate().public)
    bound = Token.parse(minted.text)

    assert bound == minted
    assert bound.ending is Ending.BOUND
    assert memory.check(bound, "read", "mcp/github/get_me").reason.name == "PROOF_REQUIRED"


def test_a_secret_that_is_not_the_tokens_is_refused(memory: MemoryFixture) -> None:
    """The next key must derive from the stored seed, and a sealed token has none."""
    opened, sealed = memory.mint(READ, ending="open"), memory.mint(READ)

    for data in (opened.data, sealed.data):
        with pytest.raises(MalformedToken, match="belong together"):
            Token.parse(stored_text(data, kernel.generate_seed()))


@pytest.mark.parametrize("data", [b"", b"\x08\x01", b"\x08\x02", b"\x00", b"\xff" * 100, bytes(9000)])
def test_bytes_that_are_no_chain_are_malformed(data: bytes) -> None:
    """Any bytes give MalformedToken, never another exception."""
    with pytest.raises(MalformedToken):
        Token.parse(data)


def test_another_type_is_the_callers_fault() -> None:
    """Neither text nor bytes: UsageError."""
    with pytest.raises(UsageError):
        Token.parse(None)  # type: ignore[arg-type]


def test_repr_and_pickle_give_nothing_away(memory: MemoryFixture) -> None:
    """Repr shows ending, length and session; pickling is refused."""
    opened = memory.mint(READ, ending="open")
    body = opened.stored_text().removeprefix(STORED_PREFIX)

    assert repr(opened) == f"<Token open blocks=1 session={SESSION.hex()}>"
    assert body not in repr(opened)
    with pytest.raises(TypeError, match="stored_text"):
        pickle.dumps(opened)


def test_the_dict_of_an_inspection_is_json_and_unverified(memory: MemoryFixture) -> None:
    """Ids are hex, scopes text, and it says that nothing was verified."""
    shown = memory.mint(READ, label="a").inspect().to_dict()

    assert shown["verified"] is False
    assert shown["session_id"] == SESSION.hex()
    assert shown["blocks"][0]["scopes"] == [READ]  # type: ignore[index]


def test_a_long_text_form_is_warned_of(memory: MemoryFixture) -> None:
    """Above 6 KiB of text the token says that metadata may not carry it; below, nothing."""
    long = [f"read:{i}/" + "/".join(["a" * 200] * 4) for i in range(6)]

    assert memory.mint(*long[:2]).warnings == ()
    assert "WARN_TEXT_BYTES" in memory.mint(*long).warnings[0]
