"""Text forms (section 10 of the format)."""

from __future__ import annotations

import base64
import binascii
import re
import zlib

from nacl.bindings import crypto_sign_seed_keypair

from .constants import Ending, Reason
from .decode import Refused, parse_chain
from .wire import Malformed, decode, encode

PRESENTED = "sessauth_token_"
STORED = "sessauth_secret_"
PROOF = "sessauth_proof_"
MAX_PRESENTED_CHARS = 10_945

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*\Z")


class BadText(ValueError):
    """The text is no token; ``problem`` is a word of section 10, or ``prefix`` or ``too large``."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


def encode_base64url(data: bytes) -> str:
    """RFC 4648 section 5, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """The strict reverse: no padding, no other characters, unused bits zero. Raises BadText."""
    if not _BASE64URL.match(text) or len(text) % 4 == 1:
        raise BadText("malformed")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise BadText("malformed") from error
    if encode_base64url(data) != text:
        raise BadText("malformed")
    return data


def to_text(prefix: str, data: bytes) -> str:
    """Prefix, body and checksum."""
    head = prefix + encode_base64url(data)
    return head + "." + encode_base64url(zlib.crc32(head.encode("ascii")).to_bytes(4, "big"))


def from_text(text: str, prefixes: tuple[str, ...] = (PRESENTED, STORED)) -> tuple[str, bytes]:
    """The prefix and the bytes of the body. Raises BadText."""
    prefix = next((p for p in prefixes if text.startswith(p)), None)
    if prefix is None:
        raise BadText("prefix")
    if prefix == PRESENTED and len(text) > MAX_PRESENTED_CHARS:
        raise BadText("too large")
    head, dot, tail = text.partition(".")
    if not dot or len(tail) < 6:
        raise BadText("truncated")
    if not text.isascii() or tail != encode_base64url(zlib.crc32(head.encode("ascii")).to_bytes(4, "big")):
        raise BadText("damaged")
    body = head[len(prefix) :]
    if not body:
        raise BadText("malformed")
    return prefix, decode_base64url(body)


def read_presented(text: str) -> bytes:
    """The token that a verifier was handed as text. Raises Refused."""
    if text.startswith(STORED):
        raise Refused(Reason.OPEN_TOKEN, "a stored form")
    if len(text) > MAX_PRESENTED_CHARS:
        raise Refused(Reason.TOKEN_TOO_LARGE, "the text is longer than that of any token")
    try:
        return from_text(text, (PRESENTED,))[1]
    except BadText as error:
        raise Refused(Reason.MALFORMED_TOKEN, error.problem) from error


def read_proof_text(text: str) -> bytes:
    """The bytes of a proof's text. Raises BadText."""
    return from_text(text, (PROOF,))[1]


def parse_stored(data: bytes) -> tuple[bytes, bytes]:
    """Token and secret of a ``StoredToken``. Raises BadText."""
    try:
        record = decode("StoredToken", data)
        token, secret = record["token"], record["next_secret"]
        assert isinstance(token, bytes) and isinstance(secret, bytes)
        last = parse_chain(token).blocks[-1]
    except Malformed as error:
        raise BadText("malformed") from error
    if last.ending != Ending.OPEN or len(secret) != 32:
        raise BadText("malformed")
    public_key, _ = crypto_sign_seed_keypair(secret)
    if public_key != last.next_key:
        raise BadText("malformed")
    return token, secret


def store(token: bytes, secret: bytes) -> str:
    """The stored form of an open token."""
    return to_text(STORED, encode("StoredToken", {"token": token, "next_secret": secret}))
