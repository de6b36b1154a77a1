"""Chains as the kernel reads them: what each attribute says, and what a refusal says."""

from __future__ import annotations

import pytest

from sessauth._fast._check import Chain, FormError, signed_bytes
from sessauth.reasons import Reason
from tests.oracle.crypto import digest
from tests.oracle.crypto import signed_bytes as oracle_signed_bytes
from tests.support.token_forger import ending, id16, key, make
from tests.vectors.world import EXPIRES, ISSUED, ISSUER, SESSION, child, link, root, signers, token

READ = "read:files/**"


def test_what_a_chain_says() -> None:
    """Attributes give the root's names, the narrowest of the chain, and each block as it was received."""
    blocks = link(
        root(READ, root_fields={"min_revision": 7}, max_blocks=9, not_before_ms=ISSUED),
        child(expires_at_ms=EXPIRES - 5, max_blocks=4),
        child(not_before_ms=ISSUED + 3, issued_at_ms=ISSUED + 1),
        last="open",
    )
    data = make(blocks, signers(3))
    chain = Chain.parse(data)

    assert (chain.raw, chain.block_count, chain.ending) == (data, 3, 2)
    assert (chain.session_id, chain.token_id, chain.issuer_key_id) == (SESSION, id16("token"), ISSUER.id)
    assert (chain.min_revision, chain.max_blocks) == (7, 4)
    assert (chain.issued_at_ms, chain.expires_at_ms, chain.not_before_ms) == (
        ISSUED + 1,
        EXPIRES - 5,
        ISSUED + 3,
    )
    assert chain.next_key == key("next 2").public
    assert chain.prefix_ends[-1] == len(data)
    assert Chain.parse(data[: chain.prefix_ends[0]]).block_count == 1
    previous = bytes(64)
    for index, (payload, signature) in enumerate(zip(chain.payloads, chain.signatures, strict=True)):
        signed = oracle_signed_bytes(index, previous, payload)
        assert signed_bytes(index, b"" if index == 0 else previous, payload) == signed
        assert chain.block_ids[index] == digest(signed)
        assert payload in data
        previous = signature


def test_a_sealed_chain_names_no_key() -> None:
    """A sealed chain has no next key, and the default of max_blocks."""
    chain = Chain.parse(token(root(READ)))

    assert (chain.next_key, chain.ending, chain.max_blocks, chain.min_revision) == (b"", 1, 16, 0)


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (b"", Reason.MALFORMED_TOKEN, "no version"),
        (b"\x08\x02\x12\x00", Reason.UNSUPPORTED_VERSION, "version other than 1"),
        (b"\x08\x01", Reason.MALFORMED_TOKEN, "no block"),
        (bytes(8193), Reason.TOKEN_TOO_LARGE, "8192"),
        (token(root(READ), child(max_blocks=1)), Reason.CHAIN_TOO_LONG, "longer"),
        (
            token(root(READ), child(expires_at_ms=EXPIRES + 1)),
            Reason.MALFORMED_TOKEN,
            "block 1: expires after",
        ),
        (token(root(READ, **ending("bound"))), Reason.MALFORMED_TOKEN, "block 0: no next_key"),
        (token(root(READ, audience=None)), Reason.MALFORMED_TOKEN, "names an audience"),
    ],
)
def test_what_a_refusal_says(data: bytes, reason: Reason, detail: str) -> None:
    """A refusal has the reason of stage decode, and says which block and why."""
    with pytest.raises(FormError, match=detail) as refused:
        Chain.parse(data)

    assert refused.value.reason == reason
    assert detail in refused.value.detail


def test_signed_bytes_are_of_one_place() -> None:
    """A root has no previous signature, every other block one of 64 bytes."""
    for index, previous in ((0, bytes(64)), (1, b""), (1, bytes(63)), (16, bytes(64)), (-1, b"")):
        with pytest.raises(ValueError, match="64 bytes"):
            signed_bytes(index, previous, b"payload")
