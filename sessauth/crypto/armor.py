"""The text forms of tokens (presented in a header, or stored with the secret), holder keys and proofs.

Each has a prefix of its own that can be searched for, and a checksum. So a bad paste is reported as truncated
or damaged, and not as forged. A checksum says nothing about signatures.
"""

from __future__ import annotations

import zlib

from .._fast import _check as kernel
from .._fast.codec import base64url
from ..errors import MalformedToken
from ..limits import MAX_TOKEN_BYTES

PRESENTED_PREFIX = "sessauth_token_"
STORED_PREFIX = "sessauth_secret_"
# The public half of a holder's key, which a token is bound to.
HOLDER_PREFIX = "sessauth_holder_"
# A signed approval, handed from an approver to the caller.
APPROVAL_PREFIX = "sessauth_approval_"
# A signed closure receipt: no secret.
RECEIPT_PREFIX = "sessauth_receipt_"
# A proof of one call, good for a minute at most: no secret.
PROOF_PREFIX = "sessauth_proof_"

# The stored form of the largest token: 4/3 of it and its seed, prefix and checksum.
_MAX_TEXT_CHARS = (MAX_TOKEN_BYTES + 64) * 4 // 3 + 64


def presented_chars(size_bytes: int) -> int:
    """Return the number of characters of the presented form: 4/3 of the bytes, prefix, dot and checksum."""
    return len(PRESENTED_PREFIX) + -(-size_bytes * 4 // 3) + 7


def presented_text(data: bytes) -> str:
    """Return the presented form of an encoded Token."""
    return checked_text(PRESENTED_PREFIX, data)


def stored_text(data: bytes, seed: bytes) -> str:
    """Return the stored form of an encoded open Token: a secret, with the seed of its next key."""
    return checked_text(
        STORED_PREFIX, kernel.encode_message("StoredToken", {"token": data, "next_secret": seed})
    )


def proof_text(data: bytes) -> str:
    """Return the text of an encoded Proof."""
    return checked_text(PROOF_PREFIX, data)


def is_stored_text(text: str) -> bool:
    """Return True if ``text`` claims to be the stored form, which is never presented."""
    return text.startswith(STORED_PREFIX)


def read_text(text: str) -> tuple[bytes, bytes]:
    """Return the encoded Token and, from the stored form, the seed (else empty).

    Nothing is verified but the form of the text. Raises MalformedToken, saying whether it is no token,
    truncated, damaged or malformed.
    """
    if is_stored_text(text):
        try:
            record = kernel.decode_message("StoredToken", read_checked(STORED_PREFIX, text, "token"))
        except kernel.WireError as error:
            raise MalformedToken(f"the stored token is against the format: {error}") from None
        if len(record["next_secret"]) != 32:
            raise MalformedToken("the stored token holds no seed of 32 bytes")
        return record["token"], record["next_secret"]
    if text.startswith(PRESENTED_PREFIX):
        return read_checked(PRESENTED_PREFIX, text, "token", max_chars=presented_chars(MAX_TOKEN_BYTES)), b""
    raise MalformedToken(f"not a token: its text begins with {PRESENTED_PREFIX} or {STORED_PREFIX}")


def parse_proof(text: str) -> bytes:
    """Return the encoded Proof of its text form, as pasted by a person.

    Raises MalformedToken, saying whether it is no proof, truncated or damaged.
    """
    return read_checked(PROOF_PREFIX, text, "proof")


def checked_text(prefix: str, data: bytes) -> str:
    """Return the text form of ``data`` under ``prefix``."""
    body = prefix + base64url.encode(data)
    return f"{body}.{_check(body)}"


def read_checked(prefix: str, text: str, kind: str, *, max_chars: int = _MAX_TEXT_CHARS) -> bytes:
    """Return the bytes between ``prefix`` and checksum.

    Raises MalformedToken, calling it ``kind``, and of another prefix, too long, truncated, damaged or
    malformed.
    """
    article = "an" if kind[0] in "aeiou" else "a"
    if not text.startswith(prefix):
        raise MalformedToken(f"not {article} {kind}: its text begins with {prefix}")
    if len(text) > max_chars:
        raise MalformedToken(f"not {article} {kind}: more than {max_chars} characters")
    data = kernel.text_form_bytes(text, len(prefix))
    if data == kernel.TRUNCATED:
        raise MalformedToken(f"the {kind} is truncated: its end is missing, copy it whole")
    if data == kernel.DAMAGED:
        raise MalformedToken(f"the {kind} is damaged: its checksum is wrong, copy it again")
    if not isinstance(data, bytes):
        raise MalformedToken(
            f"the {kind} is malformed: its base64url is empty or not canonical, it was not made so"
        )
    return data


def _check(covered: str) -> str:
    return base64url.encode(zlib.crc32(covered.encode("ascii")).to_bytes(4, "big"))
