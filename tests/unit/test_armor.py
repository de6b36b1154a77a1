"""Text forms: what they are made of, and what a bad paste is called."""

from __future__ import annotations

import base64
import zlib

import pytest

from sessauth._fast import _check as kernel
from sessauth._fast._check import proof_bytes
from sessauth.crypto.armor import (
    is_stored_text,
    parse_proof,
    presented_text,
    proof_text,
    read_text,
    stored_text,
)
from sessauth.errors import MalformedToken

DATA = bytes(range(200))
SEED = bytes(range(32))


def by_hand(prefix: str, data: bytes) -> str:
    """Make a text form as the document says, without the code under test."""
    covered = prefix + base64.urlsafe_b64encode(data).decode().rstrip("=")
    check = zlib.crc32(covered.encode()).to_bytes(4, "big")
    return covered + "." + base64.urlsafe_b64encode(check).decode().rstrip("=")


@pytest.mark.parametrize("length", range(1, 7))
def test_the_presented_form_is_prefix_body_and_checksum(length: int) -> None:
    """The form is the document's and reads back, for each length modulo 3."""
    text = presented_text(DATA[:length])

    assert text == by_hand("sessauth_token_", DATA[:length])
    assert read_text(text) == (DATA[:length], b"")


def test_the_stored_form_holds_the_secret_under_its_own_prefix() -> None:
    """A scanner can tell a secret from a token by the first characters."""
    text = stored_text(DATA, SEED)

    assert text == by_hand(
        "sessauth_secret_", kernel.encode_message("StoredToken", {"token": DATA, "next_secret": SEED})
    )
    assert read_text(text) == (DATA, SEED)
    assert is_stored_text(text)
    assert not is_stored_text(presented_text(DATA))


def test_a_proof_has_a_text_of_its_own() -> None:
    """It reads back, strictly for people and as it is for verifiers; a token is no proof."""
    text = proof_text(DATA)

    assert text == by_hand("sessauth_proof_", DATA)
    assert parse_proof(text) == proof_bytes(text) == proof_bytes(text.encode()) == DATA
    assert proof_bytes(text[:-1]) == text[:-1].encode()
    for bad, told in (
        (text[:-8], "truncated"),
        (text[:-1] + ".", "damaged"),
        (presented_text(DATA), "begins"),
    ):
        with pytest.raises(MalformedToken, match=told):
            parse_proof(bad)


@pytest.mark.parametrize("text", ["", "Bearer x", "sessauth_key_a_b", "SESSAUTH_TOKEN_AA.AAAAAA"])
def test_other_text_is_no_token(text: str) -> None:
    """Without one of the prefixes the message names them."""
    with pytest.raises(MalformedToken, match="sessauth_token_"):
        read_text(text)


@pytest.mark.parametrize(
    "record",
    [{"token": DATA}, {"token": DATA, "next_secret": SEED[:31]}, {"token": DATA, "next_secret": bytes(33)}],
)
def test_a_stored_form_without_a_seed_is_refused(record: dict[str, bytes]) -> None:
    """The secret is 32 bytes."""
    with pytest.raises(MalformedToken, match="seed"):
        read_text(by_hand("sessauth_secret_", kernel.encode_message("StoredToken", record)))


def test_no_message_repeats_the_token() -> None:
    """Errors about a secret do not hold a part of it."""
    text = stored_text(DATA, kernel.generate_seed())

    for bad in (text[:-1], text[:-8], text + "A"):
        with pytest.raises(MalformedToken) as caught:
            read_text(bad)
        assert text[20:40] not in str(caught.value)
