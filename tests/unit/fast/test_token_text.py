"""Tokens and proofs as text: one decoder, and texts that the cache of chains keeps."""

from __future__ import annotations

import base64
import random
import zlib
from typing import Any

import pytest

from sessauth._fast import _check as kernel
from sessauth.crypto.armor import presented_text
from sessauth.reasons import Reason
from tests.support import bulk_sessions
from tests.support.token_forger import make
from tests.vectors.world import NOW, child, link, root, signers, token

READ = "read:files/**"
PREFIX = "sessauth_token_"
# Characters at the edges of the alphabet, beside it, and outside of ASCII.
CHARACTERS = "AZaz09-_+/=.@[`{ \n\x00\x7f\x80é\u1234\ud800"


def encoded(data: bytes) -> str:
    """Return the base64url of the document."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def checked(head: str) -> str:
    """Return a head with its right checksum, if it has one."""
    return head + "." + encoded(zlib.crc32(head.encode("utf-8", "surrogatepass")).to_bytes(4, "big"))


def decoded(text: str) -> bytes | int:
    """Decode a text as section 10 says, step by step."""
    head, dot, check = text.partition(".")
    if not dot or len(check) < 6:
        return kernel.TRUNCATED
    if not text.isascii() or checked(head) != text:
        return kernel.DAMAGED
    body = head[len(PREFIX) :]
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_")
    except ValueError:
        return kernel.MALFORMED
    return data if body and encoded(data) == body else kernel.MALFORMED


def mutated(rng: random.Random, text: str) -> str:
    """Return a text with a few characters changed, removed or added after its prefix."""
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(PREFIX), len(text) + 1)
        text = text[:at] + rng.choice(("", *CHARACTERS)) + text[at + rng.randrange(2) :]
    return checked(text.partition(".")[0]) if rng.random() < 0.5 else text


@pytest.mark.parametrize("seed", range(8))
def test_the_decoder_agrees_with_the_document(seed: int) -> None:
    """Right, changed and newly summed texts of every length give the bytes or the fault of section 10."""
    rng = random.Random(seed)
    results = set()
    for _ in range(1500):
        text = mutated(rng, presented_text(rng.randbytes(rng.randrange(1, 90))))
        expected = decoded(text)
        assert kernel.text_form_bytes(text, len(PREFIX)) == expected, ascii(text)
        results.add(expected if isinstance(expected, int) else 0)
    assert results == {0, kernel.TRUNCATED, kernel.DAMAGED, kernel.MALFORMED}


def test_a_text_is_no_shorter_than_its_prefix() -> None:
    """The decoder reads nothing before the prefix or after the text."""
    with pytest.raises(ValueError, match="shorter"):
        kernel.text_form_bytes("sess", 15)
    assert kernel.text_form_bytes("", 0) == kernel.TRUNCATED


def judged(checker: Any, presented: str | bytes) -> Reason:
    """Judge the usual call."""
    return bulk_sessions.judge(checker, presented).reason  # type: ignore[arg-type]


@pytest.mark.parametrize("blocks", [1, 2, 16])
def test_a_text_that_came_again_is_kept(blocks: int) -> None:
    """A chain keeps its text from the second time on, for its weight; bytes and text are one entry."""
    checker = bulk_sessions.checker()
    chain = link(root(READ), *[child(label="x" * 100) for _ in range(blocks - 1)])
    data = make(chain, signers(blocks))
    text = presented_text(data)
    assert judged(checker, text) is Reason.ALLOWED
    alone = checker.cache.used
    assert judged(checker, text) is Reason.ALLOWED
    kept = checker.cache.used
    assert alone + len(text) <= kept <= alone + len(text) + 64

    for form in (text, text.encode(), data, text):
        assert judged(checker, form) is Reason.ALLOWED
    assert (len(checker.cache), checker.cache.used, checker.signatures) == (1, kept, blocks)
    assert (checker.cache.hits, checker.cache.misses) == (5, 1)


def test_no_other_text_is_taken_for_a_kept_one() -> None:
    """Every change of a kept text is denied, also where the last signature and the checksum are the same."""
    checker = bulk_sessions.checker()
    text = presented_text(token(root(READ), child()))
    for _ in range(3):
        assert judged(checker, text) is Reason.ALLOWED

    for at in range(len(PREFIX), len(text)):
        other = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        assert judged(checker, other) is Reason.MALFORMED_TOKEN
    assert judged(checker, text[:-1]) is Reason.MALFORMED_TOKEN
    assert judged(checker, text + "A") is Reason.MALFORMED_TOKEN


def test_kept_texts_stay_within_the_caches_bytes() -> None:
    """Texts count for the whole cache and for their session's share, and go with their chains."""
    checker = bulk_sessions.checker(extra=40, cache_bytes=1 << 16)
    for number in range(600):
        data = next(bulk_sessions.tokens(bulk_sessions.name(number % 40), 1, number))
        for _ in range(3):
            assert judged(checker, presented_text(data)) is Reason.ALLOWED
        assert checker.cache.used <= checker.cache.capacity

    own = bulk_sessions.checker(extra=1, cache_bytes=1 << 16)
    for data in bulk_sessions.tokens(bulk_sessions.name(0), 100):
        for _ in range(3):
            assert judged(own, presented_text(data)) is Reason.ALLOWED
        assert own.cache.used <= own.cache.quota


def test_a_kept_text_is_judged_by_the_state_of_now() -> None:
    """A kept text spares its decoding, and no judgement."""
    checker = bulk_sessions.checker()
    text = presented_text(token(root(READ)))
    for _ in range(3):
        assert judged(checker, text) is Reason.ALLOWED

    outcome = bulk_sessions.judge(checker, text, now_ms=NOW + 10**12)  # type: ignore[arg-type]
    assert outcome.reason is not Reason.ALLOWED
