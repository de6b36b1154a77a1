"""A holder's public key: its text, and which keys no token is bound to."""

from __future__ import annotations

import pytest

from sessauth._fast import _check as kernel
from sessauth.crypto.keys import HolderPublicKey
from sessauth.errors import UsageError

NEXT_KEY = kernel.public_key(bytes(range(32)))
PROOF_KEY = kernel.x25519_public(bytes(range(32, 64)))
P = 2**255 - 19
# The points of small order of Curve25519, and two other encodings of such.
SMALL_ORDER_X25519 = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    (P - 1).to_bytes(32, "little").hex(),
    P.to_bytes(32, "little").hex(),
    (P + 1).to_bytes(32, "little").hex(),
    (2**255 + 1).to_bytes(32, "little").hex(),
]


@pytest.mark.parametrize("proof_key", [PROOF_KEY, b""])
def test_the_text_reads_back_as_the_same_key(proof_key: bytes) -> None:
    """It reads back with and without a proof key, and with white space around it."""
    key = HolderPublicKey(NEXT_KEY, proof_key)

    assert key.text.startswith("sessauth_holder_")
    assert str(key) == key.text
    for text in (key.text, f"\n {key.text}\n"):
        assert HolderPublicKey.parse(text) == HolderPublicKey.of(text) == key
    assert HolderPublicKey.of(key) is key


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "begins with sessauth_holder_"),
        ("sessauth_token_AAAA.AAAAAA", "begins with sessauth_holder_"),
        (HolderPublicKey(NEXT_KEY, PROOF_KEY).text[:60], "truncated"),
        (HolderPublicKey(NEXT_KEY, PROOF_KEY).text.replace("A", "B"), "damaged"),
    ],
)
def test_a_bad_paste_is_called_what_it_is(text: str, problem: str) -> None:
    """Another text, one that lost its end and one that was changed are told apart."""
    with pytest.raises(UsageError, match=problem):
        HolderPublicKey.parse(text)


@pytest.mark.parametrize("size", [0, 31, 33, 63, 65, 96])
def test_a_text_of_another_size_is_refused(size: int) -> None:
    """A right checksum over something else than one or two keys makes no key of it."""
    from sessauth.crypto.armor import HOLDER_PREFIX, checked_text

    with pytest.raises(UsageError):
        HolderPublicKey.parse(checked_text(HOLDER_PREFIX, bytes(range(size))))


@pytest.mark.parametrize("next_key", [b"", NEXT_KEY[:31], b"\x01" + bytes(31), bytes(32), b"\xff" * 32])
def test_an_unacceptable_next_key_is_refused(next_key: bytes) -> None:
    """Wrong length, small order and non-canonical encodings, by the name of the key."""
    with pytest.raises(UsageError, match="next_key"):
        HolderPublicKey(next_key, PROOF_KEY)


@pytest.mark.parametrize("proof_key", SMALL_ORDER_X25519)
def test_a_proof_key_of_small_order_is_refused(proof_key: str) -> None:
    """A key that agrees with every other on zeros keeps no secret; the kernel's X25519 agrees."""
    key = bytes.fromhex(proof_key)

    with pytest.raises(ValueError, match="small order"):
        kernel.x25519(bytes(range(32)), key)
    with pytest.raises(UsageError, match="proof_key: of small order"):
        HolderPublicKey(NEXT_KEY, key)


def test_a_proof_key_is_of_32_bytes_and_not_the_next_key() -> None:
    """Another length, and the same key twice, are refused by name."""
    for wrong in (PROOF_KEY[:31], NEXT_KEY):
        with pytest.raises(UsageError, match="proof_key"):
            HolderPublicKey(NEXT_KEY, wrong)


def test_something_else_is_no_holder() -> None:
    """A type that is neither text nor key is named."""
    with pytest.raises(UsageError, match="not bytes"):
        HolderPublicKey.of(b"sessauth_holder_")  # type: ignore[arg-type]
