"""Text forms: what a text decodes to, or why it does not."""

from __future__ import annotations

import zlib

from tests.oracle.decode import Refused
from tests.oracle.text import (
    PRESENTED,
    STORED,
    BadText,
    encode_base64url,
    from_text,
    parse_stored,
    read_presented,
    store,
    to_text,
)
from tests.support.token_forger import Record, key
from tests.vectors.world import child, root, token

READ = "read:files/*"


def _checked(head: str) -> str:
    """Any head with its right checksum."""
    return head + "." + encode_base64url(zlib.crc32(head.encode("ascii")).to_bytes(4, "big"))


def _texts() -> list[tuple[str, str, str, str]]:
    """Name, comment, text, and the problem or nothing."""
    sealed = token(root(READ))
    opened = token(root(READ), child(), last="open")
    text, stored = to_text(PRESENTED, sealed), store(opened, key("next 1").seed)
    body = encode_base64url(sealed)
    largest = sealed + bytes(8192 - len(sealed))
    # Of 33 bytes nothing is unused, of 32 two bits are, of 31 four.
    padded = next(encode_base64url(sealed + bytes(n)) for n in range(3) if (len(sealed) + n) % 3 == 1)
    return [
        ("presented", "A sealed token.", text, ""),
        ("presented, two blocks", "A longer one.", to_text(PRESENTED, token(root(READ), child())), ""),
        ("stored", "An open token with the seed of its last next_key.", stored, ""),
        ("empty", "No prefix.", "", "prefix"),
        ("other prefix", "Not one of ours.", "sessauth_key_" + text, "prefix"),
        (
            "upper case prefix",
            "The prefix is exact.",
            text.replace("sessauth_token_", "SESSAUTH_TOKEN_"),
            "prefix",
        ),
        ("half of it", "A truncated paste.", text[: len(text) // 2], "truncated"),
        ("one character short", "A truncated paste.", text[:-1], "truncated"),
        ("no checksum", "A truncated paste.", text[:-6], "truncated"),
        ("one character changed", "A damaged paste.", text.replace(body[40:44], "AAAA", 1), "damaged"),
        ("checksum changed", "A damaged paste.", text[:-6] + "AAAAAA", "damaged"),
        ("one character more", "Behind the checksum.", text + "A", "damaged"),
        (
            "prefix of the other form",
            "The checksum covers the prefix.",
            text.replace(PRESENTED, STORED),
            "damaged",
        ),
        (
            "not ASCII",
            "Outside the alphabet and the checksum.",
            text.replace(body[3], "\u00e9", 1),
            "damaged",
        ),
        ("padding", "Base64url here has none.", _checked(PRESENTED + padded + "=="), "malformed"),
        (
            "other alphabet",
            "Base64 is not base64url.",
            _checked(PRESENTED + body[:7] + "+" + body[8:]),
            "malformed",
        ),
        (
            "unused bits",
            "Bits that say nothing are zero.",
            _checked(PRESENTED + padded[:-1] + "B"),
            "malformed",
        ),
        ("empty body", "No token is empty.", _checked(PRESENTED), "malformed"),
        ("empty body, stored", "Nor is a stored one.", _checked(STORED), "malformed"),
        ("8192 bytes", "The longest presented text.", to_text(PRESENTED, largest), ""),
        (
            "8193 bytes",
            "One character more than the longest text.",
            to_text(PRESENTED, largest + b"\0"),
            "too large",
        ),
        ("too long to be looked at", "Whatever it says.", PRESENTED + "A" * 12_000, "too large"),
        (
            "lone character",
            "Six bits make no byte.",
            _checked(PRESENTED + padded[: len(padded) // 4 * 4] + "A"),
            "malformed",
        ),
        (
            "stored: sealed token",
            "Only open tokens have a stored form.",
            store(sealed, key("next 0").seed),
            "malformed",
        ),
        (
            "stored: other seed",
            "next_key is derived from the seed.",
            store(opened, key("other").seed),
            "malformed",
        ),
        ("stored: short seed", "A seed has 32 bytes.", store(opened, key("next 1").seed[:31]), "malformed"),
        ("stored: no token", "Not a StoredToken.", to_text(STORED, b"\x0a\x00"), "malformed"),
    ]


def decode(text: str) -> Record:
    """Return the oracle's reading of a text: the form and the token, or the problem."""
    try:
        prefix, data = from_text(text)
        if prefix == PRESENTED:
            return {"form": "presented", "token_hex": data.hex()}
        opened, secret = parse_stored(data)
    except BadText as error:
        return {"problem": error.problem}
    return {"form": "stored", "token_hex": opened.hex(), "next_secret_hex": secret.hex()}


def refused(text: str) -> str:
    """The reason of a verifier that is handed the text, "" where it is a token's."""
    try:
        read_presented(text)
    except Refused as error:
        return error.reason.name
    return ""


def content() -> Record:
    """The content of ``text_forms.json``."""
    vectors = []
    for name, comment, text, problem in _texts():
        found = decode(text)
        if found.get("problem", "") != problem:
            raise AssertionError(f"{name}: expected {problem or 'a token'}, the oracle gives {found}")
        reason = refused(text)
        verifier = {"verifier": reason} if reason else {}
        vectors.append({"name": name, "comment": comment, "text": text, "expected": {**found, **verifier}})
    return {"title": "Text forms", "format": "docs/token-format.md, version 1", "vectors": vectors}
