"""Proofs as holders make them, the keys that they are judged by, and what a check with one can be told."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sessauth._fast import _check as kernel
from sessauth._fast._check import Checker, ProofKeys
from sessauth.crypto.armor import PROOF_PREFIX, proof_text
from sessauth.reasons import Reason
from tests.oracle.model import OracleRequest
from tests.oracle.text import PROOF, to_text
from tests.support import bulk_sessions
from tests.support.proof_forger import ED25519, MAC, agreement, nonce, proof_keys, prove
from tests.support.token_forger import id16
from tests.vectors.cases_proofs import HOST, HOSTS, WHO, bound
from tests.vectors.world import AUDIENCE, NOW, ask, token

TOKEN = token(bound())
Judge = Callable[..., Reason]


def proved(kind: int, once: str, request: OracleRequest | None = None, host: str = "verifier") -> bytes:
    """A right proof of a request for the token of these tests, with the nonce of a name."""
    return prove(kind, TOKEN, request or ask(), WHO, HOST, agreement(host).public, NOW, nonce(once))


def judged(checker: Checker, made: Any, **said: Any) -> Reason:
    """Check the usual request with a proof."""
    decision = checker._check(TOKEN, "read", "files/a.txt", audience=AUDIENCE, now_ms=NOW, proof=made, **said)
    assert decision.fault is None
    return Reason(decision.reason)


@pytest.fixture
def checker(tmp_path: Path) -> Checker:
    """A checker with the keys of the vectors' host and a table of its own."""
    made = bulk_sessions.checker()
    made.proofs = proof_keys(HOSTS["host"], tmp_path, NOW)
    return made


@pytest.mark.parametrize(
    "call",
    [
        lambda: kernel.x25519(bytes(32), bytes(31)),
        lambda: kernel.x25519(b"", bytes(32)),
        lambda: kernel.x25519(b"s" * 32, bytes(32)),
        lambda: kernel.x25519(b"s" * 32, bytes([1]) + bytes(31)),
        lambda: kernel.x25519_public(b"s" * 33),
        lambda: kernel.mac(b"k", b"message"),
        lambda: kernel.mac_key_of_holder(b"s" * 32, bytes(32), b"n" * 32, HOST),
        lambda: kernel.mac_key_of_holder(b"s" * 32, agreement("v").public, b"n" * 32, b"short"),
        lambda: kernel.covered_bytes(3, b"s" * 64, HOST, b"k" * 32, b"d" * 32, NOW, bytes(16)),
        lambda: kernel.covered_bytes(1, b"s" * 63, HOST, b"k" * 32, b"d" * 32, NOW, bytes(16)),
    ],
)
def test_holders_are_told_of_what_is_none(call: Callable[[], bytes]) -> None:
    """Wrong lengths, kinds, and keys of small order raise; nothing is made of them."""
    with pytest.raises(ValueError, match=r"bytes|small order|kind"):
        call()


def _keys(*names: str, **said: Any) -> list[tuple[bytes, bytes, int, int]]:
    return [(agreement(n).public, said.get("secret", agreement(n).secret), 0, NOW + 1) for n in names]


@pytest.mark.parametrize(
    ("verifier_id", "keys"),
    [
        (b"short", _keys("v 1")),
        (HOST, _keys("v 1", "v 2", "v 3")),
        (HOST, _keys("v 1", secret=agreement("v 2").secret)),
        (HOST, _keys("v 1", secret=b"short")),
        (HOST, [(bytes(31), agreement("v 1").secret, 0, 1)]),
    ],
)
def test_keys_that_do_not_belong_together_are_refused(verifier_id: bytes, keys: Any) -> None:
    """A public key is that of the secret beside it, and a host has two at most."""
    with pytest.raises(ValueError, match=r"bytes|two verifier keys|not that of the secret"):
        ProofKeys(verifier_id, keys)


def test_keys_say_who_they_are_and_no_secret(checker: Checker) -> None:
    """Id and key ids can be read; the secrets stand in no representation."""
    keys = checker.proofs
    assert keys is not None

    assert keys.verifier_id == HOST
    assert keys.key_ids == (agreement("verifier").id, agreement("previous").id)
    assert keys.replay_table is not None and ProofKeys(HOST, []).replay_table is None
    assert not any(agreement(n).secret.hex() in repr(keys) for n in ("verifier", "previous"))


def test_keys_may_be_replaced_at_any_time(checker: Checker) -> None:
    """A rotation needs no new checker, and a nonce that was taken under the old keys stays taken."""
    old = checker.proofs
    assert old is not None
    assert judged(checker, proved(MAC, "before")) is Reason.ALLOWED
    checker.proofs = ProofKeys(HOST, _keys("next", "verifier"), old.replay_table)

    assert judged(checker, proved(MAC, "before")) is Reason.REPLAYED
    assert judged(checker, proved(MAC, "after", host="next")) is Reason.ALLOWED
    assert judged(checker, proved(MAC, "after still", host="verifier")) is Reason.ALLOWED
    assert judged(checker, proved(MAC, "over", host="previous")) is Reason.BAD_PROOF
    checker.proofs = None
    assert judged(checker, proved(MAC, "none")) is Reason.PROOF_UNAVAILABLE
    with pytest.raises(TypeError):
        checker.proofs = b"keys"  # type: ignore[assignment]


def test_a_token_remembers_two_agreements(checker: Checker) -> None:
    """MACs of a cached token stay right or wrong through ever new host keys."""
    table = checker.proofs.replay_table if checker.proofs else None
    for turn in range(3):
        for name in ("v 1", "v 2", "v 3", "v 4", "v 5"):
            checker.proofs = ProofKeys(HOST, _keys(name), table)
            wrong = proved(MAC, f"{turn} {name}", ask("write"), host=name)
            assert judged(checker, wrong) is Reason.BAD_PROOF
            assert judged(checker, proved(MAC, f"{turn} {name}", host=name)) is Reason.ALLOWED


