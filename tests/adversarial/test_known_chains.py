"""Attacks on what is known already: equal signatures, one nonce, shared runs, names that come back."""

from __future__ import annotations

import hashlib
from random import Random
from typing import Any

import pytest
from nacl.bindings import crypto_scalarmult_ed25519_base_noclamp

from sessauth._fast import _check as kernel
from sessauth._fast._check import Checker, View
from sessauth.reasons import Reason
from tests.oracle.crypto import signed_bytes
from tests.oracle.wire import encode
from tests.support import bulk_sessions
from tests.support.token_forger import Key, Record, assemble, ending, id16, key, make, sign
from tests.vectors.world import ISSUER, SESSION, child, link, root, signers

_ORDER = 2**252 + 27742317777372353535851937790883648493


def _scalar(digest: bytes) -> int:
    return int.from_bytes(digest, "little") % _ORDER


def _secret(of: Key) -> int:
    half = bytearray(hashlib.sha512(of.seed).digest()[:32])
    half[0] &= 248
    half[31] = half[31] & 63 | 64
    return int.from_bytes(half, "little")


def sign_with(signer: Key, nonce: int, message: bytes) -> bytes:
    """The signature of a message with a nonce of the signer's choice."""
    first = crypto_scalarmult_ed25519_base_noclamp(nonce.to_bytes(32, "little"))
    challenge = _scalar(hashlib.sha512(first + signer.public + message).digest())
    return first + ((nonce + challenge * _secret(signer)) % _ORDER).to_bytes(32, "little")


def children(
    parents: list[bytes], signatures: list[bytes], signer: Key, blocks: list[Record], nonce: int
) -> list[bytes]:
    """A token for each last block, below the signed payloads given: all signed with one nonce."""
    tokens = []
    for block in blocks:
        payload = encode("Block", block)
        signature = sign_with(signer, nonce, signed_bytes(len(parents), signatures[-1], payload))
        tokens.append(assemble([*parents, payload], [*signatures, signature]))
    return tokens


READ = "read:files/**"
SEALED = ending("sealed")


def parent() -> tuple[list[bytes], list[bytes]]:
    """Payload and signature of an open root, whose holder is ``next 0``."""
    payloads = [encode("Block", link(root(READ), child())[0])]
    return payloads, sign(payloads, [ISSUER])


def one_nonce_tokens(count: int, nonce: int = 12345) -> list[bytes]:
    """Sealed children of one parent whose signatures all begin alike."""
    payloads, signatures = parent()
    blocks = [{"label": f"child {number}", **SEALED} for number in range(count)]
    return children(payloads, signatures, key("next 0"), blocks, nonce)


def last_signature(data: bytes) -> bytes:
    """The last block's signature."""
    return data[data.rindex(b"\x0a\x40") + 2 :][:64]


def test_tokens_of_one_nonce_are_judged_rightly() -> None:
    """However many of a holder's signatures begin alike, each chain is itself, and others are as before."""
    checker = bulk_sessions.checker(extra=1)
    others = list(bulk_sessions.tokens(bulk_sessions.name(0), 40))
    assert bulk_sessions.all_allowed(checker, others)
    tokens = one_nonce_tokens(300)
    assert len({last_signature(data)[:32] for data in tokens}) == 1
    for _ in range(2):
        for data in tokens:
            outcome = bulk_sessions.judge(checker, data)
            assert outcome.allowed
            assert (
                outcome.block_ids
                == bulk_sessions.judge(Checker(View(bulk_sessions.source())), data).block_ids
            )
    spent = checker.signatures
    assert bulk_sessions.all_allowed(checker, others)
    assert checker.signatures == spent


def test_tokens_of_one_nonce_are_kept_like_any_others() -> None:
    """A holder that signs with one nonce gets no more collisions than chance gives."""
    checker = bulk_sessions.checker()
    tokens = one_nonce_tokens(300)
    assert bulk_sessions.all_allowed(checker, tokens)
    spent = checker.signatures

    assert bulk_sessions.all_allowed(checker, tokens)
    assert (checker.signatures, len(checker.cache)) == (spent, 300)


def test_forged_tokens_of_a_known_nonce() -> None:
    """A wrong second half behind a first half that many known chains have is wrong."""
    checker = bulk_sessions.checker()
    tokens = one_nonce_tokens(40)
    assert bulk_sessions.all_allowed(checker, tokens)
    for data, other in zip(tokens, tokens[1:] + tokens[:1], strict=True):
        forged = data.replace(last_signature(data), last_signature(other))
        outcome = bulk_sessions.judge(checker, forged)
        assert (outcome.reason, outcome.index) == (Reason.BAD_SIGNATURE, 1)
    assert checker.bad_signatures == 40
    assert bulk_sessions.all_allowed(checker, tokens)
    assert checker.bad_signatures == 40