def test_another_verifier_id_is_another_agreement(checker: Checker) -> None:
    """The same key under another id agrees on another MAC key, also where the token is cached."""
    table = checker.proofs.replay_table if checker.proofs else None
    assert judged(checker, proved(MAC, "1")) is Reason.ALLOWED
    checker.proofs = ProofKeys(id16("other"), _keys("verifier"), table)
    made = prove(MAC, TOKEN, ask(), WHO, id16("other"), agreement("verifier").public, NOW, nonce("2"))

    assert judged(checker, made) is Reason.ALLOWED
    assert judged(checker, proved(MAC, "3")) is Reason.BAD_PROOF


@pytest.mark.parametrize("kind", [ED25519, MAC])
def test_a_nonce_may_be_left(checker: Checker, kind: int) -> None:
    """Without taking it a proof is judged as before, as often as asked; then it is taken once."""
    made = proved(kind, "left")

    assert [judged(checker, made, consume_nonce=False) for _ in range(3)] == [Reason.ALLOWED] * 3
    assert judged(checker, proved(kind, "x", ask("write")), consume_nonce=False) is Reason.BAD_PROOF
    assert judged(checker, made) is Reason.ALLOWED
    assert judged(checker, made) is Reason.REPLAYED
    assert judged(checker, made, consume_nonce=False) is Reason.ALLOWED


def test_a_proof_that_was_judged_is_not_asked_for(checker: Checker) -> None:
    """A commit ignores an old or a missing proof. All other stages run."""
    checker.proofs = None
    decision = checker._check(TOKEN, "read", "logs/x", audience=AUDIENCE, now_ms=NOW, skip_proof=True)

    assert judged(checker, b"", skip_proof=True) is judged(checker, b"old", skip_proof=True) is Reason.ALLOWED
    assert Reason(decision.reason) is Reason.OUT_OF_SCOPE


def test_a_denied_call_takes_nothing(checker: Checker) -> None:
    """The nonce is taken last: after a denial for another reason the proof is still good."""
    made = proved(MAC, "kept")
    revision = {"at_least_revision": 10**6}

    assert judged(checker, made, **revision) is Reason.STALE_STATE
    assert judged(checker, made, session=id16("another")) is Reason.WRONG_SESSION
    assert judged(checker, made) is Reason.ALLOWED


@pytest.mark.parametrize("kind", [ED25519, MAC])
def test_text_and_bytes_are_one_proof(checker: Checker, kind: int) -> None:
    """The text, as str or bytes, is the proof: what was taken by one is a replay by the other."""
    made = proved(kind, "text")
    assert proof_text(made) == to_text(PROOF, made)

    assert judged(checker, proof_text(made)) is Reason.ALLOWED
    for form in (made, proof_text(made), proof_text(made).encode()):
        assert judged(checker, form) is Reason.REPLAYED


@pytest.mark.parametrize(
    "text",
    [
        "proof",
        PROOF_PREFIX,
        PROOF_PREFIX + "AAAA",
        PROOF_PREFIX + "AAAA.AAAAAA",
        PROOF_PREFIX + "\u00e9.AAAAAA",
        "sessauth_token_AAAA",
        "\ud800",
    ],
)
def test_a_text_that_is_none_is_a_bad_proof(checker: Checker, text: str) -> None:
    """Damaged, cut, of something else: an answer, never an exception."""
    assert judged(checker, text) is Reason.BAD_PROOF
    assert judged(checker, text.encode("utf-8", "replace")) is Reason.BAD_PROOF


def test_no_text_is_no_proof(checker: Checker) -> None:
    """Empty is as none; what is neither bytes nor text is the caller's mistake."""
    assert judged(checker, "") is judged(checker, b"") is Reason.PROOF_REQUIRED
    with pytest.raises(TypeError):
        judged(checker, 7)


def test_a_bound_chain_weighs_what_it_keeps(checker: Checker) -> None:
    """Room for the agreed keys is there, and counted, when the chain is kept: no more is taken later."""
    judged(checker, b"")
    with_room = checker.cache.used
    table = checker.proofs.replay_table if checker.proofs else None
    for name in ("v 1", "v 2", "v 3"):
        checker.proofs = ProofKeys(HOST, _keys(name), table)
        assert judged(checker, proved(MAC, name, host=name)) is Reason.ALLOWED

    assert checker.cache.used == with_room


def test_threads_agree_on_one_key(checker: Checker) -> None:
    """Threads that judge MACs of one token without the GIL find each proof right or wrong as it is."""
    right = [proved(MAC, f"r {number}") for number in range(64)]
    wrong = [proved(MAC, f"w {number}", ask("write")) for number in range(64)]
    found: list[list[Reason]] = []

    def run() -> None:
        calls = [
            (TOKEN, "read", "files/a.txt", b"", b"", b"", "", (), made)
            for pair in zip(right, wrong, strict=True)
            for made in pair
        ]
        decisions = checker._check_batch(calls, audience=AUDIENCE, now_ms=NOW)
        found.append([Reason(decision.reason) for decision in decisions])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: run(), range(8)))

    for at in range(128):
        reasons = sorted(each[at] for each in found)
        wanted = [Reason.BAD_PROOF] * 8 if at % 2 else [Reason.ALLOWED, *[Reason.REPLAYED] * 7]
        assert reasons == wanted