@pytest.mark.parametrize("cache_bytes", [3000, 20_000, 200_000])
def test_one_nonce_while_chains_come_and_go(cache_bytes: int) -> None:
    """Collisions and evictions together leave nothing behind that is taken for another chain."""
    checker = bulk_sessions.checker(extra=3, cache_bytes=cache_bytes, session_cache_bytes=cache_bytes)
    rng = Random(cache_bytes)
    tokens = [*one_nonce_tokens(90), *one_nonce_tokens(90, 777)]
    tokens += [data for number in range(3) for data in bulk_sessions.tokens(bulk_sessions.name(number), 30)]
    for _ in range(3000):
        data = rng.choice(tokens)
        if rng.random() < 0.2:
            at = rng.randrange(2, len(data))
            outcome = bulk_sessions.judge(checker, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            assert not outcome.allowed
        else:
            assert bulk_sessions.judge(checker, data).allowed
        assert checker.cache.used <= cache_bytes


def test_two_tokens_of_one_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of two tokens is mistaken for the other under the very secret that makes their tags equal."""
    first, second = bulk_sessions.tokens(SESSION, 2)
    secret = last_signature(first)[:8] + last_signature(second)[8:16]
    halves = last_signature(first)[32:40] + last_signature(second)[40:48]
    for chosen in (secret, halves):
        monkeypatch.setattr(kernel, "randombytes", lambda count, said=chosen: said[:count])
        for order in ((first, second), (second, first)):
            checker = bulk_sessions.checker()
            for data in order * 3:
                assert bulk_sessions.judge(checker, data).allowed
            wrong = second.replace(last_signature(second), last_signature(first))
            assert bulk_sessions.judge(checker, wrong).reason == Reason.BAD_SIGNATURE
            assert (checker.signatures - 1, len(checker.cache), checker.cache.hits) == (2, 2, 4)


@pytest.mark.parametrize("secret", [bytes(16), b"\xff" * 16, bytes(8) + b"\xff" * 8])
def test_a_secret_of_little_use(monkeypatch: pytest.MonkeyPatch, secret: bytes) -> None:
    """The secret only spreads: with any one, families of chains are judged as without a cache."""
    monkeypatch.setattr(kernel, "randombytes", lambda count: secret[:count])
    checker = bulk_sessions.checker(cache_bytes=30_000, session_cache_bytes=30_000)
    for data in [*families(Random(3), 60)] * 2:
        assert (
            bulk_sessions.judge(checker, data).reason
            == bulk_sessions.judge(bulk_sessions.checker(), data).reason
        )


def test_the_same_last_signature_behind_other_bytes() -> None:
    """No bit before the last signature of a known chain of three blocks can change."""
    checker = bulk_sessions.checker()
    known = make(link(root(READ), child(), child()), signers(3))
    assert bulk_sessions.judge(checker, known).allowed
    end = known.index(last_signature(known))
    for at in range(end):
        changed = known[:at] + bytes([known[at] ^ (1 << at % 8)]) + known[at + 1 :]
        outcome = bulk_sessions.judge(checker, changed)
        assert not outcome.allowed
        assert outcome.reason in (
            *(Reason.MALFORMED_TOKEN, Reason.BAD_SIGNATURE, Reason.UNKNOWN_SESSION, Reason.UNKNOWN_ISSUER),
            *(Reason.UNSUPPORTED_VERSION, Reason.CHAIN_TOO_LONG, Reason.STALE_STATE, Reason.OPEN_TOKEN),
        )
    assert bulk_sessions.judge(checker, known).allowed
    assert (checker.signatures - checker.bad_signatures) >= 3


def test_a_known_signature_at_another_place() -> None:
    """Known signatures moved to other blocks, doubled or swapped vouch for nothing."""
    checker = bulk_sessions.checker()
    blocks = link(root(READ), child(), child())
    payloads = [encode("Block", block) for block in blocks]
    right = sign(payloads, signers(3))
    assert bulk_sessions.judge(checker, assemble(payloads, right)).allowed
    for order in (
        (0, 0, 2),
        (1, 1, 2),
        (2, 1, 2),
        (0, 2, 2),
        (0, 2, 1),
        (1, 0, 2),
        (2, 2, 2),
        (0, 0, 0),
        (0, 1, 1),
    ):
        outcome = bulk_sessions.judge(checker, assemble(payloads, [right[i] for i in order]))
        assert outcome.reason == Reason.BAD_SIGNATURE
        assert outcome.index == next(i for i in range(3) if order[i] != i)
    for cut in (payloads[:2], payloads[1:], [payloads[0], payloads[2]]):
        outcome = bulk_sessions.judge(checker, assemble(cut, right[: len(cut)]))
        assert not outcome.allowed


def families(rng: Random, count: int) -> list[bytes]:
    """Sealed leaves, and presentable inner nodes, of random trees of blocks under one root each."""
    tokens = []
    for number in range(count):
        depth = rng.choice((1, 1, 2, 2, 3, 5, 8, 16))
        blocks = [
            root(
                "*:**",
                root_fields={"token_id": id16(f"family {number % 7}")},
                **ending("open", key("next 0")),
            )
        ]
        for level in range(1, depth):
            label = f"level {rng.randrange(2)}"
            blocks.append({"label": label, **ending("bound", key(f"next {level}"), may_seal=True)})
        blocks.append({"label": f"leaf {rng.randrange(3)}", **SEALED})
        if depth == 16:
            blocks.pop()
        tokens.append(make(blocks, signers(len(blocks))))
        if depth > 1:
            # The chain up to a bound block can be presented too: it is whole, and a run of the others.
            inner = blocks[: rng.randint(2, depth)]
            tokens.append(make(inner, signers(len(inner))))
    return tokens


@pytest.mark.parametrize("quota", [2000, 6000, 20_000, 10**6])
def test_shared_runs_come_and_go(quota: int) -> None:
    """Chains that are each other's beginnings, kept and dropped in any order: each is judged as when cold."""
    rng = Random(quota)
    tokens = families(rng, 120)
    forged = []
    for data in tokens:
        at = data.index(last_signature(data)) + rng.randrange(64)
        forged.append(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
    cold = {data: bulk_sessions.judge(bulk_sessions.checker(), data).reason for data in dict.fromkeys(tokens)}
    assert set(cold.values()) == {Reason.ALLOWED, Reason.PROOF_REQUIRED}
    checker = bulk_sessions.checker(extra=2, cache_bytes=quota, session_cache_bytes=quota)
    one_offs = bulk_sessions.tokens(bulk_sessions.name(0), 5000)
    for _ in range(4000):
        roll = rng.random()
        if roll < 0.8:
            data = rng.choice(tokens)
            assert bulk_sessions.judge(checker, data).reason == cold[data]
        elif roll < 0.9:
            assert bulk_sessions.judge(checker, rng.choice(forged)).reason == Reason.BAD_SIGNATURE
        else:
            assert bulk_sessions.judge(checker, next(one_offs)).allowed
        assert checker.cache.used <= quota
    for one_off in (
        bulk_sessions.tokens(bulk_sessions.name(1), 60 + quota // 500, first=10**6) if quota < 10**6 else ()
    ):
        assert bulk_sessions.judge(checker, one_off).allowed
    if quota < 10**6:
        # What was pushed out took its runs with it.
        assert checker.cache.prefix_count <= 15 * len(checker.cache)


def test_a_run_outlives_the_chain_that_spoke_for_it_only_if_another_does() -> None:
    """A parent's run is known while any chain that holds it is kept, by whichever; never after."""
    blocks = link(root(READ), child())
    chains = [make([blocks[0], {"label": f"{n}", **SEALED}], signers(2)) for n in range(12)]
    checker = bulk_sessions.checker(extra=1, cache_bytes=40_000, session_cache_bytes=40_000)
    for number, data in enumerate(chains):
        assert bulk_sessions.judge(checker, data).allowed
        assert checker.signatures == 2 + number
    spent = checker.signatures
    assert bulk_sessions.judge(checker, make([blocks[0], {"label": "new", **SEALED}], signers(2))).allowed
    assert checker.signatures == spent + 1
    for one_off in bulk_sessions.tokens(bulk_sessions.name(0), 400):
        assert bulk_sessions.judge(checker, one_off).allowed
    assert checker.cache.prefix_count <= len(checker.cache)
    spent = checker.signatures
    outcome = bulk_sessions.judge(checker, make([blocks[0], {"label": "newer", **SEALED}], signers(2)))
    assert outcome.allowed
    assert checker.signatures - spent in (1, 2)


def test_names_that_come_back() -> None:
    """A chain that was pushed out and comes back is verified again, each time that it was away."""
    checker = bulk_sessions.checker(extra=40, cache_bytes=20_000)
    regulars: list[Any] = [next(bulk_sessions.tokens(bulk_sessions.name(number), 1)) for number in range(5)]
    strangers = (
        data for number in range(5, 40) for data in bulk_sessions.tokens(bulk_sessions.name(number), 100)
    )
    for _ in range(60):
        for data in regulars:
            known = checker.cache.hits
            spent = checker.signatures
            assert bulk_sessions.judge(checker, data).allowed
            assert (checker.cache.hits - known) + (checker.signatures - spent) == 1
        for _ in range(12):
            assert bulk_sessions.judge(checker, next(strangers)).allowed
    assert checker.cache.evicted > 500
    assert checker.cache.used <= 20_000
